"""A line as one named subscriber follows it: live verdicts, heartbeats, the journal, and a cursor that moves on.

Needs pyzmq and the standard library.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import zmq

from hisir_edge.errors import InputError, NoAnswer, TryLater
from hisir_edge.mes.cursor import Cursor, CursorFile, CursorStore
from hisir_edge.mes.subscription import SILENT_S, Subscription, Tell
from hisir_edge.mes.verdict import Verdict, verdict_from_frames
from hisir_edge.transport.addresses import beside
from hisir_edge.transport.control_client import Asker

POLL_MS = 100
QUIET_S = 2.0
"""A line says each second that it is there. When nothing has come for so long the journal is asked."""
ANSWER_S, MOST_PATIENCE_S = 2.0, 60.0
MOST_ASKED = 256
ACK_EACH_S = 1.0
BEHIND = "behind"
"""Code of the error that a line has less than it has given already."""

Stop = Callable[[], bool]


def numbered_after(verdict: Verdict, before: int) -> Verdict:
    """With how many were missed since a number."""
    missed = max(verdict.seq - before - 1, 0)
    if not missed:
        return verdict
    return Verdict(
        topic=verdict.topic,
        text=verdict.text,
        mask=verdict.mask,
        body=verdict.body,
        missed=missed,
        overlay=verdict.overlay,
    )


class Line:
    """A line as one subscriber sees it: its live verdicts, its heartbeats, its journal."""

    def __init__(
        self, endpoint: str, control: str, server_key: str, key: str, masks: bool, timeout_s: float | None, stop: Stop,
        waiting: Tell,
    ) -> None:  # fmt: skip
        self.endpoint, self.control, self.keys, self.masks = endpoint, control, (server_key, key), masks
        self.timeout_s, self.stop, self._waiting = timeout_s, stop, waiting
        self._asked_at = time.monotonic()
        self._most, self._patience_s = MOST_ASKED, ANSWER_S
        self._name = ""
        self.at: Cursor | None = None
        """Contents of its last heartbeat."""
        self.beats = 0
        self._asker: Asker | None = None

    def __enter__(self) -> Line:
        """Connect."""
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            topics = ("verdict/" if self.masks else "brief/", "heartbeat/")
            self._subscription = Subscription(self.context, self.endpoint, topics, self.keys, self._waiting)
        except BaseException:
            self.context.term()
            raise
        self.heard = self.yielded = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._subscription.close()
        if self._asker is not None:
            self._asker.close()
        self.context.term()

    @property
    def over(self) -> bool:
        """Whether to end: by ``stop``, or because nothing has come for too long."""
        silent = self.timeout_s is not None and time.monotonic() > self.yielded + self.timeout_s
        return self.stop() or silent

    def next(self) -> Verdict | None:
        """The next verdict; None for a heartbeat, for nothing, and for a message that is no verdict."""
        frames = self._subscription.receive(POLL_MS)
        if not frames:
            return None
        self.heard = time.monotonic()
        if frames[0].startswith(b"heartbeat/"):
            self._take_heartbeat(frames)
            return None
        verdict = verdict_from_frames(frames)
        self._only(verdict.line)
        return verdict

    @property
    def quiet(self) -> bool:
        """Whether it has been silent for longer than a line that is there is; asked once each such time."""
        if time.monotonic() < self.heard + QUIET_S:
            return False
        self.heard = time.monotonic()
        return True

    def ask(self, request: dict[str, Any], answer_s: float = ANSWER_S) -> tuple[dict[str, Any], list[bytes]] | None:
        """An answer; None where there is none now, or no control address is known yet."""
        if not self.control:
            return None
        if self._asker is None:
            self._asker = Asker(self.control, *self.keys, self.context)
        try:
            return self._asker.ask(request, answer_s, self.stop)
        except (NoAnswer, TryLater) as error:
            if time.monotonic() > self._asked_at + SILENT_S:
                self._asked_at = time.monotonic()
                self._waiting(f"{self.control}: {error}")
            return None

    def after(self, cursor: Cursor) -> list[Verdict] | None:
        """Some verdicts of the journal after a cursor; None where the line does not answer."""
        request = {
            "do": "replay", "epoch": cursor.epoch, "after": cursor.seq, "masks": self.masks, "most": self._most
        }  # fmt: skip
        answered = self.ask(request, self._patience_s)
        if answered is None:  # it may be on its way still: less of it, and more time
            self._most, self._patience_s = max(self._most // 4, 1), min(self._patience_s * 2, MOST_PATIENCE_S)
            return None
        self._most = min(self._most * 2, MOST_ASKED)
        head = answered[0]
        if head["epoch"] == cursor.epoch and head.get("reached", cursor.seq) < cursor.seq:
            raise InputError(
                expected=f"the line to be at #{cursor.seq} or beyond, which it has given already",
                received=f"#{head['reached']} in the same epoch",
                fix="its journal was put back from a backup, or lost its end: move it away, so that a new epoch begins",
                code=BEHIND,
            )
        frames, out = answered[1], []
        for n in range(0, len(frames), 3):
            verdict = verdict_from_frames(frames[n : n + 3])
            before = cursor.seq if verdict.epoch == cursor.epoch else 0
            out.append(numbered_after(verdict, before))
            cursor = Cursor(verdict.epoch, verdict.seq)
        return out

    def now(self) -> Cursor | None:
        """The last verdict that the journal has; None where it does not answer."""
        answered = self.ask({"do": "replay", "after": 0, "most": 0})
        return Cursor(answered[0]["epoch"], answered[0]["seq"]) if answered else None

    def _only(self, name: str) -> None:
        """InputError for a second line at this address: each has numbers, and a journal, of its own."""
        self._name = self._name or name
        if name != self._name:
            raise InputError(
                expected=f"one line at {self.endpoint}", received=f"{self._name} and {name}",
                fix="subscribe to each line's own address, under a name of its own",
            )  # fmt: skip

    def _take_heartbeat(self, frames: list[bytes]) -> None:
        try:
            body = json.loads(frames[1])
            self.at = Cursor(str(body["epoch"]), int(body["seq"]))
            told, name = str(body.get("control", "")), str(body["line"])
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise InputError(
                expected="a heartbeat (topic, JSON)", received=f"{len(frames)} frame(s) that are none: {error}",
                fix="check the address",
            ) from error  # fmt: skip
        self.beats += 1
        self._only(name)
        if not self.control:
            if not told:
                raise InputError(
                    expected="a line with control.endpoint, which is asked for what was missed",
                    received=f"{self.endpoint} without one",
                    fix="add [control] with an endpoint to its line.toml",
                )
            self.control = beside(self.endpoint, told)


class _Place:
    """The cursor, at home and at the line."""

    def __init__(self, line: Line, name: str, store: CursorStore) -> None:
        self._line, self._name, self._store = line, name, store
        self.cursor = store.load()
        self._acked_at = -ACK_EACH_S
        self._acked: Cursor | None = None

    def move(self, cursor: Cursor) -> None:
        self._store.save(cursor)
        self.cursor = cursor
        self.acknowledge()

    def rest(self) -> None:
        """While there is nothing to do: on the disk, and known at the line."""
        sync = getattr(self._store, "sync", None)
        if sync is not None:
            sync()
        self.acknowledge()

    def finish(self) -> None:
        """At the end: nothing is on its way any more, and the line knows."""
        flush = getattr(self._store, "flush", None)
        if flush is not None:
            flush()
        self.acknowledge(at_once=True)

    def acknowledge(self, at_once: bool = False) -> None:
        """Tell the line, every now and then."""
        settled = getattr(self._store, "settled", None)
        cursor = self.cursor if settled is None else settled()
        due = at_once or time.monotonic() > self._acked_at + ACK_EACH_S
        if not self._name or not due or cursor is None or not cursor.epoch or cursor == self._acked:
            return
        self._acked_at = time.monotonic()
        request = {"do": "ack", "name": self._name, "epoch": cursor.epoch, "seq": cursor.seq}
        try:
            if self._line.ask(request) is not None:
                self._acked = cursor
        except InputError as error:
            if not error.expected.startswith("the epoch"):  # the line has lost its journal: the next verdict tells
                raise


def whole(line: Line, name: str, store: CursorStore | None, path: Path, since: str) -> Generator[Verdict, None, None]:
    """Every verdict once, in order. What is not the next one is asked for: the journal has it, in its place."""
    store = store or CursorFile(path)  # opened by whoever asks for the first verdict: it is closed by the same
    try:
        with line:
            place = _Place(line, name, store)
            yield from _stream(line, place, since)
            place.finish()
    finally:
        store.close()


def _stream(line: Line, place: _Place, since: str) -> Generator[Verdict, None, None]:
    behind, beats = True, 0
    while not line.over:
        if place.cursor is None:
            _begin(line, place, since)
            continue
        cursor = place.cursor
        if behind:
            missed = line.after(cursor)
            for verdict in missed or ():
                if line.stop():
                    break
                yield from _one(line, place, verdict)
            behind = missed is None or bool(missed)
            if missed is None:
                line.next()
            continue
        live = line.next()
        if live is not None and Cursor(live.epoch, live.seq - 1) == cursor:
            yield from _one(line, place, live)
        elif live is not None:
            behind = live.epoch != cursor.epoch or live.seq > cursor.seq
        else:
            at, behind = line.at, line.quiet
            if at is not None and line.beats != beats:  # each heartbeat is asked about once
                beats = line.beats
                behind = behind or at.epoch != cursor.epoch or at.seq != cursor.seq
            place.rest()


def _begin(line: Line, place: _Place, since: str) -> None:
    """The first time: from the beginning of the journal, from the next verdict, or from the first that is heard."""
    if since == "beginning":
        place.move(Cursor("", 0))
        return
    live = line.next()
    first = Cursor(live.epoch, live.seq - 1) if live is not None else line.now()
    if first is not None:
        place.move(first)


def _one(line: Line, place: _Place, verdict: Verdict) -> Generator[Verdict, None, None]:
    yield verdict
    line.yielded = time.monotonic()
    place.move(Cursor(verdict.epoch, verdict.seq))
