"""The file that keeps a second daemon out of a journal, and that knows some of it should the journal itself be lost."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import structlog

from hisir_edge.errors import JournalError

log = structlog.get_logger()

MARK_BYTES = 64
PUBLISHED, RECORDED, CLEAN = 0, 64, 128
"""Where in the file: the last number published without the journal, the last recorded in it, how the file was left."""
FILE_BYTES = CLEAN + 2 * MARK_BYTES


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
            size = os.fstat(self._fd).st_size
            if size < FILE_BYTES:  # room for the marks, while there is some
                os.pwrite(self._fd, b" " * (FILE_BYTES - size), size)
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

    def mark_published(self, epoch: str, seq: int) -> None:
        """Note, in room that is there already, a number of an epoch: it was published and is not given again."""
        self._write(PUBLISHED, f"{epoch} {seq:020d}", "number not noted", synced=True)

    def published(self, epoch: str) -> int:
        """The number that was noted in this epoch; 0 where there is none."""
        words = os.pread(self._fd, MARK_BYTES, PUBLISHED).split()
        known = len(words) == 2 and words[0] == epoch.encode() and words[1].isdigit()
        return int(words[1]) if known else 0

    def mark_recorded(self, epoch: str, seq: int, synced: bool = False) -> None:
        """Note the last number that the journal has on the disk: a copy of it that has fewer is an older one."""
        self._write(RECORDED, f"{epoch} {seq:020d}", "number not noted", synced)

    def last_recorded(self) -> tuple[str, int]:
        """(Epoch, last number that its journal took); ("", 0) where that is not known."""
        words = os.pread(self._fd, MARK_BYTES, RECORDED).decode(errors="replace").split()
        return (words[0], int(words[1])) if len(words) == 2 and words[1].isdigit() else ("", 0)

    def mark_left(self, path: Path) -> None:
        """Note that the journal was closed as it lies there now: whole."""
        self._write(CLEAN, _as_it_lies(path), "end not noted", synced=True)

    def mark_open(self) -> None:
        """Note that the journal is in use."""
        self._write(CLEAN, "open", "beginning not noted", synced=True)

    def left_clean(self, path: Path) -> bool:
        """Whether the file lies as it was closed."""
        found = os.pread(self._fd, 2 * MARK_BYTES, CLEAN).decode(errors="replace").split("\n")[0].strip()
        return bool(found) and found == _as_it_lies(path)

    def _write(self, at: int, text: str, wrong: str, synced: bool) -> None:
        room = 2 * MARK_BYTES if at == CLEAN else MARK_BYTES
        try:
            os.pwrite(self._fd, f"{text}\n".encode().ljust(room), at)
            if synced:
                os.fdatasync(self._fd)
        except OSError as error:
            log.error(wrong, what=text, reason=error.strerror)


def _as_it_lies(path: Path) -> str:
    """A file by its place, size and time; nothing where it is not there, or has a log beside it."""
    if path.with_name(path.name + "-wal").exists():
        return ""
    try:
        found = path.stat()
    except OSError:
        return ""
    return f"closed {found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns}"


def unwritable(folder: Path, received: str) -> JournalError:
    """The error of a journal that cannot be written."""
    return JournalError(
        expected="a journal.folder that can be written",
        received=f"{folder} ({received})",
        fix="correct it, its rights, or make room on its disk",
    )
