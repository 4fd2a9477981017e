"""The page's requests: each says which role it takes, and changes nothing without the session's token."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from hisir_edge.errors import HisirEdgeError, InputError, NoAnswer
from hisir_edge.labels import is_name
from hisir_edge.view import answers
from hisir_edge.view.access import ROLES, Role, Session, same
from hisir_edge.view.answers import FRESH, Page
from hisir_edge.view.boards import TILE_PX
from hisir_edge.view.teach import answers as teaching

log = structlog.get_logger()

STATIC = Path(__file__).parent / "static"
COOKIE, TOKEN = "hisir_session", "x-hisir-token"


Answer = Callable[[Page, Session, Request], Any]
"""Made in a thread; a dict or list becomes JSON."""


def app_of(page: Page) -> Starlette:
    """The application."""

    def get(path: str, role: Role, answer: Answer) -> Route:
        async def handler(request: Request) -> Response:
            session = _session(page, request, role)
            return _answered(await run_in_threadpool(_told, answer, page, session, request))

        return Route(path, handler, methods=["GET"])

    def post(path: str, role: Role, answer: Callable[[Page, Session, dict[str, Any]], Any]) -> Route:
        async def handler(request: Request) -> Response:
            session = _session(page, request, role)
            _check_token(request, session)
            body = await _body(request)
            return _answered(await run_in_threadpool(_told, answer, page, session, body))

        return Route(path, handler, methods=["POST"])

    async def index(request: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers=FRESH)

    async def events(request: Request) -> Response:
        session, secret = _session(page, request, "viewer"), request.cookies.get(COOKIE, "")
        if page.hub.full:
            raise HTTPException(503, "too many browsers listen")
        stream = page.hub.events(lambda: page.sessions.is_open(secret, session))
        return StreamingResponse(stream, media_type="text/event-stream", headers=FRESH)

    return Starlette(
        routes=[
            Route("/", index, methods=["GET"]),
            Route("/api/me", _me(page), methods=["GET"]),
            Route("/api/login", _login(page), methods=["POST"]),
            Route("/api/logout", _logout(page), methods=["POST"]),
            Route("/api/events", events, methods=["GET"]),
            post("/api/name", "viewer", _name),
            get("/api/lines", "viewer", answers.lines),
            get("/api/boards", "viewer", answers.boards),
            get("/api/boards/{line}/{epoch}/{seq:int}", "viewer", answers.board),
            get("/api/pictures/{line}/{epoch}/{seq:int}/{camera:int}", "viewer", answers.picture),
            get(
                "/api/tiles/{line}/{epoch}/{seq:int}/{camera:int}/{kind}/{level:int}/{x:int}/{y:int}",
                "viewer",
                answers.tile,
            ),
            get("/api/statistics", "viewer", answers.statistics),
            get("/api/fleet", "viewer", answers.fleet),
            get("/api/export.csv", "viewer", answers.csv),
            get("/api/export.zip", "engineer", answers.coco),
            post("/api/decide", "reviewer", answers.decide),
            get("/api/zones/{line}", "viewer", teaching.zones),
            get("/api/strengths/{line}", "engineer", teaching.strengths),
            get("/api/revisions/{line}", "viewer", teaching.revisions),
            get("/api/reviewed.zip", "engineer", teaching.reviewed),
            post("/api/missed", "reviewer", teaching.missed),
            post("/api/trial", "engineer", teaching.trial),
            post("/api/revise", "engineer", teaching.revise),
            post("/api/activate", "engineer", teaching.activate),
            post("/api/take-back", "engineer", teaching.take_back),
            Mount("/static", StaticFiles(directory=STATIC), name="static"),
        ],
        middleware=[Middleware(GZipMiddleware, minimum_size=2000, compresslevel=6)],
        exception_handlers={HTTPException: _http_error, Exception: _unexpected},
    )


def _told(answer: Callable[..., Any], *arguments: Any) -> Any:
    """What an answer says; a refusal of ours as a Response."""
    try:
        return answer(*arguments)
    except NoAnswer as error:
        return _refusal(error, 504)
    except InputError as error:
        return _refusal(error, 404 if error.code == "unknown" else 400)
    except HisirEdgeError as error:
        return _refusal(error, 500)
    except sqlite3.Error as error:
        log.error("history", reason=str(error))
        return JSONResponse({"error": f"the page's history: {error}"}, 503, headers=FRESH)


def _refusal(error: HisirEdgeError, status: int) -> Response:
    return JSONResponse({"error": str(error)}, status, headers=FRESH)


def _answered(found: Any) -> Response:
    return found if isinstance(found, Response) else JSONResponse(found, headers=FRESH)


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    words = error.detail if isinstance(error, HTTPException) else "failed"
    return JSONResponse({"error": words}, status, headers=FRESH)


async def _unexpected(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "a fault of the page; see its log"}, 500, headers=FRESH)


def _session(page: Page, request: Request, role: Role) -> Session:
    """The session of a request; HTTPException 401 without one, 403 where its role does not suffice."""
    found = _known(page, request)
    if found is None:
        raise HTTPException(401, "log in")
    if not found.may(role):
        raise HTTPException(403, f"this takes the role {role}; {found.user or 'you'} has {found.role}")
    return found


def _known(page: Page, request: Request) -> Session | None:
    """The session of a request's cookie; behind a proxy only while the proxy names the same person."""
    secret = request.cookies.get(COOKIE, "")
    found = page.sessions.find(secret)
    if found is not None and page.proxy_header and page.users is not None:
        name = request.headers.get(page.proxy_header, "")
        if name != found.user or page.users.role_of(name) != found.role:
            page.sessions.end(secret)
            return None
    return found


def _check_token(request: Request, session: Session) -> None:
    if not same(request.headers.get(TOKEN, ""), session.token):
        raise HTTPException(403, "the page's token is missing: load the page again")


async def _body(request: Request) -> dict[str, Any]:
    try:
        found = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "expected one JSON object") from error
    if not isinstance(found, dict):
        raise HTTPException(400, "expected one JSON object")
    return found


def _me(page: Page) -> Callable[[Request], Awaitable[Response]]:
    """Who one is. Where nobody logs in, a session begins here; where a proxy lets people in, with its name."""

    async def me(request: Request) -> Response:
        session = _known(page, request)
        secret = ""
        if session is None and page.proxy_header and page.users is not None:
            name = request.headers.get(page.proxy_header, "")
            if (role := page.users.role_of(name)) is not None:
                secret, session = page.sessions.begin(name, role)
        elif session is None and page.users is None:
            secret, session = page.sessions.begin("", "engineer")
        if session is None:
            return JSONResponse({"login": not page.proxy_header}, 401, headers=FRESH)
        out = JSONResponse(_as_dict(page, session), headers=FRESH)
        return _with_cookie(page, out, secret) if secret else out

    return me


def _as_dict(page: Page, session: Session) -> dict[str, Any]:
    return {
        "user": session.user, "role": session.role, "roles": ROLES, "token": session.token,
        "named": page.users is not None, "tile_px": TILE_PX, "fleet": bool(page.fleet),
    }  # fmt: skip


def _with_cookie(page: Page, response: Response, secret: str) -> Response:
    response.set_cookie(COOKIE, secret, httponly=True, samesite="strict", secure=page.secure, path="/")
    return response


def _login(page: Page) -> Callable[[Request], Awaitable[Response]]:
    async def login(request: Request) -> Response:
        body = await _body(request)
        name, password = body.get("user"), body.get("password")
        if page.users is None or page.proxy_header or not isinstance(name, str) or not isinstance(password, str):
            raise HTTPException(400, "expected user and password")
        peer = request.client.host if request.client else ""
        if not page.tries.may(f"name {name[:80]}", f"peer {peer}"):
            raise HTTPException(429, "too many tries: wait a minute")
        role = await run_in_threadpool(page.users.checked, name, password[:1000])
        page.audit.add(name[:80], "login" if role else "login refused", peer=peer)
        if role is None:
            raise HTTPException(401, "wrong name or password")
        secret, session = page.sessions.begin(name, role)
        return _with_cookie(page, JSONResponse(_as_dict(page, session), headers=FRESH), secret)

    return login


def _logout(page: Page) -> Callable[[Request], Awaitable[Response]]:
    async def logout(request: Request) -> Response:
        session = _session(page, request, "viewer")
        _check_token(request, session)
        page.sessions.end(request.cookies.get(COOKIE, ""))
        out = JSONResponse({}, headers=FRESH)
        out.delete_cookie(COOKIE, path="/")
        return out

    return logout


def _name(page: Page, session: Session, body: dict[str, Any]) -> Any:
    """Where nobody logs in, people say who they are."""
    name = body.get("user")
    if page.users is not None or not isinstance(name, str) or not is_name(name) or not 1 <= len(name.strip()) <= 64:
        raise InputError(expected="a name of 1 to 64 characters", received="another", fix="correct it")
    session.user = name.strip()
    return _as_dict(page, session)
