"""A board judged again from what its verdict came from: other thresholds and zones, in milliseconds, no network."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from hisir_edge.archive.groups import ROUNDING, groups_of
from hisir_edge.arrays import F32, Bool
from hisir_edge.bundle.load import Bundle
from hisir_edge.bundle.thresholds import Thresholds, Zone
from hisir_edge.errors import InputError
from hisir_edge.geometry.box import BoxXYWH, meet
from hisir_edge.geometry.tile import REGION_PX, scaled_hw
from hisir_edge.inspection.gain import Gain
from hisir_edge.inspection.regions import Found, found_from_regions, regions_in_window
from hisir_edge.inspection.rops import KEPT_FROM
from hisir_edge.inspection.verdict import result_of
from hisir_edge.inspection.windows import (
    box_in_frame,
    calibrated_windows,
    fill_map,
    highest_calibrated,
    pose_of_evidence,
    wipe_map,
)
from hisir_edge.records import Evidence, Region, Result


@dataclass(frozen=True, slots=True)
class JudgedAgain:
    """The judgement of one frame. ``score``: its highest calibrated one, 0.25 where none of it is near the threshold.

    ``reached``: the strength of its strongest region in units of ``region_peak``, called or not.
    """

    result: Result
    found: Found
    score: float
    reached: float


class JudgeAgain:
    """Thresholds of a bundle, or others, for frames that this bundle has inspected; one frame at a time.

    InputError for thresholds that what was kept of the maps does not tell.
    """

    def __init__(self, bundle: Bundle, thresholds: Thresholds | None = None) -> None:
        recipe = bundle.recipe
        hw = scaled_hw(recipe.frame_hw, recipe.scale)
        kept_by = Gain(hw, recipe.scale, bundle.thresholds, bundle.noise, bundle.zones)
        self.bundle, self.thresholds, self.gain, self._kept_by = bundle, bundle.thresholds, kept_by, kept_by
        if thresholds is not None:
            self.thresholds = thresholds
            self.gain = Gain(hw, recipe.scale, thresholds, bundle.noise, bundle.zones)
            _check(self.gain, kept_by)
        self._raw = np.zeros(hw, np.float32)
        self._cell_max = np.zeros(self.gain.most.shape, np.float32)
        self._unread: Bool = np.zeros(recipe.frame_hw, np.bool_)
        """Where masks are drawn that nobody reads: pages that are there already."""

    def judge(self, evidence: Evidence) -> JudgedAgain:
        """The judgement of one frame."""
        fill_map(evidence, self._raw, self._cell_max)
        try:
            score = highest_calibrated(self._raw, self._cell_max, self.gain)
            found, strongest = self._found(evidence, self.gain)
        finally:
            wipe_map(evidence, self._raw, self._cell_max)
        score = max(score, strongest, float(KEPT_FROM))
        return JudgedAgain(result_of([found.total]), found, score, strongest / self.thresholds.region_peak)

    def calibrated(self, evidence: Evidence) -> F32:
        """The calibrated map over the scaled golden image (h, w), 0 where nothing of it was kept."""
        out = np.zeros_like(self._raw)
        fill_map(evidence, out, np.zeros_like(self._cell_max))
        for row, column in evidence.cells_yx.tolist():
            y, x = row * REGION_PX, column * REGION_PX
            piece = out[y : y + REGION_PX, x : x + REGION_PX]
            piece *= self.gain.window(y, y + piece.shape[0], x, x + piece.shape[1])
        return out

    def counted(self, evidence: Evidence, gains: tuple[Gain, ...]) -> tuple[int, ...]:
        """How many regions are called under each of these gains."""
        return tuple(found.total for found in self._under(evidence, gains, self._unread))

    def found(self, evidence: Evidence, gain: Gain | None = None) -> Found:
        """The regions that are called, under another gain if there is one."""
        return self._under(evidence, (gain or self.gain,))[0]

    def _under(self, evidence: Evidence, gains: tuple[Gain, ...], mask: Bool | None = None) -> list[Found]:
        fill_map(evidence, self._raw, self._cell_max)
        try:
            return [self._found(evidence, gain, mask)[0] for gain in gains]
        finally:
            wipe_map(evidence, self._raw, self._cell_max)

    def calls(self, evidence: Evidence, gain: Gain | None = None, within_xywh: BoxXYWH | None = None) -> bool:
        """Whether a region is called whose box meets this one of the frame, or any; no more is judged than may be."""
        gain = gain or self.gain
        recipe, pose = self.bundle.recipe, pose_of_evidence(evidence)
        groups = groups_of(evidence, gain.most)
        reach = groups.reach(self.thresholds, recipe.scale)
        for golden, part in groups.strongest_first(reach, self.thresholds.region_peak):
            if within_xywh is not None:
                y0, y1, x0, x1 = golden if pose is None else box_in_frame(golden, gain.hw, pose, recipe.frame_hw)
                if not meet(within_xywh, (x0, y0, x1 - x0, y1 - y0)):
                    continue
            called = self._under(part, (gain,), self._unread)[0].regions
            if any(within_xywh is None or meet(within_xywh, region.box_xywh) for region in called):
                return True
        return False

    def with_thresholds(self, thresholds: Thresholds) -> JudgeAgain:
        """Others, judged in the same memory: not beside this one. InputError where what was kept does not tell."""
        other = copy.copy(self)
        other.thresholds, other.gain = thresholds, self._kept_by.with_thresholds(thresholds)
        _check(other.gain, self._kept_by)
        return other

    def with_zones(self, zones: tuple[Zone, ...]) -> Gain:
        """The gain of these zones instead of the bundle's; InputError where what was kept does not tell."""
        if zones == self.bundle.zones:
            return self.gain
        gain, _ = self.gain.with_zones(zones)
        _check(gain, self._kept_by)
        return gain

    def _found(self, evidence: Evidence, gain: Gain, mask: Bool | None = None) -> tuple[Found, float]:
        """Regions of the map that is filled, drawn into a mask if there is one; the strength of the strongest."""
        frame_hw, pose = self.bundle.recipe.frame_hw, pose_of_evidence(evidence)
        mask = np.zeros(frame_hw, np.bool_) if mask is None else mask
        regions: list[Region] = []
        strongest = 0.0
        for y, x, window in calibrated_windows(self._raw, self._cell_max, gain, pose, frame_hw):
            seen = regions_in_window(window, self.thresholds, (y, x), mask)
            regions += seen.called
            strongest = max(strongest, seen.strongest)
        return found_from_regions(regions, mask), strongest


class ZoneTrial:
    """Other zones, tried on many boards: of each only what lies at places that they change is judged again.

    ``zones``: all of them, that off the board first (``Bundle.zones``). InputError for a place that would be so much
    more sensitive, or judged where it was ignored, that what was kept of the maps does not tell.
    """

    def __init__(self, base: JudgeAgain, zones: tuple[Zone, ...]) -> None:
        self._base = base
        self._gain, self._changed = base.gain.with_zones(zones)
        _check(self._gain, base.gain)
        self._most = np.maximum(base.gain.most, self._gain.most)

    def counted(self, evidence: Evidence) -> tuple[int, int]:
        """How many regions at these places are called as it is, and under the other zones."""
        groups = groups_of(evidence, self._most)
        reached = groups.hot & self._changed
        if not reached.any():
            return 0, 0
        wanted = np.zeros(groups.count, np.bool_)
        wanted[groups.labels[reached]] = True
        base = self._base
        wanted &= groups.reach(base.thresholds, base.bundle.recipe.scale) >= base.thresholds.region_peak
        if not wanted.any():
            return 0, 0
        before, after = base.counted(groups.part(wanted), (base.gain, self._gain))
        return before, after


def _check(gain: Gain, kept_by: Gain) -> None:
    much: F32 = gain.most * KEPT_FROM
    if (much > kept_by.most * ROUNDING).any():
        raise InputError(
            expected=f"places at most {1 / KEPT_FROM:g} times as sensitive as the boards were inspected with, "
            "and none that was ignored",
            received="more",
            fix="inspect the boards again",
        )
