"""The cascade's part of a frame on a GPU: the first look, and the engine over the tiles that are left.

The first look runs in the frame's stream; which tiles are suspicious is decided, and listed, on the GPU. How many they
are comes back as one number: an engine's work cannot be launched for a number of tiles that the host does not know.
Meanwhile other slots' streams go on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from hisir_edge.arrays import F32, I32, I64
from hisir_edge.cuda.device import Buffer, Stream
from hisir_edge.cuda.recorded import Recorded
from hisir_edge.cuda.rig import LookContext, LookRig, Rig
from hisir_edge.cuda.tensorrt_engine import DeviceContext
from hisir_edge.inspection.cascade.first_look import suspicious
from hisir_edge.inspection.cascade.planes import PLANES

SIZES = (1, 4, 16)
"""Tiles of a call of the engine, beside its own most: the least that holds what is left is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Host:
    """Page-locked: which tiles are looked at (n), their numbers (n), how many; what is expected of each region."""

    look: I32 = field(repr=False)
    numbers: I32 = field(repr=False)
    count: I32 = field(repr=False)
    calibrated: F32 = field(repr=False)


class Frame(Protocol):
    """What it takes of its slot."""

    rig: Rig
    stream: Stream
    context: DeviceContext
    host: Any
    tiles: Buffer
    cues: Buffer
    scores: Buffer
    misfit: Buffer
    no_number: Buffer

    def alloc(self, nbytes: int) -> Buffer:
        """See ``Slot``."""
        ...

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """See ``Slot``."""
        ...


class Look:
    """A slot's; made and used with it."""

    def __init__(self, slot: Frame, look: LookRig) -> None:
        rig, self.slot, self.rig = slot.rig, slot, look
        n, t, cells = rig.tiles, rig.tile_px, rig.regions_a_tile
        self.calls = -(-n // look.engine.batch)
        self.per_call = -(-n // self.calls)
        most = rig.per_call
        self.sizes = (*(size for size in SIZES if rig.engine.least <= size < most), most)
        alloc = slot.alloc
        self.planes = alloc(self.per_call * PLANES * t * t)
        self.expected = alloc(self.calls * self.per_call * cells * 4)
        grid = rig.merge.contested.shape
        self.host = _Host(
            look=slot.pinned((n,), np.int32), numbers=slot.pinned((n,), np.int32),
            count=slot.pinned((1,), np.int32), calibrated=slot.pinned(grid, np.float32),
        )  # fmt: skip
        self.look, self.numbers, self.count = alloc(n * 4), alloc(n * 4), alloc(4)
        self.calibrated = alloc(self.host.calibrated.nbytes)
        self.tiles, self.cues = alloc(most * 3 * t * t), alloc(most * 4 * t * t)
        self.scores, self.misfit = alloc(most * t * t * 4), alloc(most * cells * 4)
        self.rest: dict[tuple[int, ...], Recorded] = {}
        self.contexts: dict[int, DeviceContext] = {}
        self.context: LookContext | None = None
        try:
            # a graph holds for one shape of its engine's inputs, and so does a context that was recorded into one
            self.contexts[most] = slot.context
            for size in self.sizes[:-1]:
                self.contexts[size] = rig.engine.context()
            self.context = look.engine.context()
        except BaseException:
            self.free()
            raise

    def enqueue(self) -> None:
        """The first look over the tiles that are on the GPU; which are left, and how many, go to the host."""
        slot, rig, shared = self.slot, self.slot.rig, self.slot.rig.shared
        t, cells, stream = rig.tile_px, rig.regions_a_tile, slot.stream
        depth, rows, columns = rig.merge.candidate.shape
        context = self.context
        if context is None:
            raise RuntimeError("freed")
        for first in range(0, self.calls * self.per_call, self.per_call):
            stream.launch(
                "planes_u8", (t, t, self.per_call), slot.tiles, slot.cues, t, first, rig.tiles, self.planes
            )  # fmt: skip
            to = self.expected.ptr + first * cells * 4
            context.enqueue(self.per_call, self.planes.ptr, to, stream)
        stream.launch(
            "expected_scores", (columns, rows, 1), shared.candidate, shared.cell, depth, rows, columns, cells,
            self.expected, shared.most_gain, self.calibrated, slot.no_number,
        )  # fmt: skip
        stream.launch(
            "suspicious_tiles", (rig.tiles, 1, 1), shared.origins_yx, rig.tiles, t // 16, rows, columns,
            self.calibrated, self.rig.look_from, self.look,
        )  # fmt: skip
        stream.launch("listed_tiles", (1, 1, 1), self.look, rig.tiles, self.numbers, self.count)
        stream.launch("waved_through", (t, t, rig.tiles), self.look, t, slot.scores, slot.misfit)
        host = self.host
        for to_host, source in (
            (host.count, self.count), (host.look, self.look), (host.calibrated, self.calibrated),
            (slot.host.no_number[:1], slot.no_number),
        ):  # fmt: skip
            stream.copy_out(to_host, source)

    def calls_of(self, count: int) -> tuple[int, ...]:
        """Tiles of each call of the engine for so many: calls of the most, then the least that holds the rest."""
        full, rest = divmod(count, self.sizes[-1])
        return (self.sizes[-1],) * full + ((min(size for size in self.sizes if size >= rest),) if rest else ())

    def enqueue_network(self, calls: tuple[int, ...]) -> None:
        """The engine over the listed tiles, their scores to where their tiles have them."""
        slot, t, first = self.slot, self.slot.rig.tile_px, 0
        for size in calls:
            slot.stream.launch(
                "packed_tiles", (t, t, size), slot.tiles, slot.cues, t, first, self.numbers, self.count, self.tiles,
                self.cues,
            )  # fmt: skip
            self.contexts[size].enqueue(
                size, self.tiles.ptr, self.cues.ptr, self.scores.ptr, self.misfit.ptr, slot.stream
            )
            slot.stream.launch(
                "placed_scores", (t, t, size), self.scores, self.misfit, t, first, self.numbers, self.count,
                slot.scores, slot.misfit,
            )  # fmt: skip
            first += size

    def more(self, numbers: I64) -> I64:
        """Which tiles, counted as they are run, lie beside a region over the threshold and were not run."""
        over = suspicious(self.slot.rig.merge.plan, numbers, self.slot.host.small, 1.0)
        return np.flatnonzero(np.isin(numbers, over) & (self.host.look == 0))

    def expected_beyond(self) -> float:
        """The highest calibrated score that is expected of what was not looked at."""
        expected = self.host.calibrated
        return float(expected[expected < self.rig.level].max(initial=0.0))

    def work_of(self, calls: tuple[int, ...]) -> Recorded:
        """The work from here on: kept as a graph where it is one call at most, of which there are few kinds."""
        return self.rest.setdefault(calls, Recorded()) if len(calls) <= 1 else Recorded()

    def add(self, tiles: I64) -> tuple[int, ...]:
        """Let these tiles, numbered as they are run, be looked at as well: the calls of the engine that they take."""
        host, stream = self.host, self.slot.stream
        host.look[tiles], host.numbers[: len(tiles)], host.count[0] = 1, tiles, len(tiles)
        for to, source in ((self.look, host.look), (self.numbers, host.numbers), (self.count, host.count)):
            stream.copy_in(to, source)
        return self.calls_of(len(tiles))

    def free(self) -> None:
        """Give graphs and contexts back; memory is the slot's."""
        for one in self.rest.values():
            one.free()
        self.rest.clear()
        self.contexts.clear()
        self.context = None
