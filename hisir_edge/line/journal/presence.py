"""Whether the journal's file is still the one that was opened: not deleted, moved, replaced or written over."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

OPENED = "opened"
"""The row of ``meta`` with a name that each opening makes up anew."""


class Presence:
    """The file at ``path`` as it was when it was opened; ``token`` is what was written into it then."""

    def __init__(self, path: Path, token: str) -> None:
        self._path, self._log, self._token = path, path.with_name(path.name + "-wal"), token
        self._was, self._log_was = _named(path), _named(self._log)

    def missing(self) -> str:
        """What became of the file, by its name alone; empty: it is there. Some microseconds."""
        now = _named(self._path)
        if now == self._was:
            if _named(self._log) == self._log_was:
                return ""
            return f"the journal was changed: {self._log} is not there any more, or is another file"
        if now is None:
            return f"the journal was deleted or moved away: {self._path} is not there"
        return f"the journal was replaced: {self._path} is another file than the one that was opened"

    def changed(self) -> str:
        """``missing``, and whether another journal was written over it. Some milliseconds, where the disk is quick."""
        if reason := self.missing():
            return reason
        try:
            with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=1)) as db:
                found = db.execute("SELECT value FROM meta WHERE name = ?", (OPENED,)).fetchone()
        except sqlite3.OperationalError as error:
            # the disk, or a writer that holds it: what is written next will say so
            return f"the journal cannot be read any more: {error}" if "no such table" in str(error) else ""
        except sqlite3.DatabaseError as error:
            return f"the journal was written over: {error}"
        if found != (self._token,):
            return f"the journal was written over: {self._path} is not what this daemon has written"
        return ""


def _named(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
