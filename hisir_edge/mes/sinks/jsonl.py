"""One JSON object a line, as it was published. What is in the file is the cursor: a verdict is in it once."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path

from hisir_edge.errors import InputError
from hisir_edge.mes.cursor import SYNC_EACH_S, Cursor, CursorFile
from hisir_edge.mes.sinks import Target
from hisir_edge.mes.verdict import Verdict

BLOCK = 65536


class JsonlSink:
    """Appends to a file; a line that a kill or a power cut left half written is taken off first.

    On the disk after ``SYNC_EACH_S`` at the latest. With masks: each in NAME.masks/EPOCH_SEQ.png beside the file, there
    before the line is.
    """

    def __init__(self, target: Target) -> None:
        """InputError for a file that cannot be written, that another program writes, or that holds something else."""
        self.path = Path(target.target)
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
            last = self._last_line()
            self._cursor = _cursor_of(last, self.path) if last else self._beginning.load()
        except BaseException:
            self.close()
            raise
        self._synced_at = time.monotonic()

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
            if time.monotonic() > self._synced_at + SYNC_EACH_S:
                os.fdatasync(self._fd)
                self._synced_at = time.monotonic()
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
            os.close(self._fd)
            self._fd = -1

    def _last_line(self) -> bytes:
        """The last whole line; what follows it is cut off."""
        end = os.fstat(self._fd).st_size
        tail, start = b"", end
        while start and tail.count(b"\n") < 2:
            step = min(BLOCK, start)
            start -= step
            tail = os.pread(self._fd, step, start) + tail
        whole = tail[: tail.rfind(b"\n") + 1]
        os.ftruncate(self._fd, end - len(tail) + len(whole))
        return whole.rstrip(b"\n").rsplit(b"\n", maxsplit=1)[-1]

    def _write_mask(self, path: Path, mask: bytes) -> None:
        new = path.with_suffix(".new")
        new.write_bytes(mask)
        new.replace(path)

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(
            expected="a --target file that can be written",
            received=f"{self.path} ({error.strerror})",
            fix="choose another, or make room; nothing is lost: run it again",
        )


def _cursor_of(line: bytes, path: Path) -> Cursor:
    try:
        body = json.loads(line)
        return Cursor(str(body["epoch"]), int(body["seq"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            expected="a file that hisir-edge forward wrote, or a new one",
            received=f"{path}, whose last line is no verdict ({error})",
            fix="choose another file",
        ) from error
