"""One frame through the line on a GPU: copy in, tiles, engine, ROPS, copy out, all in one stream; judged as on a CPU.

The host registers the frame and measures its light; from there on only addresses are handed on. The frame crosses the
bus once, and what comes back is each region's highest score, who was heard there, and bands of the map in which a score
comes near the thresholds: none on most good boards. After the first frame the stream's work is one CUDA graph.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import current_thread
from typing import Any

import cv2
import numpy as np
import structlog

from hisir_edge.arrays import F32, F64, I32, I64, U8, Bool
from hisir_edge.cuda.device import Buffer, Device, Graph, Stream
from hisir_edge.cuda.reference import LAYOUTS, fixed_point
from hisir_edge.cuda.tensorrt_engine import DeviceEngine
from hisir_edge.engine.bundle import Bundle
from hisir_edge.errors import BundleError, InspectionError
from hisir_edge.line.board import BoardInspector, RawMap, check_frame
from hisir_edge.line.light import (
    SAMPLE_EACH_PX,
    SAMPLE_FIRST_PX,
    is_sampled,
    light_of_frame,
    light_of_samples,
    tables_from_light,
)
from hisir_edge.line.register import Registration, register_frame, warp_by_matrix
from hisir_edge.line.rops import KEPT_FROM, SWEEPS
from hisir_edge.line.tile import REGION_PX, PlaneCutter, scaled_frame
from hisir_edge.line.workers import OnSpan
from hisir_edge.records import StageTimes

log = structlog.get_logger()

MOST_CANDIDATES = 16
"""As in ``kernels.cu``: tiles that may see one region."""
IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


@dataclass(frozen=True, slots=True)
class _Shared:
    """What is on the GPU once for a bundle, for all frames in flight. Tiles are numbered as they are run."""

    origins_yx: Buffer
    cues: Buffer
    candidate: Buffer
    cell: Buffer
    border: Buffer


@dataclass(frozen=True, slots=True)
class _Host:
    """Page-locked memory that a frame's work reads and fills."""

    frame: U8 = field(repr=False)
    matrix: I64 = field(repr=False)
    tables: U8 = field(repr=False)
    peak: F32 = field(repr=False)
    tile: I32 = field(repr=False)
    cell: I32 = field(repr=False)
    map: F32 = field(repr=False)


class _Slot:
    """One frame's stream, context and memory."""

    def __init__(self, inspector: CudaInspector) -> None:
        device, plan = inspector.device, inspector.plan
        (h, w), (rows, columns) = plan.padded_hw, inspector.merge_plan.contested.shape
        n, t = len(inspector.numbers), plan.tile_px
        calls = inspector.calls * inspector.per_call
        self.inspector = inspector
        self.stream: Stream = device.stream()
        self.context = inspector.engine.context()
        self.host = _Host(
            device.pinned((*plan.frame_hw, 3), np.uint8), device.pinned((6,), np.int64),
            device.pinned((n, 1, 256, 3), np.uint8), device.pinned((n, t // REGION_PX, t // REGION_PX), np.float32),
            device.pinned((rows, columns), np.int32), device.pinned((rows, columns), np.int32),
            device.pinned((h, w), np.float32),
        )  # fmt: skip
        host = self.host
        self.frame, self.matrix, self.tables = (device.alloc(a.nbytes) for a in (host.frame, host.matrix, host.tables))
        self.peak, self.map = device.alloc(host.peak.nbytes), device.alloc(host.map.nbytes)
        self.level, self.misfit = device.alloc(host.peak.nbytes), device.alloc(calls * host.peak[0].nbytes)
        self.tile, self.before = device.alloc(host.tile.nbytes), device.alloc(host.tile.nbytes)
        self.cell = device.alloc(host.cell.nbytes)
        # to whole calls of the engine: a graph holds for one shape of its inputs
        self.tiles, self.scores = device.alloc(calls * 3 * t * t), device.alloc(calls * t * t * 4)
        self.bands: set[int] = set()
        """Rows of regions of ``host.map`` that hold what was copied for the last frame."""
        self.graph: Graph | None = None
        self.runs = 0

    def run(self) -> None:
        """The frame in ``host`` to its results; the second one's work is recorded, for TensorRT must have run once."""
        if self.runs == 1 and self.inspector.records[0]:
            try:
                self.graph = self.stream.recorded(self._enqueue)
            except Exception as error:  # whatever cannot be recorded can still be done step by step
                self.inspector.records[0] = False
                log.warning("no CUDA graph, every step is launched by itself", error=f"{type(error).__name__}: {error}")
        if self.graph is not None:
            self.graph()
        else:
            self._enqueue()
        self.stream.wait()
        self.runs += 1

    def free(self) -> None:
        """Give everything back; within ``Device.active``."""
        with contextlib.suppress(Exception):  # what failed may go on failing
            self.stream.wait()
        if self.graph is not None:
            self.graph.free()
            self.graph = None
        host = self.host
        self.inspector.device.free(
            self.frame, self.matrix, self.tables, self.peak, self.map, self.level, self.misfit, self.tile, self.before,
            self.cell, self.tiles, self.scores, host.frame, host.matrix, host.tables, host.peak, host.tile, host.cell,
            host.map,
        )  # fmt: skip

    def _enqueue(self) -> None:
        self._copy_in()
        self.enqueue_network()
        self._merge()

    def _copy_in(self) -> None:
        host, stream, plan = self.host, self.stream, self.inspector.plan
        for to, source in ((self.frame, host.frame), (self.matrix, host.matrix), (self.tables, host.tables)):
            stream.copy_in(to, source)
        (h, w), t, n = plan.frame_hw, plan.tile_px, len(self.inspector.numbers)
        tables = self.tables if self.inspector.light is not None else None
        stream.launch(
            "tiles_u8", (t, t, n), self.frame, LAYOUTS.index("RGB8"), w, h, self.matrix,
            self.inspector.shared.origins_yx, tables, h, w, t, 0, self.tiles,
        )  # fmt: skip

    def enqueue_network(self) -> None:
        """The engine alone, over the tiles that are on the GPU."""
        inspector, t = self.inspector, self.inspector.plan.tile_px
        area, cells, count = t * t, (t // REGION_PX) ** 2, inspector.per_call
        for first in range(0, inspector.calls * count, count):
            self.context.enqueue(
                count, self.tiles.ptr + first * 3 * area, inspector.shared.cues.ptr + first * 4 * area,
                self.scores.ptr + first * area * 4, self.misfit.ptr + first * cells * 4, self.stream,
            )  # fmt: skip

    def _merge(self) -> None:
        inspector, stream, host = self.inspector, self.stream, self.host
        plan, shared = inspector.plan, inspector.shared
        t, side, n = plan.tile_px, plan.tile_px // REGION_PX, len(inspector.numbers)
        depth, rows, columns = inspector.merge_plan.candidate.shape
        stream.launch("region_figures", (side, side, n), self.scores, self.misfit, t, self.level, self.peak)
        before, now = None, self.tile
        for _ in range(SWEEPS + 1):
            stream.launch(
                "choose", (columns, rows, 1), shared.candidate, shared.cell, shared.border, depth, rows, columns,
                side * side, self.level, self.misfit, before, now, self.cell,
            )  # fmt: skip
            before, now = now, self.before if now is self.tile else self.tile
        heard = before if before is not None else self.tile
        h, w = plan.padded_hw
        stream.launch("gather", (w, h, 1), self.scores, t, heard, self.cell, h, w, self.map)
        for to, source in ((host.peak, self.peak), (host.tile, heard), (host.cell, self.cell)):
            stream.copy_out(to, source)

    def fetch_bands(self, wanted: Bool) -> None:
        """Rows of regions (gh,) of the map into ``host.map``; what was there of the last frame becomes 0."""
        row_bytes = self.host.map.shape[1] * REGION_PX * 4
        fetched = set(np.flatnonzero(wanted).tolist())
        for row in sorted(self.bands - fetched):
            self.host.map[row * REGION_PX : (row + 1) * REGION_PX] = 0
        self.bands = fetched
        for row in sorted(fetched):
            band = self.host.map[row * REGION_PX : (row + 1) * REGION_PX]
            self.stream.copy_out(band, self.map, row * row_bytes)
        if fetched:
            self.stream.wait()


class CudaInspector(BoardInspector):
    """A bundle on a GPU; see ``BoardInspector``. ``device`` and ``engine`` are shared by all siblings."""

    def __init__(self, bundle: Bundle, device: Device, make_engine: Callable[[], DeviceEngine]) -> None:
        super().__init__(bundle)
        depth = len(self.merge_plan.candidate)
        if depth > MOST_CANDIDATES:
            raise BundleError(
                expected=f"at most {MOST_CANDIDATES} tiles over one place", received=str(depth),
                fix="build a bundle with a smaller overlap",
            )  # fmt: skip
        self.device = device
        self._on_span: list[OnSpan | None] = [None]
        with device.active():
            self.engine = make_engine()
            self.calls = -(-len(self.numbers) // self.engine.batch)
            self.per_call = -(-len(self.numbers) // max(self.calls, 1))
            self.batch, self.callers = self.per_call, 1
            self.records = [not self.engine.captures]
            """Whether the work of a frame is recorded as a graph; for all siblings."""
            self._family: list[CudaInspector] = [self]
            self.shared = self._uploaded()
            self._slot: _Slot | None = _Slot(self) if len(self.numbers) else None

    def _uploaded(self) -> _Shared:
        n, t = len(self.numbers), self.plan.tile_px
        cues = np.zeros((max(self.calls * self.per_call, 1), 4, t, t), np.uint8)
        PlaneCutter(self.plan, self.bundle.memory).cut(self.numbers, cues)
        position = np.full(len(self.plan.origins_yx), -1, np.int32)
        position[self.numbers] = np.arange(n)
        merge = self.merge_plan
        candidate = np.where(merge.candidate >= 0, position[merge.candidate], -1).astype(np.int32)
        origins = np.array(self.plan.origins_yx, np.int32)[self.numbers] if n else np.zeros((1, 2), np.int32)
        return _Shared(*(self.device.upload(a) for a in (origins, cues, candidate, merge.cell, merge.border)))

    def sibling(self) -> CudaInspector:
        """See ``BoardInspector.sibling``: a stream, context and memory of its own."""
        other = copy.copy(self)
        self._family.append(other)
        with self.device.active():
            other._slot = _Slot(other) if len(self.numbers) else None
        return other

    def close(self, wait: bool = True) -> None:
        """See ``BoardInspector.close``; what hangs keeps its memory."""
        if not wait:
            return
        with self.device.active():
            for one in self._family:
                if one._slot is not None:
                    one._slot.free()
                    one._slot = None
            shared = self.shared
            self.device.free(shared.origins_yx, shared.cues, shared.candidate, shared.cell, shared.border)

    def span(self, what: str, start: float, end: float) -> None:
        """See ``BoardInspector.span``."""
        if (tell := self._on_span[0]) is not None:
            tell(current_thread().name, what, start, end)

    def trace(self, on_span: OnSpan | None) -> None:
        """See ``BoardInspector.trace``."""
        self._on_span[0] = on_span

    def _merged_map(self, frame_rgb: U8) -> RawMap:
        check_frame(frame_rgb, self.bundle.recipe.frame_hw)
        t0 = time.perf_counter()
        work = scaled_frame(frame_rgb, self.bundle.recipe.scale)
        registration = register_frame(self.anchors, work) if self.anchors is not None else None
        tables = self._light_tables(work, registration)
        t1 = time.perf_counter()
        if not len(self.numbers):  # all of the board is ignored
            nothing = np.zeros(self.merge_plan.contested.shape, np.float32)
            empty = np.zeros(self.plan.frame_hw, np.float32)
            return RawMap(empty, nothing, registration, StageTimes(register_s=t1 - t0))
        try:
            with self.device.active():
                slot = self._slot = self._slot or _Slot(self)
                self._fill(slot, work, registration, tables)
                t2 = time.perf_counter()
                slot.run()
                t3 = time.perf_counter()
                cell_max = self._cell_max(slot)
                hot = (cell_max * self.gain.most >= KEPT_FROM).any(1)
                slot.fetch_bands(_with_rows_beside(hot))
        except Exception:
            self._drop_slot()  # whatever it was: the next frame gets a stream, context and memory of its own
            raise
        t4 = time.perf_counter()
        for what, start, end in (("register", t0, t1), ("fill", t1, t2), ("gpu", t2, t3), ("fetch", t3, t4)):
            self.span(what, start, end)
        h, w = self.plan.frame_hw
        return RawMap(slot.host.map[:h, :w], cell_max, registration, StageTimes(t1 - t0, t2 - t1, t3 - t2, t4 - t3))

    def _drop_slot(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            with self.device.active():
                slot.free()

    def _fill(self, slot: _Slot, work: U8, registration: Registration | None, tables: U8 | None) -> None:
        to_frame = IDENTITY if registration is None else cv2.invertAffineTransform(registration.matrix)
        np.copyto(slot.host.frame, work)
        slot.host.matrix[:] = fixed_point(np.asarray(to_frame, np.float64)).ravel()
        if tables is not None:
            np.copyto(slot.host.tables, tables[self.numbers])

    def _light_tables(self, work: U8, registration: Registration | None) -> U8 | None:
        """As the CPU's, but only the pixels that the light is measured at are registered on the host."""
        if self.light is None or registration is None:
            return None
        if is_sampled(self.plan.frame_hw):
            planes = light_of_samples(self.light, _samples(work, registration.matrix))
        else:
            planes = light_of_frame(self.light, warp_by_matrix(work, registration.matrix))
        return tables_from_light(self.plan, planes)

    def _cell_max(self, slot: _Slot) -> F32:
        """(gh, gw); InspectionError where any score or misfit is no number: ``choose`` cannot tell."""
        peak, tile, cell = slot.host.peak, slot.host.tile, slot.host.cell
        if not np.isfinite(peak).all():
            raise InspectionError(
                expected="finite scores", received="NaN or infinity", fix="verify or rebuild the bundle"
            )
        heard = peak.reshape(len(peak), -1)[np.maximum(tile, 0), cell]
        return np.asarray(np.where(tile >= 0, heard, np.float32(0)), np.float32)

    def network_seconds(self) -> float:
        """Seconds that the engine alone takes for the tiles of the last frame."""
        slot = self._slot
        if slot is None:
            raise RuntimeError("inspect a frame first")
        with self.device.active():
            start = time.perf_counter()
            slot.enqueue_network()
            slot.stream.wait()
            return time.perf_counter() - start


def _with_rows_beside(rows: Bool) -> Bool:
    """Rows of regions (gh,) and the ones above and below them."""
    out: Bool = rows.copy()
    out[1:] |= rows[:-1]
    out[:-1] |= rows[1:]
    return out


def _samples(work: U8, matrix: F64) -> U8:
    """The registered frame at the pixels by which light is measured; ``matrix``: frame -> golden pixels."""
    h, w = work.shape[:2]
    each, first = SAMPLE_EACH_PX, SAMPLE_FIRST_PX
    to_samples = np.array([[1 / each, 0, -first / each], [0, 1 / each, -first / each]])
    whole: Any = np.vstack([matrix, (0.0, 0.0, 1.0)])
    size = (-(-(w - first) // each), -(-(h - first) // each))
    out = cv2.warpAffine(work, to_samples @ whole, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out, np.uint8)


def inspector_on_gpu(bundle: Bundle, trt: Any, plan: bytes) -> CudaInspector:
    """A bundle's compiled engine on the first GPU; InputError or BundleError where that cannot be."""
    from hisir_edge.cuda.device import first_device
    from hisir_edge.cuda.tensorrt_engine import TensorRtEngine

    carries_runtime = bool(bundle.manifest.engine and bundle.manifest.engine.version_compatible)
    tile_px = bundle.recipe.tile_px
    return CudaInspector(bundle, first_device(), lambda: TensorRtEngine(trt, plan, tile_px, carries_runtime))
