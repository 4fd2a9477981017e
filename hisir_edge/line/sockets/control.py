"""The control socket: a ZeroMQ ROUTER that answers one JSON object with another (docs/reference/control-socket.md)."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread
from types import TracebackType
from typing import Any

import structlog
import zmq

from hisir_edge.config.sockets import ControlTable
from hisir_edge.errors import HisirEdgeError, InputError, PublishError
from hisir_edge.json_once import loads_once
from hisir_edge.line.sockets.beside import Beside
from hisir_edge.line.sockets.context import CONTROL, Wire
from hisir_edge.line.sockets.conversations import MOST_OUTSTANDING, Conversations, Sent
from hisir_edge.line.sockets.rates import Buckets
from hisir_edge.line.sockets.requests import refusal, refusal_of
from hisir_edge.transport.curve_keys import Client

log = structlog.get_logger()

MOST_REQUEST_BYTES = 65536
MOST_REQUEST_FRAMES = 8
POLL_MS, RETRY_MS = 200, 5
"""How long to wait for a request; while answers wait for connections that do not take them."""
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
WAITING_ANSWERS = 1
"""In ZeroMQ, for a connection that does not take them; what is beyond waits in ``Conversations``."""
LINGER_MS = 500
Answer = Callable[[dict[str, Any], Client], dict[str, Any]]
"""Of a request without its ``do``, and who asks; ``FRAMES`` of what it returns, a list of bytes, follows the JSON."""
FRAMES = "frames"


@dataclass(frozen=True, slots=True)
class Command:
    """Something that can be asked for, and the role that it takes.

    ``beside``: it reads or writes the journal, and is answered by another thread, so that no trigger waits for it.
    """

    role: str
    answer: Answer
    beside: bool = False


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
        self._talk: Conversations
        self._beside: Beside

    def __enter__(self) -> ControlSocket:
        """PublishError when the address is taken; without an endpoint: nothing."""
        if not self.settings.endpoint:
            return self
        self.socket = self._bound()
        self._beside = Beside()
        self._talk = Conversations(self._sent, self._beside.work)
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
            self._talk.refuse_waiting(_frames(ENDING.copy()))
            for envelope, frames in self._beside.close():
                self._talk.done(envelope, frames)
            self.wire.closed(self.socket, LINGER_MS)

    def _bound(self) -> zmq.Socket[bytes]:
        options = {zmq.MAXMSGSIZE: MOST_REQUEST_BYTES, zmq.SNDHWM: WAITING_ANSWERS, zmq.ROUTER_MANDATORY: 1}
        return self.wire.bound(zmq.ROUTER, "control.endpoint", self.settings.endpoint, CONTROL, options)

    def _begin_anew(self) -> None:
        """Close all connections and discard their unread requests; clients connect and ask again."""
        self.wire.refusals.add("too many requests", most=MOST_UNREAD)
        self.wire.closed(self.socket, 0)
        self._talk.clear()
        self._unread = 0
        while not self._end.is_set():
            try:
                self.socket = self._bound()
                return
            except PublishError:  # the port is given back by another thread, a moment later
                self._end.wait(0.01)

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                if self._comes():
                    self._one()
            except Exception as error:  # whatever it is, it is to go on for the others
                log.exception("control request failed", reason=str(error))

    def _comes(self) -> bool:
        """Wait a while for a request; meanwhile answers that others have made, or that wait, go out."""
        poller = zmq.Poller()
        poller.register(self.socket, zmq.POLLIN)
        poller.register(self._beside.fd, zmq.POLLIN)
        ready = dict(poller.poll(RETRY_MS if self._talk.waiting else POLL_MS))
        for envelope, frames in self._beside.done():
            self._talk.done(envelope, frames)
        self._talk.flush()
        return self.socket in ready

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
        room = self._talk.room(connection)
        if room < 0:  # it asks on, and reads no answer
            self._drop(last)
            return
        self._unread = max(self._unread - 1, 0)
        if left < 1 or room == 0:
            self.wire.refusals.add("rate" if left < 1 else "busy", socket=CONTROL)
            self._talk.answer(envelope, _frames((TOO_OFTEN if left < 1 else TOO_MANY).copy()))
            return
        user_id = _user_id(last)
        found = _read(request)
        if isinstance(found, dict) and self._is_beside(found):
            self._talk.ask(envelope, lambda: _frames(self._answered(found, user_id)))
        else:
            self._talk.answer(envelope, _frames(self._answered(found, user_id)))

    def _is_beside(self, found: dict[str, Any]) -> bool:
        """Whether a request is one of the journal's."""
        asked = found.get("do")
        return isinstance(asked, str) and asked in self.commands and self.commands[asked].beside

    def _sent(self, frames: list[bytes]) -> Sent:
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return Sent.LATER
        except zmq.ZMQError as error:  # whoever asked is gone
            self.wire.refusals.add("answer not taken", socket=CONTROL, error=str(error))
            return Sent.NEVER
        return Sent.YES

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
        """The answer to a request: ``{"ok": true, ...}``, or ``{"ok": false, "code", "expected", ...}``."""
        return self._answered(_read(request), user_id)

    def _answered(self, read: Any, user_id: str) -> dict[str, Any]:
        try:
            if isinstance(read, Exception):
                raise read
            if not isinstance(read, dict):
                raise ValueError(f"another JSON value: {json.dumps(read)[:80]}")  # noqa: TRY004  # told as such
            found = dict(read)
            asked = found.pop("do") if isinstance(found.get("do"), str) else ""
            if asked not in self.commands:
                self.wire.refusals.add("malformed", socket=CONTROL)
                raise InputError(
                    expected=f'{{"do": ...}} out of {", ".join(sorted(self.commands))}',
                    received=json.dumps(read)[:80],
                    fix="correct the request",
                    code="unknown_request",
                )
            command = self.commands[asked]
            return {"ok": True, **command.answer(found, self._allowed(command, asked, user_id))}
        except HisirEdgeError as error:
            return refusal_of(error)
        except (ValueError, RecursionError) as error:
            self.wire.refusals.add("malformed", socket=CONTROL)
            return refusal("one JSON object", str(error)[:200], "correct the request", "malformed")
        except Exception as error:
            log.exception("control request failed")
            return refusal("to answer", f"{type(error).__name__}: {error}"[:200], "report this", "failed")

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
                    code="key",
                )
            raise InputError(
                expected=f"the role {command.role} for {asked}",
                received=f"{name} with {', '.join(sorted(client.roles)) or 'none'}",
                fix=f"the line's owner adds {command.role} to roles in security.clients/{name}.key",
                code="role",
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


def _read(request: bytes) -> Any:
    """The JSON of a request, read once; what is none is the error."""
    try:
        return loads_once(request)
    except (ValueError, RecursionError) as error:
        return error


def _frames(found: dict[str, Any]) -> list[bytes]:
    """An answer's frames: its JSON, and what follows it."""
    more: list[bytes] = found.pop(FRAMES, [])
    return [json.dumps(found, separators=(",", ":")).encode(), *more]


TOO_OFTEN = refusal(f"at most {RATE_A_SECOND:g} requests a second", "more", "ask more slowly", "rate", again=True)
ENDING = refusal("a line that goes on", "one that ends", "ask it once it is there again", "draining", again=True)
TOO_MANY = refusal(
    f"at most {MOST_OUTSTANDING} requests of a connection without their answers", "one more",
    "take the answers first", "busy", again=True,
)  # fmt: skip
