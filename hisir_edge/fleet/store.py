"""Where a fleet's rows are kept: the interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from hisir_edge.errors import HisirEdgeError
from hisir_edge.fleet.rows import Batch, Row
from hisir_edge.mes.cursor import Cursor

Tell = Callable[[str], None]
Stop = Callable[[float], bool]
"""Waits for so many seconds, or until it is to end; whether it is."""


class Stopped(Exception):
    """It is to end, and what was under way is not stored."""


class MovedError(HisirEdgeError):
    """Somebody else has stored boards of this line meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineState:
    """What is told of a line beside its boards; ``wrong``: why it is not heard, empty while it is."""

    name: str
    plant: str
    endpoint: str
    wrong: str
    heard_s: float | None


class Store(Protocol):
    """Keeps rows; used by many threads. While it cannot be reached it waits, tells why, and tries again."""

    batch_rows: int
    """So many boards of a line are written together at most,"""
    batch_s: float
    """and not later than so many seconds after the first of them came."""
    asked_at: float | None
    """Since when (monotonic) it has been waited for; None: it is not."""

    def now(self) -> datetime:
        """What time it is, by the one clock that boards are filed and deleted by."""

    def cursor(self, line: str) -> Cursor | None:
        """The last board of a line that is stored; None: none is."""

    def write(self, batch: Batch) -> None:
        """Store a batch and its place together. MovedError where ``before`` is not the place that is stored."""

    def last_decision(self, line: str, epoch: str) -> int:
        """The highest number of a line's decisions that is stored; 0: none is."""

    def write_decisions(self, line: str, rows: list[Row]) -> None:
        """Store decisions of one epoch; those that are stored already count once."""

    def prune(self, today: date, keep_days: int) -> None:
        """Delete what is filed under days that are older. InputError where that has to wait."""

    def tell(self, lines: list[LineState]) -> None:
        """Keep how lines are, where there is a place for it."""

    def close(self, timeout_s: float) -> None:
        """No more; what it is asked just now is waited for so long."""
