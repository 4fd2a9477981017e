"""What patches say of a board's pose: a homography of most of them, and the bend that neighbours agree on beyond it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, Bool
from hisir_edge.inspection.registration.pose import BEND_PX, Pose, bend_at, bend_shape, is_usable

MOST_BEND_PX = 3.0
DEGREE = 3
"""Of the polynomial in x and y: the warp of a board is smooth, and one part that lies otherwise must not bend it."""
LEAST_PATCHES = 40
MORE_NUMBERS = 2
"""A homography has so many more than an affine matrix."""
BLOCKS = 6
"""A bend is believed if it predicts the patches of each of 6 by 6 blocks from those of the others."""
LEAST_GAIN, LEAST_GAIN_PX = 0.15, 0.1
"""By how much the median residual must shrink in that, as a share and in pixels."""
RIDGE, TOLERANCE_PX, ROUNDS = 1.0, 0.7, 5


def homography_of(golden_xy: F64, frame_xy: F64, agree_px: float) -> tuple[F64, Bool] | None:
    """Matrix (3, 3), frame pixels -> golden pixels, and which of the pairs (m, 2) agree; None without one.

    An affine one unless perspective explains more than its two numbers would of noise (information criterion, Akaike
    1974, IEEE Transactions on Automatic Control 19): the GPU's kernels take affine ones, and they warp quicker.
    """
    if len(golden_xy) < 4:
        return None
    cv2.setRNGSeed(0)
    matrix, inliers = cv2.findHomography(
        frame_xy, golden_xy, cv2.USAC_MAGSAC, agree_px, maxIters=2000, confidence=0.999
    )
    if matrix is None or not is_usable(np.asarray(matrix, np.float64)):
        return None
    keep = inliers.ravel().astype(bool)
    if keep.sum() >= 8:  # MAGSAC weighs by its own measure: least squares over those that agree is steadier
        refined, _ = cv2.findHomography(frame_xy[keep], golden_xy[keep], 0)
        matrix = _simplest(frame_xy[keep], golden_xy[keep], matrix if refined is None else refined)
    found = np.asarray(matrix, np.float64)
    return (found, np.asarray(keep)) if is_usable(found) else None


def _simplest(frame_xy: F64, golden_xy: F64, homography: Any) -> F64:
    """The homography, or the affine matrix (3, 3) fitted to the same pairs where that is as good."""
    ones = np.column_stack([frame_xy, np.ones(len(frame_xy))])
    fitted, *_ = np.linalg.lstsq(ones, golden_xy, rcond=None)
    affine = np.vstack([fitted.T, (0.0, 0.0, 1.0)])
    count = golden_xy.size
    left = [float(((Pose(one).to_golden(frame_xy) - golden_xy) ** 2).sum()) for one in (affine, np.asarray(homography))]
    better = count * np.log(max(left[0], 1e-9) / max(left[1], 1e-9)) > 2 * MORE_NUMBERS
    return np.asarray(homography if better else affine, np.float64)


def bend_of(matrix: F64, golden_xy: F64, frame_xy: F64, golden_hw: tuple[int, int]) -> F32 | None:
    """The bend (see ``Pose``) that patches show beyond a homography; None where it would explain next to nothing."""
    off = Pose(matrix).to_golden(frame_xy) - golden_xy
    usable = np.abs(off).max(1) <= MOST_BEND_PX
    golden, off = golden_xy[usable], off[usable]
    if len(golden) < LEAST_PATCHES:
        return None
    ends = golden.min(0), golden.max(0)
    terms = _terms(golden, ends)
    fitted = _fitted(terms, off)
    before, at_best = (float(np.median(np.linalg.norm(rest, axis=1))) for rest in (off, off - terms @ fitted))
    gain = max(LEAST_GAIN * before, LEAST_GAIN_PX)
    if before - at_best < gain or before - _predicted_residual(golden, terms, off, ends) < gain:
        return None
    rows, columns = bend_shape(golden_hw)
    y, x = np.mgrid[:rows, :columns]
    cells = (np.stack([x, y], -1).reshape(-1, 2) + 0.5) * BEND_PX - 0.5
    bend = _terms(cells, ends) @ fitted
    grid = np.asarray(np.clip(bend, -MOST_BEND_PX, MOST_BEND_PX).reshape(rows, columns, 2), np.float32)
    # cells are coarse against a small board: what is stored must be as good as what was fitted
    stored = float(np.median(np.linalg.norm(off - bend_at(grid, golden), axis=1)))
    return grid if before - stored >= gain else None


def _predicted_residual(golden_xy: F64, terms: F64, off: F64, ends: tuple[F64, F64]) -> float:
    """Median distance between what patches are off and what the other blocks' patches say of them."""
    low, high = ends
    block = np.minimum((golden_xy - low) / np.maximum(high - low, 1) * BLOCKS, BLOCKS - 1).astype(int)
    number = block[:, 0] * BLOCKS + block[:, 1]
    left = np.empty(len(off))
    for one in np.unique(number):
        inside = number == one
        left[inside] = np.linalg.norm(off[inside] - terms[inside] @ _fitted(terms[~inside], off[~inside]), axis=1)
    return float(np.median(left))


def _terms(golden_xy: F64, ends: tuple[F64, F64]) -> F64:
    """Powers of x and y up to ``DEGREE``, both scaled to -1..1 between the ends and held there beyond, (n, terms)."""
    low, high = ends
    x, y = np.clip(2 * (golden_xy - low) / np.maximum(high - low, 1) - 1, -1, 1).T
    powers = [(i, total - i) for total in range(DEGREE + 1) for i in range(total + 1)]
    return np.stack([x**i * y**j for i, j in powers], 1)


def _fitted(terms: F64, off: F64) -> F64:
    """Coefficients (terms, 2) by iteratively reweighted least squares with Cauchy weights and a little ridge."""
    weight = np.ones(len(off))
    for _ in range(ROUNDS):
        weighted = terms * weight[:, None]
        found = np.linalg.solve(weighted.T @ terms + RIDGE * np.eye(terms.shape[1]), weighted.T @ off)
        weight = 1 / (1 + ((off - terms @ found) ** 2).sum(1) / TOLERANCE_PX**2)
    return np.asarray(found, np.float64)
