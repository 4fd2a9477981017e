"""Room on the disk for verdicts that the journal does not take: written there before they are published.

The file is as long as it will ever be before the disk is full, and is written in place. The next start, after a kill or
a power cut, puts what it holds into the journal, to the byte as it was published.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import structlog

from hisir_edge.line.journal.records import Entry

log = structlog.get_logger()

FILE_NAME = "unjournaled"
SPILL_BYTES = 4_000_000
LEAST_BYTES = 64_000
ROOM_LEFT = 3
"""The file takes at most one part in so many of what the disk has left."""
HEAD = struct.Struct(">II")
"""Length and CRC-32 of a record, which follows; a length of 0 ends the file."""


class Spill:
    """``unjournaled`` in the journal's folder, open from ``open`` to ``close``; used by one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._fd, self._size, self._at = -1, 0, 0

    def open(self) -> None:
        """Make or open the file."""
        try:
            self._fd = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o640)
            self._size = os.fstat(self._fd).st_size
        except OSError as error:
            log.warning("no room held for verdicts on a full disk", reason=error.strerror)

    def close(self) -> None:
        """Close; what it holds stays for the next start."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def keep(self, epoch: str, entries: Sequence[Entry]) -> int:
        """Put verdicts behind those that it holds, on the disk when this returns: how many of them found room."""
        if self._fd < 0:
            return 0
        block, count = b"", 0
        for entry in entries:
            record = _record(epoch, entry)
            if self._at + len(block) + len(record) + HEAD.size > self._size:
                break
            block, count = block + record, count + 1
        if not count:
            return 0
        try:
            if os.pwrite(self._fd, block + bytes(HEAD.size), self._at) != len(block) + HEAD.size:
                return 0
            os.fdatasync(self._fd)
        except OSError as error:
            log.error("verdicts not kept beside the journal", reason=error.strerror)
            self._take_back()
            return 0
        self._at += len(block)
        return count

    def held(self, epoch: str) -> list[Entry]:
        """What an earlier run left here, in this epoch; what it left in another is set aside."""
        found, self._at = _read(self._fd, self._size) if self._fd >= 0 else ([], 0)
        mine = [entry for of, entry in found if of == epoch]
        if len(mine) < len(found):
            self._set_aside(len(found) - len(mine))
        return mine

    def _take_back(self) -> None:
        """What was to be kept is not published, and is not to be found by the next start."""
        try:
            os.pwrite(self._fd, bytes(HEAD.size), self._at)
            os.fdatasync(self._fd)
        except OSError:  # a disk that takes nothing: this file is given up, nothing is published without the journal
            self.close()

    def clear(self) -> None:
        """Forget what it holds: the journal has it."""
        if self._fd < 0 or not self._at:
            return
        try:
            os.pwrite(self._fd, bytes(HEAD.size), 0)
            self._at = 0
            os.fdatasync(self._fd)
        except OSError as error:  # the next start finds them in the journal, to the byte the same
            log.error("verdicts beside the journal not cleared", reason=error.strerror)

    def enlarge(self) -> None:
        """Hold room on the disk, if it is not held; a warning where there is none."""
        if self._fd < 0 or self._size >= SPILL_BYTES:
            return
        try:
            free = os.statvfs(self._path.parent)
            size = max(min(SPILL_BYTES, free.f_bavail * free.f_frsize // ROOM_LEFT), self._size)
            # written, not merely allocated: a file system may need room to write into what it only promised
            os.pwrite(self._fd, bytes(size - self._size), self._size)
            os.fdatasync(self._fd)
            self._size = size
        except OSError as error:
            log.warning("no room held for verdicts on a full disk", reason=error.strerror)
        if self._size < LEAST_BYTES:
            log.warning("little room held for verdicts on a full disk", bytes=self._size)

    def _set_aside(self, count: int) -> None:
        aside = self._path.with_name(f"{FILE_NAME}-of-another-epoch-{os.fstat(self._fd).st_mtime_ns}")
        try:
            aside.write_bytes(os.pread(self._fd, self._at, 0))
            kept = str(aside)
        except OSError as error:
            kept = f"not kept: {error.strerror}"
        log.error("verdicts that were published and belong to another journal", count=count, file=kept)


def _record(epoch: str, entry: Entry) -> bytes:
    head = {"epoch": epoch, "seq": entry.seq, "topic": entry.topic, "source": entry.source, "unit": entry.unit}
    parts = [json.dumps(head).encode(), entry.body, entry.mask]
    plain = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    data = zlib.compress(plain, 6)
    return HEAD.pack(len(data), zlib.crc32(data)) + data


def _read(fd: int, size: int) -> tuple[list[tuple[str, Entry]], int]:
    """((epoch, verdict) of each whole record, where they end)."""
    found, at = [], 0
    while at + HEAD.size <= size:
        length, crc = HEAD.unpack(os.pread(fd, HEAD.size, at))
        data = os.pread(fd, length, at + HEAD.size) if 0 < length <= size - at - HEAD.size else b""
        if not data or zlib.crc32(data) != crc:
            break
        try:
            found.append(_entry(zlib.decompress(data)))
        except (ValueError, KeyError, TypeError, zlib.error, struct.error):
            break
        at += HEAD.size + length
    return found, at


def _entry(plain: bytes) -> tuple[str, Entry]:
    parts, at = [], 0
    while at < len(plain):
        (length,) = struct.unpack_from(">I", plain, at)
        parts.append(plain[at + 4 : at + 4 + length])
        at += 4 + length
    head, body, mask = parts
    names = json.loads(head)
    return str(names["epoch"]), Entry(
        seq=int(names["seq"]), topic=str(names["topic"]), body=body, mask=mask, source=str(names["source"]),
        unit=str(names["unit"]),
    )  # fmt: skip
