"""One frame through the line: register, tile, infer, merge, judge. The spine's inner half."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import cv2
import numpy as np

from hisir_edge.arrays import F32, U8
from hisir_edge.engine.bundle import Bundle
from hisir_edge.errors import HisirEdgeError, InspectionError
from hisir_edge.line.gain import gain_map
from hisir_edge.line.infer import Engine
from hisir_edge.line.judge import regions_from_map
from hisir_edge.line.light import golden_light, light_of_frame, tables_from_light
from hisir_edge.line.merge import MergePlan, map_from_tiles, merge_plan_from_tiles
from hisir_edge.line.register import Registration, anchors_from_golden, register_frame, warp_by_matrix
from hisir_edge.line.tile import padded_frame, plan_from_size, scaled_frame, scaled_hw, tiles_from_frame
from hisir_edge.records import Judgement, Result, StageTimes

Merge = Callable[[MergePlan, F32, F32, F32 | None], F32]
"""(plan, scores, misfit, out) -> map of the frame; ROPS on the line, others for comparison."""


@dataclass(frozen=True, slots=True)
class RawMap:
    """Raw anomaly scores over the scaled golden image, valid until the next call, and how they came about."""

    scores: F32 = field(repr=False)
    registration: Registration | None
    times: StageTimes


class Inspector:
    """A bundle ready to inspect frames; holds the buffers, so one frame at a time."""

    def __init__(self, bundle: Bundle, engine: Engine, merge: Merge = map_from_tiles) -> None:
        self.bundle, self.engine, self.merge = bundle, engine, merge
        recipe = bundle.recipe
        self.plan = plan_from_size(scaled_hw(recipe.frame_hw, recipe.scale), recipe.tile_px, recipe.overlap_px)
        self.merge_plan = merge_plan_from_tiles(self.plan)
        self.anchors = anchors_from_golden(bundle.memory_rgbd[..., :3]) if recipe.registered else None
        self.light = golden_light(bundle.memory_rgbd[..., :3]) if recipe.registered else None
        n, t = len(self.plan.origins_yx), recipe.tile_px
        self.cues = np.empty((n, 4, t, t), np.uint8)
        tiles_from_frame(self.plan, padded_frame(self.plan, bundle.memory_rgbd), 0, self.cues)
        self.tiles = np.empty((engine.batch, 3, t, t), np.uint8)
        self.scores = np.empty((n, t, t), np.float32)
        self.misfit = np.empty((n, t // 16, t // 16), np.float32)
        # frame-sized buffers are kept: the pages of a fresh 50 MB array cost as much as filling it
        self.padded = np.empty((*self.plan.padded_hw, 3), np.uint8)
        self.merged = np.empty(self.plan.padded_hw, np.float32)
        self.frame_scores = np.empty(recipe.frame_hw, np.float32)
        self.gain = gain_map(self.plan.frame_hw, recipe.scale, bundle.thresholds, bundle.noise, bundle.zones)

    def inspect(self, frame_rgb: U8) -> Judgement:
        """Judge one RGB frame (h, w, 3); what cannot be judged comes back as ERROR, never raised."""
        return self.inspect_with_map(frame_rgb)[0]

    def inspect_with_map(self, frame_rgb: U8) -> tuple[Judgement, F32 | None]:
        """As ``inspect``, with the calibrated anomaly map (h, w), None for ERROR; valid until the next call."""
        try:
            return self._judge(frame_rgb)
        except HisirEdgeError as error:
            return error_judgement(str(error)), None
        except cv2.error as error:
            return error_judgement(f"image processing failed: {error}"), None

    def _judge(self, frame_rgb: U8) -> tuple[Judgement, F32]:
        start = time.perf_counter()
        golden = self.golden_map(frame_rgb)
        judging = time.perf_counter()
        calibrated = self._to_frame(np.multiply(golden.scores, self.gain, golden.scores), golden.registration)
        score = float(calibrated.max())
        if not np.isfinite(score):
            raise InspectionError(
                expected="finite calibrated scores", received=f"{score}", fix="verify or rebuild the bundle"
            )
        found = regions_from_map(calibrated, self.bundle.thresholds)
        end = time.perf_counter()
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
        return judgement, calibrated

    def golden_map(self, frame_rgb: U8) -> RawMap:
        """Raw scores over the scaled golden image; InspectionError for a wrong frame or a void result."""
        t0 = time.perf_counter()
        registration, tables = self.prepare(frame_rgb)
        t1 = time.perf_counter()
        tile_s, infer_s = self._infer(tables)
        t2 = time.perf_counter()
        merged = self._merged()
        times = StageTimes(t1 - t0, tile_s, infer_s, time.perf_counter() - t2)
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
        for n in numbers:
            here = slice(n, n + 1)
            tiles_from_frame(self.plan, self.padded, n, self.tiles[:1], tables)
            self.engine.infer(self.tiles[:1], self.cues[here], self.scores[here], self.misfit[here])
        return self._merged()

    def _merged(self) -> F32:
        """The tiles' results as one map, valid until the next call; InspectionError when there is no number somewhere.

        Checked before merging: what is not chosen must be finite, too, since it had its say in the choice.
        """
        for what, values in (("misfits", self.misfit), ("scores", self.scores)):
            if not np.isfinite(values.sum()):  # one NaN or infinity anywhere makes the sum one
                raise InspectionError(
                    expected=f"finite {what}", received="NaN or infinity", fix="verify or rebuild the bundle"
                )
        return self.merge(self.merge_plan, self.scores, self.misfit, self.merged)

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

    def _infer(self, tables: U8 | None) -> tuple[float, float]:
        """Tiles of the frame through the engine, batch by batch; (tile, infer) seconds."""
        tile_s = infer_s = 0.0
        for first in range(0, len(self.scores), self.engine.batch):
            t0 = time.perf_counter()
            n = tiles_from_frame(self.plan, self.padded, first, self.tiles, tables)
            t1 = time.perf_counter()
            last = first + n
            self.engine.infer(self.tiles[:n], self.cues[first:last], self.scores[first:last], self.misfit[first:last])
            tile_s, infer_s = tile_s + t1 - t0, infer_s + time.perf_counter() - t1
        return tile_s, infer_s

    def _to_frame(self, merged: F32, registration: Registration | None) -> F32:
        """The map from golden, scaled pixels to the camera's own pixels."""
        scale = self.bundle.recipe.scale
        if registration is None and scale == 1.0:
            return merged
        matrix = np.array([[1.0, 0, 0], [0, 1.0, 0]]) if registration is None else registration.matrix
        h, w = self.bundle.recipe.frame_hw
        # pixel centres sit at +0.5: frame x -> scaled (x + 0.5) * scale - 0.5
        to_scaled = np.array([[scale, 0, 0.5 * scale - 0.5], [0, scale, 0.5 * scale - 0.5], [0, 0, 1]])
        out = cv2.warpAffine(
            merged,
            matrix @ to_scaled,
            (w, h),
            self.frame_scores,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return out.astype(np.float32, copy=False)


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
