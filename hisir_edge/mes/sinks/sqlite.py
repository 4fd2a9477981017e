"""A table in an SQLite file; verdict and cursor in one transaction: each verdict is in it once."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hisir_edge.errors import InputError
from hisir_edge.mes.cursor import Cursor
from hisir_edge.mes.sinks.base import OnRetry, Target, ignored
from hisir_edge.mes.verdict import Verdict

TABLES = """
CREATE TABLE IF NOT EXISTS verdict (
  epoch TEXT NOT NULL, seq INTEGER NOT NULL, line TEXT NOT NULL, unit TEXT NOT NULL, result TEXT NOT NULL,
  product TEXT NOT NULL, given_at TEXT NOT NULL, body TEXT NOT NULL, mask BLOB, PRIMARY KEY (epoch, seq)
);
CREATE INDEX IF NOT EXISTS verdict_unit ON verdict (unit);
CREATE TABLE IF NOT EXISTS cursor (name TEXT PRIMARY KEY, epoch TEXT NOT NULL, seq INTEGER NOT NULL);
"""
BUSY_S = 30.0


class SqliteSink:
    """Write-ahead log, ``synchronous=FULL``: what is in the table outlives kill -9 and a power cut, with its cursor."""

    def __init__(self, target: Target, on_retry: OnRetry = ignored) -> None:
        """InputError for a file that cannot be written or is none of SQLite's."""
        self._name, self._masks, self._path = target.name, target.masks, target.target
        try:
            Path(self._path).parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(TABLES)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error

    def load(self) -> Cursor | None:
        """See ``CursorStore``."""
        row = self._db.execute("SELECT epoch, seq FROM cursor WHERE name = ?", (self._name,)).fetchone()
        return Cursor(*row) if row else None

    def put(self, verdict: Verdict) -> None:
        """See ``Sink``."""
        row = (
            verdict.epoch, verdict.seq, verdict.line, verdict.unit, verdict.result, verdict.product, verdict.time,
            verdict.text.decode(), verdict.mask if self._masks else None,
        )  # fmt: skip
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("INSERT OR IGNORE INTO verdict VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            self._move(Cursor(verdict.epoch, verdict.seq))
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise self._unusable(error) from error

    def save(self, cursor: Cursor) -> None:
        """See ``CursorStore``: a verdict's is saved with it."""
        if self.load() is None:
            self._move(cursor)

    def close(self) -> None:
        """See ``CursorStore``."""
        self._db.close()

    def _move(self, cursor: Cursor) -> None:
        self._db.execute("INSERT OR REPLACE INTO cursor VALUES (?, ?, ?)", (self._name, cursor.epoch, cursor.seq))

    def _unusable(self, error: Exception) -> InputError:
        return InputError(
            expected="an SQLite file that can be written",
            received=f"{self._path} ({error})",
            fix="choose another --target, or make room; nothing is lost: run it again",
        )
