"""What reviewed boards give to learn from: places that are good, and real defects laid over good boards."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from hisir_edge.arrays import F64, U8, u8
from hisir_edge.corruption.corrupt import Corruption, visible_change
from hisir_edge.learn.data.memory import GoodBoards, rows_of_board
from hisir_edge.learn.review.boards import ReviewedPlace

SHARE = 0.4
"""Of the tiles that show such a place, where there is any."""
SHIFT_PX = 2
AROUND_PX = 3
BESIDE_PX = 12
FEATHER_PX = 3
RELIT = 0.03


@dataclass(frozen=True, slots=True)
class Patch:
    """A real defect cut out of its board, in golden pixels: ``picture`` (h, w, 3), ``inside`` (h, w) of 0/1."""

    y: int
    x: int
    picture: U8 = field(repr=False)
    inside: U8 = field(repr=False)


@dataclass(frozen=True, slots=True)
class Focus:
    """A tile that is to be made: around y, x in golden pixels, of this board (None: any), with this defect on it."""

    y: float
    x: float
    board: int | None = None
    patch: Patch | None = None


@dataclass(frozen=True, slots=True)
class ReviewedTiles:
    """Places to look at more often. ``good``: (number of the board, y, x); ``patches``: of confirmed defects."""

    good: tuple[tuple[int, float, float], ...]
    patches: tuple[Patch, ...]

    def draw(self, rng: np.random.Generator) -> Focus:
        """One of them: as often a good place as a defect, where there are both."""
        defect = bool(self.patches) and (not self.good or rng.random() < 0.5)
        if defect:
            patch = self.patches[int(rng.integers(len(self.patches)))]
            h, w = patch.inside.shape
            return Focus(patch.y + h * float(rng.random()), patch.x + w * float(rng.random()), patch=patch)
        board, y, x = self.good[int(rng.integers(len(self.good)))]
        return Focus(y, x, board=board)


def golden_polygon(boards: GoodBoards, number: int, place: ReviewedPlace, scale: float) -> F64:
    """Corners (n, 2) of a place of a board in golden, scaled pixels."""
    scaled = (np.array(place.polygon, np.float64) + 0.5) * scale - 0.5
    return np.asarray(boards.poses[number].to_golden(scaled), np.float64)


def patch_of(boards: GoodBoards, number: int, polygons: list[F64]) -> Patch | None:
    """The defects inside polygons in golden pixels, as registration lays them; None: off the golden image."""
    h, w = boards.memory.mean_rgb.shape[:2]
    corners = np.concatenate(polygons)
    (left, top), (right, bottom) = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int) + 1
    x0, y0 = max(int(left) - AROUND_PX, 0), max(int(top) - AROUND_PX, 0)
    x1, y1 = min(int(right) + AROUND_PX, w), min(int(bottom) + AROUND_PX, h)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    inside = np.zeros((y1 - y0, x1 - x0), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(inside, [np.round(polygon - (x0, y0)).astype(np.int32)], 1)
    inside = u8(cv2.dilate(inside, np.ones((AROUND_PX, AROUND_PX), np.uint8)))
    picture = u8(np.ascontiguousarray(rows_of_board(boards, number, y0, y1)[:, x0:x1]))
    return Patch(y0, x0, picture, inside)


def together(polygons: list[F64]) -> list[list[F64]]:
    """Polygons by groups of those that lie beside each other: the outlines of one part that is shifted, say."""
    groups: list[list[F64]] = []
    for polygon in polygons:
        near = [group for group in groups if any(_beside(polygon, other) for other in group)]
        groups = [group for group in groups if not any(group is one for one in near)]
        groups.append([polygon, *(other for group in near for other in group)])
    return groups


def _beside(a: F64, b: F64) -> bool:
    return bool((a.min(0) <= b.max(0) + BESIDE_PX).all() and (b.min(0) <= a.max(0) + BESIDE_PX).all())


def with_patch(rng: np.random.Generator, made: Corruption, patch: Patch, at_yx: tuple[int, int]) -> Corruption:
    """A tile (t, t, 3) whose upper left corner is at ``at_yx``, with a real defect where it was seen."""
    t = made.tile.shape[0]
    dy, dx = (int(v) for v in rng.integers(-SHIFT_PX, SHIFT_PX + 1, 2))
    top, left = patch.y + dy - at_yx[0], patch.x + dx - at_yx[1]
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + patch.inside.shape[0], t), min(left + patch.inside.shape[1], t)
    if y0 >= y1 or x0 >= x1:
        return made
    cut = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    inside = np.zeros((t, t), np.uint8)
    inside[y0:y1, x0:x1] = patch.inside[cut]
    relit = np.clip(patch.picture[cut] * (1 + float(rng.normal(0, RELIT))), 0, 255)
    alpha = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), FEATHER_PX / 2)[y0:y1, x0:x1, None]
    tile: U8 = made.tile.copy()
    tile[y0:y1, x0:x1] = np.round(alpha * relit + (1 - alpha) * tile[y0:y1, x0:x1]).astype(np.uint8)
    near = cv2.dilate(inside, np.ones((FEATHER_PX, FEATHER_PX), np.uint8))
    mask = np.where(near > 0, visible_change(tile, made.clean), made.mask)
    return Corruption(tile, made.clean, u8(mask.astype(np.uint8)))
