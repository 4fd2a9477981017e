"""The page's requests: each says which role it takes, and changes nothing without the session's token."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from hisir_edge.view.access import ROLES, AuditLog, Role, Session, Sessions, Tries, Users, same
from hisir_edge.view.boards import TILE_PX, Boards
from hisir_edge.view.export import coco_of, csv_of
from hisir_edge.view.history import History, Search
from hisir_edge.view.hub import Hub
from hisir_edge.view.lines import LineLink
from hisir_edge.view.statistics import Range, drift, heat, pareto, summary
from hisir_edge.view.trial import Trials, zones_from_json

STATIC = Path(__file__).parent / "static"
COOKIE, TOKEN = "hisir_session", "x-hisir-token"
VERIFICATIONS = ("DefectConfirmed", "DefectRejected", "DefectAccepted", "NotVerifiedYet")
MOST_SEQ = 2**62
KEPT = {"cache-control": "private, max-age=86400, immutable"}
FRESH = {"cache-control": "no-store"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the requests work on. ``users``: None where nobody logs in (loopback); ``proxy_header``: who is let in."""

    history: History
    links: tuple[LineLink, ...]
    hub: Hub
    sessions: Sessions
    tries: Tries
    audit: AuditLog
    users: Users | None
    proxy_header: str
    secure: bool
    boards: dict[str, Boards]
    trials: dict[str, Trials]

    def link_of(self, line: str) -> LineLink:
        """The link of a line's name; HTTPException 404 for one that is not there."""
        found = next((link for link in self.links if link.seen.name == line), None)
        if found is None:
            raise HTTPException(404, "no such line")
        return found

    def address_of(self, line: str) -> str:
        """Its endpoint."""
        return self.link_of(line).address.endpoint


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
        _session(page, request, "viewer")
        if page.hub.full:
            raise HTTPException(503, "too many browsers listen")
        return StreamingResponse(page.hub.events(), media_type="text/event-stream", headers=FRESH)

    return Starlette(
        routes=[
            Route("/", index, methods=["GET"]),
            Route("/api/me", _me(page), methods=["GET"]),
            Route("/api/login", _login(page), methods=["POST"]),
            Route("/api/logout", _logout(page), methods=["POST"]),
            Route("/api/events", events, methods=["GET"]),
            post("/api/name", "viewer", _name),
            get("/api/lines", "viewer", _lines),
            get("/api/boards", "viewer", _boards),
            get("/api/boards/{line}/{epoch}/{seq:int}", "viewer", _board),
            get("/api/pictures/{line}/{epoch}/{seq:int}/{camera:int}", "viewer", _picture),
            get("/api/tiles/{line}/{epoch}/{seq:int}/{camera:int}/{kind}/{level:int}/{x:int}/{y:int}", "viewer", _tile),
            get("/api/statistics", "viewer", _statistics),
            get("/api/export.csv", "viewer", _csv),
            get("/api/export.zip", "engineer", _coco),
            post("/api/decide", "reviewer", _decide),
            post("/api/trial", "engineer", _trial),
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
    found = page.sessions.find(request.cookies.get(COOKIE, ""))
    if found is None:
        raise HTTPException(401, "log in")
    if not found.may(role):
        raise HTTPException(403, f"this takes the role {role}; {found.user or 'you'} has {found.role}")
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
        session = page.sessions.find(request.cookies.get(COOKIE, ""))
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
        "named": page.users is not None, "tile_px": TILE_PX,
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


def _lines(page: Page, session: Session, request: Request) -> Any:
    return [link.as_dict() for link in page.links]


def _boards(page: Page, session: Session, request: Request) -> Any:
    asked = request.query_params
    before = None
    if asked.get("before_line"):
        before = (_number(asked, "before_at", 0), asked["before_line"], int(_number(asked, "before_seq", 0)))
    search = Search(
        line=asked.get("line", ""), unit=asked.get("unit", "")[:200], product=asked.get("product", ""),
        result=asked.get("result", ""), since=_number(asked, "since", 0.0), until=_number(asked, "until", 1e11),
        before=before, most=int(_number(asked, "most", 100)),
    )  # fmt: skip
    return page.history.boards(search)


def _number(asked: Any, name: str, default: float) -> float:
    try:
        found = float(asked.get(name) or default)
    except ValueError as error:
        raise InputError(
            expected=f"{name} as a number", received=str(asked.get(name))[:80], fix="correct it"
        ) from error
    if not abs(found) < 1e15:
        raise InputError(expected=f"{name} as a number", received=str(found), fix="correct it")
    return found


def _board(page: Page, session: Session, request: Request) -> Any:
    line, epoch, seq = (request.path_params[name] for name in ("line", "epoch", "seq"))
    found = page.history.board(line, epoch, seq) if seq < MOST_SEQ else None
    if found is None:
        raise HTTPException(404, "no such board")
    return found


def _of_path(page: Page, request: Request) -> tuple[Boards, str, int, int]:
    path = request.path_params
    return page.boards[page.address_of(path["line"])], path["epoch"], path["seq"], path["camera"]


def _picture(page: Page, session: Session, request: Request) -> Any:
    boards, epoch, seq, camera = _of_path(page, request)
    pyramid = boards.pyramid(epoch, seq, camera, "frame")
    with boards.opened(epoch, seq) as board:
        views = [{"camera": view.camera, "evidence": bool(view.evidence)} for view in board.facts.views]
    h, w = pyramid.levels[0].shape[:2]
    return {"width": w, "height": h, "levels": len(pyramid.levels), "tile_px": TILE_PX, "views": views}


def _tile(page: Page, session: Session, request: Request) -> Any:
    boards, epoch, seq, camera = _of_path(page, request)
    path = request.path_params
    data = boards.pyramid(epoch, seq, camera, path["kind"]).tile(path["level"], path["x"], path["y"])
    return Response(data, media_type="image/png" if data[:4] == b"\x89PNG" else "image/jpeg", headers=KEPT)


def _range(request: Request) -> Range:
    asked = request.query_params
    return Range(
        line=asked.get("line", ""), product=asked.get("product", ""), since=_number(asked, "since", 0.0),
        until=_number(asked, "until", 1e11),
    )  # fmt: skip


def _statistics(page: Page, session: Session, request: Request) -> Any:
    asked, step_s = _range(request), _number(request.query_params, "step_s", 3600.0)
    if not 1 <= step_s <= 1e7:
        raise InputError(expected="step_s of 1 to 10,000,000", received=str(step_s), fix="correct it")
    return {
        **summary(page.history, asked, step_s), "pareto": pareto(page.history, asked),
        "heat": heat(page.history, asked), "drift": drift(page.history, asked),
    }  # fmt: skip


def _csv(page: Page, session: Session, request: Request) -> Any:
    headers = {**FRESH, "content-disposition": 'attachment; filename="boards.csv"'}
    return StreamingResponse(csv_of(page.history, _range(request)), media_type="text/csv", headers=headers)


def _coco(page: Page, session: Session, request: Request) -> Any:
    def fetch(line: str, epoch: str, seq: int) -> Any:
        return page.boards[page.address_of(line)].opened(epoch, seq)

    data = coco_of(page.history, _range(request), fetch)
    page.audit.add(session.user, "export", of="coco", bytes=len(data))
    headers = {**FRESH, "content-disposition": 'attachment; filename="boards.zip"'}
    return Response(data, media_type="application/zip", headers=headers)


def _decide(page: Page, session: Session, body: dict[str, Any]) -> Any:
    line, epoch, seq, defect = (body.get(name) for name in ("line", "epoch", "seq", "defect"))
    word, detail = body.get("verification"), body.get("detail", "")
    texts = isinstance(line, str) and isinstance(epoch, str) and isinstance(detail, str) and is_name(detail or "x")
    numbers = isinstance(seq, int) and isinstance(defect, int) and 0 <= seq < MOST_SEQ and 0 <= defect <= 256
    if not texts or not numbers or word not in VERIFICATIONS or len(str(detail)) > 200:
        raise InputError(expected="line, epoch, seq, defect and verification", received="others", fix="correct them")
    if not session.user:
        raise InputError(expected="who decides", received="nobody", fix="say who you are")
    if page.history.board(str(line), str(epoch), int(str(seq))) is None:
        raise HTTPException(404, "no such board")
    page.audit.add(session.user, "decide", line=line, epoch=epoch, seq=seq, defect=defect, verification=word)
    number = page.history.decide(
        str(line), str(epoch), int(str(seq)), int(str(defect)), str(word), str(detail), session.user
    )
    for link in page.links:
        if link.seen.name == line:
            link.wake()
    page.hub.tell("decision", {"line": line, "epoch": epoch, "seq": seq})
    return {"id": number}


def _trial(page: Page, session: Session, body: dict[str, Any]) -> Any:
    zones = zones_from_json(body.get("zones"))
    most = body.get("most", 200)
    if not isinstance(most, int):
        raise InputError(expected="most as a whole number", received=str(most)[:80], fix="correct it")
    line = str(body.get("line", ""))
    return page.trials[page.address_of(line)].of_zones(line, zones, most)
