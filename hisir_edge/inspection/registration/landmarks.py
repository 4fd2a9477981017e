"""Landmarks: features of a golden image by which a board is found anywhere in a frame, to a few pixels.

ORB (Rublee et al. 2011, ICCV), matched by the ratio of the two nearest; a homography by MAGSAC++ (Barath et al. 2020,
CVPR) in OpenCV's USAC. What was compared stands in docs/decisions/0023-boards-anywhere.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from hisir_edge.arrays import F64, U8, Bool, u8
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.registration.pose import is_usable
from hisir_edge.inspection.registration.shrink import grey_shrunk

WORK_SIDE_PX, LEAST_SIDE_PX, EDGE_PX = 640, 160, 8
"""Features are found in a picture shrunk by a whole number to at most so many pixels a side, a strip by less; up to so
close to its edge."""
MOST_FEATURES, LEVEL_RATIO, LEVELS = 1000, 1.2, 6
DESCRIPTOR_BYTES = 32
LEAST_RATIO = 0.8
"""A match counts where the nearest descriptor is so much closer than the second one."""
AGREE_PX = 3.0
"""Matches that agree lie so close to the homography, in pixels of the shrunk picture."""
LEAST_INLIERS = 12
LEAST_INLIER_SHARE = 0.3
"""Of the matches that are turned alike."""
TURN_BINS, TURN_BIN_DEG, ALIKE_DEG = 36, 10.0, 20.0
CONFIDENCE, ROUNDS = 0.999, 2000


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Features of a picture: places (n, 2), x and y, in its pixels, angles (n,), descriptors (n, 32) of 256 bits."""

    points_xy: F64 = field(repr=False)
    angles_deg: F64 = field(repr=False)
    descriptors: U8 = field(repr=False)

    def where(self, chosen: Bool) -> Landmarks:
        """Those chosen (n,) alone."""
        return Landmarks(self.points_xy[chosen], self.angles_deg[chosen], self.descriptors[chosen])


@dataclass(frozen=True, slots=True)
class Matches:
    """Features that look alike: places (m, 2) in the frame and on the golden image, and by how much they are turned."""

    frame_xy: F64 = field(repr=False)
    golden_xy: F64 = field(repr=False)
    turns_deg: F64 = field(repr=False)


@dataclass(frozen=True, slots=True)
class RoughPose:
    """``to_golden`` (3, 3): frame pixels -> golden pixels, to a few pixels; ``matched``: landmarks that agree."""

    to_golden: F64 = field(repr=False)
    matched: int


def work_factor(hw: tuple[int, int]) -> int:
    """By how much a picture is shrunk before features are found."""
    return max(min(-(-max(hw) // WORK_SIDE_PX), min(hw) // LEAST_SIDE_PX), 1)


def landmarks_of(image: Pixels, area: Bool | None = None) -> Landmarks:
    """Features of a picture (h, w), inside ``area`` (h, w) where given."""
    factor = work_factor(image.hw)
    h, w = (side // factor * factor for side in image.hw)
    grey = grey_shrunk(Pixels(image.data[:h, :w], image.pixel_format), factor)
    mask = None
    if area is not None:
        mask = u8(cv2.resize(area[:h, :w].astype(np.uint8), grey.shape[::-1], interpolation=cv2.INTER_NEAREST))
    return _landmarks(grey, factor, mask)


def _landmarks(grey: U8, factor: int, mask: U8 | None) -> Landmarks:
    finder = cv2.ORB_create(MOST_FEATURES, LEVEL_RATIO, LEVELS, EDGE_PX)  # type: ignore[attr-defined]
    found, descriptors = finder.detectAndCompute(grey, mask)
    if not found:
        return Landmarks(np.empty((0, 2)), np.empty(0), np.empty((0, DESCRIPTOR_BYTES), np.uint8))
    points = (np.array([one.pt for one in found], np.float64) + 0.5) * factor - 0.5
    angles = np.array([one.angle for one in found], np.float64)
    return Landmarks(points, angles, u8(descriptors))


def matches_between(frame: Landmarks, golden: Landmarks) -> Matches:
    """Features of the frame that look like one of the golden image, and like no other."""
    if len(frame.points_xy) == 0 or len(golden.points_xy) < 2:
        return Matches(np.empty((0, 2)), np.empty((0, 2)), np.empty(0))
    nearest = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(frame.descriptors, golden.descriptors, 2)
    pairs = [
        (one.queryIdx, one.trainIdx)
        for one, second in (pair for pair in nearest if len(pair) == 2)
        if one.distance < LEAST_RATIO * second.distance
    ]
    ours, theirs = np.array(pairs, np.int64).reshape(-1, 2).T
    turns = frame.angles_deg[ours] - golden.angles_deg[theirs]
    return Matches(frame.points_xy[ours], golden.points_xy[theirs], turns)


def rough_pose(matches: Matches, factor: int) -> RoughPose | None:
    """The homography that most matches agree on, whose features are all turned alike; None where too few do."""
    alike = _turned_alike(matches.turns_deg)
    if alike.sum() < LEAST_INLIERS:
        return None
    cv2.setRNGSeed(0)
    matrix, inliers = cv2.findHomography(
        matches.frame_xy[alike],
        matches.golden_xy[alike],
        cv2.USAC_MAGSAC,
        AGREE_PX * factor,
        maxIters=ROUNDS,
        confidence=CONFIDENCE,
    )
    if matrix is None or int(inliers.sum()) < LEAST_INLIERS or inliers.mean() < LEAST_INLIER_SHARE:
        return None
    found = np.asarray(matrix, np.float64)
    return RoughPose(found, int(inliers.sum())) if is_usable(found) else None


def _turned_alike(turns_deg: F64) -> Bool:
    """The matches (m,) around the turn that most of them show: chance matches are turned by anything."""
    if not len(turns_deg):
        return np.zeros(0, np.bool_)
    bins = np.bincount((turns_deg % 360 / TURN_BIN_DEG).astype(int) % TURN_BINS, minlength=TURN_BINS)
    peak = int((bins + np.roll(bins, 1) + np.roll(bins, -1)).argmax())
    off = (turns_deg - (peak + 0.5) * TURN_BIN_DEG + 180) % 360 - 180
    return np.asarray(np.abs(off) <= ALIKE_DEG, np.bool_)
