"""The control socket: a ZeroMQ ROUTER that answers each request, one JSON object, with another (docs/protocol.md)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any

import structlog
import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

from hisir_edge.addresses import ipc_in_use
from hisir_edge.config import ControlTable
from hisir_edge.errors import ConfigError, HisirEdgeError, InputError, PublishError

log = structlog.get_logger()

MOST_REQUEST_BYTES = 65536
MOST_TEXT = 200
POLL_MS = 200
Answer = Callable[[dict[str, Any]], dict[str, Any]]
"""Of a request without its ``do``; ``FRAMES`` of what it returns, a list of bytes, follows the JSON object."""
FRAMES = "frames"


class ControlSocket:
    """Bound on entry and answered by a thread of its own; nothing that is sent to it can end it."""

    def __init__(self, settings: ControlTable, answers: dict[str, Answer]) -> None:
        self.settings, self.answers = settings, answers
        self._end = Event()
        self._thread: Thread | None = None

    def __enter__(self) -> ControlSocket:
        """PublishError when the address is taken, ConfigError for keys that are none; without an endpoint: nothing."""
        if not self.settings.endpoint:
            return self
        self.context = zmq.Context()
        self.authenticator: ThreadAuthenticator | None = None
        self.socket = self.context.socket(zmq.ROUTER)
        try:
            self._secure()
            if ipc_in_use(self.settings.endpoint):
                raise PublishError(
                    expected=f"to bind control.endpoint {self.settings.endpoint}",
                    received="Address already in use",
                    fix="stop the other daemon on this address, or choose another one",
                )
            self.socket.setsockopt(zmq.LINGER, 500)
            self.socket.setsockopt(zmq.MAXMSGSIZE, MOST_REQUEST_BYTES)
            self.socket.bind(self.settings.endpoint)
        except zmq.ZMQError as error:
            self._close()
            raise PublishError(
                expected=f"to bind control.endpoint {self.settings.endpoint}",
                received=error.strerror or str(error),
                fix="stop the other program on this address, or choose another one",
            ) from error
        except BaseException:
            self._close()
            raise
        self._thread = Thread(target=self._run, name="control")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the thread, close."""
        if self._thread is not None:
            self._end.set()
            self._thread.join()
            self._close()

    def _secure(self) -> None:
        """CURVE, where the configuration names keys: known clients alone, and nobody else can read along."""
        if not self.settings.server_key:
            return
        try:
            public, secret = zmq.auth.load_certificate(self.settings.server_key)
            if secret is None:
                raise ValueError("it holds no secret key")
            if not any(Path(self.settings.clients).glob("*.key")):
                raise ValueError(f"no client's public key (*.key) in {self.settings.clients}")
        except (OSError, ValueError) as error:
            raise ConfigError(
                expected="control.server_key and control.clients with keys of hisir-edge keys",
                received=str(error),
                fix="make them with hisir-edge keys",
            ) from error
        self.authenticator = ThreadAuthenticator(self.context)
        self.authenticator.start()
        self.authenticator.configure_curve(domain="*", location=self.settings.clients)
        self.socket.curve_publickey, self.socket.curve_secretkey = public, secret
        self.socket.curve_server = True

    def _close(self) -> None:
        self.socket.close()
        if self.authenticator is not None:
            self.authenticator.stop()
        self.context.term()

    def _run(self) -> None:
        while not self._end.is_set():
            if not self.socket.poll(POLL_MS, zmq.POLLIN):
                continue
            *envelope, request = self.socket.recv_multipart()
            found = self.answer(request)
            frames = found.pop(FRAMES, [])
            answer = json.dumps(found, separators=(",", ":")).encode()
            try:
                self.socket.send_multipart([*envelope, answer, *frames], zmq.NOBLOCK)
            except zmq.ZMQError as error:  # whoever asked is gone
                log.warning("control answer not sent", error=str(error))

    def answer(self, request: bytes) -> dict[str, Any]:
        """The answer to a request: ``{"ok": true, ...}``, or ``{"ok": false, "expected", "received", "fix"}``."""
        try:
            found = json.loads(request)
            asked = found.pop("do") if isinstance(found, dict) and isinstance(found.get("do"), str) else ""
            if asked not in self.answers:
                raise InputError(
                    expected=f'{{"do": ...}} out of {", ".join(sorted(self.answers))}',
                    received=request[:80].decode(errors="replace"),
                    fix="correct the request",
                )
            return {"ok": True, **self.answers[asked](found)}
        except HisirEdgeError as error:
            return {"ok": False, "expected": error.expected, "received": error.received, "fix": error.fix}
        except ValueError as error:
            return {"ok": False, "expected": "one JSON object", "received": str(error), "fix": "correct the request"}
        except Exception as error:
            log.exception("control request failed")
            return {
                "ok": False,
                "expected": "to answer",
                "received": f"{type(error).__name__}: {error}",
                "fix": "report this",
            }


def text_of(request: dict[str, Any], key: str, required: bool = False) -> str:
    """A text of a request, empty where it is not there; InputError for anything but up to 200 printable characters."""
    value = request.get(key, "")
    if not isinstance(value, str) or len(value) > MOST_TEXT or not value.isprintable() or (required and not value):
        raise InputError(
            expected=f"{key} as text of {int(required)} to {MOST_TEXT} printable characters",
            received=repr(value)[:80],
            fix="correct the request",
        )
    return value


def count_of(request: dict[str, Any], key: str, default: int, most: int) -> int:
    """A whole number of a request, 0 to ``most``; InputError for anything else."""
    value = request.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise InputError(
            expected=f"{key} as a whole number of 0 to {most}", received=repr(value)[:80], fix="correct the request"
        )
    return value


def only(request: dict[str, Any], *keys: str) -> None:
    """InputError for anything else in a request: what is not understood is not to be passed over."""
    if unknown := sorted(set(request) - set(keys)):
        raise InputError(
            expected=f"only {', '.join(keys) or 'do'} in this request", received=unknown[0][:80], fix="take it out"
        )
