"""What a region's mass is worth: a weak score all over a large region is as rare on a good board as a high peak.

The mass of a region is the sum of its logits. Of noise that is smooth over some pixels the mass of its peaks goes with
the square of their height (Zhang, Nichols and Johnson 2009, NeuroImage 44, "Cluster mass inference"), so that the root
of the mass has an exponential tail, as peaks have. One tail is laid on the other: a mass is worth the peak that as many
good boards show. Scratches, solder and lifted parts are found by it whose highest score a glint on a good board has.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64
from hisir_edge.bundle.thresholds import MassRule, Thresholds
from hisir_edge.inspection.regions import mass_of
from hisir_edge.learn.evaluation.tails import LEAST_TAIL_PEAKS, alone_on, tail_of

LEAST_REGIONS = 2 * LEAST_TAIL_PEAKS
"""With fewer regions on all good boards together nothing is known of how their masses thin out."""
LEAST_ROOT_SCALE = 3.0
"""Roots of mass never thin out quicker: below it a region of some pixels more would be a defect."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The regions of one good board over the pixel threshold: their peaks in logits, the roots of their masses.

    Peaks are without the noise of their place, as thresholds are reckoned; masses are of the calibrated map, as the
    line sees them.
    """

    peaks: F64
    roots: F64


def seen_on(calibrated: F32, quiet_logits: F32, thresholds: Thresholds) -> Seen:
    """The regions of a board's calibrated map (h, w), pixels as in its thresholds' least area.

    ``quiet_logits`` (h, w): the logits of its scores less the noise of each place.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats((calibrated >= 1.0).astype(np.uint8), connectivity=8)
    peaks, roots = [], []
    for label in range(1, count):
        x, y, w, h, area = (int(v) for v in stats[label])
        if area < thresholds.min_area_px:
            continue
        inside = labels[y : y + h, x : x + w] == label
        peaks.append(float(quiet_logits[y : y + h, x : x + w][inside].max()))
        roots.append(float(np.sqrt(mass_of(calibrated[y : y + h, x : x + w][inside], thresholds.pixel))))
    return Seen(np.array(peaks, np.float64), np.array(roots, np.float64))


def rule_of_boards(boards: list[Seen], keep_alone: bool = False) -> MassRule | None:
    """What mass is worth, from the regions of good boards; None where they show too few to say.

    What one board alone shows, by peak or by mass, counts in neither, unless ``keep_alone`` (``tails.alone_on``).
    """
    if sum(len(one.peaks) for one in boards) < LEAST_REGIONS:
        return None
    shared = boards if keep_alone else _without_alone(boards)
    floor, scale, over = tail_of([one.peaks for one in shared])
    root_floor, root_scale, root_over = tail_of([one.roots for one in shared])
    slope = scale / max(root_scale, LEAST_ROOT_SCALE)
    return MassRule(slope, floor + scale * float(np.log(over / root_over)) - slope * root_floor)


def _without_alone(boards: list[Seen]) -> list[Seen]:
    """The boards without the regions that one alone shows; of a board that has no other its weakest stays."""
    of_peaks = alone_on([np.sort(one.peaks)[::-1] for one in boards])
    of_roots = alone_on([np.sort(one.roots)[::-1] for one in boards])
    found = []
    for one, peaks, roots in zip(boards, of_peaks, of_roots, strict=True):
        by_peak, by_root = np.argsort(-one.peaks, kind="stable"), np.argsort(-one.roots, kind="stable")
        left = np.setdiff1d(by_peak[peaks:], by_root[:roots])
        left = left if len(left) else by_peak[-1:]
        found.append(Seen(one.peaks[left], one.roots[left]))
    return found


def strengths(seen: Seen, rule: MassRule) -> F64:
    """Of each region the peak, or what its mass is worth where that is more; logits."""
    return np.maximum(seen.peaks, rule.logits_per_root * seen.roots + rule.logits_at_none)
