"""Publishes verdicts, under the topics that are asked for, and heartbeats over ZeroMQ (docs/reference/protocol.md)."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from threading import Lock
from types import TracebackType
from typing import Any

import structlog
import zmq

from hisir_edge.config.sockets import PublishTable
from hisir_edge.errors import PublishError
from hisir_edge.line.sockets.context import VERDICTS, Wire
from hisir_edge.line.sockets.message import utc

log = structlog.get_logger()

MOST_SUBSCRIPTION_BYTES = 512
MOST_EVENTS_AT_ONCE = 1024
MOST_EVENTS_OF_ONE, WINDOW_S = 1000, 10.0
"""Subscriptions and their ends, of one connection in ``WINDOW_S``."""
MOST_SUBSCRIPTIONS = 4096
"""Of all subscribers together; ZeroMQ keeps each of them in memory."""
LINGER_MS = 2000
REBIND_S = 2.0
HEARTBEAT_SCHEMA = "hisir-edge/heartbeat/1.0"
OTHER_TOPICS = ("heartbeat", "verification")
Draw = Callable[[], bytes]


class Publisher:
    """The PUB side (an XPUB socket, so that subscriptions can be seen); bound on entry, used from any thread."""

    def __init__(self, settings: PublishTable, wire: Wire) -> None:
        self.settings, self.wire = settings, wire
        self._prefixes: Counter[str] = Counter()
        self._lock = Lock()
        self._events: Counter[str] = Counter()
        self._counted_since = 0.0
        self._open: zmq.Socket[bytes] | None = None
        self._ended = False

    def __enter__(self) -> Publisher:
        """Bind; PublishError when the address is taken or not an address."""
        self._open = self._bound()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close; what is queued is still sent for up to 2 s."""
        with self._lock:
            if self._open is not None:
                self.wire.closed(self._open, LINGER_MS)
            self._open, self._ended = None, True

    def _bound(self) -> zmq.Socket[bytes]:
        options = {
            zmq.SNDHWM: self.settings.send_high_water_mark,
            zmq.XPUB_VERBOSER: 1,
            zmq.MAXMSGSIZE: MOST_SUBSCRIPTION_BYTES,
        }
        return self.wire.bound(zmq.XPUB, "publish.endpoint", self.settings.endpoint, VERDICTS, options)

    def count_subscribers(self, timeout_ms: int) -> int:
        """Take in (un)subscriptions that have come, waiting for one at most this long; how many ask for verdicts."""
        with self._lock:
            self._take_in(timeout_ms)
            return sum(n for prefix, n in self._prefixes.items() if not prefix.startswith(OTHER_TOPICS))

    def idle(self) -> None:
        """To be called now and then, where nothing else is: subscriptions are taken in."""
        with self._lock:
            self._take_in(0)

    def send(self, frames: list[bytes], overlay: Draw | None = None, rle: Draw | None = None) -> None:
        """Publish one verdict; never blocks (a subscriber beyond its high-water mark misses it).

        ``frames``: topic, JSON, mask PNG. Under ``verdict/`` always; under the other kinds where a subscriber asks
        for them by name.
        """
        topic, text, mask = frames
        rest = topic.partition(b"/")[2]
        with self._lock:
            self._take_in(0)
            self._bound_socket.send_multipart(frames)
            if self._asked_for(b"brief/" + rest):
                self._bound_socket.send_multipart([b"brief/" + rest, text])
            if self._asked_for(b"rle/" + rest):
                self._bound_socket.send_multipart([b"rle/" + rest, text, _drawn(rle) if mask else b""])
            if self._asked_for(b"overlay/" + rest):
                self._bound_socket.send_multipart([b"overlay/" + rest, text, mask, _drawn(overlay)])

    def beat(self, line: str, epoch: str, seq: int, **more: Any) -> None:
        """Say that the line is there, and what its last verdict's number is."""
        body = {"schema": HEARTBEAT_SCHEMA, "line": line, "epoch": epoch, "seq": seq, "TimeStamp": utc(time.time_ns())}
        self.tell(f"heartbeat/{line}", body | more)

    def tell(self, topic: str, body: dict[str, Any]) -> None:
        """Publish a topic and one JSON object."""
        text = json.dumps(body, separators=(",", ":")).encode()
        with self._lock:
            self._take_in(0)
            self._bound_socket.send_multipart([topic.encode(), text])

    def _asked_for(self, topic: bytes) -> bool:
        name = topic.decode()
        return any(prefix and name.startswith(prefix) for prefix in self._prefixes)

    def _take_in(self, timeout_ms: int) -> None:
        for _ in range(MOST_EVENTS_AT_ONCE):
            if not self._bound_socket.poll(timeout_ms, zmq.POLLIN):
                return
            frame = self._bound_socket.recv(copy=False)
            event, prefix = frame.bytes[:1], frame.bytes[1:].decode("utf-8", "replace")
            if event == b"\x01":
                self._prefixes[prefix] += 1
            elif event == b"\x00" and prefix in self._prefixes:
                self._prefixes[prefix] -= 1
                self._prefixes += Counter()  # without those at 0
            timeout_ms = 0
            self._count(frame)
            if self._prefixes.total() > MOST_SUBSCRIPTIONS:
                self._begin_anew()

    def _count(self, frame: zmq.Frame) -> None:
        """Cut off who subscribes and unsubscribes without end: as a whole it may come to nothing."""
        try:
            fd = str(frame.get("__fd"))
        except zmq.ZMQError:  # over ipc, or of a connection that is gone
            return
        if time.monotonic() > self._counted_since + WINDOW_S:
            self._counted_since = time.monotonic()
            self._events.clear()
        self._events[fd] += 1
        if self._events[fd] > MOST_EVENTS_OF_ONE:
            del self._events[fd]
            self.wire.guard.cut_off(frame, "flood")

    def _begin_anew(self) -> None:
        """Close all connections and forget their subscriptions; subscribers connect again and ask for the gap."""
        self.wire.refusals.add("too many subscriptions", most=MOST_SUBSCRIPTIONS)
        self.wire.closed(self._bound_socket, 0)
        self._prefixes.clear()
        self._open = None
        end = time.monotonic() + REBIND_S
        while self._open is None:
            try:
                self._open = self._bound()
            except PublishError:  # the port is given back by another thread, a moment later; else by the next verdict
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)

    @property
    def _bound_socket(self) -> zmq.Socket[bytes]:
        if self._open is None:
            if self._ended:
                raise PublishError(
                    expected="a publisher that is open", received="one that has ended", fix="report this"
                )
            self._open = self._bound()
        return self._open


def _drawn(draw: Draw | None) -> bytes:
    """A picture, empty where there is none or it cannot be drawn: the verdict goes out all the same."""
    try:
        return draw() if draw is not None else b""
    except Exception as error:
        log.exception("picture not drawn", reason=str(error))
        return b""
