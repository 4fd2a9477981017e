"""The file that keeps a second daemon out of a journal, and that notes a number when the journal takes none."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import structlog

from hisir_edge.errors import JournalError

log = structlog.get_logger()

MARK_BYTES = 64


class LockFile:
    """``lock`` in the journal's folder, held from ``acquire`` to ``close``."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._fd = folder, -1

    def acquire(self) -> None:
        """JournalError where the folder cannot be written, or where another daemon holds the lock."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._fd = os.open(self._folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o640)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(self._fd).st_size < MARK_BYTES:  # room for ``mark``, while there is some
                os.pwrite(self._fd, b" " * MARK_BYTES, 0)
        except BlockingIOError as error:
            self.close()
            raise JournalError(
                expected="a journal of its own for each line",
                received=f"{self._folder}, which another daemon is writing to",
                fix="stop the other one, or give this line another line.name or journal.folder",
            ) from error
        except OSError as error:
            self.close()
            raise unwritable(self._folder, error.strerror or str(error)) from error

    def close(self) -> None:
        """Let the lock go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def mark(self, epoch: str, seq: int) -> None:
        """Note, in room that is there already, a number of an epoch: it was published and is not given again."""
        try:
            os.pwrite(self._fd, f"{epoch} {seq:020d}\n".encode(), 0)
            os.fdatasync(self._fd)
        except OSError as error:
            log.error("number not noted", seq=seq, reason=error.strerror)

    def marked(self, epoch: str) -> int:
        """The number that was noted in this epoch; 0 where there is none."""
        words = os.pread(self._fd, MARK_BYTES, 0).split()
        known = len(words) == 2 and words[0] == epoch.encode() and words[1].isdigit()
        return int(words[1]) if known else 0


def unwritable(folder: Path, received: str) -> JournalError:
    """The error of a journal that cannot be written."""
    return JournalError(
        expected="a journal.folder that can be written",
        received=f"{folder} ({received})",
        fix="correct it, its rights, or make room on its disk",
    )
