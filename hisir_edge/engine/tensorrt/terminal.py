"""Keeps what a C++ library prints off the user's terminal."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def kept_off_the_terminal() -> Iterator[Callable[[], list[str]]]:
    """Keep what a library writes to file descriptor 2 itself; what Python writes to standard error goes on as before.

    Yields a function that gives the lines written so far.
    """
    if sys.stderr is None:  # closed before the process began: there is no terminal to keep anything off
        yield list
        return
    sys.stderr.flush()
    python = sys.stderr
    encoding, errors = getattr(python, "encoding", None), getattr(python, "errors", None)
    with (
        tempfile.TemporaryFile() as kept,
        os.fdopen(os.dup(2), "w", buffering=1, encoding=encoding, errors=errors) as terminal,
    ):

        def lines() -> list[str]:
            kept.seek(0)
            return [" ".join(line.split())[:300] for line in kept.read().decode("utf-8", "replace").splitlines()]

        if _is_descriptor_2(python):  # else it writes elsewhere already, as under a test
            sys.stderr = terminal
        os.dup2(kept.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(terminal.fileno(), 2)
            sys.stderr = python


def _is_descriptor_2(stream: Any) -> bool:
    try:
        return bool(stream.fileno() == 2)
    except (OSError, ValueError, AttributeError):
        return False
