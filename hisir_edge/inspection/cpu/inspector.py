"""One frame through the line on a CPU: register, tile, infer, merge; judged as every backend's (board.py)."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from hisir_edge.arrays import F32, F64, I64, U8, Bool
from hisir_edge.bundle.load import Bundle
from hisir_edge.geometry.merge_plan import MergePlan
from hisir_edge.geometry.tile import padded_frame, scaled_frame
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.board import BoardInspector, Findings, check_frame
from hisir_edge.inspection.cascade.first_look import (
    MOST_SUSPICIOUS,
    FirstLook,
    Suspicious,
    calibrated_on_board,
    sample_of_tiles,
    suspicious,
)
from hisir_edge.inspection.cpu.tile_workers import Cues, Merger, TileWorkers
from hisir_edge.inspection.engine import Engine, OnSpan
from hisir_edge.inspection.light import gains_from_light, light_of_frame
from hisir_edge.inspection.memory.shown import ShownTiles
from hisir_edge.inspection.memory.variants import crop_of
from hisir_edge.inspection.regions import regions_in_window
from hisir_edge.inspection.registration.pose import Registration, straightened
from hisir_edge.inspection.rops import Rops
from hisir_edge.inspection.windows import calibrated_windows, evidence_of_map, highest_calibrated, warped_window
from hisir_edge.records import Judgement, Region, Result, StageTimes


@dataclass(frozen=True, slots=True)
class RawMap:
    """Raw anomaly scores over the scaled golden image, valid until the next call, and how they came about.

    ``cell_max`` (gh, gw): the highest score in each region of 16 x 16 px of the padded map. ``variants``: see
    ``Findings``.
    """

    scores: F32 = field(repr=False)
    cell_max: F32 = field(repr=False)
    registration: Registration | None
    times: StageTimes
    variants: tuple[int, ...] = ()
    looked_share: float = 1.0
    expected_beyond: float = 0.0


MakeMerger = Callable[[MergePlan], Merger]
"""ROPS with the whole map, or others for comparison."""


class CpuInspector(BoardInspector):
    """A bundle ready to inspect frames; holds the buffers, so one frame at a time.

    The line keeps of the map only what may come near the thresholds; ``merger`` keeps all of it, for those who look at
    maps: then ``golden_map``, ``inspect_with_map`` and ``map_with_tiles`` may be asked. ``own_memory``: each frame may
    be given a ``memory`` of its own.
    """

    def __init__(
        self, bundle: Bundle, engine: Engine, merger: MakeMerger | None = None, own_memory: bool = False
    ) -> None:
        super().__init__(bundle)
        self.engine, self.batch, self.callers = engine, engine.batch, engine.callers
        kept = self.numbers[:0] if bundle.places or own_memory else self.numbers
        self.workers = TileWorkers(engine, self.plan, Cues(self.plan, bundle.memory, kept))
        self._make_merger = merger
        self._first_look: FirstLook | None = None
        self._make_buffers()

    def _make_buffers(self) -> None:
        # frame-sized buffers are kept: the pages of a fresh 50 MB array cost as much as filling it
        make = self._make_merger
        self.merger = Rops(self.merge_plan, self.gain.most) if make is None else make(self.merge_plan)
        self.padded = np.empty((*self.plan.padded_hw, 3), np.uint8)
        self.memory = ShownTiles(self.chooser, self.bundle.memory)
        self._light: F64 | None = None

    def look_first(self, guarded: bool = True) -> bool:
        """See ``BoardInspector.look_first``."""
        if self.bundle.first_look is None or not isinstance(self.merger, Rops):
            return False
        self._first_look, self._is_guarded = FirstLook(self.bundle.first_look, self.bundle.folder), guarded
        return True

    def sibling(self) -> CpuInspector:
        """Another one for the same bundle, with frame buffers of its own and this one's engine and threads."""
        other = copy.copy(self)
        other._make_buffers()
        return other

    def close(self, wait: bool = True) -> None:
        """See ``BoardInspector.close``."""
        self.workers.close(wait)

    def span(self, what: str, start: float, end: float) -> None:
        """See ``BoardInspector.span``."""
        self.workers.span(what, start, end)

    def trace(self, on_span: OnSpan | None) -> None:
        """See ``BoardInspector.trace``."""
        self.workers.on_span = on_span

    def inspect_with_map(self, frame_rgb: U8) -> tuple[Judgement, F32 | None]:
        """As ``inspect``, with the calibrated anomaly map (h, w), None for ERROR."""
        self._needs_whole_map()
        judgement = self.inspect(frame_rgb)
        if judgement.result is Result.ERROR:
            return judgement, None
        golden = self._last
        whole = golden.scores * self.gain.window(0, self.plan.frame_hw[0], 0, self.plan.frame_hw[1])
        pose, (h, w) = self.pose_of_camera(golden.registration), self.bundle.recipe.frame_hw
        return judgement, whole if pose is None else warped_window(whole, (0, 0), (0, h, 0, w), pose)

    def golden_map(self, frame_rgb: U8) -> RawMap:
        """Raw scores over the scaled golden image; InspectionError for a wrong frame or a void result."""
        self._needs_whole_map()
        return self._merged_map(Pixels(frame_rgb))

    def _find(self, image: Pixels) -> Findings:
        """See ``BoardInspector``: looked for only where a score can reach the pixel threshold."""
        golden = self._last = self._merged_map(image)
        start = time.perf_counter()
        score = highest_calibrated(golden.scores, golden.cell_max, self.gain)
        score = max(score, golden.expected_beyond) if np.isfinite(score) else score
        frame_hw, pose = self.bundle.recipe.frame_hw, self.pose_of_camera(golden.registration)
        mask: Bool = np.zeros(frame_hw, np.bool_)
        regions: list[Region] = []
        for y, x, window in calibrated_windows(golden.scores, golden.cell_max, self.gain, pose, frame_hw):
            found = regions_in_window(window, self.bundle.thresholds, (y, x), mask)
            regions += found.called
            score = max(score, found.strongest) if np.isfinite(score) else score
        wanted = self._keeps_evidence and (regions or not self._of_called_only)
        kept = evidence_of_map(golden.scores, golden.cell_max, self.gain, pose) if wanted else None
        end = time.perf_counter()
        self.span("judge", start, end)
        times = replace(golden.times, judge_s=end - start)
        return Findings(score, regions, mask, golden.registration, times, golden.variants, kept, golden.looked_share)

    def _merged_map(self, image: Pixels) -> RawMap:
        t0 = time.perf_counter()
        registration, gains = self.prepare(image)
        t1 = time.perf_counter()
        self.merger.undo()
        looked = self._suspicious_tiles(gains)
        numbers = self.numbers if looked is None else looked.numbers
        spent = self.workers.run(self.padded, gains, self.memory, numbers, self.merger)
        t2 = time.perf_counter()
        merged = self.merger.merged()
        t3 = time.perf_counter()
        if looked is not None:
            merged, numbers = self._grown(merged, numbers, gains)
        merge_s = spent.put_s + t3 - t2
        self.span("register", t0, t1)
        self.span("choose", t2, t3)
        # what the threads did beside inferring is theirs; the rest of the time they inferred, or waited to
        times = StageTimes(
            register_s=t1 - t0, tile_s=spent.tile_s, infer_s=t2 - t1 - spent.tile_s - spent.put_s, merge_s=merge_s
        )
        share = len(numbers) / max(len(self.numbers), 1)
        beyond = 0.0 if looked is None else looked.expected_beyond
        return RawMap(merged, self.merger.cell_max, registration, times, self.memory.chosen, share, beyond)

    def _suspicious_tiles(self, gains: F32 | None) -> Suspicious | None:
        """The tiles that the whole network has to see, the merger takes the others as waved through; None: all."""
        look, cascade = self._first_look, self.bundle.manifest.cascade
        if look is None or cascade is None or not self._may_wave or not isinstance(self.merger, Rops):
            return None
        level = cascade.look_from * self.bundle.thresholds.region_peak
        sample, rest = sample_of_tiles(self.numbers, self.workers.engine.batch)
        expected = self.workers.expect(self.padded, gains, self.memory, sample, look)
        if len(rest):
            on_board = calibrated_on_board(self.plan, sample, expected, self.gain.most)
            if len(suspicious(self.plan, sample, on_board, level)) >= MOST_SUSPICIOUS * len(sample):
                return None  # what is left of the first look would cost more than it could spare
            others = self.workers.expect(self.padded, gains, self.memory, rest, look)
            expected = np.concatenate([expected, others])
        on_board = calibrated_on_board(self.plan, np.concatenate([sample, rest]), expected, self.gain.most)
        found = suspicious(self.plan, self.numbers, on_board, level)
        self.merger.wave(np.setdiff1d(self.numbers, found))
        return Suspicious(found, float(on_board[on_board < level].max(initial=0.0)))

    def _grown(self, merged: F32, numbers: I64, gains: F32 | None) -> tuple[F32, I64]:
        """The map and the tiles that were run, once no pixel over the threshold lies beside a tile that was not.

        A region that reaches beyond what was looked at is seen whole.
        """
        while True:
            over = self.merger.cell_max * self.gain.most
            more = np.setdiff1d(suspicious(self.plan, self.numbers, over, 1.0), numbers)
            if not len(more):
                return merged, numbers
            self.merger.undo()
            self.workers.run(self.padded, gains, self.memory, more, self.merger)
            merged, numbers = self.merger.merged(), np.union1d(numbers, more)

    def prepare(self, image: Pixels) -> tuple[Registration | None, F32 | None]:
        """Put a frame into ``self.padded`` as the network is to see it: (registration, light table per tile).

        InspectionError for a wrong frame, or one that cannot be registered.
        """
        check_frame(image, self.bundle.recipe)
        registration = self._register(scaled_frame(image.rgb, self.bundle.recipe.scale))
        h, w = self.plan.frame_hw
        self._light = None if self.light is None else light_of_frame(self.light, self.padded[:h, :w])
        self.memory.show(crop_of(self.padded), self._light)
        return registration, None if self._light is None else gains_from_light(self.plan, self._light)

    def map_with_tiles(self, numbers: Iterable[int], gains: F32 | None) -> F32:
        """The map of ``golden_map`` after ``self.padded`` was changed where these tiles lie: they alone run again.

        So do those that see a place where the board now shows another variant.
        """
        self._needs_whole_map()
        changed = self.memory.show(crop_of(self.padded), self._light)
        again = np.unique(
            np.concatenate([np.fromiter(numbers, np.int64), *(self._tiles_of_places[n] for n in changed)])
        )
        self.merger.undo()
        self.workers.run(self.padded, gains, self.memory, np.intersect1d(again, self.numbers), self.merger)
        return self.merger.merged()

    def _needs_whole_map(self) -> None:
        if self._make_merger is None:
            raise RuntimeError("of maps only what matters is kept: make the CpuInspector with merger=Rops")

    def _register(self, work: U8) -> Registration | None:
        """Put the scaled frame, in golden coordinates where it is registered, into ``self.padded``."""
        if self.finder is None:
            padded_frame(self.plan, work, self.padded)
            return None
        registration = self.finder.find(Pixels(work))
        (h, w), padded_w = self.plan.frame_hw, self.plan.padded_hw[1]
        if padded_w == w:
            straightened(work, registration.pose, (h, w), self.padded[:h])
            self.padded[h:] = self.padded[h - 1]
        else:
            padded_frame(self.plan, straightened(work, registration.pose, (h, w)), self.padded)
        return registration
