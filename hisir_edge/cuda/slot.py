"""One frame in flight on a GPU: a stream, an engine's context, memory, and the order in which all is launched.

A slot allocates when it is made and where a frame comes in a layout that it
has not had; after that a frame costs no allocation, and the host waits for one event.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hisir_edge.arrays import F32, I32, I64, U8, Bool
from hisir_edge.cuda.cues import OwnCues
from hisir_edge.cuda.device import Buffer, Event, Stream
from hisir_edge.cuda.look import Look
from hisir_edge.cuda.recorded import Recorded, Steps
from hisir_edge.cuda.reference import LAYOUTS
from hisir_edge.cuda.rig import LOOKING, STEPS, Rig
from hisir_edge.errors import InspectionError
from hisir_edge.geometry.tile import REGION_PX
from hisir_edge.inspection.rops import SWEEPS


@dataclass
class _Input:
    """A frame in one layout, page-locked and on the GPU, and the work from there on: all of it, or up to the look."""

    layout: int
    host: U8 = field(repr=False)
    there: Buffer
    whole: Recorded = field(default_factory=Recorded)
    front: Recorded = field(default_factory=Recorded)


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
        self.whole_map: Any = None
        self.look: Look | None = None
        try:
            self.stream: Stream = device.stream()
            self.done: Event = device.event()
            self.context = rig.engine.context()
            self.inputs: dict[str, _Input] = {}
            self.host = _Host(
                matrices=self.pinned((12,), np.int64), tables=self.pinned((n, 1, 256, 3), np.uint8),
                no_number=self.pinned((2,), np.int32), small=self.pinned(grid, np.float32),
                bits=self.pinned((fh, -(-fw // 8)), np.uint8), values=self.pinned((fh, fw), np.float32),
            )  # fmt: skip
            host = self.host
            self.matrices, self.tables = self.alloc(host.matrices.nbytes), self.alloc(host.tables.nbytes)
            self.no_number, self.small = self.alloc(4), self.alloc(host.small.nbytes)
            self.bits, self.values = self.alloc(host.bits.nbytes), self.alloc(host.values.nbytes)
            cells = n * side * side * 4
            self.level, self.peak, self.misfit = self.alloc(cells), self.alloc(cells), self.alloc(run * side**2 * 4)
            self.choices = (self.alloc(host.small.nbytes), self.alloc(host.small.nbytes))
            self.cell, self.map = self.alloc(host.small.nbytes), self.alloc(plan.padded_hw[0] * plan.padded_hw[1] * 4)
            # to whole calls of the engine: a graph holds for one shape of its inputs
            pixel_bytes = 7 * 2 if rig.engine.half_planes else 3
            self.tiles, self.scores = self.alloc(run * pixel_bytes * t * t), self.alloc(run * t * t * 4)
            self.cues = rig.shared.cues
            self.own_cues: OwnCues | None = None
            if rig.own_cues:
                whole = (4, *plan.padded_hw) if rig.engine.half_planes else (max(run, 1), 4, t, t)
                self.cues = self.alloc(rig.shared.cues.nbytes)
                self.own_cues = OwnCues(plan, self.cues, self.pinned(whole, np.uint8), rig.engine.half_planes)
            if rig.look is not None:
                self.look = Look(self, rig.look)
        except BaseException:
            self.free()
            raise
        self.marks: list[Event] = []
        """While there is a trace: the start of the last frame's work and the end of each step of it."""

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Page-locked memory that is freed with the slot."""
        made = self.rig.device.pinned(shape, dtype)
        self._memory.append(made)
        return made

    def alloc(self, nbytes: int) -> Buffer:
        """Memory of the GPU that is freed with the slot."""
        made = self.rig.device.alloc(nbytes)
        self._memory.append(made)
        return made

    def free(self) -> None:
        """Give everything back."""
        with contextlib.suppress(Exception):  # what failed may go on failing
            self.done.record(self.stream)
            self.done.wait()
        for one in getattr(self, "inputs", {}).values():
            one.whole.free()
            one.front.free()
        if self.look is not None:
            self.look.free()
            self.look = None
        self.rig.device.free(*self._memory)
        self._memory.clear()
        # streams and events are given back by whoever drops them, which is to be here
        for name in ("inputs", "marks", "context", "done", "stream"):
            self.__dict__.pop(name, None)

    def fill(self, pixels: U8, layout: str, to_frame: I64, to_golden: I64, tables: U8 | None) -> None:
        """A frame's pixels, its matrices (kernels.cu) and its light into page-locked memory."""
        one = self.inputs.get(layout)
        if one is None:
            host = self.pinned(pixels.shape, np.uint8)
            one = self.inputs[layout] = _Input(LAYOUTS.index(layout), host, self.alloc(host.nbytes))
        np.copyto(one.host, pixels)
        self.host.matrices[:6], self.host.matrices[6:] = to_frame.ravel(), to_golden.ravel()
        if tables is not None:
            np.copyto(self.host.tables, tables)

    def run(self, layout: str, traced: bool, look: bool = False) -> None:
        """The frame that was filled in to its results; ``look``: of the tiles that the first look finds suspicious.

        InspectionError where the network, or the first look, gives what is no number.
        """
        one, records, marks = self.inputs[layout], self.rig.records, self._marks(look) if traced else None
        start = (lambda: self._copy_in(one), lambda: self._tiles(one))
        if not look or self.look is None:
            one.whole.run(self.stream, (*start, self.enqueue_network, *self._after()), records, marks)
            self._wait()
            return
        cascade = self.look
        one.front.run(self.stream, (*start, cascade.enqueue), records, marks)
        self._wait()
        calls = cascade.calls_of(int(cascade.host.count[0]))
        steps = (lambda: cascade.enqueue_network(calls), *self._after(cascade.look))
        cascade.work_of(calls).run(self.stream, steps, records, marks)
        self._wait()

    def grown(self, numbers: I64) -> tuple[float, float]:
        """Look at tiles beside a region over the threshold as well, until there is none that was not run.

        ``numbers``: of the tiles in the plan. The share of them that was run, and what is expected beside these.
        """
        if self.look is None:
            raise RuntimeError("without a first look every tile was run")
        while len(more := self.look.more(numbers)):
            self.look.enqueue_network(self.look.add(more))
            for step in self._after(self.look.look):
                step()
            self._wait()
        return float(self.look.host.look.sum()) / len(numbers), self.look.expected_beyond()

    def _wait(self) -> None:
        self.done.record(self.stream)
        self.done.wait()
        if self.host.no_number[0]:
            raise InspectionError(
                expected="finite scores", received="NaN or infinity", fix="verify or rebuild the bundle"
            )

    def _marks(self, look: bool) -> Iterator[Event]:
        """Events for the steps of a frame, the first of which is there: its start."""
        names = LOOKING if look and self.look is not None else STEPS
        if len(self.marks) != len(names) + 1:
            self.marks = [self.rig.device.event(timed=True) for _ in range(len(names) + 1)]
        marks = iter(self.marks)
        next(marks).record(self.stream)
        return marks

    @property
    def steps(self) -> tuple[str, ...]:
        """What the marks of the last frame are of."""
        return LOOKING if len(self.marks) > len(STEPS) + 1 else STEPS

    def _after(self, look: Buffer | None = None) -> Steps:
        """What follows the network; ``look``: which tiles were run, all without it."""
        return (lambda: self._rops(look), self._mask, self._copy_out)

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
            self.stream.launch("tiles_u8", (t, t, rig.tiles), *arguments, self.cues, self.tiles)

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

    def _rops(self, look: Buffer | None) -> None:
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
                rig.regions_a_tile, self.level, self.misfit, before, look, now, self.cell,
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
        self._wait()

    def fetch_map(self) -> F32:
        """The merged map (padded h, padded w) of raw scores over the golden image; the next frame writes over it."""
        if self.whole_map is None:  # of a line that archives its boards
            self.whole_map = self.pinned(self.rig.merge.plan.padded_hw, np.float32)
        whole: F32 = self.whole_map
        self.stream.copy_out(whole, self.map)
        self._wait()
        return whole
