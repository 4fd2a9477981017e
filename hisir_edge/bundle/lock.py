"""One writer at a time of one folder: a build, a training."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hisir_edge.errors import InputError


@contextmanager
def sole_writer(out: Path, what: str = "build") -> Iterator[None]:
    """Hold ``.NAME.lock`` beside ``out``; InputError when another one holds it. A killed one leaves it free."""
    path = out.with_name(f".{out.name}.lock")
    fd = _locked(path)
    if fd is None:
        raise InputError(
            expected=f"no other {what} into {out}",
            received="one that is running",
            fix="wait for it, or choose another --out",
        )
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: who waits for it finds another file and tries again
        os.close(fd)


def held_folder(folder: Path, key: str, otherwise: InputError) -> int:
    """Make a folder and hold its file ``lock`` until the returned descriptor is closed, or the process ends.

    ``otherwise`` is raised where another one holds it; InputError, which names ``key``, where it cannot be made or
    written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InputError(
            expected=f"a writable {key}", received=f"{folder} ({error.strerror})", fix="correct it"
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise otherwise from error
    return fd


def _locked(path: Path) -> int | None:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        try:
            if os.fstat(fd).st_ino == path.stat().st_ino:
                return fd
        except FileNotFoundError:
            pass
        os.close(fd)  # the file was removed by its last holder between opening and locking
