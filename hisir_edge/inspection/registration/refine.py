"""Refines a rough pose: small textured patches of the golden image, searched where the pose says they are.

Each patch is compared with the frame's piece turned into golden coordinates (normalised cross-correlation, sub-pixel by
a parabola), a homography is fitted to what agrees, and where neighbours agree on what it leaves, that is the bend.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, I64, U8, Bool, u8
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.registration.pose import Pose
from hisir_edge.inspection.registration.shrink import grey_shrunk, shrunk

PATCH_PX = 32
"""Side of a patch, in pixels of the (shrunk) golden image."""
FINE_SIDE_PX = 2560
"""Golden images up to so many pixels a side are searched at full resolution, larger ones shrunk."""
CELLS = 160
"""The area is divided into about so many cells, each with the patch of its strongest texture."""
LEAST_TEXTURE = 0.15
"""Cells with less than this share of the upper quartile's texture have no patch."""
SEARCHES_PX = (12, 4)
"""How far a patch is searched around where the pose says it is: some of them first, then all."""
FIRST_EACH = 4
LEAST_CORRELATION = 0.6
AGREE_PX, NEAR_PX = 1.5, 3.0
"""How close patches are that the homography is fitted to, and that show the same board: parts are placed by hand."""


@dataclass(frozen=True, slots=True)
class Patches:
    """Patches (n, p, p) uint8 grey of a golden image shrunk by ``factor``, their middles (n, 2) in golden pixels."""

    factor: int
    pictures: U8 = field(repr=False)
    middles_xy: F64 = field(repr=False)


@dataclass(frozen=True, slots=True)
class Seen:
    """Patches that were found, of ``searched`` in the frame: middles on the golden image and in the frame (m, 2)."""

    golden_xy: F64
    frame_xy: F64
    searched: int


def patches_from_golden(golden_rgb: U8, area: Bool, steadiness: F32 | None = None) -> Patches:
    """Patches of a golden image (h, w, 3) inside ``area`` (h, w).

    ``steadiness`` (h, w), 0 to 1: how alike good boards are there; patches lie where it is high.
    """
    factor = max(-(-max(area.shape) // FINE_SIDE_PX), 1)
    rows, columns = (side // factor * factor for side in area.shape)  # whole cells alone: a pixel is a cell
    golden_rgb, area = np.ascontiguousarray(golden_rgb[:rows, :columns]), area[:rows, :columns]
    grey = shrunk(u8(cv2.cvtColor(golden_rgb, cv2.COLOR_RGB2GRAY)), factor)
    h, w = grey.shape
    inside = u8(cv2.resize(area.astype(np.uint8), (w, h), interpolation=cv2.INTER_NEAREST))
    texture = _texture(grey, inside)
    if steadiness is not None:
        texture *= cv2.resize(steadiness[:rows, :columns], (w, h), interpolation=cv2.INTER_AREA)
    corners = _strongest(texture, inside)
    pictures = np.stack([grey[y : y + PATCH_PX, x : x + PATCH_PX] for x, y in corners]) if len(corners) else _NONE
    middles = (corners + PATCH_PX / 2) * factor - 0.5
    return Patches(factor, u8(pictures), np.asarray(middles, np.float64).reshape(-1, 2))


_NONE = np.empty((0, PATCH_PX, PATCH_PX), np.uint8)


def _texture(grey: U8, inside: U8) -> F32:
    """Texture in both directions of the patch that begins at each pixel; 0 where one leaves the area."""
    strength = cv2.cornerMinEigenVal(cv2.GaussianBlur(grey, (0, 0), 1.0), 3)
    box: Any = {"anchor": (0, 0), "borderType": cv2.BORDER_CONSTANT}
    summed = cv2.boxFilter(np.sqrt(np.maximum(strength, 0)), -1, (PATCH_PX, PATCH_PX), **box)
    covered = cv2.boxFilter(inside, cv2.CV_32F, (PATCH_PX, PATCH_PX), normalize=True, **box)
    return np.asarray(np.where(covered > 0.999, summed, 0), np.float32)


def _strongest(texture: F32, inside: U8) -> I64:
    """Upper left corners (n, 2), x and y: of each cell over the area the strongest, where there is texture at all."""
    ys, xs = np.nonzero(inside)
    if not len(ys):
        return np.empty((0, 2), np.int64)
    cell = max(int(np.sqrt(len(ys) / CELLS)), PATCH_PX // 2)
    found, strength = [], []
    for y, x in itertools.product(
        range(int(ys.min()), int(ys.max()) + 1, cell), range(int(xs.min()), int(xs.max()) + 1, cell)
    ):
        piece = texture[y : y + cell, x : x + cell]
        dy, dx = np.unravel_index(int(piece.argmax()), piece.shape)
        found.append((x + int(dx), y + int(dy)))
        strength.append(float(piece[dy, dx]))
    least = max(LEAST_TEXTURE * float(np.quantile(strength, 0.75)), 1e-9)
    return np.array(found, np.int64).reshape(-1, 2)[np.array(strength) >= least]


def fine_grey(image: Pixels, factor: int) -> U8:
    """A frame as ``searched`` takes it: grey, shrunk by the patches' factor."""
    h, w = (side // factor * factor for side in image.hw)
    return grey_shrunk(Pixels(image.data[:h, :w], image.pixel_format), factor)


def searched(patches: Patches, grey: U8, pose: Pose, search_px: int, each: int = 1) -> Seen:
    """Look for every ``each``-th patch in a frame, within ``search_px`` (shrunk) pixels of where a pose says it is.

    ``grey`` (h, w): see ``fine_grey``. Patches whose window leaves the frame are not looked for.
    """
    f, side = patches.factor, PATCH_PX + 2 * search_px
    middles, pictures = patches.middles_xy[::each], patches.pictures[::each]
    at = pose.to_frame(middles)
    right, down = pose.to_frame(middles + (f, 0)) - at, pose.to_frame(middles + (0, f)) - at
    # window pixels -> frame pixels, one (2, 3) a patch
    matrices = np.stack([right, down, at - (side - 1) / 2 * (right + down)], 2)
    inside = _inside(matrices, side, f, (grey.shape[0] * f, grey.shape[1] * f))
    windows = _windows(grey, matrices[inside], side, f)
    found = [
        _peak(np.asarray(cv2.matchTemplate(window, picture, cv2.TM_CCOEFF_NORMED), np.float32))
        for window, picture in zip(windows, pictures[inside], strict=True)
    ]
    seen = np.array([one is not None for one in found], np.bool_)
    peaks = np.array([one for one in found if one is not None], np.float64).reshape(-1, 2) + (PATCH_PX - 1) / 2
    steps = matrices[inside][seen]
    return Seen(middles[inside][seen], (steps[..., :2] @ peaks[..., None])[..., 0] + steps[..., 2], int(inside.sum()))


def _inside(matrices: F64, side: int, factor: int, hw: tuple[int, int]) -> Bool:
    """Which windows (n,) lie in a frame (h, w), with some room."""
    ends = np.array([[0, side - 1, 0, side - 1], [0, 0, side - 1, side - 1], [1, 1, 1, 1]])
    corners = matrices @ ends
    with np.errstate(invalid="ignore"):
        low, high = np.floor(corners.min(2)) - factor, np.ceil(corners.max(2)) + factor + 1
        return np.asarray((low >= 0).all(1) & (high <= (hw[1], hw[0])).all(1) & np.isfinite(corners).all((1, 2)))


def _windows(grey: U8, matrices: F64, side: int, factor: int) -> U8:
    """Squares (n, side, side) of a frame shrunk by ``factor``, in golden coordinates."""
    if not len(matrices):
        return np.empty((0, side, side), np.uint8)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    to_grey = matrices.copy()
    to_grey[..., 2] += 0.5 - 0.5 * factor
    m = np.asarray(to_grey / factor, np.float32)[:, :, :, None, None]
    where = [(m[:, i, 0] * x + m[:, i, 1] * y + m[:, i, 2]).reshape(-1, side) for i in (0, 1)]
    out = cv2.remap(grey, where[0], where[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return u8(out).reshape(-1, side, side)


def _peak(score: F32) -> tuple[float, float] | None:
    """Where the correlation is highest, to a part of a pixel; None where it is low, or highest at the edge."""
    _, best, _, (x, y) = cv2.minMaxLoc(score)
    if best < LEAST_CORRELATION or not (0 < x < score.shape[1] - 1 and 0 < y < score.shape[0] - 1):
        return None
    return x + _vertex(score[y, x - 1], best, score[y, x + 1]), y + _vertex(score[y - 1, x], best, score[y + 1, x])


def _vertex(before: float, at: float, after: float) -> float:
    """Where a parabola through three correlations is highest."""
    bend = before - 2 * at + after
    return 0.0 if bend >= -1e-9 else float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5))
