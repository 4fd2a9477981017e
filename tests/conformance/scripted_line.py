"""A line that does what a script tells it, for proving clients: two sockets, a journal in memory, no inspection.

Needs pyzmq and the standard library alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

GOLDEN = Path(__file__).parents[1] / "data" / "messages" / "2.4"
LINE = "line-1"
BEAT_S = 0.5
MOST_AT_ONCE = 256


class ScriptedLine:
    """Bound by ``up``, closed by ``down``; ``serve`` answers and beats until something is so."""

    def __init__(self, verdicts: str, control: str, limit_s: float) -> None:
        self.endpoints = {"verdicts": verdicts, "control": control}
        self.limit_s = limit_s
        self.epoch, self.journal = "a" * 32, list[tuple[str, int, list[bytes]]]()
        self.subscribed, self.asked = 0, 0
        self.refuse: list[dict[str, Any]] = []
        """Refusals for the next requests, the first for the next."""
        self.silent = 0
        """So many of the next requests are not answered."""
        self.at_once = MOST_AT_ONCE
        self.hidden = 0
        """So many of the last verdicts are not in the journal yet."""
        self.beats = True
        self.context = zmq.Context()
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        self._beat_at = 0.0

    @property
    def last(self) -> int:
        """The last number of this epoch."""
        return max((seq for epoch, seq, _ in self.journal if epoch == self.epoch), default=0)

    def up(self) -> None:
        """Bind both sockets."""
        for name, kind in (("verdicts", zmq.XPUB), ("control", zmq.ROUTER)):
            socket = self.context.socket(kind)
            socket.setsockopt(zmq.LINGER, 0)
            if kind == zmq.XPUB:
                socket.setsockopt(zmq.XPUB_VERBOSER, 1)
            end = time.monotonic() + 10
            while True:  # the port of before is given back a moment later
                try:
                    socket.bind(self.endpoints[name])
                    break
                except zmq.ZMQError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.02)
            self._sockets[name] = socket

    def down(self) -> None:
        """Close both, as a process that was killed."""
        for socket in self._sockets.values():
            socket.close(linger=0)
        self._sockets, self.subscribed = {}, 0

    def close(self) -> None:
        """End."""
        self.down()
        self.context.term()

    def new_epoch(self) -> None:
        """The journal is lost: another one begins, with number 1."""
        self.epoch = chr(ord(self.epoch[0]) + 1) * 32

    def forget(self, first: int, last: int) -> None:
        """Delete verdicts for their age, before anybody has them; they are not expected of the client either."""
        self.journal = [one for one in self.journal if not first <= one[1] <= last]

    def record(self, count: int = 1, schema: str = "", more: dict[str, Any] | None = None) -> list[list[bytes]]:
        """Give numbers to so many boards; in the journal, not published."""
        made = []
        for _ in range(count):
            seq = self.last + 1
            kind = ("pass", "fail", "error")[seq % 3]
            golden = json.loads((GOLDEN / f"{kind}.json").read_text())
            body = golden["body"] | {"epoch": self.epoch, "seq": seq, "line": LINE} | (more or {})
            if schema:
                body["schema"] = schema
            result = golden["topic"].rsplit("/", 1)[1]
            mask = b"\x89PNG" + bytes([seq % 256]) * (seq % 7) if kind == "fail" else b""
            frames = [f"verdict/{LINE}/{result}".encode(), json.dumps(body).encode(), mask]
            self.journal.append((self.epoch, seq, frames))
            made.append(frames)
        return made

    def send(self, frames: list[bytes]) -> None:
        """Publish a message."""
        self._sockets["verdicts"].send_multipart(frames)

    def publish(self, count: int = 1, **how: Any) -> None:
        """Give numbers to so many boards, and publish their verdicts."""
        for frames in self.record(count, **how):
            self.send(frames)

    def serve(self, until: Callable[[], bool], limit_s: float | None = None) -> bool:
        """Answer, and beat, until something is so; whether it came to be in time."""
        end = time.monotonic() + (self.limit_s if limit_s is None else limit_s)
        while not until():
            if time.monotonic() > end:
                return False
            self._step()
        return True

    def serve_for(self, seconds: float) -> None:
        """Answer, and beat, for a while."""
        self.serve(lambda: False, seconds)

    def _step(self) -> None:
        if not self._sockets:
            time.sleep(0.02)
            return
        for name, socket in self._sockets.items():
            while socket.poll(5, zmq.POLLIN):
                frames = socket.recv_multipart()
                if name == "verdicts":
                    self.subscribed += {1: 1, 0: -1}.get(frames[0][0], 0)
                else:
                    self._answer(frames[:-1], frames[-1])
        if self.beats and time.monotonic() > self._beat_at + BEAT_S:
            self._beat_at = time.monotonic()
            beat = {
                "schema": "hisir-edge/heartbeat/1.0", "line": LINE, "epoch": self.epoch, "seq": self.last,
                "TimeStamp": "2026-01-02T03:14:07.201311+00:00", "state": "Ready",
                "control": self.endpoints["control"],
            }  # fmt: skip
            self.send([f"heartbeat/{LINE}".encode(), json.dumps(beat).encode()])

    def _answer(self, envelope: list[bytes], text: bytes) -> None:
        self.asked += 1
        if self.silent:
            self.silent -= 1
            return
        found: dict[str, Any]
        frames: list[bytes] = []
        if self.refuse:
            found = {"ok": False, **self.refuse.pop(0)}
        else:
            found, frames = self._done(json.loads(text))
        self._sockets["control"].send_multipart([*envelope, json.dumps(found).encode(), *frames])

    def _done(self, request: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        if request["do"] == "ack":
            return {"ok": True, "name": request["name"], "seq": request["seq"]}, []
        if request["do"] != "replay":
            no = {"expected": "replay or ack", "received": request["do"], "fix": "correct the request"}
            return {"ok": False, "code": "unknown_request", **no}, []
        after = request.get("after", 0) if request.get("epoch", "") in ("", self.epoch) else 0
        there = self.last - self.hidden
        found = [(seq, f) for epoch, seq, f in self.journal if epoch == self.epoch and after < seq <= there]
        found = found[: min(request.get("most", MOST_AT_ONCE), self.at_once)]
        masks = request.get("masks", True)
        frames = [frame for _, (topic, body, mask) in found for frame in (topic, body, mask if masks else b"")]
        head = {
            "ok": True, "epoch": self.epoch, "first": found[0][0] if found else 0, "count": len(found),
            "seq": there, "reached": self.last,
        }  # fmt: skip
        return head, frames
