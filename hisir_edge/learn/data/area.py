"""The board's area: where good boards agree once they are registered. What lies off it is neither learnt nor inspected.

The mat, the conveyor and the fixture do not move with the board, so their texture does not agree; the board's does, and
its outline as well. Plain parts of the board lie inside of what agrees. Parts that stand free, such as bent LEDs, agree
too little: GrabCut (Rother et al. 2004, ACM Transactions on Graphics 23; OpenCV's) tells them from the mat and its
shadows by colour.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, U8, Bool, u8
from hisir_edge.errors import InputError
from hisir_edge.inspection.registration.shrink import shrunk

SIDE_PX = 1024
"""Pictures are compared shrunk by a whole number to at most so many pixels a side."""
WINDOW_PX = 9
LEAST_STRUCTURE_LEVELS, LEAST_AGREEMENT = 5.0, 0.65
SPECK_PX, SMALL_SHARE = 30, 0.02
FIRST_GAP_SHARE, MOST_GAP_SHARE = 0.02, 0.16
"""Gaps in what agrees are closed up to a share of its diagonal, more only until it is of one piece."""
MARGIN_PX = 1
NEAR_SHARE, FAR_SHARE, EDGE_SHARE = 0.25, 0.2, 0.015
"""Shares of the diagonal: free parts lie nearer than the first, the mat is learnt farther than the second, and the
board is learnt farther inside than the third."""
COLOURS = 20000
SHADES = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.92, 0.8, 0.66, 0.5, 0.35)
"""The mat is learnt as it is, and in so many parts as it looks in the shade."""
SEED = 25
MOST_LEFT_OUT, CUT_SHARE = 0.2, 0.05
"""Of what agrees the area may leave out so much; a frame that shows less of the area than all but so much cuts it."""
CABLE_SHARE, MOST_CABLE_SHARE = 0.12, 0.12
"""A cable is thinner than so much of the area's diagonal, and so little of the area."""
WHOLE_SHARE = 0.75
"""An area that covers so much of the frame is all of it."""
MOST_CORNERS, MOST_DRAWN, LEAST_DRAWN_SHARE = 200, 256, 0.005

Polygon = tuple[tuple[float, float], ...]


def area_from_json(path: Path) -> Polygon:
    """A person's polygon: a JSON list of three or more pairs x, y; InputError otherwise."""
    try:
        raw = json.loads(path.read_bytes())
        corners = tuple((float(x), float(y)) for x, y in raw)
        if not 3 <= len(corners) <= MOST_DRAWN or not np.isfinite(corners).all():
            raise ValueError(f"{len(corners)} corners")
    except (OSError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise InputError(
            expected=f"a JSON list of 3 to {MOST_DRAWN} corners [x, y] around the board",
            received=f"{path}: {error}",
            fix="write [[x, y], [x, y], [x, y], ...] in pixels of golden.png in the training run",
        ) from error
    return corners


def check_area(area: Polygon | None, frame_hw: tuple[int, int]) -> None:
    """InputError for a person's polygon that leaves the frame or covers next to nothing of it."""
    if area is None:
        return
    h, w = frame_hw
    corners = np.array(area, np.float64)
    inside = (corners >= -1).all() and (corners <= (w, h)).all()
    covered = float(cv2.contourArea(np.round(corners).astype(np.float32))) if inside else 0.0
    if covered < LEAST_DRAWN_SHARE * w * h:
        raise InputError(
            expected=f"a polygon around the board within the frame of {w}x{h}",
            received="corners outside of it" if not inside else f"one that covers {covered:.0f} px",
            fix="draw it on golden.png of the training run: [[x, y], ...] around the board, in order",
        )


def area_picture(golden: U8, area: Polygon | None) -> U8:
    """The golden image (h, w, 3) with what lies off the board darkened and its area outlined."""
    if area is None:
        return golden
    board = np.zeros(golden.shape[:2], np.uint8)
    corners = [np.round(np.array(area)).astype(np.int32)]
    cv2.fillPoly(board, corners, 1)
    out = np.where(board[..., None] > 0, golden, golden // 2).astype(np.uint8)
    cv2.polylines(out, corners, True, (255, 0, 0), max(round(max(board.shape) / 1000), 1))
    return u8(out)


def board_area(golden: U8, frames: Sequence[U8], shown: Sequence[Bool] = (), most_cut: int = 0) -> Polygon | None:
    """Polygon around the board in pixels of a golden image (h, w, 3), from straightened frames like it.

    None where it is all of the frame, or where nothing agrees. ``shown``: what each frame shows of the golden image,
    (h, w) each; the area ends where one does not, for the line refuses boards that leave the frame. Up to ``most_cut``
    frames that show clearly less of the board than the others do not count: the line will refuse their like. Without
    ``frames`` the area is all that is shown.
    """
    factor = max(-(-max(golden.shape[:2]) // SIDE_PX), 1)
    h, w = (side // factor for side in golden.shape[:2])
    area = _agreeing(golden, frames, factor) if frames else np.ones((h, w), np.bool_)
    small = [one[factor // 2 :: factor, factor // 2 :: factor][:h, :w] for one in shown]
    cut = [float((area & ~one).sum()) > CUT_SHARE * area.sum() for one in small]
    if sum(cut) <= most_cut:
        small = [one for one, is_cut in zip(small, cut, strict=True) if not is_cut]
    seen = np.all([area, *small], axis=0)
    area = _largest(seen) if seen.any() else area
    return None if area.all() else _polygon(area, factor)


def _agreeing(golden: U8, frames: Sequence[U8], factor: int) -> Bool:
    """Where registered boards agree, of one piece, in a picture shrunk by ``factor``; everywhere if they do nowhere."""
    model = _small_grey(golden, factor)
    agreement = np.median([_agreement(model, _small_grey(frame, factor)) for frame in frames], axis=0)
    sure = (_structure(model) >= LEAST_STRUCTURE_LEVELS) & (agreement >= LEAST_AGREEMENT)
    h, w = model.shape
    whole: Bool = np.ones((h, w), np.bool_)
    seeds = _without_specks(sure)
    agreed = _in_one_piece(seeds)
    if agreed is None or agreed.mean() >= WHOLE_SHARE:
        return whole
    small = u8(cv2.resize(golden[: h * factor, : w * factor], (w, h), interpolation=cv2.INTER_AREA))
    area = _with_free_parts(small, agreed)
    if (area & (seeds > 0)).sum() < (1 - MOST_LEFT_OUT) * seeds.sum():  # what agrees lies in pieces far apart
        area = _hull(seeds)
    area = _without_cables(area)
    return whole if area.mean() >= WHOLE_SHARE else area


def _without_cables(area: Bool) -> Bool:
    """The area (h, w) without what is thin and leads out of the picture, where that is little of it.

    A board that is found anywhere lies whole in the picture; of what leaves it no other frame shows the same.
    """
    ys, xs = np.nonzero(area)
    reach = max(round(CABLE_SHARE / 2 * float(np.hypot(np.ptp(ys), np.ptp(xs)))), 1)
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    thick = cv2.morphologyEx(area.astype(np.uint8), cv2.MORPH_OPEN, brush, borderValue=0)
    near = cv2.dilate(thick, np.ones((3, 3), np.uint8), iterations=2 + reach // 2) > 0
    _, labels = cv2.connectedComponents((area & ~near).astype(np.uint8), connectivity=8)
    edge = np.concatenate([labels[:2].ravel(), labels[-2:].ravel(), labels[:, :2].ravel(), labels[:, -2:].ravel()])
    leaving = np.isin(labels, np.setdiff1d(edge, 0))
    few = thick.any() and leaving.sum() <= MOST_CABLE_SHARE * area.sum()
    return _largest(area & ~leaving) if few else area


def _with_free_parts(rgb: U8, agreed: Bool) -> Bool:
    """The area (h, w) that is of the board's colours rather than the mat's, around what agrees."""
    ys, xs = np.nonzero(agreed)
    diagonal = float(np.hypot(np.ptp(ys), np.ptp(xs)))
    off = cv2.distanceTransform((~agreed).astype(np.uint8), cv2.DIST_L2, 5)
    inside = cv2.distanceTransform(agreed.astype(np.uint8), cv2.DIST_L2, 5)
    board, mat = rgb[inside > EDGE_SHARE * diagonal], rgb[off > FAR_SHARE * diagonal]
    if min(len(board), len(mat)) < COLOURS // 10:  # next to no mat to be seen
        return agreed
    known = np.full(agreed.shape, cv2.GC_BGD, np.uint8)
    known[off < NEAR_SHARE * diagonal] = cv2.GC_PR_BGD
    known[agreed] = cv2.GC_PR_FGD
    known[inside > 2 * EDGE_SHARE * diagonal] = cv2.GC_FGD
    models = _colour_models(board, mat)
    cv2.grabCut(rgb, known, None, *models, 1, cv2.GC_EVAL_FREEZE_MODEL)  # type: ignore[call-overload]
    return _closed(u8(np.isin(known, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)), 1)[0]


def _colour_models(board: U8, mat: U8) -> tuple[F64, F64]:
    """GrabCut's colour models of the mat and of the board, from pixels (n, 3) of each."""
    rng = np.random.default_rng(SEED)
    board, mat = (pixels[rng.permutation(len(pixels))[:COLOURS]] for pixels in (board, mat))
    shaded = np.concatenate([np.clip(mat * shade, 0, 255).astype(np.uint8) for shade in SHADES])
    pixels = np.concatenate([board, shaded])
    known = np.concatenate([np.full(len(board), cv2.GC_FGD, np.uint8), np.full(len(shaded), cv2.GC_BGD, np.uint8)])
    of_mat, of_board = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(SEED)
    cv2.grabCut(pixels[None], known[None], None, of_mat, of_board, 1, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    return of_mat, of_board


def _small_grey(rgb: U8, factor: int) -> U8:
    return shrunk(u8(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)), factor)


def _mean(values: F32) -> F32:
    return np.asarray(cv2.blur(values, (WINDOW_PX, WINDOW_PX)), np.float32)


def _structure(grey: U8) -> F32:
    """Standard deviation around each pixel, levels."""
    values = grey.astype(np.float32)
    return np.asarray(np.sqrt(np.maximum(_mean(values * values) - _mean(values) ** 2, 0)), np.float32)


def _agreement(a: U8, b: U8) -> F32:
    """Correlation of two pictures around each pixel, -1 to 1; 0 where one is plain."""
    x, y = a.astype(np.float32), b.astype(np.float32)
    mean_x, mean_y = _mean(x), _mean(y)
    common = _mean(x * y) - mean_x * mean_y
    spread = (_mean(x * x) - mean_x**2) * (_mean(y * y) - mean_y**2)
    return np.asarray(common / np.sqrt(np.maximum(spread, 1.0)), np.float32)


def _without_specks(mask: Bool) -> U8:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= SPECK_PX
    large[0] = False
    return u8(large[labels].astype(np.uint8))


def _in_one_piece(seeds: U8) -> Bool | None:
    """The largest piece with gaps and holes closed, and whatever else is not small; None where nothing agrees."""
    ys, xs = np.nonzero(seeds)
    if not len(ys):
        return None
    (left, right), (top, bottom) = np.quantile(xs, [0.01, 0.99]), np.quantile(ys, [0.01, 0.99])
    diagonal = float(np.hypot(right - left, bottom - top))
    share = FIRST_GAP_SHARE
    while True:
        area, pieces = _closed(seeds, max(round(diagonal * share), 1))
        if pieces == 1 or share >= MOST_GAP_SHARE:
            return area
        share *= 1.4


def _closed(seeds: U8, reach_px: int) -> tuple[Bool, int]:
    """(Largest piece of ``seeds`` closed over gaps of twice ``reach_px``, how many pieces of some size there are)."""
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach_px + 1, 2 * reach_px + 1))
    room = 2 * reach_px + 2
    padded = cv2.copyMakeBorder(seeds, room, room, room, room, cv2.BORDER_CONSTANT, value=0)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, brush)[room:-room, room:-room]
    outlines, _ = cv2.findContours(np.ascontiguousarray(closed), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    sizes = [cv2.contourArea(outline) for outline in outlines]
    largest = max(sizes)
    filled = np.zeros_like(seeds)
    cv2.drawContours(filled, [outlines[int(np.argmax(sizes))]], -1, 1, cv2.FILLED)
    margin = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * MARGIN_PX + 1, 2 * MARGIN_PX + 1))
    return cv2.dilate(filled, margin) > 0, sum(size >= SMALL_SHARE * largest for size in sizes)


def _hull(seeds: U8) -> Bool:
    """Everything between the seeds (h, w)."""
    corners = cv2.convexHull(cv2.findNonZero(seeds))
    filled = np.zeros_like(seeds)
    cv2.fillConvexPoly(filled, corners, 1)
    return filled > 0


def _largest(area: Bool) -> Bool:
    """The largest piece (h, w)."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(area.astype(np.uint8), connectivity=8)
    return np.asarray(labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())) if count > 1 else area


def _polygon(area: Bool, factor: int) -> Polygon:
    outlines, _ = cv2.findContours(area.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline, near = max(outlines, key=cv2.contourArea), 0.75
    while len(corners := cv2.approxPolyDP(outline, near, True)) > MOST_CORNERS:
        near *= 1.5
    return tuple(((x + 0.5) * factor - 0.5, (y + 0.5) * factor - 0.5) for x, y in corners[:, 0].tolist())
