"""Asks a line's control socket (docs/reference/protocol.md). Needs pyzmq and the standard library."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

import zmq

from hisir_edge.errors import InputError, NoAnswer, TryLater
from hisir_edge.transport.curve_keys import key_pair, public_key
from hisir_edge.transport.handshake import BROKEN_OFF, Handshake

POLL_MS, AGAIN_S = 100, 0.5
PATIENCE_S, WAIT_S = 20.0, 0.1
DEAD_MS = 15_000
LARGE_REQUEST_BYTES = 65536
"""The most that a line takes."""
TOO_LARGE = "the line closed the connection: is the request too large?"


def secured(socket: zmq.Socket[bytes], server_key: str, key: str) -> None:
    """Give a socket its keys, where a line asks for them; InputError for files that hold none."""
    if not server_key and not key:
        return
    if not server_key:
        raise InputError(expected="the line's public key beside yours", received="none", fix="name it: --server-key")
    if not key:
        raise InputError(
            expected="your secret key (*.key_secret)", received="none", fix="name it beside the line's key"
        )
    socket.curve_serverkey = public_key(server_key)
    socket.curve_publickey, socket.curve_secretkey = key_pair(key)


def keep_alive(socket: zmq.Socket[bytes]) -> None:
    """Have the kernel notice a peer that is gone without a word, within 15 s; what waits for it is freed.

    Not ZMTP's own heartbeats (``ZMQ_HEARTBEAT_IVL``): with them libzmq 4.3.5 ends the process where a connection breaks
    while its messages wait to be taken ("Assertion failed: !_io_error", https://github.com/zeromq/libzmq/issues/4364).
    """
    for option, value in (
        (zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, 6), (zmq.TCP_KEEPALIVE_INTVL, 3), (zmq.TCP_KEEPALIVE_CNT, 3),
        (zmq.TCP_MAXRT, DEAD_MS),
    ):  # fmt: skip
        socket.setsockopt(option, value)


def connected(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Connect a socket; InputError for an address that ZeroMQ does not take."""
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise InputError(
            expected="an address such as tcp://127.0.0.1:5557", received=f"{endpoint} ({error})", fix="correct it"
        ) from error


class Asker:
    """A connection for many requests, from entry to exit, used by one thread.

    ``server_key``: file with the line's public key, ``key``: file with the caller's secret key, both where the line
    asks for keys (CURVE). ``context``: a ZeroMQ context to share; default: one of its own.
    """

    def __init__(
        self, endpoint: str, server_key: str = "", key: str = "", context: zmq.Context[zmq.Socket[bytes]] | None = None
    ) -> None:
        self.endpoint, self._server_key, self._key = endpoint, server_key, key
        self._own = context is None
        self._context = context or zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._handshake: Handshake | None = None
        self._request_bytes = 0

    def __enter__(self) -> Asker:
        """Connect; InputError for an address or keys that are none."""
        try:
            self._connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect."""
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._disconnect()
        if self._own:
            self._context.term()

    def _disconnect(self) -> None:
        if self._handshake is not None:
            self._handshake.close()
            self._handshake = None
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None

    def ask(
        self, request: dict[str, Any], timeout_s: float = 5.0, stop: Callable[[], bool] = lambda: False
    ) -> tuple[dict[str, Any], list[bytes]]:
        """The answer to ``{"do": ...}`` and the frames behind it (``replay``: topic, JSON, mask of each verdict).

        A connection that the line has never accepted is made again every ``AGAIN_S``: nothing has reached it. NoAnswer
        where no answer comes, or not before ``stop``; InputError where the line refuses the request, in its own words;
        TryLater where it cannot just now.
        """
        end = time.monotonic() + timeout_s
        socket, refusal = self._sent(request), ""
        again_at = time.monotonic() + AGAIN_S
        while not socket.poll(POLL_MS, zmq.POLLIN):
            now = time.monotonic()
            refusal = self._refusal() or refusal
            if now > end or stop():
                self._disconnect()  # should its answer still come, it is not to be taken for the next one's
                raise NoAnswer(
                    expected=f"an answer from {self.endpoint} within {timeout_s:g} s",
                    received=refusal or "none",
                    fix="check that the line runs and its control.endpoint, and the keys where it asks for them",
                )
            known = self._handshake
            if now > again_at and known is not None and known.refusal and not known.succeeded:
                self._disconnect()
                socket, again_at = self._sent(request), now + AGAIN_S
        head, *frames = socket.recv_multipart()
        try:
            answer: dict[str, Any] = json.loads(head)
            if not answer.pop("ok"):
                kind = TryLater if answer.get("again") is True else InputError
                raise kind(
                    expected=answer["expected"], received=answer["received"], fix=answer["fix"],
                    code=str(answer.get("code", "")),
                )  # fmt: skip
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                expected=f"a line's control socket at {self.endpoint}",
                received=f"another answer: {head[:80].decode(errors='replace')}",
                fix="check the address",
            ) from error
        return answer, frames

    def _sent(self, request: dict[str, Any]) -> zmq.Socket[bytes]:
        """The connection, made where there is none, with the request on its way."""
        if self._socket is None:
            self._connect()
        socket = self._socket
        assert socket is not None  # noqa: S101  # _connect raised otherwise
        content = json.dumps(request).encode()
        self._request_bytes = len(content)
        with suppress(zmq.Again):
            socket.send(content, zmq.NOBLOCK)
        return socket

    def _refusal(self) -> str:
        if self._handshake is None:
            return ""
        refusal = self._handshake.look()
        # without keys the request goes out with the end of the handshake: the line may close before that has come back
        if refusal == BROKEN_OFF and self._request_bytes > LARGE_REQUEST_BYTES:
            return TOO_LARGE
        if not refusal and self._handshake.was_closed:
            return TOO_LARGE if self._request_bytes > LARGE_REQUEST_BYTES else "the line closed the connection"
        return refusal

    def _connect(self) -> None:
        socket = self._context.socket(zmq.DEALER)
        handshake = Handshake(socket)
        try:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.SNDHWM, 16)
            keep_alive(socket)
            secured(socket, self._server_key, self._key)
            connected(socket, self.endpoint)
        except BaseException:
            handshake.close()
            socket.close(linger=0)
            raise
        self._socket, self._handshake = socket, handshake


class PatientAsker(Asker):
    """One that asks again where the line cannot answer just now: of many requests it takes so many a second."""

    def ask(
        self, request: dict[str, Any], timeout_s: float = 5.0, stop: Callable[[], bool] = lambda: False
    ) -> tuple[dict[str, Any], list[bytes]]:
        """As ``Asker.ask``; TryLater after ``PATIENCE_S``."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                return super().ask(request, timeout_s, stop)
            except TryLater:
                if time.monotonic() > end or stop():
                    raise
                time.sleep(WAIT_S)


def ask(
    endpoint: str, request: dict[str, Any], timeout_s: float = 5.0, server_key: str = "", key: str = ""
) -> dict[str, Any]:
    """The answer to ``{"do": ...}`` without the frames that may follow it; see ``Asker.ask``."""
    return ask_frames(endpoint, request, timeout_s, server_key, key)[0]


def ask_frames(
    endpoint: str, request: dict[str, Any], timeout_s: float = 5.0, server_key: str = "", key: str = ""
) -> tuple[dict[str, Any], list[bytes]]:
    """One request over a connection of its own; see ``Asker.ask``."""
    with Asker(endpoint, server_key, key) as asker:
        return asker.ask(request, timeout_s)
