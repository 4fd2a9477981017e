"""One frame through the line: register, tile, infer, merge, judge. The spine's inner half."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, U8, Bool
from hisir_edge.engine.bundle import Bundle
from hisir_edge.errors import HisirEdgeError, InspectionError
from hisir_edge.line.gain import Gain
from hisir_edge.line.infer import Engine
from hisir_edge.line.judge import Found, found_from_regions, regions_in_window
from hisir_edge.line.light import golden_light, light_of_frame, tables_from_light
from hisir_edge.line.merge import MergePlan, merge_plan_from_tiles
from hisir_edge.line.register import Registration, anchors_from_golden, register_frame, warp_by_matrix
from hisir_edge.line.rops import Rops
from hisir_edge.line.tile import REGION_PX, TilePlan, padded_frame, plan_from_size, scaled_frame, scaled_hw
from hisir_edge.line.windows import calibrated_windows, highest_calibrated, warped_window
from hisir_edge.line.workers import Merger, TileWorkers
from hisir_edge.records import Judgement, Region, Result, StageTimes

MakeMerger = Callable[[MergePlan], Merger]
"""ROPS with the whole map, or others for comparison."""


@dataclass(frozen=True, slots=True)
class RawMap:
    """Raw anomaly scores over the scaled golden image, valid until the next call, and how they came about."""

    scores: F32 = field(repr=False)
    registration: Registration | None
    times: StageTimes


class Inspector:
    """A bundle ready to inspect frames; holds the buffers, so one frame at a time.

    The line keeps of the map only what may come near the thresholds; ``merger`` keeps all of it, for those who look at
    maps: then ``golden_map``, ``inspect_with_map`` and ``map_with_tiles`` may be asked.
    """

    def __init__(self, bundle: Bundle, engine: Engine, merger: MakeMerger | None = None) -> None:
        self.bundle, self.engine = bundle, engine
        recipe = bundle.recipe
        self.plan = plan_from_size(scaled_hw(recipe.frame_hw, recipe.scale), recipe.tile_px, recipe.overlap_px)
        self.gain = Gain(self.plan.frame_hw, recipe.scale, bundle.thresholds, bundle.noise, bundle.zones)
        judged = _judged(self.plan, self.gain)
        self.numbers = np.flatnonzero(judged)
        self.merge_plan = merge_plan_from_tiles(self.plan, judged)
        golden = bundle.memory_rgbd[..., :3]
        self.anchors = anchors_from_golden(golden) if recipe.registered else None
        self.light = golden_light(golden) if recipe.registered else None
        self.workers = TileWorkers(engine, self.plan, bundle.memory)
        self._make_merger = merger
        self._make_buffers()

    def _make_buffers(self) -> None:
        # frame-sized buffers are kept: the pages of a fresh 50 MB array cost as much as filling it
        make = self._make_merger
        self.merger = Rops(self.merge_plan, self.gain.most) if make is None else make(self.merge_plan)
        self.padded = np.empty((*self.plan.padded_hw, 3), np.uint8)

    def sibling(self) -> Inspector:
        """Another one for the same bundle, with frame buffers of its own and this one's engine and threads."""
        other = copy.copy(self)
        other._make_buffers()
        return other

    def inspect(self, frame_rgb: U8) -> Judgement:
        """Judge one RGB frame (h, w, 3); what cannot be judged comes back as ERROR, never raised."""
        try:
            return self._judge(frame_rgb)[0]
        except HisirEdgeError as error:
            return error_judgement(str(error))
        except cv2.error as error:
            return error_judgement(f"image processing failed: {error}")

    def inspect_with_map(self, frame_rgb: U8) -> tuple[Judgement, F32 | None]:
        """As ``inspect``, with the calibrated anomaly map (h, w), None for ERROR."""
        self._needs_whole_map()
        try:
            judgement, golden = self._judge(frame_rgb)
            whole = golden.scores * self.gain.window(0, self.plan.frame_hw[0], 0, self.plan.frame_hw[1])
            matrix, (h, w) = self._to_golden(golden.registration), self.bundle.recipe.frame_hw
            return judgement, whole if matrix is None else warped_window(whole, (0, 0), (0, h, 0, w), matrix)
        except HisirEdgeError as error:
            return error_judgement(str(error)), None
        except cv2.error as error:
            return error_judgement(f"image processing failed: {error}"), None

    def _judge(self, frame_rgb: U8) -> tuple[Judgement, RawMap]:
        start = time.perf_counter()
        golden = self._merged_map(frame_rgb)
        judging = time.perf_counter()
        score = highest_calibrated(golden.scores, self.merger.cell_max, self.gain)
        if not np.isfinite(score):
            raise InspectionError(
                expected="finite calibrated scores", received=f"{score}", fix="verify or rebuild the bundle"
            )
        found = self._found(golden)
        end = time.perf_counter()
        self.workers.span("judge", judging, end)
        times = golden.times
        judgement = Judgement(
            result=Result.FAIL if found.total else Result.PASS,
            reason=f"{found.total} region(s)" if found.total else "",
            score=score,
            regions=found.regions,
            regions_total=found.total,
            mask=found.mask,
            times=StageTimes(times.register_s, times.tile_s, times.infer_s, times.merge_s, end - judging, end - start),
            registration_residual_px=golden.registration.residual_px if golden.registration else None,
        )
        return judgement, golden

    def golden_map(self, frame_rgb: U8) -> RawMap:
        """Raw scores over the scaled golden image; InspectionError for a wrong frame or a void result."""
        self._needs_whole_map()
        return self._merged_map(frame_rgb)

    def _merged_map(self, frame_rgb: U8) -> RawMap:
        t0 = time.perf_counter()
        registration, tables = self.prepare(frame_rgb)
        t1 = time.perf_counter()
        self.merger.undo()
        spent = self.workers.run(self.padded, tables, self.numbers, self.merger)
        t2 = time.perf_counter()
        merged = self.merger.merged()
        t3 = time.perf_counter()
        merge_s = spent.put_s + t3 - t2
        self.workers.span("register", t0, t1)
        self.workers.span("choose", t2, t3)
        # what the threads did beside inferring is theirs; the rest of the time they inferred, or waited to
        times = StageTimes(t1 - t0, spent.tile_s, t2 - t1 - spent.tile_s - spent.put_s, merge_s)
        return RawMap(merged, registration, times)

    def prepare(self, frame_rgb: U8) -> tuple[Registration | None, U8 | None]:
        """Put a frame into ``self.padded`` as the network is to see it: (registration, light table per tile).

        InspectionError for a wrong frame, or one that cannot be registered.
        """
        _check_frame(frame_rgb, self.bundle.recipe.frame_hw)
        registration = self._register(scaled_frame(frame_rgb, self.bundle.recipe.scale))
        return registration, self._light_tables()

    def map_with_tiles(self, numbers: Iterable[int], tables: U8 | None) -> F32:
        """The map of ``golden_map`` after ``self.padded`` was changed where these tiles lie: they alone run again."""
        self._needs_whole_map()
        self.merger.undo()
        self.workers.run(self.padded, tables, np.intersect1d(list(numbers), self.numbers), self.merger)
        return self.merger.merged()

    def _needs_whole_map(self) -> None:
        if self._make_merger is None:
            raise RuntimeError("of maps only what matters is kept: make the Inspector with merger=Rops")

    def _register(self, work: U8) -> Registration | None:
        """Put the scaled frame, in golden coordinates where it is registered, into ``self.padded``."""
        if self.anchors is None:
            padded_frame(self.plan, work, self.padded)
            return None
        registration = register_frame(self.anchors, work)
        h = work.shape[0]
        if self.plan.padded_hw[1] == work.shape[1]:
            warp_by_matrix(work, registration.matrix, self.padded[:h])
            self.padded[h:] = self.padded[h - 1]
        else:
            padded_frame(self.plan, warp_by_matrix(work, registration.matrix), self.padded)
        return registration

    def _light_tables(self) -> U8 | None:
        """Per tile the table that gives it the golden image's light; None for frames that are not registered."""
        if self.light is None:
            return None
        h, w = self.plan.frame_hw
        return tables_from_light(self.plan, light_of_frame(self.light, self.padded[:h, :w]))

    def _found(self, golden: RawMap) -> Found:
        """What is called a defect, looked for only where a score can reach the pixel threshold."""
        frame_hw, matrix = self.bundle.recipe.frame_hw, self._to_golden(golden.registration)
        mask: Bool = np.zeros(frame_hw, np.bool_)
        regions: list[Region] = []
        for y, x, window in calibrated_windows(golden.scores, self.merger.cell_max, self.gain, matrix, frame_hw):
            regions += regions_in_window(window, self.bundle.thresholds, (y, x), mask)
        return found_from_regions(regions, mask)

    def _to_golden(self, registration: Registration | None) -> F64 | None:
        """Matrix (2, 3) from the camera's pixels to golden, scaled ones; None where they are the same."""
        scale = self.bundle.recipe.scale
        if registration is None and scale == 1.0:
            return None
        matrix = np.array([[1.0, 0, 0], [0, 1.0, 0]]) if registration is None else registration.matrix
        # pixel centres sit at +0.5: frame x -> scaled (x + 0.5) * scale - 0.5
        to_scaled = np.array([[scale, 0, 0.5 * scale - 0.5], [0, scale, 0.5 * scale - 0.5], [0, 0, 1]])
        return np.asarray(matrix @ to_scaled, np.float64)


def _judged(plan: TilePlan, gain: Gain) -> Bool:
    """Which tiles (n,) see anything that counts: those wholly in ignored zones are not run."""
    side = plan.tile_px // REGION_PX
    cells = [(y // REGION_PX, x // REGION_PX) for y, x in plan.origins_yx]
    return np.array([gain.most[y : y + side, x : x + side].any() for y, x in cells])


def _check_frame(frame_rgb: U8, frame_hw: tuple[int, int]) -> None:
    if frame_rgb.dtype != np.uint8 or frame_rgb.ndim != 3 or frame_rgb.shape[2] != 3:
        raise InspectionError(
            expected="8-bit RGB frames",
            received=f"{frame_rgb.dtype} of shape {frame_rgb.shape}",
            fix="set the camera's pixel format",
        )
    if frame_rgb.shape[:2] != frame_hw:
        raise InspectionError(
            expected=f"a frame of {frame_hw[1]}x{frame_hw[0]}, for which the bundle was built",
            received=f"{frame_rgb.shape[1]}x{frame_rgb.shape[0]}",
            fix="set the camera to that size, or build a bundle from frames of this size",
        )


def error_judgement(reason: str) -> Judgement:
    """An ERROR with its reason and nothing else."""
    return Judgement(Result.ERROR, reason, None, (), 0, None)
