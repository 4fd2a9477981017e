"""What the page knows: verdicts and decisions of all its lines, in one SQLite file of its own.

Verdicts come from the lines' journals, each once; decisions go to the lines and wait here while a line is away.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import RLock
from typing import Any

from hisir_edge.errors import InputError
from hisir_edge.mes.cursor import Cursor
from hisir_edge.mes.verdict import Verdict
from hisir_edge.view.schema import OF_A_BOARD, OF_A_DECISION, TABLES

FILE, LAYOUT = "view.sqlite", 1
MOST_ROWS, PRUNED_AT_ONCE = 500, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Which boards; empty: all. ``since``, ``until``: seconds since 1970; ``before``: (at, line, seq) of the last."""

    line: str = ""
    unit: str = ""
    product: str = ""
    result: str = ""
    since: float = 0.0
    until: float = 1e11
    before: tuple[float, str, int] | None = None
    most: int = 100


class History:
    """The file, opened; several threads may use it. InputError where it cannot be, or is of a later version."""

    def __init__(self, folder: Path) -> None:
        self._lock = RLock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(folder / FILE, check_same_thread=False, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            layout = self._db.execute("PRAGMA user_version").fetchone()[0]
            if layout > LAYOUT:
                raise InputError(
                    expected=f"a history of layout up to {LAYOUT}",
                    received=f"{layout} in {folder / FILE}",
                    fix="update hisir-edge, or choose another --state",
                )
            self._db.executescript(TABLES)
            self._db.execute(f"PRAGMA user_version = {LAYOUT}")
        except (OSError, sqlite3.Error) as error:
            raise InputError(
                expected="a folder for the page's history", received=f"{folder} ({error})", fix="choose another --state"
            ) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _rows(self, query: str, values: tuple[Any, ...] | list[Any] = ()) -> list[dict[str, Any]]:
        with self._lock:
            return [dict(row) for row in self._db.execute(query, values)]

    def add(self, verdict: Verdict) -> None:
        """Keep a verdict; one that is known is the same."""
        v = verdict
        optics = v.optics
        row = (
            v.line, v.epoch, v.seq, datetime.fromisoformat(v.time).timestamp(), v.unit, v.product, v.result, v.score,
            v.defects_total, v.total_s, optics.get("blur_px"), optics.get("brightness"), optics.get("white_share"),
            v.reason, v.text,
        )  # fmt: skip
        regions = [
            (v.line, v.epoch, v.seq, d.priority, d.camera, d.component, d.x, d.y, d.w, d.h, d.peak) for d in v.defects
        ]
        with self._transaction() as db:
            db.execute(f"INSERT OR REPLACE INTO verdict VALUES ({', '.join('?' * len(row))})", row)
            db.executemany("INSERT OR REPLACE INTO defect VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", regions)

    def boards(self, search: Search) -> list[dict[str, Any]]:
        """Boards, the newest first."""
        where, values = ["at >= ?", "at < ?"], [search.since, search.until]
        more: list[Any] = []
        for column in ("line", "product", "result"):
            if wanted := getattr(search, column):
                where.append(f"{column} = ?")
                more.append(wanted)
        if search.unit:  # a name as it is, or with * for any characters
            where.append("unit GLOB ?" if "*" in search.unit else "unit = ?")
            more.append(search.unit.replace("[", "[[]").replace("?", "[?]") if "*" in search.unit else search.unit)
        if search.before is not None:
            where.append("(at, line, seq) < (?, ?, ?)")
            more += search.before
        most = min(max(search.most, 1), MOST_ROWS)
        order = "ORDER BY at DESC, line DESC, seq DESC LIMIT ?"
        query = f"SELECT {OF_A_BOARD} FROM verdict WHERE {' AND '.join(where)} {order}"
        return self._rows(query, [*values, *more, most])

    def board(self, line: str, epoch: str, seq: int) -> dict[str, Any] | None:
        """One board, with its verdict's ``body`` and its ``decisions``; None for one that is not known."""
        found = self._rows(
            f"SELECT {OF_A_BOARD}, body FROM verdict WHERE line = ? AND epoch = ? AND seq = ?", (line, epoch, seq)
        )
        if not found:
            return None
        return {**found[0], "body": json.loads(found[0]["body"]), "decisions": self.decisions(line, epoch, seq)}

    def decide(
        self, line: str, epoch: str, seq: int, defect: int, verification: str, detail: str, operator: str
    ) -> int:
        """Keep a decision until its line has it; its number here."""
        with self._transaction() as db:
            values = (line, epoch, seq, defect, verification, detail, operator, time.time())
            added = db.execute(
                "INSERT INTO decision (line, epoch, seq, defect, verification, detail, operator, at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values
            )  # fmt: skip
            return int(added.lastrowid or 0)

    def waiting(self, line: str) -> list[dict[str, Any]]:
        """Decisions that a line does not have yet, in order."""
        return self._rows(
            f"SELECT {OF_A_DECISION} FROM decision WHERE line = ? AND line_id IS NULL AND refused = '' ORDER BY id",
            (line,),
        )

    def trying(self, number: int) -> None:
        """A decision is about to be sent: should its answer be lost, the line may have it all the same."""
        with self._transaction() as db:
            db.execute("UPDATE decision SET tried = 1 WHERE id = ?", (number,))

    def sent(self, number: int, line_id: int) -> None:
        """A line has a decision, under a number of its own."""
        with self._transaction() as db:
            # told by the line itself meanwhile, as everybody's are
            db.execute(
                "DELETE FROM decision WHERE id != ? AND line_id = ? AND (line, epoch) = "
                "(SELECT line, epoch FROM decision WHERE id = ?)",
                (number, line_id, number),
            )
            db.execute("UPDATE decision SET line_id = ? WHERE id = ?", (line_id, number))

    def refused(self, number: int, reason: str) -> None:
        """A line does not take a decision."""
        with self._transaction() as db:
            db.execute("UPDATE decision SET refused = ? WHERE id = ?", (reason[:400], number))

    def told(self, line: str, decision: dict[str, Any]) -> bool:
        """Keep a decision that a line tells of, whoever made it; whether it is new here.

        One of ours, whose answer was lost, is the one that the line tells of, and is not sent again.
        """
        at = datetime.fromisoformat(str(decision["TimeStamp"])).timestamp()
        row = (
            line, str(decision["epoch"]), int(decision["seq"]), int(decision["defect"]), str(decision["Verification"]),
            str(decision["VerificationDetail"]), str(decision["operator"]), at, int(decision["id"]),
        )  # fmt: skip
        with self._transaction() as db:
            db.execute(
                "INSERT INTO told VALUES (?, ?, ?) ON CONFLICT (line, epoch) DO UPDATE SET id = max(id, excluded.id)",
                (line, row[1], row[8]),
            )
            known = "SELECT 1 FROM decision WHERE line = ? AND epoch = ? AND line_id = ?"
            if db.execute(known, (line, row[1], row[8])).fetchone():
                return False
            ours = db.execute(
                "SELECT id FROM decision WHERE line = ? AND epoch = ? AND seq = ? AND defect = ? AND verification = ? "
                "AND detail = ? AND operator = ? AND line_id IS NULL AND refused = '' AND tried ORDER BY id LIMIT 1",
                row[:7],
            ).fetchone()  # fmt: skip
            if ours:
                db.execute("UPDATE decision SET line_id = ? WHERE id = ?", (row[8], ours["id"]))
                return True
            added = db.execute(
                "INSERT OR IGNORE INTO decision "
                "(line, epoch, seq, defect, verification, detail, operator, at, line_id) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row
            )  # fmt: skip
            return added.rowcount > 0

    def last_told(self, line: str, epoch: str) -> int:
        """The highest number of a decision that a line has told of."""
        query = "SELECT ifnull(max(id), 0) AS id FROM told WHERE line = ? AND epoch = ?"
        return int(self._rows(query, (line, epoch))[0]["id"])

    def refusals(self, line: str) -> int:
        """How many decisions a line has refused in the last day."""
        query = "SELECT count(*) AS n FROM decision WHERE line = ? AND refused != '' AND at > ?"
        return int(self._rows(query, (line, time.time() - 86400))[0]["n"])

    def decisions(self, line: str, epoch: str, seq: int) -> list[dict[str, Any]]:
        """Decisions on a board, in order: the last one of each defect counts."""
        return self._rows(
            f"SELECT {OF_A_DECISION} FROM decision WHERE line = ? AND epoch = ? AND seq = ? "
            "ORDER BY ifnull(line_id, 4611686018427387904), id",
            (line, epoch, seq),
        )

    def prune(self, before: float) -> int:
        """Delete verdicts of before a time (seconds since 1970), and what was decided on them; how many went.

        At most ``PRUNED_AT_ONCE``: who waits for the file does not wait long.
        """
        with self._transaction() as db:
            keys = db.execute(
                "SELECT line, epoch, seq FROM verdict WHERE at < ? ORDER BY at LIMIT ?", (before, PRUNED_AT_ONCE)
            ).fetchall()
            for table in ("verdict", "defect", "decision", "missed"):
                db.executemany(
                    f"DELETE FROM {table} WHERE line = ? AND epoch = ? AND seq = ?", [tuple(key) for key in keys]
                )
            return len(keys)

    def change(self, text: str, values: tuple[Any, ...]) -> int:
        """One statement of its own; the number of the row that it added."""
        with self._transaction() as db:
            return int(db.execute(text, values).lastrowid or 0)

    def query(self, text: str, values: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        """Rows for statistics and exports."""
        return self._rows(text, values)

    def cursor(self, address: str) -> HistoryCursor:
        """Where a subscription of this address goes on."""
        return HistoryCursor(self, address)

    def load_cursor(self, address: str) -> Cursor | None:
        """See ``HistoryCursor``."""
        found = self._rows("SELECT epoch, seq FROM cursor WHERE address = ?", (address,))
        return Cursor(found[0]["epoch"], found[0]["seq"]) if found else None

    def save_cursor(self, address: str, cursor: Cursor) -> None:
        """See ``HistoryCursor``."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO cursor VALUES (?, ?, ?)", (address, cursor.epoch, cursor.seq))


@dataclass(frozen=True, slots=True)
class HistoryCursor:
    """A subscription's place, kept beside the verdicts (``mes.cursor.CursorStore``)."""

    history: History
    address: str

    def load(self) -> Cursor | None:
        """See ``CursorStore``."""
        return self.history.load_cursor(self.address)

    def save(self, cursor: Cursor) -> None:
        """See ``CursorStore``."""
        self.history.save_cursor(self.address, cursor)

    def close(self) -> None:
        """The history is closed by whoever opened it."""
