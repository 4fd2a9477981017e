"""Threads that carry tiles of a frame through one engine: cut, infer, hand over to the merger."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Protocol, TypeVar

import numpy as np

from hisir_edge.arrays import F32, I64, U8
from hisir_edge.geometry.tile import REGION_PX, TilePlan, tiles_from_frame, tiles_from_planes
from hisir_edge.inspection.cascade.first_look import FirstLook
from hisir_edge.inspection.engine import Engine, OnSpan
from hisir_edge.inspection.light import explain_white
from hisir_edge.inspection.memory.shown import ShownTiles

Call = TypeVar("Call")
Done = TypeVar("Done")


class Merger(Protocol):
    """Takes the results of tiles, in any order and from any thread, and gives the map of the frame."""

    cell_max: F32
    """(gh, gw): the highest score in each region of 16 x 16 px of the padded map, once it is merged."""

    def put(self, numbers: I64, scores: F32, misfit: F32) -> None:
        """Results of these tiles, scores (k, t, t) and misfit (k, t/16, t/16); InspectionError where one is no number.

        What has no number must not be merged: it would have its say in the choice, chosen or not.
        """
        ...

    def undo(self) -> None:
        """Make ready for ``put``, after ``merged``; what other tiles have put stays as it was."""
        ...

    def merged(self) -> F32:
        """The map (h, w) of the scaled golden image, a view of a padded one, valid until ``undo``."""
        ...


@dataclass(frozen=True, slots=True)
class TileTimes:
    """Seconds that a frame's tiles took: each thread's seconds, added up and divided by the threads."""

    tile_s: float
    infer_s: float
    put_s: float


KEPT_CUES_BYTES = 80_000_000
"""Cues of all tiles are kept up to here: a 4096x3000 frame's take 70 MB, and cutting them 2 % of a quick frame."""


class Cues:
    """Positional cues of the tiles: laid out once for all frames, or cut when they are needed."""

    def __init__(self, plan: TilePlan, memory: U8, numbers: I64) -> None:
        """``memory``: the board memory as planes (4, h, w) of the padded frame; ``numbers``: the tiles that are run."""
        self.plan, self.memory = plan, memory
        self._kept = np.empty((0, 4, plan.tile_px, plan.tile_px), np.uint8)
        self._row = np.full(len(plan.origins_yx), -1, np.int64)
        if len(numbers) * 4 * plan.tile_px**2 <= KEPT_CUES_BYTES:
            self._kept = np.empty((len(numbers), *self._kept.shape[1:]), np.uint8)
            tiles_from_planes(plan, memory, numbers, self._kept)
            self._row[numbers] = np.arange(len(numbers))

    def of(self, numbers: I64, room: U8, memory: ShownTiles) -> U8:
        """Cues (n, 4, t, t) of these tiles, contiguous, not to be changed; in ``room`` where they are not kept so.

        ``memory``: the frame's own; what is kept is that of ``self.memory``, without variants.
        """
        n, first = len(numbers), int(self._row[numbers[0]])
        in_order = first >= 0 and np.array_equal(self._row[numbers], np.arange(first, first + n))
        if in_order and memory.base is self.memory and not memory.chosen:
            return np.asarray(self._kept[first : first + n])
        memory.tiles_into(self.plan, numbers, room)
        return np.asarray(room[:n])


@dataclass(frozen=True, slots=True)
class _Buffers:
    tiles: U8 = field(repr=False)
    cues: U8 = field(repr=False)
    scores: F32 = field(repr=False)
    misfit: F32 = field(repr=False)


class TileWorkers:
    """One engine's threads, each with its own buffers; frames may share them, the one that came first goes first."""

    def __init__(self, engine: Engine, plan: TilePlan, cues: Cues) -> None:
        self.engine, self.plan, self.cues = engine, plan, cues
        self.on_span: OnSpan | None = None
        self._spare: SimpleQueue[_Buffers] = SimpleQueue()
        k, t, side = engine.batch, plan.tile_px, plan.tile_px // REGION_PX
        for _ in range(engine.callers):
            self._spare.put(
                _Buffers(
                    np.empty((k, 3, t, t), np.uint8), np.empty((k, 4, t, t), np.uint8),
                    np.empty((k, t, t), np.float32), np.empty((k, side, side), np.float32),
                )
            )  # fmt: skip
        self._pool = ThreadPoolExecutor(engine.callers, "tiles") if engine.callers > 1 else None

    def close(self, wait: bool = True) -> None:
        """End the threads; what is dropped without it ends them, too, when it is collected."""
        if self._pool is not None:
            self._pool.shutdown(wait)

    def run(
        self, padded: U8, gains: F32 | None, memory: ShownTiles, numbers: Iterable[int], merger: Merger
    ) -> TileTimes:
        """These tiles of a padded frame (h, w, 3), in its light, into the merger; what fails is raised at the end.

        ``memory``: the board memory with the variants that the frame shows.
        """
        wanted = np.fromiter(numbers, np.int64)
        k = self.engine.batch
        batches = [wanted[first : first + k] for first in range(0, len(wanted), k)]

        def one(numbers: I64, buffers: _Buffers) -> tuple[float, float, float]:
            n = len(numbers)
            t0 = time.perf_counter()
            tiles_from_frame(self.plan, padded, numbers, buffers.tiles, gains)
            cues = self.cues.of(numbers, buffers.cues, memory)
            if gains is not None:
                explain_white(buffers.tiles[:n], cues, gains[numbers])
            t1 = time.perf_counter()
            scores, misfit = buffers.scores[:n], buffers.misfit[:n]
            self.engine.infer(buffers.tiles[:n], cues, scores, misfit)
            t2 = time.perf_counter()
            merger.put(numbers, scores, misfit)
            t3 = time.perf_counter()
            if self.on_span is not None:
                for what, start, end in (("tile", t0, t1), ("infer", t1, t2), ("merge", t2, t3)):
                    self.span(what, start, end)
            return t1 - t0, t2 - t1, t3 - t2

        times = self._each(batches, one)
        spent = np.sum(times, axis=0) / self.engine.callers if times else np.zeros(3)
        return TileTimes(*spent.tolist())

    def expect(self, padded: U8, gains: F32 | None, memory: ShownTiles, numbers: I64, look: FirstLook) -> F32:
        """What the first look expects of these tiles, (k, t/16, t/16); see ``FirstLook.expected``, and ``run``."""
        k, side = self.engine.batch, self.plan.tile_px // REGION_PX
        out = np.empty((len(numbers), side, side), np.float32)

        def one(first: int, buffers: _Buffers) -> None:
            here, start = numbers[first : first + k], time.perf_counter()
            tiles_from_frame(self.plan, padded, here, buffers.tiles, gains)
            cues = self.cues.of(here, buffers.cues, memory)
            if gains is not None:
                explain_white(buffers.tiles[: len(here)], cues, gains[here])
            out[first : first + k] = look.expected(buffers.tiles[: len(here)], cues)
            self.span("look", start, time.perf_counter())

        self._each(list(range(0, len(numbers), k)), one)
        return out

    def span(self, what: str, start: float, end: float) -> None:
        """Tell ``on_span``, where it is set, what this thread did from when to when (``time.perf_counter``)."""
        if self.on_span is not None:
            self.on_span(threading.current_thread().name, what, start, end)

    def each(self, calls: list[Call], work: Callable[[Call, F32, F32], None]) -> None:
        """``work(call, scores, misfit)`` for each call on the threads, with room for the results of one call."""
        self._each(calls, lambda call, buffers: work(call, buffers.scores, buffers.misfit))

    def _each(self, calls: list[Call], work: Callable[[Call, _Buffers], Done]) -> list[Done]:
        def one(call: Call) -> Done:
            buffers = self._spare.get()
            try:
                return work(call, buffers)
            finally:
                self._spare.put(buffers)

        if self._pool is None or len(calls) == 1:
            return [one(call) for call in calls]
        jobs: list[Future[Done]] = []
        try:
            for call in calls:
                jobs.append(self._pool.submit(one, call))  # noqa: PERF401  # those that were submitted are waited for
        finally:
            wait(jobs)  # whatever failed, the others still read the frame and write into the merger
        return [job.result() for job in jobs]
