"""Read a journal beside the process that writes it, through a connection of its own: no writer waits."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import structlog

from hisir_edge.line.journal.records import Decision, Entry, decision_from_row, entry_from_row
from hisir_edge.line.journal.schema import DECIDED, FILE, STORED

log = structlog.get_logger()

MOST_ANSWER_BYTES = 2_000_000
"""Bytes of verdicts read at once: so much waits in memory for each client that asks and does not take it."""


class JournalReader:
    """Queries of a journal for clients; from any thread. sqlite3.Error is raised as it comes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entries(self, after_seq: int, most: int = 256, most_bytes: int = MOST_ANSWER_BYTES) -> list[Entry]:
        """Verdicts that follow a number, oldest first; at least one where there is one, whatever its size.

        Readers have a connection of their own: no reader delays a verdict.
        """
        return self._entries("verdict WHERE seq > ? ORDER BY seq LIMIT ?", (after_seq, most), most_bytes)

    def snapshot(self, source: str, unit: str, after_seq: int, most: int = 256) -> list[Entry]:
        """The last verdict of each camera and unit (empty: of all), by number, after one; bounded as ``entries``."""
        named = [(column, name) for column, name in (("source", source), ("unit", unit)) if name]
        # one condition for what is asked: each has its index, a condition that may be empty has none
        where = " AND ".join([*(f"last_of_unit.{column} = ?" for column, _ in named), "last_of_unit.seq > ?"])
        return self._entries(
            f"last_of_unit CROSS JOIN verdict USING (seq) WHERE {where} ORDER BY last_of_unit.seq LIMIT ?",
            (*(name for _, name in named), after_seq, most),
            MOST_ANSWER_BYTES,
        )

    def last_verdict(self) -> int:
        """The highest number with a verdict; 0 where there is none."""
        with closing(self._reader()) as db:
            return int(db.execute("SELECT ifnull(max(seq), 0) FROM verdict").fetchone()[0])

    def cursors(self) -> dict[str, int]:
        """The number that each named subscriber has acknowledged."""
        with closing(self._reader()) as db:
            return dict(db.execute("SELECT name, seq FROM cursor ORDER BY name"))

    def decisions(self, after_id: int = 0, most: int = 256, seqs: Sequence[int] | None = None) -> list[Decision]:
        """Decisions, oldest first: after a number, or on these verdicts alone."""
        which = "" if seqs is None else f" AND seq IN ({', '.join(str(int(seq)) for seq in seqs) or 'NULL'})"
        with closing(self._reader()) as db:
            select = f"SELECT {DECIDED} FROM decision WHERE id > ?{which} ORDER BY id LIMIT ?"  # noqa: S608
            rows = db.execute(select, (after_id, most))
            return [decision_from_row(row) for row in rows]

    def _entries(self, which: str, values: tuple[str | int, ...], most_bytes: int) -> list[Entry]:
        found: list[Entry] = []
        with closing(self._reader()) as db:
            rows = db.execute(f"SELECT {STORED} FROM {which}", values)  # noqa: S608
            for row in rows:
                most_bytes -= len(row[2]) + len(row[3])
                if found and most_bytes < 0:
                    break
                try:
                    found.append(entry_from_row(row))
                except sqlite3.DatabaseError as error:  # the others are given all the same
                    log.error("a verdict of the journal cannot be read", seq=row[0], reason=str(error))
        return found

    def _reader(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.folder / FILE}?mode=ro", uri=True, timeout=1)


def read_journal(folder: Path) -> tuple[str, list[Entry], list[int]]:
    """(epoch, verdicts, numbers without one) of a journal as it is on the disk, beside a running daemon or after it."""
    with closing(sqlite3.connect(f"file:{folder / FILE}?mode=ro", uri=True)) as db:
        epoch = db.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()[0]
        layout = db.execute("SELECT value FROM meta WHERE name = 'layout'").fetchone()[0]
        stored = STORED if layout not in ("1", "2") else "seq, topic, body, mask, 0"
        verdicts = [entry_from_row(row) for row in db.execute(f"SELECT {stored} FROM verdict ORDER BY seq")]  # noqa: S608
        return epoch, verdicts, [row[0] for row in db.execute("SELECT seq FROM accepted ORDER BY seq")]
