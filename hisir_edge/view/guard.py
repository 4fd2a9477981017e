"""Around every request: which hosts are answered, how large a request may be, and headers that keep strangers out."""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY_BYTES = 64_000
OPENSEADRAGON_STYLE = b"'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"
"""The one style sheet that OpenSeadragon 6.1.1 adds to the page: no outline of the focus on touch screens."""
HEADERS = (
    (
        b"content-security-policy",
        (
            b"default-src 'none'; script-src 'self'; style-src 'self' "
            + OPENSEADRAGON_STYLE
            + b"; img-src 'self' blob: data:; connect-src 'self'; "
            b"font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)
REFUSED = b'{"error":"%s"}'


class Guarded:
    """An application behind the guard. ``hosts``: names under which it is asked, without ports; * for any."""

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...], secure: bool) -> None:
        self._app, self._hosts = app, {host.lower() for host in hosts}
        self._headers = HEADERS + (((b"strict-transport-security", b"max-age=31536000"),) if secure else ())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        host = _without_port(headers.get(b"host", b"").decode("latin-1")).lower()
        if "*" not in self._hosts and host not in self._hosts:
            await _refuse(send, 421, b"this name is not answered: name it with --host-name")
            return
        origin = headers.get(b"origin", b"").decode("latin-1")
        if scope["method"] not in ("GET", "HEAD") and origin and origin.partition("://")[2].lower() != _host(headers):
            await _refuse(send, 403, b"asked from another page")
            return
        if not _is_small(headers):
            await _refuse(send, 413, b"too large a request")
            return
        await self._app(scope, _Limited(receive), self._with_headers(send))

    def _with_headers(self, send: Send) -> Send:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
            await send(message)

        return sent


class _Limited:
    """A request's body, cut off where it is too large; what is cut is no JSON, and refused."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._bytes = receive, 0

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            if self._bytes > MOST_BODY_BYTES:
                return {"type": "http.request", "body": b"", "more_body": False}
        return message


def _is_small(headers: dict[bytes, bytes]) -> bool:
    length = headers.get(b"content-length", b"0")
    return length.isdigit() and int(length) <= MOST_BODY_BYTES


def _host(headers: dict[bytes, bytes]) -> str:
    return headers.get(b"host", b"").decode("latin-1").lower()


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


async def _refuse(send: Send, status: int, words: bytes) -> None:
    start: dict[str, Any] = {"type": "http.response.start", "status": status,
                             "headers": [(b"content-type", b"application/json")]}  # fmt: skip
    await send(start)
    await send({"type": "http.response.body", "body": REFUSED % words})
