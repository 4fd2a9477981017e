"""The position of a subscriber, kept where its next run finds it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hisir_edge.errors import InputError

RECORD_BYTES = 128
SYNC_EACH_S = 0.1


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last verdict that the caller is done with."""

    epoch: str
    seq: int


class CursorStore(Protocol):
    """Where a cursor is kept. Whoever stores verdicts in a database keeps it there, in the same transaction.

    One that is done with verdicts later than its caller has ``settled()``, the cursor that it is really done with
    (None: none yet), which alone the line is told, and ``flush()``, which waits until it is done with all. One that
    has ``sync()`` is asked to have it on the disk while nothing comes.
    """

    def load(self) -> Cursor | None:
        """The cursor; None at the very beginning."""

    def save(self, cursor: Cursor) -> None:
        """The caller is done with this verdict."""

    def close(self) -> None:
        """No more."""


class CursorFile:
    """A cursor in a file that one program at a time holds.

    What was saved outlives the program's end, ``kill -9`` included, at once; a power cut after ``SYNC_EACH_S`` at the
    latest: what came in between comes again, under the same epoch and number.
    """

    def __init__(self, path: Path) -> None:
        """InputError for a file that is no cursor, cannot be written, or is held by another program."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise InputError(
                expected="a name of its own for each subscriber",
                received=f"{path}, which another program is using",
                fix="end the other one, or choose another name",
            ) from error
        try:
            self._loaded = self._read()
        except BaseException:
            os.close(self._fd)
            raise
        self._synced_at = time.monotonic()
        self._unsynced = False

    def load(self) -> Cursor | None:
        """See ``CursorStore``."""
        return self._loaded

    def save(self, cursor: Cursor) -> None:
        """See ``CursorStore``; InputError where the disk takes nothing."""
        text = json.dumps({"epoch": cursor.epoch, "seq": cursor.seq})
        try:
            os.pwrite(self._fd, f"{text:<{RECORD_BYTES - 1}}\n".encode(), 0)
            self._unsynced = True
            if time.monotonic() > self._synced_at + SYNC_EACH_S:
                self.sync()
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def sync(self) -> None:
        """Have it on the disk."""
        if self._unsynced:
            os.fdatasync(self._fd)
            self._synced_at, self._unsynced = time.monotonic(), False

    def close(self) -> None:
        """See ``CursorStore``."""
        if self._fd >= 0:
            with suppress(OSError):
                self.sync()
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> Cursor | None:
        text = os.pread(self._fd, 4096, 0)
        if not text:
            return None
        try:
            found = json.loads(text)
            return Cursor(str(found["epoch"]), int(found["seq"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                expected="a cursor file of this program",
                received=f"{self.path} ({error})",
                fix="name another, or delete it",
            ) from error


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        expected="a cursor file that can be written", received=f"{path} ({error.strerror})", fix="choose another folder"
    )
