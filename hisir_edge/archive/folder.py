"""The folder of archived boards: one file a board, within a budget, the oldest go first.

A file's name has all that is asked for most: ``EPOCH/0000000041-20260302T091407-PASS-B_7.zip``.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from hisir_edge.errors import InputError
from hisir_edge.images import write_atomic

OURS = re.compile(r"(?P<seq>\d{10,})-(?P<at>\d{8}T\d{6})-(?P<result>PASS|FAIL|ERROR)-(?P<unit>[\w-]*)\.zip")
EPOCH = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Kept:
    """One file: where it is, how large, and what its name says."""

    path: Path
    bytes: int
    result: str


class ArchiveFolder:
    """``boards`` bytes in all are kept; several threads may ask. InputError for a folder that cannot be used."""

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        self.folder, self.budget_bytes = folder, budget_bytes
        self._lock = Lock()
        self._kept: OrderedDict[tuple[str, int], Kept] = OrderedDict()
        self._bytes = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            found = [path for epoch in folder.iterdir() if EPOCH.fullmatch(epoch.name) for path in epoch.iterdir()]
            sized = [(path, path.stat()) for path in found if OURS.fullmatch(path.name)]
            for path in found:
                if path.name.startswith(".") and path.name.endswith(".tmp"):  # of a daemon that was killed
                    path.unlink()
            for path, facts in sorted(sized, key=lambda one: (one[1].st_mtime_ns, one[0].name)):
                self._add(path, facts.st_size)
            self._make_room(0)
        except OSError as error:
            raise InputError(
                expected="a writable archive.folder", received=f"{folder} ({error.strerror})", fix="correct it"
            ) from error

    def write(self, epoch: str, name: str, data: bytes) -> None:
        """Keep a board under a name of ``OURS``; InputError where the disk refuses."""
        if not OURS.fullmatch(name) or not EPOCH.fullmatch(epoch):
            raise ValueError(f"{epoch}/{name} is no name of a board")
        path = self.folder / epoch / name
        with self._lock, _told(path):
            if len(data) > self.budget_bytes:
                raise InputError(
                    expected=f"boards within archive.budget_mb = {self.budget_bytes // 1_000_000}",
                    received=f"one of {len(data) // 1_000_000} MB",
                    fix="raise it",
                )
            self._make_room(len(data))
        with _told(path):
            path.parent.mkdir(exist_ok=True)
        write_atomic(path, data)
        with self._lock:
            self._add(path, len(data))

    def find(self, epoch: str, seq: int) -> Kept | None:
        """The file of a board, None where it is not kept (any more)."""
        with self._lock:
            return self._kept.get((epoch, seq))

    def after(self, epoch: str, seq: int, most: int) -> list[tuple[int, Kept]]:
        """Boards of an epoch with a higher number, by number, ``most`` at most."""
        with self._lock:
            found = sorted((n, kept) for (of, n), kept in self._kept.items() if of == epoch and n > seq)
        return found[:most]

    @property
    def size(self) -> tuple[int, int]:
        """Boards and bytes."""
        with self._lock:
            return len(self._kept), self._bytes

    def _add(self, path: Path, size: int) -> None:
        said = OURS.fullmatch(path.name)
        if said is None:
            return
        key = (path.parent.name, int(said["seq"]))
        before = self._kept.pop(key, None)
        self._bytes += size - (before.bytes if before else 0)
        self._kept[key] = Kept(path, size, said["result"])

    def _make_room(self, size: int) -> None:
        """Delete the oldest until so many bytes fit into the budget."""
        while self._kept and self._bytes + size > self.budget_bytes:
            (epoch, seq), gone = next(iter(self._kept.items()))
            gone.path.unlink(missing_ok=True)
            del self._kept[epoch, seq]
            self._bytes -= gone.bytes
            if not any(of == epoch for of, _ in self._kept):
                self._remove(self.folder / epoch)

    def _remove(self, folder: Path) -> None:
        try:
            folder.rmdir()
        except OSError:  # the board that is being written lies in it
            return


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """InputError for what the disk refuses."""
    try:
        yield
    except OSError as error:
        raise InputError(
            expected=f"to write {path}", received=error.strerror or str(error), fix="check the folder and its rights"
        ) from error


def name_of(seq: int, at: str, result: str, unit: str) -> str:
    """A file's name; ``at``: time as 20260302T091407."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in unit)[:80]
    return f"{seq:010d}-{at}-{result}-{safe}.zip"
