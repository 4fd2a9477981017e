"""A board judged again from what its verdict came from: other thresholds and zones, in milliseconds, no network."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import cv2
import numpy as np

from hisir_edge.arrays import F32, I32, Bool
from hisir_edge.bundle.load import Bundle
from hisir_edge.bundle.thresholds import Thresholds, Zone
from hisir_edge.errors import InputError
from hisir_edge.geometry.tile import REGION_PX, scaled_hw
from hisir_edge.inspection.gain import Gain
from hisir_edge.inspection.regions import Found, found_from_regions, regions_in_window
from hisir_edge.inspection.rops import KEPT_FROM
from hisir_edge.inspection.score import logit_of_score, score_of_logit
from hisir_edge.inspection.verdict import result_of
from hisir_edge.inspection.windows import (
    RIM_PX,
    calibrated_windows,
    fill_map,
    highest_calibrated,
    pose_of_evidence,
    wipe_map,
)
from hisir_edge.records import Evidence, Region, Result

ROUNDING = np.float32(1.0001)
MORE_PIXELS = 1.5
"""Of a group, in the frame's pixels, at most: the pose enlarges, and interpolation adds a rim."""
RIM_PIXELS = 64.0


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
        fill_map(evidence, self._raw, self._cell_max)
        try:
            return tuple(self._found(evidence, gain)[0].total for gain in gains)
        finally:
            wipe_map(evidence, self._raw, self._cell_max)

    def found(self, evidence: Evidence, gain: Gain | None = None) -> Found:
        """The regions that are called, under another gain if there is one."""
        fill_map(evidence, self._raw, self._cell_max)
        try:
            return self._found(evidence, gain or self.gain)[0]
        finally:
            wipe_map(evidence, self._raw, self._cell_max)

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

    def _found(self, evidence: Evidence, gain: Gain) -> tuple[Found, float]:
        """Regions of the map that is filled, and the strength of the strongest, called or not."""
        frame_hw, pose = self.bundle.recipe.frame_hw, pose_of_evidence(evidence)
        mask: Bool = np.zeros(frame_hw, np.bool_)
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
        here = self._touched(evidence)
        if not here.any():
            return 0, 0
        part = replace(
            evidence, cells_yx=evidence.cells_yx[here], scores=evidence.scores[here], highest=evidence.highest[here]
        )
        before, after = self._base.counted(part, (self._base.gain, self._gain))
        return before, after

    def _touched(self, evidence: Evidence) -> Bool:
        """Which regions of evidence (n,) may be part of a called one that reaches into a place that changes."""
        rows, columns = evidence.cells_yx.T
        inner = evidence.scores[:, RIM_PX:-RIM_PX, RIM_PX:-RIM_PX]
        hot = np.zeros(self._most.shape, np.uint8)
        hot[rows, columns] = evidence.highest * self._most[rows, columns] >= 1.0
        if not (hot[self._changed]).any():
            return np.zeros(len(rows), np.bool_)
        near = cv2.dilate(hot, np.ones((3, 3), np.uint8))
        count, labels = cv2.connectedComponents(near, connectivity=8)
        wanted = np.zeros(count, np.bool_)
        wanted[labels[self._changed & (hot > 0)]] = True
        of = labels[rows, columns]
        return np.asarray((wanted & self._may_be_called(inner, self._most[rows, columns], of, count))[of], np.bool_)

    def _may_be_called(self, inner: F32, gains: F32, of: I32, count: int) -> Bool:
        """Which groups (count,) of regions may hold a called one; of each region ``inner`` (n, 16, 16), gain and group.

        By bounds: no peak is higher than the group's highest score, and no mass larger than its pixels over the pixel
        threshold would make with that score each.
        """
        limits = self._base.thresholds
        highest = np.zeros(count, np.float32)
        np.maximum.at(highest, of, inner.max((1, 2), initial=0) * gains)
        if limits.mass is None:
            return np.asarray(highest * ROUNDING >= limits.region_peak, np.bool_)
        over = inner * gains[:, None, None] >= 1 / ROUNDING
        pixels = np.bincount(of, over.sum((1, 2)), count)
        logits = np.maximum(logit_of_score(highest * limits.pixel), 0)
        mass = (pixels * MORE_PIXELS + RIM_PIXELS) / self._base.bundle.recipe.scale**2 * logits
        worth = score_of_logit(limits.mass.logits_per_root * np.sqrt(mass) + limits.mass.logits_at_none) / limits.pixel
        return np.asarray(np.maximum(highest, worth) * ROUNDING >= limits.region_peak, np.bool_)


def _check(gain: Gain, kept_by: Gain) -> None:
    much: F32 = gain.most * KEPT_FROM
    if (much > kept_by.most * ROUNDING).any():
        raise InputError(
            expected=f"places at most {1 / KEPT_FROM:g} times as sensitive as the boards were inspected with, "
            "and none that was ignored",
            received="more",
            fix="inspect the boards again",
        )
