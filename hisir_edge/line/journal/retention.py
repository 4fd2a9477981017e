"""How long verdicts are kept: by age, by bytes, and until subscribers have acknowledged them."""

from __future__ import annotations

import sqlite3
import time

import structlog

from hisir_edge.config.tables import JournalTable

log = structlog.get_logger()

PRUNE_ROWS = 256
"""At most so many of the oldest verdicts are deleted at a time, so that no new verdict waits long for that."""
HELD_BACK_EACH_S = 3600.0


class Retention:
    """``journal.keep_days`` and ``journal.budget_mb``.

    Never the last verdict, and none that a registered subscriber has still to acknowledge, unless the file would grow
    to twice its bytes: that is logged as the loss that it is.
    """

    def __init__(self, settings: JournalTable) -> None:
        self.settings = settings
        self._held_back_at = -HELD_BACK_EACH_S

    def oldest_to_delete(self, db: sqlite3.Connection) -> tuple[int, int] | None:
        """The first and last number to delete now; None where everything is to be kept.

        ``db`` is the caller's own: warnings are logged meanwhile, and standard error may hang.
        """
        size, free = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
        used = (size - free) * db.execute("PRAGMA page_size").fetchone()[0]
        oldest_ns = time.time_ns() - int(self.settings.keep_days * 86_400e9)
        too_many = used > self.settings.budget_mb * 1_000_000
        last = db.execute("SELECT max(seq) FROM verdict").fetchone()[0] or 0
        rows = db.execute(
            "SELECT seq, written_at_ns FROM verdict WHERE seq < ? ORDER BY seq LIMIT ?", (last, PRUNE_ROWS)
        ).fetchall()
        found = [int(seq) for seq, written_at_ns in rows if too_many or written_at_ns < oldest_ns]
        if not found:
            return None
        slowest = db.execute("SELECT min(seq) FROM cursor").fetchone()[0]
        return found[0], self._until(found[-1], slowest, used)

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


def delete_verdicts(first: int, last: int, db: sqlite3.Connection) -> int:
    """Delete a range of verdicts and what refers to them; how many."""
    for table in ("last_of_unit", "decision"):
        db.execute(f"DELETE FROM {table} WHERE seq BETWEEN ? AND ?", (first, last))  # noqa: S608
    return db.execute("DELETE FROM verdict WHERE seq BETWEEN ? AND ?", (first, last)).rowcount
