"""The journal: every trigger that was accepted, and its verdict before it is published, in one SQLite file.

Write-ahead log, ``synchronous=FULL`` as configured by default: what was recorded outlives ``kill -9`` and, with FULL,
a power cut (https://sqlite.org/wal.html, https://sqlite.org/pragma.html#pragma_synchronous). An epoch is the life of
one such file: sequence numbers go on over restarts within it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TypeVar

import structlog

from hisir_edge.config.kept import JournalTable
from hisir_edge.errors import HisirEdgeError
from hisir_edge.line.journal import opening
from hisir_edge.line.journal.age import JournalTime
from hisir_edge.line.journal.check import CheckBehind, Progress
from hisir_edge.line.journal.disk_reserve import DiskReserve
from hisir_edge.line.journal.lock_file import LockFile, unwritable
from hisir_edge.line.journal.presence import Presence
from hisir_edge.line.journal.reading import JournalReader
from hisir_edge.line.journal.records import AcceptedTrigger, Decision, Entry
from hisir_edge.line.journal.retention import Retention, delete_verdicts, give_back, oversized, room_of
from hisir_edge.line.journal.schema import BUSY_S, FILE, set_aside
from hisir_edge.line.journal.spill import Spill
from hisir_edge.line.journal.writing import acknowledged, decided, recorded

log = structlog.get_logger()

Done = TypeVar("Done")

NOTE_EACH_S = 60.0


class Journal(JournalReader):
    """A journal that is written to: open from entry to exit, by one process at a time; used from any thread.

    ``epoch`` names this file, ``last_seq`` is the last number given in it. A file that is damaged, or not the one that
    was written to last, is set aside on entry and a new epoch begun. Once open, sqlite3.Error is raised as it comes:
    what to make of it the caller knows best. ``tell`` hears what takes long on entry.
    """

    def __init__(self, folder: Path, settings: JournalTable, tell: Progress = lambda text: None) -> None:
        super().__init__(folder)
        self.settings, self._tell = settings, tell
        self.epoch, self.last_seq, self.last_recorded, self.last_published = "", 0, 0, 0
        self.set_aside: Path | None = None
        self.left: list[AcceptedTrigger] = []
        """Triggers that the daemon before this one did not answer."""
        self.spilled: list[Entry] = []
        """Verdicts that it published, and that the journal does not take yet."""
        self.wrong = ""
        """Why nothing can be written any more, until the daemon is started again or the file is back."""
        self.retention = Retention(settings)
        self._lock, self._numbers, self._path = Lock(), Lock(), folder / FILE
        self._db: sqlite3.Connection | None = None
        self._lock_file, self._reserve, self._spill = LockFile(folder), DiskReserve(folder), Spill(folder)
        self._presence: Presence | None = None
        self._check: CheckBehind | None = None
        self._time, self._noted_at, self._whole_to, self._damaged = JournalTime(), 0.0, 0, False

    def __enter__(self) -> Journal:
        """JournalError for a folder that cannot be written, or one that another daemon uses."""
        self._lock_file.acquire()
        try:
            self._spill.open()
            self._open_or_begin_anew()
        except (OSError, sqlite3.Error) as error:
            self._close()
            raise unwritable(self.folder, str(error)) from error
        except BaseException:
            self._close()
            raise
        self._reserve.hold()
        self._spill.enlarge()
        if self._check is not None:
            self._check.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close; what was recorded is on the disk already."""
        self._close()

    def accept(self, trigger: AcceptedTrigger, told: bool) -> None:
        """Record a trigger before anything is made of it.

        ``told``: a client will be told its number, so it has to outlive a power cut, too.
        """
        row = (trigger.seq, trigger.unit, trigger.source, trigger.product, trigger.accepted_at_ns)
        self._write(
            self.settings.synchronous if told else "NORMAL",
            lambda db: db.execute("INSERT OR REPLACE INTO accepted VALUES (?, ?, ?, ?, ?)", row),
        )
        self._given(trigger.seq)

    def _given(self, seq: int) -> None:
        """Triggers are accepted by one thread, verdicts recorded by another."""
        with self._numbers:
            self.last_seq = max(self.last_seq, seq)

    def forget(self, seq: int) -> None:
        """Delete a trigger that was refused after all: no client was told its number."""
        self._write("NORMAL", lambda db: db.execute("DELETE FROM accepted WHERE seq = ?", (seq,)))

    def record(self, entries: Sequence[Entry]) -> None:
        """Verdicts, and with each that its trigger is answered; all of them or none."""
        self._write(self.settings.synchronous, partial(recorded, entries, self._time.look()))
        if entries:
            last = max(entry.seq for entry in entries)
            self._given(last)
            if self.settings.synchronous == "FULL":  # else the mark might reach the disk before what it speaks of
                self._lock_file.mark_recorded(self.epoch, last)

    def keep_beside(self, entries: Sequence[Entry]) -> int:
        """Put verdicts that ``record`` did not take beside the journal, on the disk: how many found room, in order."""
        count = self._spill.keep(self.epoch, entries)
        if count:
            self._given(entries[count - 1].seq)  # who gets it may acknowledge it
            self._lock_file.mark_published(self.epoch, entries[count - 1].seq)
        return count

    def recorded_all(self) -> None:
        """What was kept beside the journal is in it now."""
        self._spill.clear()

    def acknowledge(self, name: str, seq: int, of: str = "") -> int:
        """Note that a subscriber has all up to a number: these may go when there are too many. The number noted.

        InputError where there are too many names, of one key (``of``) or at all, or for a number that no verdict has.
        """
        return self._write("NORMAL", lambda db: acknowledged(db, name, seq, of, self.last_seq))

    def forget_name(self, name: str) -> bool:
        """A subscriber that acknowledges no more: nothing is kept for it. Whether it was known."""
        return self._write("NORMAL", lambda db: db.execute("DELETE FROM cursor WHERE name = ?", (name,)).rowcount) > 0

    def decide(self, decision: Decision) -> int:
        """Record a decision; returns its number. InputError for an unknown verdict, or too many decisions on it."""
        return self._write(self.settings.synchronous, lambda db: decided(db, decision))

    def unanswered(self) -> list[AcceptedTrigger]:
        """Triggers without a verdict, oldest first."""
        with self._lock:
            return opening.unanswered(self._connection)

    def prune(self) -> int:
        """Delete some of the oldest verdicts, as ``Retention`` says, or give room back to the disk; how many of either.

        Each time a step of some milliseconds.
        """
        used_ns = self._time.look()
        with closing(self._reader()) as db:
            which = self.retention.oldest_to_delete(db, used_ns)
            too_large = which is None and oversized(db, self.settings)
        if which is None:
            self.retention.tell()
            return self._write("NORMAL", give_back, whole=False) if too_large else 0
        began = time.perf_counter()
        count = self._write("NORMAL", partial(delete_verdicts, which))
        self.retention.done(which, count, time.perf_counter() - began)
        self.retention.tell()
        return count

    def room(self) -> dict[str, float]:
        """See ``retention.room_of``."""
        with closing(self._reader()) as db:
            return room_of(db, self.settings)

    def look(self) -> str:
        """Once a second: whether the file is still there and whole. What is wrong, empty: nothing."""
        before, reason = self.wrong, "" if self._presence is None else self._presence.changed()
        if not reason and self._check is not None and self._check.damage:
            reason, self._damaged = f"the journal is damaged: {self._check.damage}", True
        self.wrong = reason
        if reason and not before:
            log.error("nothing can be journaled", reason=reason)
        elif before and not reason:
            log.info("the journal is back", before=before)
        if not reason and time.monotonic() > self._noted_at + NOTE_EACH_S:
            self._keep_notes()
        return reason

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise sqlite3.ProgrammingError("the journal is closed")
        return self._db

    def _write(self, synchronous: str, what: Callable[[sqlite3.Connection], Done], whole: bool = True) -> Done:
        """One transaction (``whole``); on a full disk the whole of it once more, on what was held in reserve."""
        if not self._lock.acquire(timeout=BUSY_S):
            raise sqlite3.OperationalError("the disk has not answered for what was written before")
        try:
            if self.wrong or (self._presence is not None and self._presence.missing()):
                raise sqlite3.OperationalError(self.wrong or self._presence.missing())  # type: ignore[union-attr]
            try:
                return self._transaction(synchronous, what, whole)
            except sqlite3.OperationalError as error:
                if not self._reserve.give_up(error):
                    raise
            return self._transaction(synchronous, what, whole)
        except (sqlite3.Error, HisirEdgeError):
            raise
        except Exception as error:  # the caller knows what a journal that does not write means, whatever the reason
            raise sqlite3.OperationalError(f"{type(error).__name__}: {error}") from error
        finally:
            self._lock.release()

    def _transaction(self, synchronous: str, what: Callable[[sqlite3.Connection], Done], whole: bool) -> Done:
        db = self._connection
        db.execute(f"PRAGMA synchronous = {synchronous}")
        if not whole:
            return what(db)
        db.execute("BEGIN IMMEDIATE")
        try:
            done = what(db)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
            raise
        return done

    def _open_or_begin_anew(self) -> None:
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self._disconnect()
            if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
                if not self._reserve.give_up(error):
                    raise  # the disk, its rights: the file may be whole
                self._open()
                return
            strange = isinstance(error, opening.NotThisJournal)
            self.set_aside = set_aside(self._path, "not-used" if strange else "damaged")
            what = "journal not used, a new epoch begins" if strange else "journal damaged, a new epoch begins"
            log.error(what, set_aside=str(self.set_aside), reason=str(error))
            self._open()

    def _open(self) -> None:
        opened = opening.open_journal(self._path, self._lock_file, self._spill, self._tell)
        self._db, self._presence, self._time = opened.db, opened.presence, opened.time
        self.epoch, self.last_seq, self.last_recorded = opened.epoch, opened.last_seq, opened.last_recorded
        self.last_published, self.left, self.spilled = opened.last_published, opened.left, opened.spilled
        self._whole_to = opened.whole_to
        self._check = CheckBehind(self._path) if opened.clean else None

    def _keep_notes(self) -> None:
        """Note the journal's time, and up to where its numbers are whole: the next start need not look further back."""
        self._noted_at = time.monotonic()

        def noted(db: sqlite3.Connection) -> int:
            whole_to = opening.missing_numbers(db, self._whole_to, opening.last_number(db, "verdict"))[1]
            rows = [(opening.TIME, self._time.kept()), (opening.WHOLE_TO, str(whole_to))]
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)
            return whole_to

        with suppress(sqlite3.Error):  # a full disk: what is not known keeps verdicts longer
            self._whole_to = self._write("FULL", noted)  # with it all before it is on the disk
            self._lock_file.mark_recorded(self.epoch, self._whole_to)

    def _disconnect(self) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
        self._db = None

    def _close(self) -> None:
        if self._check is not None:
            self._check.close()
        whole = self._db is not None and not self.wrong and not self._damaged
        if whole:
            self._time.look()
            self._keep_notes()
        with self._lock:
            self._disconnect()
        if whole:
            self._lock_file.mark_left(self._path)
        self.retention.tell(at_once=True)
        self._spill.close()
        self._lock_file.close()
