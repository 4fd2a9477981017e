"""The journal: every trigger that was accepted, and its verdict before it is published, in one SQLite file.

Write-ahead log, ``synchronous=FULL`` as configured by default: what was recorded outlives ``kill -9`` and, with FULL,
a power cut (https://sqlite.org/wal.html, https://sqlite.org/pragma.html#pragma_synchronous). An epoch is the life of
one such file: sequence numbers go on over restarts within it.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TypeVar

import structlog

from hisir_edge.config import JournalTable
from hisir_edge.errors import HisirEdgeError, InputError, JournalError, TryLater

log = structlog.get_logger()

Done = TypeVar("Done")

FILE = "journal.sqlite"
RESERVE = "reserve"
RESERVE_BYTES = 8_000_000
"""Held free on the disk for the journal alone, and given up when the disk is full."""
LAYOUT = 2
"""1 had no table of each unit's last verdict and none of decisions: both are made when it is opened."""
PRUNE_ROWS = 256
"""At most so many of the oldest verdicts are deleted at a time, so that none waits long for that."""
WAL_PAGES = 1000
BUSY_S = 2.0
"""So long one who writes waits for another, in this process or beside it."""
MARK_BYTES = 64

TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS accepted (
  seq INTEGER PRIMARY KEY, unit TEXT NOT NULL, source TEXT NOT NULL, product TEXT NOT NULL,
  accepted_at_ns INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS verdict (
  seq INTEGER PRIMARY KEY, written_at_ns INTEGER NOT NULL, topic TEXT NOT NULL, body BLOB NOT NULL, mask BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS cursor (name TEXT PRIMARY KEY, seq INTEGER NOT NULL, at_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS last_of_unit (
  source TEXT NOT NULL, unit TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (source, unit)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS last_of_unit_seq ON last_of_unit (seq);
CREATE TABLE IF NOT EXISTS decision (
  id INTEGER PRIMARY KEY AUTOINCREMENT, seq INTEGER NOT NULL, defect INTEGER NOT NULL, verification TEXT NOT NULL,
  detail TEXT NOT NULL, operator TEXT NOT NULL, client TEXT NOT NULL, at_ns INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS decision_seq ON decision (seq);
"""
MOST_ANSWER_BYTES = 2_000_000
"""Of verdicts read at once: so much waits in memory for each who asks and does not take it."""
FROM_LAYOUT_1 = """
INSERT OR REPLACE INTO last_of_unit SELECT
  ifnull(json_extract(CAST(body AS TEXT), '$.source'), ''), ifnull(json_extract(CAST(body AS TEXT), '$.unit'), ''), seq
FROM verdict ORDER BY seq
"""
DECIDED = "seq, defect, verification, detail, operator, client, at_ns, id"
MOST_CURSORS, MOST_CURSORS_OF_ONE = 64, 8
MOST_DECISIONS = 1000
"""On one verdict."""
HELD_BACK_EACH_S = 3600.0


@dataclass(frozen=True, slots=True)
class AcceptedTrigger:
    """A trigger as it was accepted."""

    seq: int
    unit: str
    source: str
    product: str
    accepted_at_ns: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A verdict as it goes over the wire: topic, JSON, mask (1-bit PNG or empty); and whose it is, when written."""

    seq: int
    topic: str
    body: bytes
    mask: bytes
    source: str = ""
    unit: str = ""

    def frames(self) -> list[bytes]:
        """The ZeroMQ frames."""
        return [self.topic.encode(), self.body, self.mask]


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody decided about a verdict, or about one of its defects (``defect``: its Priority; 0: the board)."""

    seq: int
    defect: int
    verification: str
    detail: str
    operator: str
    client: str
    at_ns: int
    id: int = 0


class Journal:
    """Open from entry to exit, by one process at a time; used from any thread.

    ``epoch`` names this file, ``last_seq`` is the last number given in it. A file that is damaged is set aside on entry
    and a new epoch begun. Once open, sqlite3.Error is raised as it comes: what to make of it the caller knows best.
    """

    def __init__(self, folder: Path, settings: JournalTable) -> None:
        self.folder, self.settings = folder, settings
        self.epoch, self.last_seq, self.last_recorded, self.last_published = "", 0, 0, 0
        self._held_back_at = -HELD_BACK_EACH_S
        self.set_aside: Path | None = None
        self.left: list[AcceptedTrigger] = []
        """Triggers that the daemon before this one did not answer."""
        self._lock = Lock()
        self._db: sqlite3.Connection | None = None
        self._lock_fd = -1

    def __enter__(self) -> Journal:
        """JournalError for a folder that cannot be written, or one that another daemon uses."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._lock_fd = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o640)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(self._lock_fd).st_size < MARK_BYTES:  # room for ``mark``, while there is some
                os.pwrite(self._lock_fd, b" " * MARK_BYTES, 0)
        except BlockingIOError as error:
            self._close()
            raise JournalError(
                expected="a journal of its own for each line",
                received=f"{self.folder}, which another daemon is writing to",
                fix="stop the other one, or give this line another line.name or journal.folder",
            ) from error
        except OSError as error:
            self._close()
            raise _unwritable(self.folder, error.strerror or str(error)) from error
        try:
            self._open_or_begin_anew()
        except (OSError, sqlite3.Error) as error:
            self._close()
            raise _unwritable(self.folder, str(error)) from error
        except BaseException:
            self._close()
            raise
        self._hold_reserve()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close; what was recorded is on the disk already."""
        self._close()

    def accept(self, trigger: AcceptedTrigger, told: bool) -> None:
        """Record a trigger before anything is made of it.

        ``told``: somebody is going to be told its number, so it has to outlive a power cut, too.
        """
        row = (trigger.seq, trigger.unit, trigger.source, trigger.product, trigger.accepted_at_ns)
        self._write(
            self.settings.synchronous if told else "NORMAL",
            lambda db: db.execute("INSERT OR REPLACE INTO accepted VALUES (?, ?, ?, ?, ?)", row),
        )
        self.last_seq = max(self.last_seq, trigger.seq)

    def forget(self, seq: int) -> None:
        """A trigger that was refused after all: nobody was told its number."""
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

    def cursors(self) -> dict[str, int]:
        """What each named subscriber has acknowledged."""
        with closing(self._reader()) as db:
            return dict(db.execute("SELECT name, seq FROM cursor ORDER BY name"))

    def decide(self, decision: Decision) -> int:
        """Note what somebody decided; its number. InputError where there is no such verdict, or too many on it."""

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

    def decisions(self, after_id: int = 0, most: int = 256, seqs: Sequence[int] | None = None) -> list[Decision]:
        """What was decided, oldest first: after a number, or on these verdicts alone."""
        which = "" if seqs is None else f" AND seq IN ({', '.join(str(int(seq)) for seq in seqs) or 'NULL'})"
        with closing(self._reader()) as db:
            select = f"SELECT {DECIDED} FROM decision WHERE id > ?{which} ORDER BY id LIMIT ?"  # noqa: S608
            rows = db.execute(select, (after_id, most))
            return [Decision(*row) for row in rows]

    def unanswered(self) -> list[AcceptedTrigger]:
        """Triggers without a verdict, oldest first."""
        with self._lock:
            return self._unanswered(self._connection)

    @staticmethod
    def _unanswered(db: sqlite3.Connection) -> list[AcceptedTrigger]:
        return [AcceptedTrigger(*row) for row in db.execute("SELECT * FROM accepted ORDER BY seq").fetchall()]

    def prune(self) -> int:
        """Delete some of the oldest verdicts where there are more days or bytes than are to be kept; how many.

        Never the last one, and none that a registered subscriber has still to acknowledge, unless the file would grow
        to twice its bytes: that is logged as the loss that it is.
        """
        with self._lock:
            db = self._connection
            size, free = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
            page = db.execute("PRAGMA page_size").fetchone()[0]
            used = (size - free) * page
            oldest_ns = time.time_ns() - int(self.settings.keep_days * 86_400e9)
            too_many = used > self.settings.budget_mb * 1_000_000
            last = db.execute("SELECT max(seq) FROM verdict").fetchone()[0] or 0
            slowest = db.execute("SELECT min(seq) FROM cursor").fetchone()[0]
            oldest_rows = db.execute(
                "SELECT seq, written_at_ns FROM verdict WHERE seq < ? ORDER BY seq LIMIT ?", (last, PRUNE_ROWS)
            ).fetchall()
            found = [row for row in oldest_rows if too_many or row[1] < oldest_ns]
        if not found:
            return 0
        until = int(found[-1][0])
        if slowest is not None and until > slowest:
            if used <= 2 * self.settings.budget_mb * 1_000_000:
                until = int(slowest)
                if time.monotonic() > self._held_back_at + HELD_BACK_EACH_S:
                    self._held_back_at = time.monotonic()
                    log.warning(
                        "verdicts kept beyond journal.keep_days or budget_mb: a subscriber has not acknowledged them",
                        acknowledged_seq=until, bytes=used,
                    )  # fmt: skip
            else:
                log.error(
                    "verdicts deleted that a subscriber has not acknowledged",
                    until_seq=until, acknowledged_seq=slowest, reason="twice journal.budget_mb",
                )  # fmt: skip
        oldest = int(found[0][0])

        def gone(db: sqlite3.Connection) -> int:
            for table in ("last_of_unit", "decision"):
                db.execute(f"DELETE FROM {table} WHERE seq BETWEEN ? AND ?", (oldest, until))  # noqa: S608
            return db.execute("DELETE FROM verdict WHERE seq BETWEEN ? AND ?", (oldest, until)).rowcount

        return self._write("NORMAL", gone)

    def entries(self, after_seq: int, most: int = 256, most_bytes: int = MOST_ANSWER_BYTES) -> list[Entry]:
        """Verdicts that follow a number, oldest first; at least one where there is one, whatever its size.

        Read through a connection of its own: nobody who asks keeps a verdict waiting.
        """
        return self._entries("verdict WHERE seq > ? ORDER BY seq LIMIT ?", (after_seq, most), most_bytes)

    def snapshot(self, source: str, unit: str, after_seq: int, most: int = 256) -> list[Entry]:
        """The last verdict of each camera and unit (empty: of all), by number, after one; bounded as ``entries``."""
        return self._entries(
            "verdict JOIN last_of_unit USING (seq) WHERE (? = '' OR source = ?) AND (? = '' OR unit = ?) AND seq > ? "
            "ORDER BY seq LIMIT ?",
            (source, source, unit, unit, after_seq, most),
            MOST_ANSWER_BYTES,
        )

    def _entries(self, which: str, values: tuple[str | int, ...], most_bytes: int) -> list[Entry]:
        found: list[Entry] = []
        with closing(self._reader()) as db:
            rows = db.execute(f"SELECT seq, topic, body, mask FROM {which}", values)  # noqa: S608
            for row in rows:
                most_bytes -= len(row[2]) + len(row[3])
                if found and most_bytes < 0:
                    break
                found.append(Entry(*row))
        return found

    def last_verdict(self) -> int:
        """The highest number with a verdict; 0 where there is none."""
        with closing(self._reader()) as db:
            return int(db.execute("SELECT ifnull(max(seq), 0) FROM verdict").fetchone()[0])

    def _reader(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.folder / FILE}?mode=ro", uri=True, timeout=1)

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
                if not _no_room(error) or not self._give_reserve_up():
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
                if not _no_room(error) or not self._give_reserve_up():
                    raise  # the disk, its rights: the file may be whole
                self._open(path)
                return
            self._disconnect()
            self.set_aside = _set_aside(path)
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
        self.last_published = self._marked()
        self.last_seq = max(self.last_seq, self.last_published)
        self.left = self._unanswered(db)

    def mark(self, seq: int) -> None:
        """Note, in room that is there, a number that was published and could not be recorded: it is not given again."""
        try:
            os.pwrite(self._lock_fd, f"{self.epoch} {seq:020d}\n".encode(), 0)
            os.fdatasync(self._lock_fd)
        except OSError as error:
            log.error("number not noted", seq=seq, reason=error.strerror)

    def _marked(self) -> int:
        words = os.pread(self._lock_fd, MARK_BYTES, 0).split()
        known = len(words) == 2 and words[0] == self.epoch.encode() and words[1].isdigit()
        return int(words[1]) if known else 0

    def _hold_reserve(self) -> None:
        """Keep some of the disk for the day when it is full; without it the journal works as well until then."""
        path = self.folder / RESERVE
        try:
            if path.exists() and path.stat().st_size == RESERVE_BYTES:
                return
            with path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
        except OSError as error:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            log.warning("no room held in reserve for the journal", reason=error.strerror)

    def _give_reserve_up(self) -> bool:
        path = self.folder / RESERVE
        try:
            path.unlink()
        except OSError:  # there is none, or the disk takes nothing at all
            return False
        log.error("the disk is full: the journal goes on with what was held in reserve", bytes=RESERVE_BYTES)
        return True

    def _disconnect(self) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
        self._db = None

    def _close(self) -> None:
        with self._lock:
            self._disconnect()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def read_journal(folder: Path) -> tuple[str, list[Entry], list[int]]:
    """(epoch, verdicts, numbers without one) of a journal as it is on the disk, beside a running daemon or after it."""
    with closing(sqlite3.connect(f"file:{folder / FILE}?mode=ro", uri=True)) as db:
        epoch = db.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()[0]
        verdicts = [Entry(*row) for row in db.execute("SELECT seq, topic, body, mask FROM verdict ORDER BY seq")]
        return epoch, verdicts, [row[0] for row in db.execute("SELECT seq FROM accepted ORDER BY seq")]


def folder_of(settings: JournalTable, line: str) -> Path:
    """Where the journal lies: as configured, else systemd's StateDirectory, else the user's own state folder."""
    if settings.folder:
        return Path(settings.folder)
    if state := os.environ.get("STATE_DIRECTORY", ""):
        return Path(state.split(":", maxsplit=1)[0]) / "journal"
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return home / "hisir-edge" / line / "journal"


def _no_room(error: sqlite3.Error) -> bool:
    return "full" in str(error) or "disk I/O" in str(error)


def _set_aside(path: Path) -> Path:
    """Move a damaged file, and what belongs to it, out of the way; nothing of it is deleted."""
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(path.with_name(f"damaged-{stamp}-{path.name}{suffix}"))
    return path.with_name(f"damaged-{stamp}-{path.name}")


def _unwritable(folder: Path, received: str) -> JournalError:
    return JournalError(
        expected="a journal.folder that can be written",
        received=f"{folder} ({received})",
        fix="correct it, its rights, or make room on its disk",
    )
