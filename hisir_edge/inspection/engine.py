"""The interface of an engine, whichever backend runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hisir_edge.arrays import F32, U8

OnSpan = Callable[[str, str, float, float], None]
"""(thread, work, start, end): seconds of ``time.perf_counter``."""


class Engine(Protocol):
    """One loaded network: ``batch`` tiles at most a call, from ``callers`` threads at a time."""

    batch: int
    callers: int

    def infer(self, tiles: U8, cues: U8, scores: F32, misfit: F32) -> None:
        """Tiles (n, 3, t, t), cues (n, 4, t, t) -> fills scores (n, t, t) and misfit (n, t/16, t/16).

        Raises InspectionError when the backend fails; the outputs are then not to be used.
        """
        ...
