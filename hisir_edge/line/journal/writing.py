"""What is written into a journal: verdicts, acknowledgements and decisions, each within its limits."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from hisir_edge.errors import InputError, TryLater
from hisir_edge.line.journal.packing import packed
from hisir_edge.line.journal.records import Decision, Entry
from hisir_edge.line.journal.schema import WRITTEN

MOST_CURSORS, MOST_CURSORS_OF_ONE = 64, 8
MOST_DECISIONS = 1000
"""On one verdict."""


def recorded(entries: Sequence[Entry], used_ns: int, db: sqlite3.Connection) -> None:
    """Write verdicts, and with each that its trigger is answered; ``used_ns``: the journal's time."""
    now = time.time_ns()
    forms = [packed(e.body) for e in entries]
    rows = [(e.seq, now, e.topic, body, e.mask, used_ns, form) for e, (form, body) in zip(entries, forms, strict=True)]
    db.executemany(f"INSERT INTO verdict ({WRITTEN}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows)  # noqa: S608
    db.executemany("DELETE FROM accepted WHERE seq = ?", [(e.seq,) for e in entries])
    db.executemany("INSERT OR REPLACE INTO last_of_unit VALUES (?, ?, ?)", [(e.source, e.unit, e.seq) for e in entries])


def acknowledged(db: sqlite3.Connection, name: str, seq: int, of: str, last_seq: int) -> int:
    """Note that ``name`` has all up to a number; the number noted. See ``Journal.acknowledge``."""
    known = dict(db.execute("SELECT name, seq FROM cursor"))
    last = db.execute("SELECT ifnull(max(seq), 0) FROM verdict").fetchone()[0]
    if seq > max(last, last_seq):  # what was published, and the disk did not take, may be acknowledged
        raise InputError(
            expected=f"a number up to {last}, the last verdict's", received=str(seq),
            fix="if the line's journal was restored from a backup, move it away: a new epoch begins", code="unknown",
        )  # fmt: skip
    mine = [one for one in known if of and (one == of or one.startswith(f"{of}."))]
    if name not in known and (len(known) >= MOST_CURSORS or len(mine) >= MOST_CURSORS_OF_ONE):
        most = MOST_CURSORS if len(known) >= MOST_CURSORS else MOST_CURSORS_OF_ONE
        raise TryLater(expected=f"at most {most} names that acknowledge", received=name, fix="forget one of them")
    at = max(seq, int(known.get(name, 0)))
    db.execute("INSERT OR REPLACE INTO cursor VALUES (?, ?, ?)", (name, at, time.time_ns()))
    return at


def decided(db: sqlite3.Connection, decision: Decision) -> int:
    """Note a decision; its number. InputError for an unknown verdict, or too many decisions on it."""
    if not db.execute("SELECT 1 FROM verdict WHERE seq = ?", (decision.seq,)).fetchone():
        raise InputError(
            expected="a verdict that is in the journal",
            received=f"seq {decision.seq}",
            fix="correct the request",
            code="unknown",
        )
    count = db.execute("SELECT count(*) FROM decision WHERE seq = ?", (decision.seq,)).fetchone()[0]
    if count >= MOST_DECISIONS:
        raise InputError(
            expected=f"at most {MOST_DECISIONS} decisions on a verdict",
            received="one more",
            fix="none is taken",
            code="limit",
        )
    d = decision
    row = (d.seq, d.defect, d.verification, d.detail, d.operator, d.client, d.at_ns)
    return db.execute("INSERT INTO decision VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", row).lastrowid or 0
