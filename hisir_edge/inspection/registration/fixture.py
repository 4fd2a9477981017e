"""Registration of boards that a fixture holds nearly in place, by matching anchors of the golden image.

Anchors are textured patches spread over the golden image. Each is searched by normalised
cross-correlation (OpenCV ``matchTemplate``), first coarsely, then finely with a sub-pixel peak; a
robust similarity fit (``estimateAffinePartial2D``, RANSAC) turns the matches into one matrix and
shrugs off anchors that sit on a defect.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np

from hisir_edge.arrays import F64, I64, U8
from hisir_edge.errors import InspectionError
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.registration.pose import Registration, pose_from_affine
from hisir_edge.inspection.registration.shrink import grey_shrunk, shrunk

GRID_XY, STRIP_GRID = (7, 5), (17, 2)
STRIP_RATIO = 4
"""Frames longer than so many times their short side are strips (LED boards, line scans): anchors lie along them."""
LEAST_SIDE_PX, LEAST_PATCH_PX, MOST_PATCH_PX = 128, 16, 64
SEARCH_TURN_DEG = 1.2
SEARCH_SHIFT_PX = 12
MAX_RESIDUAL_PX = 2.0
MIN_INLIER_SHARE = 0.5
MIN_CORRELATION = 0.5
MAX_SCALE_ERROR = 0.02


@dataclass(frozen=True, slots=True)
class AnchorLevel:
    """Anchor patches of one resolution: grey patches (n, p, p) and their corners in level pixels."""

    factor: int
    patch_px: int
    search_px: int
    patches: U8
    corners_xy: I64


@dataclass(frozen=True, slots=True)
class Anchors:
    """Anchors of a golden image of size (h, w), to register frames by."""

    frame_hw: tuple[int, int]
    levels: tuple[AnchorLevel, ...]


def _factors(frame_hw: tuple[int, int]) -> tuple[int, ...]:
    """Factors by which the frame is shrunk, coarse first; the board's short side decides."""
    shortest = min(frame_hw)
    longest = min(max(frame_hw), STRIP_RATIO * shortest)
    fine = 1 if longest <= 1536 else 2 if longest <= 5120 else 4
    if max(frame_hw) < 512:
        return (fine,)
    coarse = fine * 4
    # a strip cannot turn by more than its short side has room for
    wanted = min(_reach_px(frame_hw), shortest / 4)
    while coarse > fine and _most_search_px(shortest // coarse) * coarse < wanted:
        coarse //= 2
    return (coarse, fine) if coarse > fine else (fine,)


def _patch_px(shortest: int) -> int:
    return int(np.clip(shortest // 8, LEAST_PATCH_PX, MOST_PATCH_PX))


def _most_search_px(shortest: int) -> int:
    """Largest search radius of an anchor in a picture with this short side, px."""
    return (shortest - _patch_px(shortest)) // 2 - 2


def _reach_px(frame_hw: tuple[int, int]) -> float:
    half_diagonal = 0.5 * float(np.hypot(*frame_hw))
    return SEARCH_SHIFT_PX + half_diagonal * float(np.deg2rad(SEARCH_TURN_DEG))


def _strongest_corners(grey: U8, patch: int, margin: int) -> I64:
    """One patch per grid cell, where the texture is strongest in both directions."""
    strength = cv2.cornerMinEigenVal(cv2.GaussianBlur(grey, (0, 0), 1.0), 3)
    strength = cv2.boxFilter(
        np.sqrt(np.maximum(strength, 0)), -1, (patch, patch), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT
    )
    h, w = grey.shape
    columns, rows = GRID_XY
    if max(h, w) > STRIP_RATIO * min(h, w):
        columns, rows = STRIP_GRID if w > h else STRIP_GRID[::-1]
    xs = np.linspace(margin, w - patch - margin, columns + 1).astype(int)
    ys = np.linspace(margin, h - patch - margin, rows + 1).astype(int)
    found = []
    for y0, y1 in itertools.pairwise(ys):
        for x0, x1 in itertools.pairwise(xs):
            cell = strength[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
            dy, dx = np.unravel_index(int(cell.argmax()), cell.shape)
            found.append((x0 + int(dx), y0 + int(dy)))
    return np.array(found, np.int64)


def anchors_from_golden(golden_rgb: U8) -> Anchors:
    """Pick the anchors of a golden image, RGB uint8 (h, w, 3), at least 128 px on each side."""
    grey = cv2.cvtColor(golden_rgb, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    frame_hw = (grey.shape[0], grey.shape[1])
    if min(frame_hw) < LEAST_SIDE_PX:
        raise InspectionError(
            expected=f"a golden image of {LEAST_SIDE_PX} px or more",
            received=f"{frame_hw}",
            fix="train on larger frames",
        )
    levels = []
    factors = _factors(frame_hw)
    for i, factor in enumerate(factors):
        small = shrunk(grey, factor)
        first = i == 0
        search = int(np.ceil(_reach_px(frame_hw) / factor)) + 2 if first else 6
        patch = _patch_px(min(small.shape))
        search = min(search, _most_search_px(min(small.shape)))
        margin = min(search, (min(small.shape) - patch) // 2 - 1)
        corners = _strongest_corners(small, patch, margin)
        patches = np.stack([small[y : y + patch, x : x + patch] for x, y in corners])
        levels.append(AnchorLevel(factor, patch, search, patches, corners))
    return Anchors(frame_hw, tuple(levels))


def _peak_offset(before: float, at: float, after: float) -> float:
    """Sub-pixel peak of a parabola through three correlations."""
    bend = before - 2 * at + after
    return 0.0 if bend >= -1e-9 else float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5))


def _match(level: AnchorLevel, small: U8, guess: F64) -> tuple[F64, F64]:
    """Anchor positions in golden and frame pixels of this level, those with a clear match only."""
    h, w = small.shape
    reach, patch = level.search_px, level.patch_px
    half = (patch - 1) / 2
    golden, seen = [], []
    for picture, (x, y) in zip(level.patches, level.corners_xy, strict=True):
        # a patch on a turned board still matches at its centre, not at its corner
        cx, cy = guess @ (x + half, y + half, 1.0)
        x0, y0 = max(round(cx - half) - reach, 0), max(round(cy - half) - reach, 0)
        x1, y1 = round(cx - half) + reach + patch, round(cy - half) + reach + patch
        window = small[y0 : min(y1, h), x0 : min(x1, w)]
        if window.shape[0] < patch + 2 or window.shape[1] < patch + 2:
            continue
        score = cv2.matchTemplate(window, picture, cv2.TM_CCOEFF_NORMED)
        _, best, _, (px, py) = cv2.minMaxLoc(score)
        inside = 0 < px < score.shape[1] - 1 and 0 < py < score.shape[0] - 1
        if best < MIN_CORRELATION or not inside:
            continue
        dx = _peak_offset(score[py, px - 1], score[py, px], score[py, px + 1])
        dy = _peak_offset(score[py - 1, px], score[py, px], score[py + 1, px])
        golden.append((x + half, y + half))
        seen.append((x0 + px + dx + half, y0 + py + dy + half))
    return np.array(golden, np.float64).reshape(-1, 2), np.array(seen, np.float64).reshape(-1, 2)


def _fail(received: str) -> InspectionError:
    return InspectionError(
        expected="the board where the golden image shows it",
        received=received,
        fix="check the fixture and that the right product is loaded",
    )


def _to_factor(matrix: F64, old: int, new: int) -> F64:
    scaled: F64 = matrix.copy()
    scaled[:, 2] *= old / new
    return scaled


def register_frame(anchors: Anchors, frame: U8 | Pixels) -> Registration:
    """Find the board in a frame of the golden image's size, RGB or as its camera gave it.

    InspectionError when it is not there.
    """
    image = frame if isinstance(frame, Pixels) else Pixels(frame)
    if image.hw != anchors.frame_hw:
        raise _fail(f"a frame of {image.hw}, golden {anchors.frame_hw}")
    guess = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    share, residual, factor = 0.0, 0.0, anchors.levels[0].factor
    small: dict[int, U8] = {}
    for level in sorted(anchors.levels, key=lambda one: one.factor):
        finer = max(small, default=None)
        small[level.factor] = (
            grey_shrunk(image, level.factor) if finer is None else shrunk(small[finer], level.factor // finer)
        )
    for level in anchors.levels:
        guess = _to_factor(guess, factor, level.factor)
        factor = level.factor
        golden, seen = _match(level, small[factor], guess)
        if len(golden) < max(4, MIN_INLIER_SHARE * len(level.patches)):
            raise _fail(f"{len(golden)} of {len(level.patches)} anchors found")
        fit, inliers = cv2.estimateAffinePartial2D(golden, seen, method=cv2.RANSAC, ransacReprojThreshold=1.5)
        if fit is None:
            raise _fail("anchors that contradict each other")
        keep = inliers.ravel().astype(bool)
        share = float(keep.sum()) / len(level.patches)
        error = golden[keep] @ fit[:, :2].T + fit[:, 2] - seen[keep]
        residual = float(np.sqrt((error**2).sum(1).mean())) * factor
        guess = fit
    scale = float(np.hypot(guess[0, 0], guess[1, 0]))
    if share < MIN_INLIER_SHARE or residual > MAX_RESIDUAL_PX * max(1, factor // 2) or abs(scale - 1) > MAX_SCALE_ERROR:
        raise _fail(f"{share:.0%} of the anchors within {residual:.1f} px, scale {scale:.3f}")
    golden_to_frame = _centred_to_pixels(guess, factor)
    pose = pose_from_affine(np.asarray(cv2.invertAffineTransform(golden_to_frame), np.float64))
    return Registration(pose=pose, residual_px=residual, inliers=int(keep.sum()), inlier_share=share)


def _centred_to_pixels(matrix: F64, factor: int) -> F64:
    """A matrix found on a picture shrunk by ``factor`` as one for full pixels (pixel centres at .5)."""
    half = (factor - 1) / 2
    out: F64 = matrix.copy()
    out[:, 2] = matrix[:, 2] * factor + half - matrix[:, :2] @ (half, half)
    return out
