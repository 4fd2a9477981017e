"""What could lie under a thing that is taken away: ground from elsewhere in the same tile."""

from __future__ import annotations

import cv2
import numpy as np

from hisir_edge.arrays import F32, U8, u8
from hisir_edge.learn.spots import Spot

FLAT_GROUND_SHARE = 0.15
LEAST_CHANGE_LEVELS = (12, 60)
"""By how much ground must differ from what it replaces: drawn from this range, so that much vanishes for good."""
LARGEST_GROUND_SHARE = 0.6
SPREAD_PX, LEAST_ROOM_PX = 48, 12
CHOOSY = 0.4
"""How far the place that ground is taken from may be from the best one: its misfit times 1 to 1.4."""


def window_of(picture: U8, spot: Spot, dy: int, dx: int) -> U8:
    """The window of the spot, moved by (dy, dx) and kept inside the picture."""
    h, w = spot.weight.shape
    y = min(max(spot.y + dy, 0), picture.shape[0] - h)
    x = min(max(spot.x + dx, 0), picture.shape[1] - w)
    return u8(picture[y : y + h, x : x + w])


def ring_of(weight: F32) -> F32:
    """Where ``weight`` fades out: the seam of a spot."""
    solid = (weight > 0.5).astype(np.uint8)
    around = cv2.dilate(solid, np.ones((7, 7), np.uint8)) - cv2.erode(solid, np.ones((3, 3), np.uint8))
    return np.asarray(around, np.float32)


def ground_under(rng: np.random.Generator, tile: U8, spot: Spot) -> F32:
    """What could lie under the spot: the place of the tile whose rim fits best, or the colour of the rim."""
    rows, columns = spot.window
    here = tile[rows, columns].astype(np.float32)
    ring = ring_of(spot.weight)[..., None]
    total = float(ring.sum()) + 1e-3
    seam = np.asarray((here * ring).sum((0, 1)) / total, np.float32)
    if rng.random() < FLAT_GROUND_SHARE:
        return seam + rng.normal(0, rng.uniform(0.5, 4.0), here.shape).astype(np.float32)
    place = None if max(here.shape) > SPREAD_PX and rng.random() < 0.5 else _like_place(rng, tile, spot)
    if place is None:
        beside = _spread_ground(rng, tile, spot)
        return np.broadcast_to(seam, here.shape).astype(np.float32) if beside is None else beside
    found = tile[place[0] : place[0] + here.shape[0], place[1] : place[1] + here.shape[1]].astype(np.float32)
    lift = ((here - found) * ring).sum((0, 1)) / total
    return np.asarray(found + lift, np.float32)


def _spread_ground(rng: np.random.Generator, tile: U8, spot: Spot) -> F32 | None:
    """What lies beside a large spot, repeated or mirrored across it: a whole part is gone. None without room beside."""
    (h, w), side = spot.weight.shape, tile.shape[0]
    rows, columns = spot.window
    margins = [  # (room, strip next to the spot, axis along which it is repeated)
        (spot.x, tile[rows, : spot.x], 1),
        (side - spot.x - w, tile[rows, spot.x + w :], 1),
        (spot.y, tile[: spot.y, columns], 0),
        (side - spot.y - h, tile[spot.y + h :, columns], 0),
    ]
    wide = [(strip, axis) for room, strip, axis in margins if room >= LEAST_ROOM_PX]
    if not wide:
        return None
    strip, axis = wide[int(rng.integers(len(wide)))]
    room, start = strip.shape[axis], int(rng.integers(strip.shape[axis]))
    steps = np.arange(start, start + (w if axis else h)) % (2 * room)
    folded = np.where(steps < room, steps, 2 * room - 1 - steps) if rng.random() < 0.5 else steps % room
    return np.asarray(np.take(strip, folded, axis), np.float32)


def _like_place(rng: np.random.Generator, tile: U8, spot: Spot) -> tuple[int, int] | None:
    """Corner (y, x) of a window that is like the spot's around it and unlike it inside; None if there is none.

    Every place of the tile is tried, at half resolution: template matching once with the rim as mask and
    once with the inside (Criminisi et al. 2004, exemplar-based inpainting, with one exemplar for the whole hole).
    """
    h, w = spot.weight.shape
    side = tile.shape[0]
    if max(h, w) > LARGEST_GROUND_SHARE * side or min(h, w) < 4:
        return None
    half = u8(cv2.resize(tile, (side // 2, side // 2), interpolation=cv2.INTER_AREA))
    inside = cv2.resize(spot.weight, (w // 2, h // 2), interpolation=cv2.INTER_AREA)
    rim = cv2.resize(ring_of(spot.weight), (w // 2, h // 2), interpolation=cv2.INTER_AREA)
    y, x = min(spot.y // 2, side // 2 - h // 2), min(spot.x // 2, side // 2 - w // 2)
    window = half[y : y + h // 2, x : x + w // 2]
    if rim.sum() < 1 or inside.sum() < 1:
        return None
    masks = [np.ascontiguousarray(np.repeat(m[..., None], 3, 2).astype(np.float32)) for m in (rim, inside)]
    misfit, change = (
        cv2.matchTemplate(half.astype(np.float32), window.astype(np.float32), cv2.TM_SQDIFF, mask=m) for m in masks
    )
    # OpenCV squares the mask with the difference
    unlike = change > float(rng.uniform(*LEAST_CHANGE_LEVELS)) ** 2 * 3 * float(np.square(inside).sum())
    cost = np.where(unlike, np.maximum(misfit, 0), np.inf) * (1 + CHOOSY * rng.random(misfit.shape, np.float32))
    best = int(cost.argmin())
    if not np.isfinite(cost.flat[best]):
        return None
    row, column = divmod(best, cost.shape[1])
    return min(2 * row, side - h), min(2 * column, side - w)
