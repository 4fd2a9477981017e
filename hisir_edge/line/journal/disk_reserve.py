"""Some of the disk, held free for the journal until the disk is full."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

import structlog

log = structlog.get_logger()

FILE_NAME = "reserve"
RESERVE_BYTES = 8_000_000


class DiskReserve:
    """A file of ``RESERVE_BYTES`` in the journal's folder; without it the journal works until the disk is full."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    def hold(self) -> None:
        """Make the file, if it is not there; a warning where the disk has no room for it."""
        try:
            if self._path.exists() and self._path.stat().st_size == RESERVE_BYTES:
                return
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
        except OSError as error:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            log.warning("no room held in reserve for the journal", reason=error.strerror)

    def give_up(self, error: sqlite3.Error) -> bool:
        """If an error says that the disk is full, delete the file; whether it is worth trying again."""
        if "full" not in str(error) and "disk I/O" not in str(error):
            return False
        try:
            self._path.unlink()
        except OSError:  # there is none, or the disk takes nothing at all
            return False
        log.error("the disk is full: the journal goes on with what was held in reserve", bytes=RESERVE_BYTES)
        return True
