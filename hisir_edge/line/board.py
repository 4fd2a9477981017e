"""What every backend does with a frame: the bundle's geometry before, the judgement after the map is made."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, U8, Bool
from hisir_edge.engine.bundle import Bundle
from hisir_edge.errors import HisirEdgeError, InspectionError
from hisir_edge.line.gain import Gain
from hisir_edge.line.judge import Found, found_from_regions, regions_in_window
from hisir_edge.line.light import golden_light
from hisir_edge.line.locate import located
from hisir_edge.line.merge import merge_plan_from_tiles
from hisir_edge.line.register import Registration, anchors_from_golden
from hisir_edge.line.tile import REGION_PX, TilePlan, plan_from_size, scaled_hw
from hisir_edge.line.windows import calibrated_windows, highest_calibrated
from hisir_edge.line.workers import OnSpan
from hisir_edge.records import Judgement, Region, Result, StageTimes


@dataclass(frozen=True, slots=True)
class RawMap:
    """Raw anomaly scores over the scaled golden image, valid until the next call, and how they came about.

    ``cell_max`` (gh, gw): the highest score in each region of 16 x 16 px of the padded map.
    """

    scores: F32 = field(repr=False)
    cell_max: F32 = field(repr=False)
    registration: Registration | None
    times: StageTimes


class BoardInspector(ABC):
    """A bundle ready to inspect frames, one at a time; siblings share what is loaded and inspect others meanwhile."""

    batch: int
    """Tiles a call of the engine at most, and from how many threads it is called."""
    callers: int

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        recipe = bundle.recipe
        self.plan = plan_from_size(scaled_hw(recipe.frame_hw, recipe.scale), recipe.tile_px, recipe.overlap_px)
        self.gain = Gain(self.plan.frame_hw, recipe.scale, bundle.thresholds, bundle.noise, bundle.zones)
        judged = _judged(self.plan, self.gain)
        self.numbers = np.flatnonzero(judged)
        self.merge_plan = merge_plan_from_tiles(self.plan, judged)
        golden = bundle.memory_rgbd[..., :3]
        self.anchors = anchors_from_golden(golden) if recipe.registered else None
        self.light = golden_light(golden) if recipe.registered else None

    @abstractmethod
    def sibling(self) -> BoardInspector:
        """Another one for the same bundle, with frame buffers of its own."""

    @abstractmethod
    def close(self, wait: bool = True) -> None:
        """End its threads and free what the GPU holds, for all siblings; ``wait`` until they have ended."""

    @abstractmethod
    def span(self, what: str, start: float, end: float) -> None:
        """Tell whoever traces what this thread did from when to when (``time.perf_counter``)."""

    @abstractmethod
    def trace(self, on_span: OnSpan | None) -> None:
        """Whom ``span`` tells, for all siblings; None: nobody."""

    @abstractmethod
    def _merged_map(self, frame_rgb: U8) -> RawMap:
        """The frame's map; InspectionError for a wrong frame or a void result."""

    def inspect(self, frame_rgb: U8) -> Judgement:
        """Judge one RGB frame (h, w, 3); what cannot be judged comes back as ERROR, never raised."""
        try:
            return self._judge(frame_rgb)[0]
        except HisirEdgeError as error:
            return error_judgement(str(error))
        except cv2.error as error:
            return error_judgement(f"image processing failed: {error}")

    def _judge(self, frame_rgb: U8) -> tuple[Judgement, RawMap]:
        start = time.perf_counter()
        golden = self._merged_map(frame_rgb)
        judging = time.perf_counter()
        score = highest_calibrated(golden.scores, golden.cell_max, self.gain)
        if not np.isfinite(score):
            raise InspectionError(
                expected="finite calibrated scores", received=f"{score}", fix="verify or rebuild the bundle"
            )
        found = self._found(golden)
        end = time.perf_counter()
        self.span("judge", judging, end)
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

    def _found(self, golden: RawMap) -> Found:
        """What is called a defect, looked for only where a score can reach the pixel threshold."""
        frame_hw, matrix = self.bundle.recipe.frame_hw, self._to_golden(golden.registration)
        mask: Bool = np.zeros(frame_hw, np.bool_)
        regions: list[Region] = []
        for y, x, window in calibrated_windows(golden.scores, golden.cell_max, self.gain, matrix, frame_hw):
            regions += regions_in_window(window, self.bundle.thresholds, (y, x), mask)
        found = found_from_regions(regions, mask)
        return replace(found, regions=located(found.regions, self.bundle.manifest, matrix))

    def _to_golden(self, registration: Registration | None) -> F64 | None:
        """Matrix (2, 3) from the camera's pixels to golden, scaled ones; None where they are the same."""
        scale = self.bundle.recipe.scale
        if registration is None and scale == 1.0:
            return None
        matrix = np.array([[1.0, 0, 0], [0, 1.0, 0]]) if registration is None else registration.matrix
        # pixel centres sit at +0.5: frame x -> scaled (x + 0.5) * scale - 0.5
        to_scaled = np.array([[scale, 0, 0.5 * scale - 0.5], [0, scale, 0.5 * scale - 0.5], [0, 0, 1]])
        return np.asarray(matrix @ to_scaled, np.float64)


def in_flight(inspector: BoardInspector, count: int) -> list[BoardInspector]:
    """An inspector and as many siblings as it takes for ``count`` frames at a time."""
    return [inspector, *(inspector.sibling() for _ in range(count - 1))]


def _judged(plan: TilePlan, gain: Gain) -> Bool:
    """Which tiles (n,) see anything that counts: those wholly in ignored zones are not run."""
    side = plan.tile_px // REGION_PX
    cells = [(y // REGION_PX, x // REGION_PX) for y, x in plan.origins_yx]
    return np.array([gain.most[y : y + side, x : x + side].any() for y, x in cells])


def check_frame(frame_rgb: U8, frame_hw: tuple[int, int]) -> None:
    """InspectionError unless it is an RGB frame (h, w, 3) of uint8 in this size."""
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
