"""From a file on the disk to a journal that can be written to, or to a new one beside what cannot be used."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from hisir_edge.errors import JournalError
from hisir_edge.line.journal.age import JournalTime
from hisir_edge.line.journal.check import Progress, problem_of, read_through
from hisir_edge.line.journal.lock_file import LockFile
from hisir_edge.line.journal.presence import OPENED, Presence
from hisir_edge.line.journal.records import AcceptedTrigger, Entry
from hisir_edge.line.journal.schema import BUSY_S, LAYOUT, WAL_PAGES, layout_of, tables_of_this_layout
from hisir_edge.line.journal.spill import Spill
from hisir_edge.line.journal.writing import recorded

log = structlog.get_logger()

TIME, WHOLE_TO = "time", "whole_to"
"""Rows of ``meta``: the journal's time (``age``); the number up to which every verdict that was given is there."""
MOST_MISSING = 100_000
"""Numbers without a verdict that are answered with ERROR; with more the file is taken for another's."""
NO_NAME = "unknown"
EARLIER = ("1", "2")


class NotThisJournal(sqlite3.DatabaseError):
    """A whole journal, and not the one that this line wrote to last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A journal that can be written to, and what is known of it.

    ``clean``: it lies as it was closed. ``last_seq``: the last number given, ``left``: triggers without a verdict,
    ``whole_to``: every number up to it has a
    verdict. ``spilled``: verdicts that were published and that it does not take yet. ``presence``: see there.
    """

    db: sqlite3.Connection
    epoch: str
    clean: bool
    time: JournalTime
    last_recorded: int
    last_published: int
    last_seq: int
    whole_to: int
    left: list[AcceptedTrigger]
    spilled: list[Entry]
    presence: Presence


def open_journal(path: Path, lock: LockFile, spill: Spill, tell: Progress) -> Opened:
    """Open or make the file; one that was not closed is checked first.

    What the run before published without the journal comes into it from ``spill``; numbers that have no verdict all the
    same become triggers without one.

    sqlite3.DatabaseError: it is damaged; NotThisJournal: it is an older copy, or another line's; JournalError: a newer
    version wrote it.
    """
    clean = path.exists() and lock.left_clean(path)
    db, meta = _connected(path, lock, clean, tell)
    try:
        epoch, token = meta["epoch"], uuid.uuid4().hex
        if not _noted(db, OPENED, token):
            token = meta.get(OPENED, "")
        used = JournalTime(meta.get(TIME, ""))
        spilled = _from_spill(db, spill, epoch, used.look())
        recorded_to = max([last_number(db, "verdict"), *(entry.seq for entry in spilled)])
        last_seq = max(recorded_to, lock.published(epoch), last_number(db, "accepted"))
        missing, whole_to = missing_numbers(db, int(meta.get(WHOLE_TO, "0")), last_seq)
        _noted(db, WHOLE_TO, str(whole_to))
        held = {entry.seq for entry in spilled}
        unknown = [unknown_trigger(seq) for seq in missing if seq not in held]
        if unknown:
            log.error("numbers without a verdict: answered with ERROR", count=len(unknown), first_seq=unknown[0].seq)
        known = [trigger for trigger in unanswered(db) if trigger.seq not in held]
        return Opened(
            db=db, epoch=epoch, clean=clean, time=used, last_recorded=recorded_to,
            last_published=lock.published(epoch), last_seq=last_seq, whole_to=whole_to, spilled=spilled,
            left=sorted([*known, *unknown], key=lambda trigger: trigger.seq), presence=Presence(path, token),
        )  # fmt: skip
    except BaseException:
        db.close()
        raise


def _connected(path: Path, lock: LockFile, clean: bool, tell: Progress) -> tuple[sqlite3.Connection, dict[str, str]]:
    """The file's connection and what its table ``meta`` says, once it is known to be whole and this line's own."""
    existed = path.exists() and path.stat().st_size > 0
    with_log = path.with_name(path.name + "-wal").exists()
    lock.mark_open()
    if existed and not clean:
        read_through(path, tell)
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        if not existed:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        if existed and not clean and (problem := problem_of(path, tell=tell, mapped=True)):
            raise sqlite3.DatabaseError(problem)
        before = layout_of(db)
        meta = tables_of_this_layout(db, uuid.uuid4().hex)
        if meta["layout"] != str(LAYOUT):
            raise JournalError(
                expected=f"a journal of layout {LAYOUT} in {path.parent}",
                received=f"layout {meta['layout']}",
                fix="run the version that wrote it, or move it away",
            )
        if before in EARLIER:
            # what the version before left out, it answered in its own way: nothing of it is given anew
            whole_to = max(last_number(db, "verdict"), lock.published(meta["epoch"]))
            meta[WHOLE_TO] = str(whole_to)
        elif before:
            _check_its_own(path, meta["epoch"], last_number(db, "verdict"), lock, with_log or clean)
        if before != str(LAYOUT):  # from now on this is the one that is written to
            lock.mark_recorded(meta["epoch"], 0, synced=True)
    except BaseException:
        db.close()
        raise
    return db, meta


def _noted(db: sqlite3.Connection, name: str, value: str) -> bool:
    """Note something that the next start would like to know; whether there was room for it."""
    try:
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
    except sqlite3.OperationalError as error:
        log.error("journal opened on a disk that takes nothing", reason=str(error))
        return False
    return True


def last_number(db: sqlite3.Connection, table: str) -> int:
    """The highest number in a table; 0 where there is none."""
    return int(db.execute(f"SELECT ifnull(max(seq), 0) FROM {table}").fetchone()[0])  # noqa: S608


def unanswered(db: sqlite3.Connection) -> list[AcceptedTrigger]:
    """Triggers without a verdict, oldest first."""
    return [AcceptedTrigger(*row) for row in db.execute("SELECT * FROM accepted ORDER BY seq").fetchall()]


def _from_spill(db: sqlite3.Connection, spill: Spill, epoch: str, used_ns: int) -> list[Entry]:
    """Put what was published without the journal into it; what it does not take."""
    found = spill.held(epoch)
    if not found:
        spill.clear()
        return []
    oldest = db.execute("SELECT ifnull(min(seq), 0) FROM verdict").fetchone()[0]
    left = [entry for entry in found if entry.seq >= oldest]  # what is older was deleted for its age
    try:
        db.execute("PRAGMA synchronous = FULL")
        db.execute("BEGIN IMMEDIATE")
        # what was published is what the journal is to have: a verdict under its number was written by halves
        db.executemany("DELETE FROM verdict WHERE seq = ?", [(entry.seq,) for entry in left])
        recorded(left, used_ns, db)
        db.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if db.in_transaction:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        log.error("verdicts not journaled", count=len(left), reason=str(error))
        return left
    spill.clear()
    if left:
        log.info("verdicts journaled at last", count=len(left))
    return []


def _check_its_own(path: Path, epoch: str, last: int, lock: LockFile, with_log: bool) -> None:
    """NotThisJournal unless the file has all that this line recorded last."""
    of, recorded = lock.last_recorded()
    if not of or (of == epoch and recorded <= last):
        return
    without = "" if with_log else f", or {path.name}-wal was not kept with it"
    if of != epoch:
        raise NotThisJournal(f"it is another journal than the one of epoch {of} that was written to last{without}")
    raise NotThisJournal(f"it ends with verdict {last}, and {recorded} was recorded: an older copy{without}")


def missing_numbers(db: sqlite3.Connection, whole_to: int, last_given: int) -> tuple[list[int], int]:
    """(Numbers up to the last given that have neither verdict nor accepted trigger, up to where none lacks a verdict).

    Numbers before the oldest verdict were deleted for their age. NotThisJournal where very many are missing.
    """
    missing: list[int] = []
    oldest = db.execute("SELECT min(seq) FROM verdict").fetchone()[0]
    # where nothing is known and nothing is there, numbers begin with those that were accepted
    begin = max(whole_to, 0 if oldest is None else oldest - 1)
    known = dict.fromkeys((row[0] for row in db.execute("SELECT seq FROM accepted")), False)
    answered, expected = begin, begin + 1
    whole = True
    for seq in _numbers(db, begin, last_given):
        gap = range(expected, seq)
        if len(gap) + len(missing) > MOST_MISSING:
            raise NotThisJournal(f"{len(gap) + len(missing)} numbers before {seq} have no verdict")
        missing += [number for number in gap if number not in known]
        whole = whole and not gap
        answered = seq if whole else answered
        expected = seq + 1
    return missing, min(answered, last_given)


def _numbers(db: sqlite3.Connection, after: int, last_given: int) -> Iterator[int]:
    """The numbers that have a verdict, and one behind the last that was given."""
    for row in db.execute("SELECT seq FROM verdict WHERE seq > ? ORDER BY seq", (after,)):
        if row[0] <= last_given:
            yield int(row[0])
    yield last_given + 1


def unknown_trigger(seq: int) -> AcceptedTrigger:
    """A board that got a number and of which nothing else is known."""
    return AcceptedTrigger(seq, f"{NO_NAME}-{seq:08d}", NO_NAME, NO_NAME, time.time_ns())
