"""How long verdicts are kept: by age, by bytes, and until subscribers have acknowledged them."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from dataclasses import dataclass

import structlog

from hisir_edge.config.kept import JournalTable

log = structlog.get_logger()

PRUNE_ROWS = 256
"""At most so many of the oldest verdicts are deleted at a time..."""
STEP_S = 0.01
"""... and fewer where that takes longer: no new verdict waits longer for it."""
HELD_BACK_EACH_S = 3600.0
TOLD_EACH_S = 60.0
SLACK_BYTES, SLACK_SHARE = 4_000_000, 0.01
"""Over the budget, so much more is deleted: many at once, one line in the log."""
REASONS_TO_DELETE = ("age", "budget")
VACUUM_PAGES, INCREMENTAL = 64, 2
KNOWN_FROM, BYTES_EACH = 1000, 1200
"""A journal of so many verdicts says itself how large they are; before, that of a passed board is assumed."""
OVERSIZE = 1.05
"""A file of so many times the budget gives free pages back to the disk."""


@dataclass(frozen=True, slots=True)
class ToDelete:
    """Numbers to delete, and why: one of ``REASONS_TO_DELETE``."""

    first: int
    last: int
    why: str


class Retention:
    """``journal.keep_days`` and ``journal.budget_mb``.

    Never the last verdict, and none that a registered subscriber has still to acknowledge, unless the file would grow
    to twice its bytes: that is logged as the loss that it is. ``deleted`` counts what went, by reason.
    """

    def __init__(self, settings: JournalTable) -> None:
        self.settings = settings
        self.deleted: Counter[str] = Counter()
        self._held_back_at = -HELD_BACK_EACH_S
        self._rows, self._over = PRUNE_ROWS, False
        self._untold: dict[str, tuple[int, int, int]] = {}
        self._told_at = 0.0

    def oldest_to_delete(self, db: sqlite3.Connection, used_ns: int) -> ToDelete | None:
        """What to delete now; None where everything is to be kept. ``used_ns``: the journal's time.

        ``db`` is the caller's own: warnings are logged meanwhile, and standard error may hang.
        """
        used, budget = bytes_used(db), self.settings.budget_mb * 1_000_000
        self._over = used > budget - (min(SLACK_BYTES, SLACK_SHARE * budget) if self._over else 0)
        oldest_ns = used_ns - int(self.settings.keep_days * 86_400e9)
        last = db.execute("SELECT max(seq) FROM verdict").fetchone()[0] or 0
        rows = db.execute(
            "SELECT seq, used_ns FROM verdict WHERE seq < ? ORDER BY seq LIMIT ?", (last, self._rows)
        ).fetchall()
        found = [int(seq) for seq, written_ns in rows if self._over or written_ns < oldest_ns]
        if not found:
            return None
        slowest = db.execute("SELECT min(seq) FROM cursor").fetchone()[0]
        until = self._until(found[-1], slowest, used)
        return ToDelete(found[0], until, "budget" if self._over else "age") if until >= found[0] else None

    def done(self, deleted: ToDelete, count: int, took_s: float) -> None:
        """Note a deletion, and tell of those of the last while; the next one is as large as time allows."""
        self._rows = max(self._rows // 2, 1) if took_s > STEP_S else min(self._rows * 2, PRUNE_ROWS)
        self.deleted[deleted.why] += count
        first, _, before = self._untold.get(deleted.why, (deleted.first, 0, 0))
        self._untold[deleted.why] = (first, deleted.last, before + count)

    def tell(self, at_once: bool = False) -> None:
        """Log what was deleted since the last time, at most once in ``TOLD_EACH_S``."""
        if not self._untold or (not at_once and time.monotonic() < self._told_at + TOLD_EACH_S):
            return
        self._told_at, untold, self._untold = time.monotonic(), self._untold, {}
        limits = {"age": f"keep_days = {self.settings.keep_days:g}", "budget": f"budget_mb = {self.settings.budget_mb}"}
        for why, (first, last, count) in untold.items():
            reason = f"journal.{limits[why]}"
            log.info("old verdicts deleted", count=count, first_seq=first, last_seq=last, reason=reason)

    def _until(self, until: int, slowest: int | None, used: int) -> int:
        """The last number to delete, where the slowest subscriber has acknowledged up to ``slowest``."""
        if slowest is None or until <= slowest:
            return until
        if used > 2 * self.settings.budget_mb * 1_000_000:
            log.error(
                "verdicts deleted that a subscriber has not acknowledged",
                until_seq=until, acknowledged_seq=slowest, reason="twice journal.budget_mb",
            )  # fmt: skip
            return until
        if time.monotonic() > self._held_back_at + HELD_BACK_EACH_S:
            self._held_back_at = time.monotonic()
            log.warning(
                "verdicts kept beyond journal.keep_days or budget_mb: a subscriber has not acknowledged them",
                acknowledged_seq=int(slowest), bytes=used,
            )  # fmt: skip
        return int(slowest)


def bytes_used(db: sqlite3.Connection) -> int:
    """Bytes of the file that hold something."""
    size, free = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
    return int((size - free) * db.execute("PRAGMA page_size").fetchone()[0])


def oversized(db: sqlite3.Connection, settings: JournalTable) -> bool:
    """Whether the file could give some of its bytes back to the disk, and should."""
    size, free = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
    page = db.execute("PRAGMA page_size").fetchone()[0]
    kind = db.execute("PRAGMA auto_vacuum").fetchone()[0]
    too_large: bool = size * page > OVERSIZE * settings.budget_mb * 1_000_000
    return too_large and kind == INCREMENTAL and free > VACUUM_PAGES


def give_back(db: sqlite3.Connection) -> int:
    """Give some free pages back to the disk."""
    db.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
    return VACUUM_PAGES


def delete_verdicts(which: ToDelete, db: sqlite3.Connection) -> int:
    """Delete verdicts and what refers to them; how many."""
    between = (which.first, which.last)
    for table in ("last_of_unit", "decision"):
        db.execute(f"DELETE FROM {table} WHERE seq BETWEEN ? AND ?", between)  # noqa: S608
    return db.execute("DELETE FROM verdict WHERE seq BETWEEN ? AND ?", between).rowcount


def room_of(db: sqlite3.Connection, settings: JournalTable) -> dict[str, float]:
    """What the journal holds and has room for: verdicts, bytes of each, days at the pace of the last (0: not known)."""
    # one aggregate at a time is looked up, both together read the whole table
    first = db.execute("SELECT ifnull(min(seq), 0) FROM verdict").fetchone()[0]
    last = db.execute("SELECT ifnull(max(seq), 0) FROM verdict").fetchone()[0]
    count = last - first + 1 if last else 0
    each = bytes_used(db) / count if count >= KNOWN_FROM else BYTES_EACH
    room = settings.budget_mb * 1e6 / each
    days = 0.0
    if count >= KNOWN_FROM:
        pace = "SELECT seq, used_ns FROM verdict WHERE seq >= ? ORDER BY seq LIMIT 1"
        began, ended = (db.execute(pace, (seq,)).fetchone() for seq in (last - KNOWN_FROM + 1, last))
        if 0 < began[1] < ended[1]:
            days = room * (ended[1] - began[1]) / (ended[0] - began[0]) / 86_400e9
    return {"verdicts": count, "bytes_each": round(each), "room_for": int(room), "room_days": round(days, 1)}
