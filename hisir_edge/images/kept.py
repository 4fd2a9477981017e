"""Arrays that a build would make several times, kept while it runs: decoded pictures above all, a PNG takes long."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

import numpy.typing as npt

from hisir_edge.machine.ram import available_bytes

MOST_BYTES = 2_000_000_000
SHARE = 0.25
"""Of the memory at hand, at most."""
Array = TypeVar("Array", bound=npt.NDArray[Any])


class _Kept:
    """Those that were asked for last."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._bytes, self._lock = most_bytes, 0, Lock()
        self._arrays: OrderedDict[Hashable, npt.NDArray[Any]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        with self._lock:
            if (known := self._arrays.get(key)) is not None:
                self._arrays.move_to_end(key)
        if known is not None:
            copied: npt.NDArray[Any] = known.copy()
            return copied
        made = make()
        with self._lock:
            if key not in self._arrays and made.nbytes <= self._most:
                self._arrays[key] = made.copy()
                self._bytes += made.nbytes
            while self._bytes > self._most:
                self._bytes -= self._arrays.popitem(last=False)[1].nbytes
        return made


_kept: _Kept | None = None


@contextmanager
def arrays_kept(most_bytes: int | None = None) -> Iterator[None]:
    """Keep what ``made_once`` makes until the end of this; within another one nothing changes."""
    global _kept  # noqa: PLW0603  # pictures are read from everywhere, also by threads
    if _kept is not None:
        yield
        return
    _kept = _Kept(min(MOST_BYTES, int(available_bytes() * SHARE)) if most_bytes is None else most_bytes)
    try:
        yield
    finally:
        _kept = None


def made_once(key: Hashable, make: Callable[[], Array]) -> Array:
    """What ``make`` makes, or made under this key; a copy of it, which may be changed."""
    kept = _kept
    return make() if kept is None else kept.get(key, make)  # type: ignore[return-value]


def decoded_once(data: bytes, decode: Callable[[], Array]) -> Array:
    """``made_once`` of a file's content."""
    return decode() if _kept is None else made_once(hashlib.sha256(data).digest(), decode)
