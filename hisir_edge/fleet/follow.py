"""One line of a fleet: its boards and decisions into the store, through absences of both."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from threading import Thread
from typing import Any

import structlog

from hisir_edge.errors import HisirEdgeError, InputError, NoAnswer, TryLater
from hisir_edge.fleet.rows import Batch, Row, decision_row, rows_of
from hisir_edge.fleet.settings import FleetLine, StoreTable
from hisir_edge.fleet.store import LineState, Stop, Stopped, Store
from hisir_edge.mes.client import subscribe
from hisir_edge.mes.cursor import Cursor
from hisir_edge.mes.status import StatusWatch
from hisir_edge.mes.verdict import Verdict
from hisir_edge.transport.control_client import Asker

log = structlog.get_logger()

AGAIN_S, ATTEND_S, ANSWER_S = 2.0, 5.0, 2.0
SILENT_S = 15.0
"""A line that has given neither boards nor answers for so long is away."""
MOST_DECISIONS = 256


class Pending:
    """Boards that wait to be stored together, and the place behind them (``mes.cursor.CursorStore``)."""

    def __init__(self, line: FleetLine, store: Store, table: StoreTable, clock: Callable[[], datetime]) -> None:
        self._line, self._store, self._table, self._clock = line, store, table, clock
        self._verdicts: list[Row] = []
        self._defects: list[Row] = []
        self._stored: Cursor | None = None
        self._at: Cursor | None = None
        self._since = 0.0
        self.count = 0

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

    def settled(self) -> Cursor | None:
        """What the line may forget."""
        return self._stored

    def close(self) -> None:
        """The store is closed by whoever opened it."""


@dataclass(slots=True)
class _Heard:
    """When a line was heard last, monotonic, and why it is not."""

    boards_at: float | None = None
    answers_at: float | None = None
    wrong: str = "not heard yet"


class LineCollector:
    """Follows a line from entry to exit, in threads of its own. ``quiet_s``: it ends when nothing has come for so long.

    ``done``: it has ended by that.
    """

    def __init__(
        self, line: FleetLine, store: Store, table: StoreTable, stop: Stop, quiet_s: float | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:  # fmt: skip
        self.line, self._store, self._table, self._stop, self._quiet_s = line, store, table, stop, quiet_s
        self._clock = clock
        self._pending = Pending(line, store, table, clock)
        self._heard = _Heard()
        self._asker: Asker | None = None
        self._told_at = -SILENT_S
        self.done = False
        self._thread = Thread(target=self._follow, name=f"boards of {line.name}")

    def __enter__(self) -> LineCollector:
        """Start."""
        self._thread.start()
        self._watch = StatusWatch(
            self.line.endpoint, self.line.control, (self.line.server_key, self.line.key), self._attend, self._away,
            ATTEND_S,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        """End; what waits is stored, unless the store is away."""
        self._thread.join()
        self._watch.close()
        if self._asker is not None:
            self._asker.close()

    @property
    def count(self) -> int:
        """Boards stored since the start."""
        return self._pending.count

    @property
    def is_heard(self) -> bool:
        """Whether it has answered, or given a board, since the start."""
        return self._heard.boards_at is not None or self._heard.answers_at is not None

    def state(self) -> LineState:
        """How it is."""
        heard = max((at for at in (self._heard.boards_at, self._heard.answers_at) if at is not None), default=None)
        ago = None if heard is None else time.monotonic() - heard
        wrong = self._heard.wrong if ago is None or ago > SILENT_S or self._heard.wrong else ""
        return LineState(
            name=self.line.name, plant=self.line.plant, endpoint=self.line.endpoint, heard_s=ago,
            wrong=wrong or ("" if ago is not None and ago <= SILENT_S else "silent"),
        )  # fmt: skip

    def _follow(self) -> None:
        line = self.line
        # the line knows how far it is and keeps what has not been collected
        name = f"{Path(line.key).stem}.{self._table.name}" if line.key else self._table.name
        while not self._stop(0):
            stream = subscribe(
                line.endpoint, name, control=line.control, server_key=line.server_key, key=line.key, masks=False,
                since="beginning", cursor=self._pending, timeout_s=self._quiet_s, stop=lambda: self._stop(0),
                waiting=self._away,
            )  # fmt: skip
            try:
                for verdict in stream:
                    self._pending.take(verdict)
                    self._heard.boards_at, self._heard.wrong = time.monotonic(), ""
                if self._quiet_s is not None:
                    self.done = True
                    return
            except Stopped:
                return
            except HisirEdgeError as error:
                self._away(str(error))
            except Exception as error:
                self._away(f"{type(error).__name__}: {error}")
                log.exception("line not collected", line=line.name)
            finally:
                stream.close()
            self._stop(AGAIN_S)

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
        self._heard.answers_at = time.monotonic()
        try:
            self._hear(str(status["epoch"]))
        except Stopped:
            return
        except (NoAnswer, TryLater):
            if self._asker is not None:
                self._asker.close()
                self._asker = None

    def _hear(self, epoch: str) -> None:
        if self._asker is None:
            self._asker = Asker(self._watch.control, self.line.server_key, self.line.key).__enter__()
        while not self._stop(0):
            after = self._store.last_decision(self.line.name, epoch)
            request = {"do": "decisions", "after": after, "most": MOST_DECISIONS}
            answer, _ = self._asker.ask(request, ANSWER_S, lambda: self._stop(0))
            decisions = answer["decisions"]
            rows = [decision_row(self.line.name, one, self._table.keep_days, self._clock()) for one in decisions]
            if rows:
                self._store.write_decisions(self.line.name, rows)
            if len(decisions) < MOST_DECISIONS:
                return
