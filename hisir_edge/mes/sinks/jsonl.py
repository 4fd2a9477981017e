"""One JSON object a line, as it was published. What is in the file is the cursor: a verdict is in it once."""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from pathlib import Path

from hisir_edge.errors import InputError
from hisir_edge.mes.cursor import SYNC_EACH_S, Cursor, CursorFile
from hisir_edge.mes.sinks.base import OnRetry, Target, ignored
from hisir_edge.mes.verdict import Verdict

BLOCK = 65536
BEGINNING = b'{"schema":"hisir-edge/verdict/'


class JsonlSink:
    """Appends to a file; a line that a kill or a power cut left half written is taken off first.

    On the disk after ``SYNC_EACH_S`` at the latest. With masks: each in NAME.masks/EPOCH_SEQ.png beside the file, there
    before the line is.
    """

    def __init__(self, target: Target, on_retry: OnRetry = ignored) -> None:
        """InputError for a file that cannot be written, that another program writes, or that holds something else."""
        self.path, self._unsynced = Path(target.target), False
        self._masks = self.path.with_name(f"{self.path.name}.masks") if target.masks else None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self._masks is not None:
                self._masks.mkdir(exist_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise self._unwritable(error) from error
        self._beginning: CursorFile | None = None
        try:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InputError(
                    expected="a file of its own for each forward", received=f"{self.path}, which another one writes",
                    fix="end it, or choose another file",
                ) from error  # fmt: skip
            # for the time before its first line: where to begin
            self._beginning = CursorFile(self.path.with_name(f"{self.path.name}.cursor"))
            self._cursor = self._last() or self._beginning.load()
        except BaseException:
            self.close()
            raise
        self._synced_at, self._unsynced = time.monotonic(), False

    def sync(self) -> None:
        """Have it on the disk."""
        if self._unsynced:
            os.fdatasync(self._fd)
            self._synced_at, self._unsynced = time.monotonic(), False

    def load(self) -> Cursor | None:
        """See ``CursorStore``."""
        return self._cursor

    def put(self, verdict: Verdict) -> None:
        """See ``Sink``."""
        if self._cursor == Cursor(verdict.epoch, verdict.seq):
            return
        try:
            if self._masks is not None and verdict.mask:
                self._write_mask(self._masks / f"{verdict.epoch}_{verdict.seq:08d}.png", verdict.mask)
            line = verdict.text + b"\n"
            while line:
                line = line[os.write(self._fd, line) :]
            self._unsynced = True
            if time.monotonic() > self._synced_at + SYNC_EACH_S:
                self.sync()
        except OSError as error:
            raise self._unwritable(error) from error
        self._cursor = Cursor(verdict.epoch, verdict.seq)

    def save(self, cursor: Cursor) -> None:
        """See ``CursorStore``: a verdict's is in the file."""
        if cursor != self._cursor and self._beginning is not None:
            self._beginning.save(cursor)
            self._beginning.sync()
            self._cursor = cursor

    def close(self) -> None:
        """See ``CursorStore``."""
        if self._beginning is not None:
            self._beginning.close()
        if self._fd >= 0:
            with suppress(OSError):
                self.sync()
            os.close(self._fd)
            self._fd = -1

    def _last(self) -> Cursor | None:
        """The cursor of the last whole line; what a kill left half written behind it is cut off.

        InputError, with nothing changed, for a file that holds anything else.
        """
        end = os.fstat(self._fd).st_size
        parts: list[bytes] = []
        start, found = end, 0
        while start and found < 2:
            step = min(BLOCK, start)
            start -= step
            parts.append(os.pread(self._fd, step, start))
            found += parts[-1].count(b"\n")
        tail = b"".join(reversed(parts))
        whole, rest = tail[: tail.rfind(b"\n") + 1], tail[tail.rfind(b"\n") + 1 :]
        line = whole.rstrip(b"\n").rsplit(b"\n", maxsplit=1)[-1]
        if rest and not (rest.startswith(BEGINNING) or BEGINNING.startswith(rest)):
            raise self._foreign("a last line of something else")
        last = _cursor_of(line) if whole else None
        if whole and last is None:
            raise self._foreign("a last line that is no verdict")
        if rest:
            os.ftruncate(self._fd, end - len(rest))
        return last

    def _foreign(self, received: str) -> InputError:
        return InputError(
            expected="a file that hisir-edge forward wrote, or a new one",
            received=f"{self.path} with {received}",
            fix="choose another file",
        )

    def _write_mask(self, path: Path, mask: bytes) -> None:
        new = path.with_suffix(".new")
        with new.open("wb") as file:
            file.write(mask)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(
            expected="a --target file that can be written",
            received=f"{self.path} ({error.strerror})",
            fix="choose another, or make room; nothing is lost: run it again",
        )


def _cursor_of(line: bytes) -> Cursor | None:
    try:
        return Cursor(str(json.loads(line)["epoch"]), int(json.loads(line)["seq"]))
    except (ValueError, KeyError, TypeError):
        return None
