"""The journal: every trigger that was accepted, and its verdict before it is published, in one SQLite file.

Write-ahead log, ``synchronous=FULL`` as configured by default: what was recorded outlives ``kill -9`` and, with FULL,
a power cut (https://sqlite.org/wal.html, https://sqlite.org/pragma.html#pragma_synchronous). An epoch is the life of
one such file: sequence numbers go on over restarts within it.
"""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TypeVar

import structlog

from hisir_edge.config.tables import JournalTable
from hisir_edge.errors import HisirEdgeError, InputError, JournalError, TryLater
from hisir_edge.line.journal.disk_reserve import DiskReserve
from hisir_edge.line.journal.lock_file import LockFile, unwritable
from hisir_edge.line.journal.reading import JournalReader
from hisir_edge.line.journal.records import AcceptedTrigger, Decision, Entry
from hisir_edge.line.journal.retention import Retention, delete_verdicts
from hisir_edge.line.journal.schema import BUSY_S, FILE, FROM_LAYOUT_1, LAYOUT, TABLES, WAL_PAGES, set_aside

log = structlog.get_logger()

Done = TypeVar("Done")


MOST_CURSORS, MOST_CURSORS_OF_ONE = 64, 8
MOST_DECISIONS = 1000
"""On one verdict."""


class Journal(JournalReader):
    """A journal that is written to: open from entry to exit, by one process at a time; used from any thread.

    ``epoch`` names this file, ``last_seq`` is the last number given in it. A file that is damaged is set aside on entry
    and a new epoch begun. Once open, sqlite3.Error is raised as it comes: what to make of it the caller knows best.
    """

    def __init__(self, folder: Path, settings: JournalTable) -> None:
        super().__init__(folder)
        self.settings = settings
        self.epoch, self.last_seq, self.last_recorded, self.last_published = "", 0, 0, 0
        self.set_aside: Path | None = None
        self.left: list[AcceptedTrigger] = []
        """Triggers that the daemon before this one did not answer."""
        self._lock = Lock()
        self._db: sqlite3.Connection | None = None
        self._lock_file, self._reserve, self._retention = LockFile(folder), DiskReserve(folder), Retention(settings)

    def __enter__(self) -> Journal:
        """JournalError for a folder that cannot be written, or one that another daemon uses."""
        self._lock_file.acquire()
        try:
            self._open_or_begin_anew()
        except (OSError, sqlite3.Error) as error:
            self._close()
            raise unwritable(self.folder, str(error)) from error
        except BaseException:
            self._close()
            raise
        self._reserve.hold()
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
        self.last_seq = max(self.last_seq, trigger.seq)

    def forget(self, seq: int) -> None:
        """Delete a trigger that was refused after all: no client was told its number."""
        self._write("NORMAL", lambda db: db.execute("DELETE FROM accepted WHERE seq = ?", (seq,)))

    def record(self, entries: Sequence[Entry]) -> None:
        """Verdicts, and with each that its trigger is answered; all of them or none."""
        now = time.time_ns()
        rows = [(e.seq, now, e.topic, e.body, e.mask) for e in entries]

        def both(db: sqlite3.Connection) -> None:
            db.executemany("INSERT INTO verdict VALUES (?, ?, ?, ?, ?)", rows)
            db.executemany("DELETE FROM accepted WHERE seq = ?", [(e.seq,) for e in entries])
            db.executemany(
                "INSERT OR REPLACE INTO last_of_unit VALUES (?, ?, ?)", [(e.source, e.unit, e.seq) for e in entries]
            )

        self._write(self.settings.synchronous, both)

    def acknowledge(self, name: str, seq: int, of: str = "") -> int:
        """Note that a subscriber has all up to a number: these may go when there are too many. The number noted.

        InputError where there are too many names, of one key (``of``) or at all, or for a number that no verdict has.
        """

        def noted(db: sqlite3.Connection) -> int:
            known = dict(db.execute("SELECT name, seq FROM cursor"))
            last = db.execute("SELECT ifnull(max(seq), 0) FROM verdict").fetchone()[0]
            if seq > max(last, self.last_seq):  # what was published, and the disk did not take, may be acknowledged
                raise InputError(
                    expected=f"a number up to {last}, the last verdict's", received=str(seq),
                    fix="if the line's journal was restored from a backup, move it away: a new epoch begins",
                )  # fmt: skip
            mine = [one for one in known if of and (one == of or one.startswith(f"{of}."))]
            if name not in known and (len(known) >= MOST_CURSORS or len(mine) >= MOST_CURSORS_OF_ONE):
                most = MOST_CURSORS if len(known) >= MOST_CURSORS else MOST_CURSORS_OF_ONE
                raise TryLater(
                    expected=f"at most {most} names that acknowledge", received=name, fix="forget one of them"
                )
            at = max(seq, int(known.get(name, 0)))
            db.execute("INSERT OR REPLACE INTO cursor VALUES (?, ?, ?)", (name, at, time.time_ns()))
            return at

        return self._write("NORMAL", noted)

    def forget_name(self, name: str) -> bool:
        """A subscriber that acknowledges no more: nothing is kept for it. Whether it was known."""
        return self._write("NORMAL", lambda db: db.execute("DELETE FROM cursor WHERE name = ?", (name,)).rowcount) > 0

    def decide(self, decision: Decision) -> int:
        """Record a decision; returns its number. InputError for an unknown verdict, or too many decisions on it."""

        def noted(db: sqlite3.Connection) -> int:
            if not db.execute("SELECT 1 FROM verdict WHERE seq = ?", (decision.seq,)).fetchone():
                raise InputError(
                    expected="a verdict that is in the journal",
                    received=f"seq {decision.seq}",
                    fix="correct the request",
                )
            count = db.execute("SELECT count(*) FROM decision WHERE seq = ?", (decision.seq,)).fetchone()[0]
            if count >= MOST_DECISIONS:
                raise InputError(
                    expected=f"at most {MOST_DECISIONS} decisions on a verdict",
                    received="one more",
                    fix="none is taken",
                )
            d = decision
            row = (d.seq, d.defect, d.verification, d.detail, d.operator, d.client, d.at_ns)
            return db.execute("INSERT INTO decision VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", row).lastrowid or 0

        return self._write(self.settings.synchronous, noted)

    def unanswered(self) -> list[AcceptedTrigger]:
        """Triggers without a verdict, oldest first."""
        with self._lock:
            return self._unanswered(self._connection)

    @staticmethod
    def _unanswered(db: sqlite3.Connection) -> list[AcceptedTrigger]:
        return [AcceptedTrigger(*row) for row in db.execute("SELECT * FROM accepted ORDER BY seq").fetchall()]

    def prune(self) -> int:
        """Delete some of the oldest verdicts, as ``Retention`` says; how many."""
        with closing(self._reader()) as db:
            range_ = self._retention.oldest_to_delete(db)
        return 0 if range_ is None else self._write("NORMAL", partial(delete_verdicts, *range_))

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise sqlite3.ProgrammingError("the journal is closed")
        return self._db

    def _write(self, synchronous: str, what: Callable[[sqlite3.Connection], Done]) -> Done:
        """One transaction; on a full disk the whole of it once more, on what was held in reserve."""
        if not self._lock.acquire(timeout=BUSY_S):
            raise sqlite3.OperationalError("the disk has not answered for what was written before")
        try:
            try:
                return self._transaction(synchronous, what)
            except sqlite3.OperationalError as error:
                if not self._reserve.give_up(error):
                    raise
            return self._transaction(synchronous, what)
        except (sqlite3.Error, HisirEdgeError):
            raise
        except Exception as error:  # the caller knows what a journal that does not write means, whatever the reason
            raise sqlite3.OperationalError(f"{type(error).__name__}: {error}") from error
        finally:
            self._lock.release()

    def _transaction(self, synchronous: str, what: Callable[[sqlite3.Connection], Done]) -> Done:
        db = self._connection
        db.execute(f"PRAGMA synchronous = {synchronous}")
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
        path = self.folder / FILE
        try:
            self._open(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
                self._disconnect()
                if not self._reserve.give_up(error):
                    raise  # the disk, its rights: the file may be whole
                self._open(path)
                return
            self._disconnect()
            self.set_aside = set_aside(path)
            log.error("journal damaged, a new epoch begins", set_aside=str(self.set_aside), reason=str(error))
            self._open(path)

    def _open(self, path: Path) -> None:
        db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        self._db = db
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        problem = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise sqlite3.DatabaseError(problem)
        db.execute("BEGIN IMMEDIATE")
        for statement in TABLES.split(";"):
            db.execute(statement)
        for name, value in (("epoch", uuid.uuid4().hex), ("layout", str(LAYOUT))):
            db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, value))
        db.execute("COMMIT")
        meta = dict(db.execute("SELECT name, value FROM meta"))
        if meta["layout"] == "1":
            db.execute("BEGIN IMMEDIATE")
            db.execute(FROM_LAYOUT_1)
            db.execute("UPDATE meta SET value = ? WHERE name = 'layout'", (str(LAYOUT),))
            db.execute("COMMIT")
            meta["layout"] = str(LAYOUT)
        if meta["layout"] != str(LAYOUT):
            raise JournalError(
                expected=f"a journal of layout {LAYOUT} in {self.folder}",
                received=f"layout {meta['layout']}",
                fix="run the version that wrote it, or move it away",
            )
        self.epoch = meta["epoch"]
        self.last_recorded = db.execute("SELECT ifnull(max(seq), 0) FROM verdict").fetchone()[0]
        self.last_seq = db.execute(
            "SELECT max(ifnull((SELECT max(seq) FROM verdict), 0), ifnull((SELECT max(seq) FROM accepted), 0))"
        ).fetchone()[0]
        self.last_published = self._lock_file.marked(self.epoch)
        self.last_seq = max(self.last_seq, self.last_published)
        self.left = self._unanswered(db)

    def mark(self, seq: int) -> None:
        """See ``LockFile.mark``: a number that was published and could not be recorded."""
        self._lock_file.mark(self.epoch, seq)

    def _disconnect(self) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
        self._db = None

    def _close(self) -> None:
        with self._lock:
            self._disconnect()
        self._lock_file.close()


def folder_of(settings: JournalTable, line: str) -> Path:
    """Where the journal lies: as configured, else systemd's StateDirectory, else the user's own state folder."""
    if settings.folder:
        return Path(settings.folder)
    if state := os.environ.get("STATE_DIRECTORY", ""):
        return Path(state.split(":", maxsplit=1)[0]) / "journal"
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return home / "hisir-edge" / line / "journal"
