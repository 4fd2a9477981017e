"""Ground to paint under an object that is removed, taken from elsewhere in the same tile."""

from __future__ import annotations

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, U8, u8
from hisir_edge.corruption.spots import Spot, highest_channel

FLAT_GROUND_SHARE = 0.15
LEAST_CHANGE_LEVELS = (12, 60)
"""By how much ground must differ from what it replaces: drawn from this range, so that much vanishes for good."""
LARGEST_GROUND_SHARE = 0.6
MOST_LIFT_LEVELS = 15.0
"""Light differs by little within a tile: a rim that wants more is a shadow or an edge, not the ground's light."""
SPREAD_PX, LEAST_ROOM_PX = 48, 12
TWIN_LEVELS = 9.0
"""Root mean square difference up to which two places count as the same thing."""
TWIN_FAR_PX = 3
TWIN_LOOK_PX, TWIN_LOCAL_LEVELS = 5, 20.0
"""Nowhere within the spot may so many pixels' square differ by more levels in the mean."""
RIM_LEVELS = (35.0, 100.0)
"""What differs from the rim's median by more is not looked at when ground is chosen; one of these."""
LEAST_RIM = 0.3
"""Share of the rim that must be left for that."""
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
    """Ground for a spot: the place of the tile whose rim fits best, or the colour of the rim."""
    rows, columns = spot.window
    here = tile[rows, columns].astype(np.float32)
    plain = _plain_rim(rng, here, ring_of(spot.weight))
    ring = plain[..., None]
    total = float(ring.sum()) + 1e-3
    seam = np.asarray((here * ring).sum((0, 1)) / total, np.float32)
    if rng.random() < FLAT_GROUND_SHARE:
        return seam + rng.normal(0, rng.uniform(0.5, 4.0), here.shape).astype(np.float32)
    large = max(here.shape) > SPREAD_PX and rng.random() < 0.5
    ground = None if large else _laid_like_rim(rng, tile, spot, plain)
    ground = _spread_ground(rng, tile, spot) if ground is None else ground
    return np.broadcast_to(seam, here.shape).astype(np.float32) if ground is None else ground


def fitting_ground(rng: np.random.Generator, tile: U8, spot: Spot) -> F32 | None:
    """The place of the tile whose rim fits best, (h, w, 3); None where none differs from what is there."""
    here = tile[spot.window].astype(np.float32)
    return _laid_like_rim(rng, tile, spot, _plain_rim(rng, here, ring_of(spot.weight)))


def _laid_like_rim(rng: np.random.Generator, tile: U8, spot: Spot, rim: F32) -> F32 | None:
    place = _like_place(rng, tile, spot, rim)
    if place is None:
        return None
    found = window_of(tile, spot, place[0] - spot.y, place[1] - spot.x).astype(np.float32)
    lift = _lift(tile[spot.window] - found, rim)
    return np.asarray(found + np.clip(lift, -MOST_LIFT_LEVELS, MOST_LIFT_LEVELS), np.float32)


def _lift(difference: F32, rim: F32) -> F32:
    """How much lighter the ground is to be at each pixel: the rim's difference, carried smoothly across the spot."""
    sigma = max(max(rim.shape) / 4.0, 2.0)
    weight = cv2.GaussianBlur(rim, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT) + np.float32(1e-9)
    carried = cv2.GaussianBlur(difference * rim[..., None], (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(carried / weight[..., None], np.float32)


def _plain_rim(rng: np.random.Generator, here: F32, ring: F32) -> F32:
    """The rim without what is no ground itself: the body that a lead comes from, its neighbours."""
    on_rim = here[ring > 0]
    if not len(on_rim):
        return ring
    away = np.abs(here - np.median(on_rim, axis=0)).max(2)
    plain = ring * (away < float(rng.choice(RIM_LEVELS)))
    return np.asarray(plain if plain.sum() >= LEAST_RIM * ring.sum() else ring, np.float32)


def _spread_ground(rng: np.random.Generator, tile: U8, spot: Spot) -> F32 | None:
    """Ground for a large spot: its surroundings, repeated or mirrored across it; None where there is no room."""
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


def _like_place(rng: np.random.Generator, tile: U8, spot: Spot, rim: F32) -> tuple[int, int] | None:
    """Corner (y, x) of a window that is like the spot's rim (h, w) and unlike it inside; None if there is none.

    Every place of the tile is tried (Criminisi et al. 2004, exemplar-based inpainting, with one exemplar for
    the whole hole).
    """
    seen = _misfits(tile, spot, rim)
    if seen is None:
        return None
    misfit, change = seen
    _shut_out(misfit, spot, spot.weight.shape[0] // 4, spot.weight.shape[1] // 4)  # itself, a little beside
    unlike = change > float(rng.uniform(*LEAST_CHANGE_LEVELS)) ** 2
    return _cheapest(rng, np.where(unlike, misfit, np.inf), tile, spot)


def twin_under(rng: np.random.Generator, tile: U8, spot: Spot) -> U8 | None:
    """Another place of the tile that looks like the spot and its rim, (h, w, 3); None if there is none.

    A hole for a hole, bare ground for bare ground: a change that is no defect.
    """
    seen = _misfits(tile, spot, ring_of(spot.weight))
    if seen is None:
        return None
    misfit, change = seen
    _shut_out(misfit, spot, TWIN_FAR_PX, TWIN_FAR_PX)
    alike = np.maximum(misfit, change) < TWIN_LEVELS**2
    place = _cheapest(rng, np.where(alike, misfit + change, np.inf), tile, spot)
    if place is None:
        return None
    twin = window_of(tile, spot, place[0] - spot.y, place[1] - spot.x)
    # a small thing in a large spot hardly moves the mean
    differs = highest_channel(u8(cv2.absdiff(twin, tile[spot.window]))).astype(np.float32) * spot.weight
    return twin if cv2.blur(differs, (TWIN_LOOK_PX, TWIN_LOOK_PX)).max() < TWIN_LOCAL_LEVELS else None


def _shut_out(misfit: F32, spot: Spot, far_y: int, far_x: int) -> None:
    """No place within so many pixels (at half resolution) of where the spot is."""
    y, x = min(spot.y // 2, misfit.shape[0] - 1), min(spot.x // 2, misfit.shape[1] - 1)
    misfit[max(y - far_y, 0) : y + far_y + 1, max(x - far_x, 0) : x + far_x + 1] = np.inf


def _misfits(tile: U8, spot: Spot, full_rim: F32) -> tuple[F32, F32] | None:
    """Mean squared difference (levels²) of rim and of inside to each place of the tile, at half resolution.

    None for a spot that is too large, too small or has no rim.
    """
    h, w = spot.weight.shape
    side = tile.shape[0]
    if max(h, w) > LARGEST_GROUND_SHARE * side or min(h, w) < 4:
        return None
    half = u8(cv2.resize(tile, (side // 2, side // 2), interpolation=cv2.INTER_AREA))
    inside = cv2.resize(spot.weight, (w // 2, h // 2), interpolation=cv2.INTER_AREA)
    rim = cv2.resize(full_rim, (w // 2, h // 2), interpolation=cv2.INTER_AREA)
    y, x = min(spot.y // 2, side // 2 - h // 2), min(spot.x // 2, side // 2 - w // 2)
    window = half[y : y + h // 2, x : x + w // 2].astype(np.float32)
    if rim.sum() < 1 or inside.sum() < 1:
        return None
    found = []
    for mask in (rim, inside):
        deep = np.ascontiguousarray(np.repeat(mask[..., None], 3, 2).astype(np.float32))
        squares = cv2.matchTemplate(half.astype(np.float32), window, cv2.TM_SQDIFF, mask=deep)
        # OpenCV squares the mask with the difference
        found.append(np.asarray(np.maximum(squares, 0) / (3 * float(np.square(mask).sum())), np.float32))
    return found[0], found[1]


def _cheapest(rng: np.random.Generator, cost: F32 | F64, tile: U8, spot: Spot) -> tuple[int, int] | None:
    """Corner (y, x) at full resolution of a place that costs little; None where all cost is infinite."""
    h, w = spot.weight.shape
    side = tile.shape[0]
    best = int((cost * (1 + CHOOSY * rng.random(cost.shape, np.float32))).argmin())
    if not np.isfinite(cost.flat[best]):
        return None
    row, column = divmod(best, cost.shape[1])
    # what was matched began at an even pixel; the spot may not
    return min(2 * row + spot.y % 2, side - h), min(2 * column + spot.x % 2, side - w)
