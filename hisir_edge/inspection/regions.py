"""From the anomaly map to a judgement: threshold, connected regions, PASS or FAIL."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hisir_edge.arrays import F32, Bool
from hisir_edge.bundle.thresholds import Thresholds
from hisir_edge.inspection.score import logit_of_score, score_of_one_logit
from hisir_edge.records import MAX_REGIONS, Region

MAX_CONTOUR_POINTS = 64


@dataclass(frozen=True, slots=True)
class Found:
    """Regions (largest peak first, at most ``MAX_REGIONS``), how many there were, and their mask."""

    regions: tuple[Region, ...]
    total: int
    mask: Bool


def regions_from_map(anomaly_map: F32, thresholds: Thresholds) -> Found:
    """Defect regions of a calibrated, finite map (h, w): components over 1.0 that are large and sure enough."""
    mask = np.zeros(anomaly_map.shape, np.bool_)
    return found_from_regions(regions_in_window(anomaly_map, thresholds, (0, 0), mask).called, mask)


@dataclass(frozen=True, slots=True)
class InWindow:
    """The regions of a window that are called, and the strength of its strongest one, called or not; 0: none."""

    called: list[Region]
    strongest: float


def mass_of(calibrated: F32, pixel: float) -> float:
    """The sum of the logits of a region's pixels (n,), none of them below 0."""
    return float(np.maximum(logit_of_score(calibrated * np.float32(pixel)), 0.0).sum())


def strength_of(calibrated: F32, thresholds: Thresholds) -> float:
    """How strong a region of these pixels (n,) is: its peak, or the one that its mass is worth where that is higher."""
    peak, rule = float(calibrated.max()), thresholds.mass
    if rule is None:
        return peak
    worth = rule.logits_per_root * np.sqrt(mass_of(calibrated, thresholds.pixel)) + rule.logits_at_none
    return max(peak, score_of_one_logit(float(worth)) / thresholds.pixel)


def found_from_regions(regions: list[Region], mask: Bool) -> Found:
    """All regions of a frame, in order, at most ``MAX_REGIONS`` of them, and their mask."""
    ordered = sorted(regions, key=lambda region: (-region.peak, region.box_xywh))
    return Found(tuple(ordered[:MAX_REGIONS]), len(ordered), mask)


def regions_in_window(window: F32, thresholds: Thresholds, at_yx: tuple[int, int], mask: Bool) -> InWindow:
    """Regions of a calibrated window that lies at ``at_yx`` of the frame; those called are added to its mask (h, w).

    A region that the window's border cuts is judged by what is inside.
    """
    over = (window >= 1.0).view(np.uint8)
    if not over.any():
        return InWindow([], 0.0)
    top, left = at_yx
    count, labels, stats, _ = cv2.connectedComponentsWithStats(over, connectivity=8)
    regions, strongest = [], 0.0
    for label in range(1, count):
        x, y, w, h, area = (int(v) for v in stats[label])
        if area < thresholds.min_area_px:
            continue
        inside = labels[y : y + h, x : x + w] == label
        strength = strength_of(window[y : y + h, x : x + w][inside], thresholds)
        strongest = max(strongest, strength)
        if strength < thresholds.region_peak:
            continue
        mask[top + y : top + y + h, left + x : left + x + w] |= inside
        regions.append(
            Region(
                box_xywh=(left + x, top + y, w, h),
                area_px=area,
                peak=strength,
                contour_xy=_contour(inside, left + x, top + y),
            )
        )
    return InWindow(regions, strongest)


def _contour(inside: Bool, x: int, y: int) -> tuple[tuple[int, int], ...]:
    """Outer contour in frame pixels, simplified until it has at most ``MAX_CONTOUR_POINTS`` points."""
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y))
    outer = max(contours, key=len)
    tolerance = 0.5
    points = outer
    while len(points) > MAX_CONTOUR_POINTS:
        points = cv2.approxPolyDP(outer, tolerance, closed=True)
        tolerance *= 1.6
    return tuple((int(px), int(py)) for px, py in points[:, 0])
