"""One line of a fleet: its boards and decisions into the store, through absences of both."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import structlog

from hisir_edge.errors import HisirEdgeError, InputError, NoAnswer, TryLater
from hisir_edge.fleet.rows import VERDICT, Batch, Now, Row, decision_row, rows_of
from hisir_edge.fleet.settings import FleetLine, StoreTable
from hisir_edge.fleet.store import LineState, Stop, Stopped, Store
from hisir_edge.mes.client import subscribe
from hisir_edge.mes.cursor import Cursor
from hisir_edge.mes.status import StatusWatch
from hisir_edge.mes.verdict import Verdict
from hisir_edge.transport.control_client import Asker

log = structlog.get_logger()

AGAIN_S, ATTEND_S, ANSWER_S, LAST_LOOK_S = 2.0, 5.0, 2.0, 10.0
GIVEN_AT = [column.name for column in VERDICT].index("given_at")
SILENT_S = 15.0
"""A line that has given neither boards nor answers for so long is away."""
MOST_DECISIONS = 256
NOT_YET = "not heard yet"
Clock = Callable[[], Now]


class Pending:
    """Boards that wait to be stored together, and the place behind them (``mes.cursor.CursorStore``)."""

    def __init__(self, line: FleetLine, store: Store, table: StoreTable, clock: Clock) -> None:
        self._line, self._store, self._table, self._clock = line, store, table, clock
        self._verdicts: list[Row] = []
        self._defects: list[Row] = []
        self._stored: Cursor | None = None
        self._at: Cursor | None = None
        self._since = 0.0
        self.count = 0
        self.newest_at: datetime | None = None
        """By the line's clock, of the board that was taken last."""

    def load(self) -> Cursor | None:
        """Begin anew at what is stored."""
        self._verdicts, self._defects = [], []
        self._stored = self._at = self._store.cursor(self._line.name)
        return self._stored

    def take(self, verdict: Verdict) -> None:
        """One more board; InputError where it is another line's."""
        if verdict.line != self._line.name:
            raise InputError(
                expected=f"the line {self._line.name} at {self._line.endpoint}", received=verdict.line,
                fix="correct its name, or its endpoint",
            )  # fmt: skip
        row, defects = rows_of(
            verdict, self._line.plant, self._table.keep_days, self._table.bodies, self._clock()
        )  # fmt: skip
        if not self._verdicts:
            self._since = time.monotonic()
        self.newest_at = row[GIVEN_AT]
        self._verdicts.append(row)
        self._defects += defects

    def save(self, cursor: Cursor) -> None:
        """The board that was taken last is done with."""
        self._at = cursor
        if len(self._verdicts) >= self._store.batch_rows:
            self.flush()

    def sync(self) -> None:
        """While nothing comes."""
        if self._verdicts and time.monotonic() > self._since + self._store.batch_s:
            self.flush()

    def flush(self) -> None:
        """Store what waits."""
        if self._verdicts and self._at is not None:
            self._store.write(
                Batch(self._line.name, self._verdicts, self._defects, self._stored, self._at)
            )  # fmt: skip
            self.count += len(self._verdicts)
            self._verdicts, self._defects, self._stored = [], [], self._at

    @property
    def stored(self) -> Cursor | None:
        """The last board that is stored."""
        return self._stored

    def settled(self) -> Cursor | None:
        """What the line may forget."""
        return self._stored

    def close(self) -> None:
        """The store is closed by whoever opened it."""


@dataclass(slots=True)
class _Heard:
    """When a line was heard last, monotonic, and why it is not; ``boards_at``: when it gave a board."""

    at: float | None = None
    boards_at: float | None = None
    wrong: str = NOT_YET


class LineCollector:
    """Follows a line, in threads of its own. ``quiet_s``: it ends when nothing has come for so long.

    ``done``: it has ended by that; ``wrong``: why it could not do what it should, empty where it could.
    """

    def __init__(
        self, line: FleetLine, store: Store, table: StoreTable, stop: Stop, quiet_s: float | None, clock: Clock
    ) -> None:
        self.line, self._store, self._table, self._stop, self._quiet_s = line, store, table, stop, quiet_s
        self._clock = clock
        self._pending = Pending(line, store, table, clock)
        self._heard = _Heard()
        self._began_at = time.monotonic()
        self._asker: Asker | None = None
        self._asking = Lock()
        self._told_at = -SILENT_S
        self.done, self.wrong = False, ""
        # a database that does not answer holds up no end: what is not stored comes again
        self._thread = Thread(target=self._follow, name=f"boards of {line.name}", daemon=True)

    def start(self) -> None:
        """Start."""
        self._watch = StatusWatch(
            self.line.endpoint, self.line.control, (self.line.server_key, self.line.key), self._attend, self._away,
            ATTEND_S,
        )  # fmt: skip
        self._thread.start()

    def close(self, deadline: float) -> None:
        """End, once ``stop`` says so; what waits is stored, unless the store is silent until then (monotonic)."""

        def left() -> float:
            return max(deadline - time.monotonic(), 0.0)

        self._thread.join(left())
        self._watch.close(left())
        if self._asking.acquire(timeout=left()):
            if self._asker is not None:
                self._asker.close()
            self._asking.release()

    @property
    def count(self) -> int:
        """Boards stored since the start."""
        return self._pending.count

    @property
    def newest_at(self) -> datetime | None:
        """When the board was given, by the line's clock, that came in the last hour; None: none came."""
        at = self._heard.boards_at
        return self._pending.newest_at if at is not None and time.monotonic() < at + 3600 else None

    @property
    def is_heard(self) -> bool:
        """Whether it has answered, or given a board, since the start."""
        return self._heard.at is not None

    def state(self) -> LineState:
        """How it is."""
        at = self._heard.at
        ago = None if at is None else time.monotonic() - at
        is_there = ago is not None and ago <= SILENT_S
        return LineState(
            name=self.line.name, plant=self.line.plant, endpoint=self.line.endpoint, heard_s=ago,
            wrong=self._heard.wrong or ("" if is_there else "silent"),
        )  # fmt: skip

    def _follow(self) -> None:
        line = self.line
        # the line knows how far it is and keeps what has not been collected
        name = f"{Path(line.key).stem}.{self._table.name}" if line.key else self._table.name
        while not self._stop(0):
            try:
                with closing(
                    subscribe(
                        line.endpoint, name, control=line.control, server_key=line.server_key, key=line.key,
                        masks=False, since="beginning", cursor=self._pending, timeout_s=self._quiet_s,
                        stop=lambda: self._stop(0), waiting=self._away,
                    )
                ) as stream:  # fmt: skip
                    for verdict in stream:
                        self._pending.take(verdict)
                        self._here()
                        self._heard.boards_at = self._heard.at
                if self._quiet_s is not None:
                    self._end_quietly("")
                    return
            except Stopped:
                return
            except HisirEdgeError as error:
                self._away(str(error))
            except Exception as error:
                self._away(f"{type(error).__name__}: {error}")
                log.exception("line not collected", line=line.name)
            quiet_since = self._heard.boards_at or self._began_at
            if self._quiet_s is not None and time.monotonic() > quiet_since + self._quiet_s:
                self._end_quietly(self._heard.wrong)
                return
            self._stop(AGAIN_S)

    def _end_quietly(self, wrong: str) -> None:
        """Nothing comes any more: whether the line is there, and the decisions that it has, once more."""
        end = time.monotonic() + LAST_LOOK_S
        while not wrong and not self._watch.control and not self._stop(0.1):
            if time.monotonic() > end:
                wrong = self._heard.wrong or "not heard"
        if not wrong:
            try:
                with Asker(self._watch.control, self.line.server_key, self.line.key) as asker:
                    status, _ = asker.ask({"do": "status"}, ANSWER_S)
                    self._hear(asker, str(status["epoch"]))
                    self._here()
                    newest, _ = asker.ask({"do": "replay", "after": 0, "most": 0}, ANSWER_S)
                    stored = self._pending.stored
                    left = int(newest["seq"]) - (stored.seq if stored and stored.epoch == newest["epoch"] else 0)
                    wrong = f"{left} board(s) are not stored yet" if left > 0 else ""
            except (Stopped, HisirEdgeError, LookupError, TypeError, ValueError) as error:
                wrong = f"its decisions are not known: {error}"
        self.wrong, self.done = wrong, True

    def _here(self) -> None:
        self._heard.at, self._heard.wrong = time.monotonic(), ""

    def _away(self, reason: str) -> None:
        """Nothing comes, or nothing can be taken; called again and again while that is so."""
        if reason != self._heard.wrong or time.monotonic() > self._told_at + 60:
            self._told_at = time.monotonic()
            log.warning("line not collected", line=self.line.name, reason=reason)
        self._heard.wrong = reason

    def _attend(self, status: dict[str, Any] | None) -> None:
        """On the watch's thread, every few seconds: decisions that the line has and the store has not."""
        if status is None:
            return
        if status.get("line") != self.line.name:
            raise InputError(
                expected=f"the line {self.line.name} at {self._watch.control}", received=str(status.get("line")),
                fix="correct its name, or its endpoint",
            )  # fmt: skip
        self._heard.at = time.monotonic()
        if self._heard.wrong == NOT_YET:  # a line that gives no board just now is there all the same
            self._heard.wrong = ""
        with self._asking:
            try:
                if self._asker is None:
                    self._asker = Asker(self._watch.control, self.line.server_key, self.line.key).__enter__()
                self._hear(self._asker, str(status["epoch"]))
            except Stopped:
                return
            except (NoAnswer, TryLater):
                if self._asker is not None:
                    self._asker.close()
                    self._asker = None

    def _hear(self, asker: Asker, epoch: str) -> None:
        while not self._stop(0):
            after = self._store.last_decision(self.line.name, epoch)
            request = {"do": "decisions", "after": after, "most": MOST_DECISIONS}
            answer, _ = asker.ask(request, ANSWER_S, lambda: self._stop(0))
            decisions = answer["decisions"]
            rows = [decision_row(self.line.name, one, self._table.keep_days, self._clock()) for one in decisions]
            if rows:
                self._store.write_decisions(self.line.name, rows)
            if len(decisions) < MOST_DECISIONS:
                return
