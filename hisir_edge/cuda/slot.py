"""One frame in flight on a GPU: a stream, an engine's context, memory, and the order in which all is launched.

``Rig`` is what slots of a bundle share. A slot allocates when it is made and where a frame comes in a layout that it
has not had; after that a frame costs no allocation, and the host waits for one event.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import structlog

from hisir_edge.arrays import F32, I32, I64, U8, Bool
from hisir_edge.cuda.cues import OwnCues
from hisir_edge.cuda.device import Buffer, Device, Event, Graph, Stream
from hisir_edge.cuda.reference import LAYOUTS
from hisir_edge.cuda.tensorrt_engine import DeviceEngine
from hisir_edge.geometry.merge_plan import MergePlan
from hisir_edge.geometry.tile import REGION_PX
from hisir_edge.inspection.rops import SWEEPS

log = structlog.get_logger()

STEPS = ("copy in", "tiles", "network", "rops", "mask", "copy out")
"""Steps of a frame on the GPU, in this order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Arrays that are on the GPU once a bundle. Tiles are numbered as they are run; ``cues``: see ``half_planes``."""

    origins_yx: Buffer
    cues: Buffer
    candidate: Buffer
    cell: Buffer
    border: Buffer
    gain: Buffer
    most_gain: Buffer


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """Facts that slots share: ``tiles`` are run in ``calls`` of ``per_call``; ``frame_hw``: the camera's."""

    device: Device
    engine: DeviceEngine
    merge: MergePlan
    frame_hw: tuple[int, int]
    tiles: int
    calls: int
    per_call: int
    lit: bool
    shared: Shared
    records: list[bool]
    """Whether the work of a frame is recorded as a graph; of all slots, the first that fails decides."""
    own_cues: bool = False
    """Whether frames differ in their cues: then each slot has its own."""

    @property
    def tile_px(self) -> int:
        """Side of a tile."""
        return self.merge.plan.tile_px

    @property
    def regions_a_tile(self) -> int:
        """Regions of 16 x 16 px in a tile."""
        return (self.tile_px // REGION_PX) ** 2


@dataclass
class _Input:
    """A frame in one layout, page-locked and on the GPU, and the graph of the work from there on."""

    layout: int
    host: U8 = field(repr=False)
    there: Buffer
    runs: int = 0
    graph: Graph | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Host:
    """Page-locked memory that a frame's work reads and fills."""

    matrices: I64 = field(repr=False)
    tables: U8 = field(repr=False)
    no_number: I32 = field(repr=False)
    small: F32 = field(repr=False)
    bits: U8 = field(repr=False)
    values: F32 = field(repr=False)


class Slot:
    """See above; made, used and freed within ``Device.active``."""

    def __init__(self, rig: Rig) -> None:
        device, plan = rig.device, rig.merge.plan
        t, side, (fh, fw) = plan.tile_px, plan.tile_px // REGION_PX, rig.frame_hw
        grid, n, run = rig.merge.contested.shape, rig.tiles, rig.calls * rig.per_call
        self.rig = rig
        self._memory: list[Buffer | Any] = []
        self.whole: Any = None
        try:
            self.stream: Stream = device.stream()
            self.done: Event = device.event()
            self.context = rig.engine.context()
            self.inputs: dict[str, _Input] = {}
            self.host = _Host(
                matrices=self._pinned((12,), np.int64), tables=self._pinned((n, 1, 256, 3), np.uint8),
                no_number=self._pinned((2,), np.int32), small=self._pinned(grid, np.float32),
                bits=self._pinned((fh, -(-fw // 8)), np.uint8), values=self._pinned((fh, fw), np.float32),
            )  # fmt: skip
            host = self.host
            self.matrices, self.tables = self._alloc(host.matrices.nbytes), self._alloc(host.tables.nbytes)
            self.no_number, self.small = self._alloc(4), self._alloc(host.small.nbytes)
            self.bits, self.values = self._alloc(host.bits.nbytes), self._alloc(host.values.nbytes)
            cells = n * side * side * 4
            self.level, self.peak, self.misfit = self._alloc(cells), self._alloc(cells), self._alloc(run * side**2 * 4)
            self.choices = (self._alloc(host.small.nbytes), self._alloc(host.small.nbytes))
            self.cell, self.map = self._alloc(host.small.nbytes), self._alloc(plan.padded_hw[0] * plan.padded_hw[1] * 4)
            # to whole calls of the engine: a graph holds for one shape of its inputs
            pixel_bytes = 7 * 2 if rig.engine.half_planes else 3
            self.tiles, self.scores = self._alloc(run * pixel_bytes * t * t), self._alloc(run * t * t * 4)
            self.cues = rig.shared.cues
            self.own_cues: OwnCues | None = None
            if rig.own_cues:
                whole = (4, *plan.padded_hw) if rig.engine.half_planes else (max(run, 1), 4, t, t)
                self.cues = self._alloc(rig.shared.cues.nbytes)
                self.own_cues = OwnCues(plan, self.cues, self._pinned(whole, np.uint8), rig.engine.half_planes)
        except BaseException:
            self.free()
            raise
        self.marks: list[Event] = []
        """While there is a trace: the start of the last frame's work and the end of each of ``STEPS``."""

    def _pinned(self, shape: tuple[int, ...], dtype: Any) -> Any:
        made = self.rig.device.pinned(shape, dtype)
        self._memory.append(made)
        return made

    def _alloc(self, nbytes: int) -> Buffer:
        made = self.rig.device.alloc(nbytes)
        self._memory.append(made)
        return made

    def free(self) -> None:
        """Give everything back."""
        with contextlib.suppress(Exception):  # what failed may go on failing
            self.done.record(self.stream)
            self.done.wait()
        for one in getattr(self, "inputs", {}).values():
            if one.graph is not None:
                one.graph.free()
        self.rig.device.free(*self._memory)
        self._memory.clear()
        # streams and events are given back by whoever drops them, which is to be here
        for name in ("inputs", "marks", "context", "done", "stream"):
            self.__dict__.pop(name, None)

    def fill(self, pixels: U8, layout: str, to_frame: I64, to_golden: I64, tables: U8 | None) -> None:
        """A frame's pixels, its matrices (kernels.cu) and its light into page-locked memory."""
        one = self.inputs.get(layout)
        if one is None:
            host = self._pinned(pixels.shape, np.uint8)
            one = self.inputs[layout] = _Input(LAYOUTS.index(layout), host, self._alloc(host.nbytes))
        np.copyto(one.host, pixels)
        self.host.matrices[:6], self.host.matrices[6:] = to_frame.ravel(), to_golden.ravel()
        if tables is not None:
            np.copyto(self.host.tables, tables)

    def run(self, layout: str, traced: bool) -> None:
        """The frame that was filled in to its results; the second one's work is recorded, for engines must run once."""
        one = self.inputs[layout]
        if one.runs == 1 and self.rig.records[0]:
            try:
                one.graph = self.stream.recorded(lambda: self._enqueue(one))
            except Exception as error:  # whatever cannot be recorded can still be done step by step
                self.rig.records[0] = False
                log.warning("no CUDA graph, every step is launched by itself", error=f"{type(error).__name__}: {error}")
        if one.graph is not None and not traced:
            one.graph()
        else:
            self._enqueue(one, self._marks() if traced else None)
        self.done.record(self.stream)
        self.done.wait()
        one.runs += 1

    def _marks(self) -> Iterator[Event]:
        if not self.marks:
            self.marks = [self.rig.device.event(timed=True) for _ in range(len(STEPS) + 1)]
        return iter(self.marks)

    def _enqueue(self, one: _Input, marks: Iterator[Event] | None = None) -> None:
        steps: tuple[Callable[[], None], ...] = (
            lambda: self._copy_in(one), lambda: self._tiles(one), self.enqueue_network, self._rops, self._mask,
            self._copy_out,
        )  # fmt: skip
        if marks is not None:
            next(marks).record(self.stream)
        for step in steps:
            step()
            if marks is not None:
                next(marks).record(self.stream)

    def _copy_in(self, one: _Input) -> None:
        host, stream = self.host, self.stream
        stream.copy_in(one.there, one.host)
        stream.copy_in(self.matrices, host.matrices)
        stream.copy_in(self.no_number, host.no_number[1:])  # which is 0
        if self.rig.lit:
            stream.copy_in(self.tables, host.tables)

    def _tiles(self, one: _Input) -> None:
        rig, plan = self.rig, self.rig.merge.plan
        (h, w), t = plan.frame_hw, plan.tile_px
        arguments = (
            one.there, one.layout, w, h, self.matrices, rig.shared.origins_yx, self.tables if rig.lit else None, h, w,
            t, 0,
        )  # fmt: skip
        if rig.engine.half_planes:
            self.stream.launch("tiles_f16", (t, t, rig.tiles), *arguments, self.cues, *plan.padded_hw, self.tiles)
        else:
            self.stream.launch("tiles_u8", (t, t, rig.tiles), *arguments, self.tiles)

    def enqueue_network(self) -> None:
        """The engine alone, over the tiles that are on the GPU."""
        rig, area = self.rig, self.rig.tile_px**2
        half = rig.engine.half_planes
        for first in range(0, rig.calls * rig.per_call, rig.per_call):
            self.context.enqueue(
                rig.per_call, self.tiles.ptr + first * area * (14 if half else 3),
                0 if half else self.cues.ptr + first * 4 * area, self.scores.ptr + first * area * 4,
                self.misfit.ptr + first * rig.regions_a_tile * 4, self.stream,
            )  # fmt: skip

    def _rops(self) -> None:
        rig, stream, shared = self.rig, self.stream, self.rig.shared
        t, side = rig.tile_px, rig.tile_px // REGION_PX
        depth, rows, columns = rig.merge.candidate.shape
        stream.launch(
            "region_figures", (side, side, rig.tiles), self.scores, self.misfit, t, self.level, self.peak,
            self.no_number,
        )  # fmt: skip
        before: Buffer | None = None
        for sweep in range(SWEEPS + 1):
            now = self.choices[sweep % 2]
            stream.launch(
                "choose", (columns, rows, 1), shared.candidate, shared.cell, shared.border, depth, rows, columns,
                rig.regions_a_tile, self.level, self.misfit, before, now, self.cell,
            )  # fmt: skip
            before = now
        h, w = rig.merge.plan.padded_hw
        stream.launch("gather", (w, h, 1), self.scores, t, self._heard, self.cell, h, w, self.map)

    @property
    def _heard(self) -> Buffer:
        """The tile that each region is assigned to, after the last sweep."""
        return self.choices[SWEEPS % 2]

    def _mask(self) -> None:
        rig, stream, shared = self.rig, self.stream, self.rig.shared
        (h, w), row_px, (fh, fw) = rig.merge.plan.frame_hw, rig.merge.plan.padded_hw[1], rig.frame_hw
        rows, columns = rig.merge.contested.shape
        stream.launch(
            "region_scores", (columns, rows, 1), self.map, shared.gain, h, w, row_px, self.peak, rig.regions_a_tile,
            self._heard, self.cell, shared.most_gain, self.small,
        )  # fmt: skip
        to_golden = Buffer(self.matrices.ptr + 48, 48, self.matrices.owner)
        stream.launch(
            "mask_bits", (self.host.bits.shape[1], fh, 1), self.map, shared.gain, h, w, row_px, self.small, to_golden,
            fh, fw, self.bits, self.values,
        )  # fmt: skip

    def _copy_out(self) -> None:
        host = self.host
        for to, source in ((host.no_number[:1], self.no_number), (host.small, self.small), (host.bits, self.bits)):
            self.stream.copy_out(to, source)

    def fetch_values(self, rows: Bool) -> None:
        """Scores of these rows (h,) of the frame into ``host.values``; where no bit is set they say nothing."""
        edges = np.flatnonzero(np.diff(np.concatenate([[False], rows, [False]]).astype(np.int8)))
        row_bytes = self.host.values.shape[1] * 4
        for first, end in edges.reshape(-1, 2).tolist():
            self.stream.copy_out(self.host.values[first:end], self.values, first * row_bytes)
        self.done.record(self.stream)
        self.done.wait()

    def fetch_map(self) -> F32:
        """The merged map (padded h, padded w) of raw scores over the golden image; the next frame writes over it."""
        if self.whole is None:  # of a line that archives its boards
            self.whole = self._pinned(self.rig.merge.plan.padded_hw, np.float32)
        whole: F32 = self.whole
        self.stream.copy_out(whole, self.map)
        self.done.record(self.stream)
        self.done.wait()
        return whole
