"""Put a finished folder in the place of another, at once or not at all."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

from hisir_edge.bundle.files import MANIFEST

MOST_EXCHANGES = 5


def replace_folder(staged: Path, out: Path) -> None:
    """Put a finished folder in place of ``out``; a kill at any instant leaves the old one or the new one, whole.

    Where the file system can, both change places in one step (renameat2 with RENAME_EXCHANGE, Linux 3.15); elsewhere
    the old one is moved aside to ``.NAME.old`` first, where the loader's message points to it.
    """
    for path in (*staged.iterdir(), staged):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    if not out.exists():
        staged.rename(out)
    elif _exchanged(staged, out):
        shutil.rmtree(staged, ignore_errors=True)  # what was in its place
    else:
        old = out.with_name(f".{out.name}.old")
        if (old / MANIFEST).exists():  # a build that was killed here left it
            shutil.rmtree(old)
        out.rename(old)
        staged.rename(out)
        shutil.rmtree(old, ignore_errors=True)


def _exchanged(a: Path, b: Path) -> bool:
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2 is not None and renameat2(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0
