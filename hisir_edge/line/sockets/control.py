"""The control socket: a ZeroMQ ROUTER that answers one JSON object with another (docs/reference/control-socket.md)."""

from __future__ import annotations

import ipaddress
import json
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread
from types import TracebackType
from typing import Any

import structlog
import zmq

from hisir_edge.config.sockets import ControlTable
from hisir_edge.errors import HisirEdgeError, InputError, PublishError, TryLater
from hisir_edge.labels import is_name
from hisir_edge.line.sockets.context import CONTROL, Wire
from hisir_edge.transport.curve_keys import Client

log = structlog.get_logger()

MOST_REQUEST_BYTES = 65536
MOST_REQUEST_FRAMES = 8
MOST_TEXT = 200
POLL_MS = 200
RATE_A_SECOND, BURST = 200.0, 400.0
"""Requests of one connection; more are refused unread."""
REFUSALS_A_SECOND, REFUSALS = 50.0, 300.0
"""Requests beyond these are not even refused."""
PEER_RATE_A_SECOND, PEER_BURST = 1000.0, 2000.0
"""Of all connections of one key, or of one other machine's address, together, and of all of this machine's own but
those that have asked for a while and modestly; more are not even refused."""
NEW_S = 1.0
MOST_DROPPED, MOST_UNREAD = 500, 400_000
"""Requests that are not answered, until their connection is cut off; until all are."""
MOST_KNOWN = 1024
WAITING_ANSWERS = 1
"""For a connection that does not take them; what is beyond is lost, as if it had not asked."""
LINGER_MS = 500
Answer = Callable[[dict[str, Any], Client], dict[str, Any]]
"""Of a request without its ``do``, and who asks; ``FRAMES`` of what it returns, a list of bytes, follows the JSON."""
FRAMES = "frames"


@dataclass(frozen=True, slots=True)
class Command:
    """Something that can be asked for, and the role that it takes."""

    role: str
    answer: Answer


class Buckets:
    """A bucket of tokens for each who asks (https://en.wikipedia.org/wiki/Token_bucket); of very many the last ones."""

    def __init__(self, rate_a_second: float, most: float) -> None:
        self._rate, self._most = rate_a_second, most
        self._left: OrderedDict[object, tuple[float, float, float]] = OrderedDict()

    def take(self, who: object) -> float:
        """Tokens left before one is taken; below 1 there was none."""
        now = time.monotonic()
        left, at, since = self._left.pop(who, (self._most, now, now))
        left = min(left + (now - at) * self._rate, self._most)
        self._left[who] = (left - 1 if left >= 1 else left, now, since)
        if len(self._left) > MOST_KNOWN:
            self._left.popitem(last=False)
        return left

    def known_s(self, who: object) -> float:
        """Seconds since the first request of a client."""
        return time.monotonic() - self._left[who][2] if who in self._left else 0.0


class ControlSocket:
    """Bound on entry and answered by a thread of its own; nothing that is sent to it can end it."""

    def __init__(self, settings: ControlTable, wire: Wire, commands: dict[str, Command]) -> None:
        self.settings, self.wire, self.commands = settings, wire, commands
        self._end = Event()
        self._thread: Thread | None = None
        self._connections = Buckets(RATE_A_SECOND, BURST)
        self._refusals = Buckets(REFUSALS_A_SECOND, REFUSALS)
        self._peers = Buckets(PEER_RATE_A_SECOND, PEER_BURST)
        self._unread = 0

    def __enter__(self) -> ControlSocket:
        """PublishError when the address is taken; without an endpoint: nothing."""
        if not self.settings.endpoint:
            return self
        self.socket = self._bound()
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
            self.wire.closed(self.socket, LINGER_MS)

    def _bound(self) -> zmq.Socket[bytes]:
        options = {zmq.MAXMSGSIZE: MOST_REQUEST_BYTES, zmq.SNDHWM: WAITING_ANSWERS, zmq.ROUTER_MANDATORY: 1}
        return self.wire.bound(zmq.ROUTER, "control.endpoint", self.settings.endpoint, CONTROL, options)

    def _begin_anew(self) -> None:
        """Close all connections and discard their unread requests; clients connect and ask again."""
        self.wire.refusals.add("too many requests", most=MOST_UNREAD)
        self.wire.closed(self.socket, 0)
        self._unread = 0
        while not self._end.is_set():
            try:
                self.socket = self._bound()
                return
            except PublishError:  # the port is given back by another thread, a moment later
                self._end.wait(0.01)

    def _run(self) -> None:
        while not self._end.is_set():
            if not self.socket.poll(POLL_MS, zmq.POLLIN):
                continue
            try:
                self._one()
            except Exception as error:  # whatever it is, it is to go on for the others
                log.exception("control request failed", reason=str(error))

    def _one(self) -> None:
        envelope, request, last = self._received()
        peer, connection = _peer(last), envelope[0]
        left = self._connections.take(connection)
        modest = left >= BURST / 2 and self._connections.known_s(connection) >= NEW_S
        shared = bool(peer) or not modest
        if (shared and self._peers.take(peer) < 1) or (left < 1 and self._refusals.take(connection) < 1):
            self._drop(last)
            return
        if len(envelope) >= MOST_REQUEST_FRAMES:
            self.wire.refusals.add("malformed", socket=CONTROL)
            return
        self._unread = max(self._unread - 1, 0)
        user_id = _user_id(last)
        if left < 1:
            self.wire.refusals.add("rate", socket=CONTROL)
        found = self.answer(request, user_id) if left >= 1 else TOO_OFTEN.copy()
        frames = found.pop(FRAMES, [])
        answer = json.dumps(found, separators=(",", ":")).encode()
        try:
            self.socket.send_multipart([*envelope, answer, *frames], zmq.NOBLOCK)
        except zmq.ZMQError as error:  # whoever asked is gone, or does not take what it asked for before
            self.wire.refusals.add("answer not taken", socket=CONTROL, error=str(error))

    def _received(self) -> tuple[list[bytes], bytes, zmq.Frame]:
        """(envelope, request, its last frame) of one message; of one of too many frames a long envelope."""
        frames: list[bytes] = []
        while True:
            frame = self.socket.recv(copy=False)
            if len(frames) <= MOST_REQUEST_FRAMES:
                frames.append(frame.bytes)
            if not frame.more:
                return frames[:-1], frames[-1], frame

    def _drop(self, frame: zmq.Frame) -> None:
        """Do not answer a flood: cut the connection off if it goes on, and discard its waiting requests."""
        self._unread += 1
        self.wire.refusals.add("rate", socket=CONTROL)
        if self._unread % MOST_DROPPED == 0:
            self.wire.guard.cut_off(frame, "flood")
        if self._unread > MOST_UNREAD:
            self._begin_anew()

    def answer(self, request: bytes, user_id: str = "") -> dict[str, Any]:
        """The answer to a request: ``{"ok": true, ...}``, or ``{"ok": false, "expected", "received", "fix"}``."""
        try:
            found = json.loads(request)
            asked = found.pop("do") if isinstance(found, dict) and isinstance(found.get("do"), str) else ""
            if asked not in self.commands:
                self.wire.refusals.add("malformed", socket=CONTROL)
                raise InputError(
                    expected=f'{{"do": ...}} out of {", ".join(sorted(self.commands))}',
                    received=request[:80].decode(errors="replace"),
                    fix="correct the request",
                )
            command = self.commands[asked]
            return {"ok": True, **command.answer(found, self._allowed(command, asked, user_id))}
        except HisirEdgeError as error:
            again = {"again": True} if isinstance(error, TryLater) else {}
            return _no(error.expected, error.received, error.fix) | again
        except (ValueError, RecursionError) as error:
            self.wire.refusals.add("malformed", socket=CONTROL)
            return _no("one JSON object", str(error)[:200], "correct the request")
        except Exception as error:
            log.exception("control request failed")
            return _no("to answer", f"{type(error).__name__}: {error}"[:200], "report this")

    def _allowed(self, command: Command, asked: str, user_id: str) -> Client:
        """The client that asks; InputError if its role does not suffice, or its key was removed since it connected."""
        client = self.wire.client(self.settings.endpoint, user_id)
        if client is None or command.role not in client.roles:
            name = client.name if client else "a key that is not known any more"
            self.wire.refusals.add("role", socket=CONTROL, client=name, do=asked)
            if client is None:
                raise InputError(
                    expected="a key of security.clients",
                    received=name,
                    fix="the line's owner puts its .key there",
                )
            raise InputError(
                expected=f"the role {command.role} for {asked}",
                received=f"{name} with {', '.join(sorted(client.roles)) or 'none'}",
                fix=f"the line's owner adds {command.role} to roles in security.clients/{name}.key",
            )
        return client


def _peer(frame: zmq.Frame) -> str:
    """The sender's name: its key, else its address if it is another machine; empty for this machine."""
    try:
        key, address = _user_id(frame), str(frame.get("Peer-Address"))
        return key or ("" if ipaddress.ip_address(address.partition("%")[0]).is_loopback else address)
    except (zmq.ZMQError, ValueError):
        return ""


def _user_id(frame: zmq.Frame) -> str:
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:  # no keys are asked for
        return ""


def _no(expected: str, received: str, fix: str) -> dict[str, Any]:
    return {"ok": False, "expected": expected, "received": received, "fix": fix}


TOO_OFTEN = _no(f"at most {RATE_A_SECOND:g} requests a second", "more", "ask more slowly") | {"again": True}


def text_of(request: dict[str, Any], key: str, required: bool = False) -> str:
    """A text of a request, empty where it is not there; InputError for anything but up to 200 printable characters.

    The separators of labels (GS, RS and so on) count as printable: boards are named by them.
    """
    value = request.get(key, "")
    if not isinstance(value, str) or len(value) > MOST_TEXT or not is_name(value) or (required and not value):
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


def flag_of(request: dict[str, Any], key: str, default: bool) -> bool:
    """A true or false of a request; InputError for anything else."""
    value = request.get(key, default)
    if not isinstance(value, bool):
        raise InputError(expected=f"{key} as true or false", received=repr(value)[:80], fix="correct the request")
    return value


def only(request: dict[str, Any], *keys: str) -> None:
    """InputError for anything else in a request: what is not understood is not to be passed over."""
    if unknown := sorted(set(request) - set(keys)):
        raise InputError(
            expected=f"only {', '.join(keys) or 'do'} in this request", received=unknown[0][:80], fix="take it out"
        )
