"""Whether a journal's file is whole: read once from front to back, then checked by SQLite from memory.

SQLite's own check reads a file of some size in the order of its tree, which costs a cold disk ten times the time of
reading it through (https://sqlite.org/pragma.html#pragma_quick_check). It may be read so only while this process has no
connection to it: to close any descriptor of a file gives up all of a process's locks on it, SQLite's, too
(https://sqlite.org/howtocorrupt.html, 2.2), and the next program that opens it deletes its log.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Event, Thread

import structlog

log = structlog.get_logger()

BLOCK_BYTES = 4 << 20
MAPPED_SHARE = 0.5
"""A file up to this share of the free memory is checked as mapped memory; a larger one may not stay there."""
OPERATIONS = 2000
"""Of SQLite between two looks at the time."""
BUSY_SHARE = 0.2
"""Behind a running line, reading and checking take so much of the time."""
LONGEST_REST_S = 1.0

Progress = Callable[[str], None]


class CheckEnded(Exception):
    """The check was to end before it was through."""


def read_through(path: Path, tell: Progress) -> None:
    """Read a file once, so that the check finds it in memory; sqlite3.DatabaseError where the disk cannot read it.

    To be called before there is a connection to it.
    """
    try:
        _read(path, tell)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise sqlite3.DatabaseError(f"the disk cannot read it: {error.strerror}") from error


def _read(path: Path, tell: Progress) -> None:
    buffer, done = memoryview(bytearray(BLOCK_BYTES)), 0
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while count := os.readv(fd, [buffer]):
            done += count
            tell(f"reading the journal, {done / 1e9:.2f} of {size / 1e9:.2f} GB")
    finally:
        os.close(fd)


def problem_of(
    path: Path, pace: Callable[[], None] = lambda: None, tell: Progress = lambda text: None, mapped: bool = False
) -> str:
    """What is wrong with a journal's file; empty: it is whole. ``pace`` and ``tell`` are called often.

    ``mapped``: as mapped memory, where nobody else has the file open. sqlite3.Error, OSError: it cannot be read.
    """
    size = path.stat().st_size
    ended: list[BaseException] = []

    def look() -> int:
        try:
            pace()
            tell("checking the journal")
        except BaseException as error:
            ended.append(error)
            return 1
        return 0

    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1)) as db:
        if mapped and size < MAPPED_SHARE * _free_bytes():
            db.execute(f"PRAGMA mmap_size = {2 * size}")
        db.set_progress_handler(look, OPERATIONS)
        try:
            found = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
        except sqlite3.OperationalError:
            if ended:
                raise ended[0] from None
            raise
    return "" if found == "ok" else found


class CheckBehind:
    """The check of a journal that is in use, in a thread that leaves the machine to the line.

    ``damage``: what is wrong; empty while nothing is known to be.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._end = path, Event()
        self.damage = ""
        self._thread = Thread(target=self._run, name="journal-check", daemon=True)
        self._rested_at = 0.0

    def start(self) -> None:
        """Begin."""
        self._rested_at = time.monotonic()
        self._thread.start()

    def close(self) -> None:
        """End it, through or not."""
        self._end.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        try:
            os.setpriority(
                os.PRIO_PROCESS, 0, 19
            )  # of this thread alone: setpriority(2), "C library/kernel differences"
            self.damage = problem_of(self._path, self._pace)
        except CheckEnded:
            return
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
                log.warning("journal not checked", reason=str(error))
                return
            self.damage = str(error)
        except OSError as error:
            self.damage = error.strerror or str(error)
        if self.damage:
            log.error("the journal is damaged: start the daemon again, it begins a new one", reason=self.damage)
        else:
            log.info("journal checked", seconds=round(time.monotonic() - began, 1))

    def _pace(self) -> None:
        if self._end.is_set():
            raise CheckEnded
        worked = time.monotonic() - self._rested_at
        self._end.wait(min(worked * (1 / BUSY_SHARE - 1), LONGEST_REST_S))
        self._rested_at = time.monotonic()


def _free_bytes() -> int:
    try:
        for row in Path("/proc/meminfo").read_text().splitlines():
            if row.startswith("MemAvailable:"):
                return int(row.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 0
