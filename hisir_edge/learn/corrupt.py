"""Self-supervised corruption: turns a good tile into a defective one with an exact mask.

A corruption is a region (a primitive shape, a part found in the good boards, or an object that
stands out in the tile itself) and what happens to it: it goes missing, moves, turns, bends, is covered by
something foreign, changes its light. The mask is where the tile visibly differs afterwards, with the
gaps closed that chance leaves where old and new look alike. In the spirit of DRAEM (Zavrtanik et al.
2021, arXiv 2108.07610), CutPaste (Li et al. 2021, arXiv 2104.04015) and NSA (Schlueter et al. 2022,
arXiv 2109.15222), aimed at parts and leads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, I32, U8, u8

Box = tuple[int, int, int, int]

VISIBLE_LEVELS = 10
CLOSE_PX = 7
CLEAN_SHARE = 0.15
MOST_PLACES = 8
FLAT_GROUND_SHARE = 0.15
LEAST_CHANGE_LEVELS = (12, 60)
"""By how much ground must differ from what it replaces: drawn from this range, so that much vanishes for good."""
LARGEST_GROUND_SHARE = 0.6
SPREAD_PX, LEAST_ROOM_PX = 48, 12
CHOOSY = 0.4
"""How far the place that ground is taken from may be from the best one: its misfit times 1 to 1.4."""
NOISE_BANK = np.random.default_rng(20).standard_normal(2**20, dtype=np.float32)
"""Unit noise that sensor noise is cut from at random places: drawing it anew was a sixth of the work."""


@dataclass(frozen=True, slots=True)
class Corruption:
    """A corrupted tile (t, t, 3) uint8, the clean one it came from, and the mask (t, t) of 0/1."""

    tile: U8
    clean: U8
    mask: U8


@dataclass(frozen=True, slots=True)
class Spot:
    """A soft region: ``weight`` (h, w) float32 in 0..1 with its upper left corner at ``y``, ``x`` of the tile."""

    y: int
    x: int
    weight: F32

    @property
    def window(self) -> tuple[slice, slice]:
        """Where it lies in the tile."""
        return slice(self.y, self.y + self.weight.shape[0]), slice(self.x, self.x + self.weight.shape[1])


def part_boxes(mean_rgb: U8, smallest_px: int = 6, largest_px: int = 220) -> I32:
    """Boxes (n, 4) x, y, w, h of what stands out from its surroundings: parts, leads, print.

    No labels: colour distance to the local median background, thresholded by Otsu, at several sizes.
    """
    h, w = mean_rgb.shape[:2]
    small = cv2.resize(mean_rgb, (max(w // 8, 8), max(h // 8, 8)), interpolation=cv2.INTER_AREA)
    ground = cv2.resize(cv2.medianBlur(small, min(31, int(0.9 * min(small.shape[:2])) | 1)), (w, h))
    distance = np.abs(mean_rgb.astype(np.int16) - ground).max(2).astype(np.uint8)
    _, solid = cv2.threshold(distance, 0, 255, cv2.THRESH_OTSU)
    boxes: list[Box] = []
    # closing joins what belongs together, opening cuts bodies free of the tracks and leads that tie them up
    for how, brush in (
        (cv2.MORPH_CLOSE, 1), (cv2.MORPH_CLOSE, 5), (cv2.MORPH_CLOSE, 13), (cv2.MORPH_OPEN, 9), (cv2.MORPH_OPEN, 21)
    ):  # fmt: skip
        shaped = cv2.morphologyEx(solid, how, np.ones((brush, brush), np.uint8))
        _, _, stats, _ = cv2.connectedComponentsWithStats(shaped)
        boxes += [
            (int(x), int(y), int(bw), int(bh))
            for x, y, bw, bh, area in stats[1:]
            if smallest_px <= max(bw, bh) <= largest_px and area >= 12
        ]
    return np.array(boxes, np.int32).reshape(-1, 4)


def highest_channel(picture: U8) -> U8:
    """The largest of the three channels at each pixel, (h, w); ten times as fast as NumPy's ``max(2)``."""
    a, b, c = cv2.split(picture)
    return u8(cv2.max(cv2.max(a, b), c))


# --- where: spots -----------------------------------------------------------------------------


def random_box(rng: np.random.Generator, side: int, low: float = 4.0, high: float = 150.0) -> Box:
    """A box of log-uniform size somewhere in the tile."""
    high = min(high, side * 0.6)
    w, h = np.exp(rng.uniform(np.log(low), np.log(high), 2))
    if rng.random() < 0.6:
        h = np.clip(w * rng.uniform(0.4, 2.2), low, high)
    wi, hi = max(2, round(w)), max(2, round(h))
    return int(rng.integers(0, side - min(wi, side - 1))), int(rng.integers(0, side - min(hi, side - 1))), wi, hi


def _inside(box: Box, side: int) -> Box:
    """The part of a box that lies in the tile, at least 2 px wide."""
    x, y, w, h = box
    x0, y0 = min(max(x, 0), side - 2), min(max(y, 0), side - 2)
    return x0, y0, max(min(x + w, side) - x0, 2), max(min(y + h, side) - y0, 2)


def _softened(rng: np.random.Generator, solid: U8) -> F32:
    if rng.random() < 0.5:
        solid = u8(cv2.GaussianBlur(solid, (0, 0), float(rng.uniform(0.5, 1.6))))
    return np.asarray(solid / np.float32(255), np.float32)


def shape_spot(rng: np.random.Generator, box: Box, side: int) -> Spot:
    """Rectangle (perhaps turned), ellipse, ragged polygon or cloud inside the box."""
    x, y, w, h = _inside(box, side)
    margin = 4
    x0, y0, x1, y1 = max(x - margin, 0), max(y - margin, 0), min(x + w + margin, side), min(y + h + margin, side)
    out = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cx, cy = x - x0 + w / 2, y - y0 + h / 2
    shape = rng.integers(4)
    angle = float(rng.uniform(0, 180)) if rng.random() < 0.3 else 0.0
    if shape == 0:
        corners = cv2.boxPoints(((cx, cy), (float(w), float(h)), angle))
        cv2.fillPoly(out, [np.round(corners * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    elif shape == 1:
        centre, axes = (round(cx * 16), round(cy * 16)), (round(w * 8), round(h * 8))
        cv2.ellipse(out, centre, axes, angle, 0, 360, 255, -1, cv2.LINE_AA, 4)
    elif shape == 2 or min(w, h) < 12:
        t = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(4, 12))))
        r = rng.uniform(0.4, 1.0, len(t))
        points = np.stack([cx + np.cos(t) * r * w / 2, cy + np.sin(t) * r * h / 2], 1)
        cv2.fillPoly(out, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    else:
        out = u8((clouds(rng, out.shape[0], out.shape[1]) > rng.uniform(-0.3, 0.8)).astype(np.uint8) * 255)
        cv2.rectangle(out, (0, 0), (out.shape[1] - 1, out.shape[0] - 1), 0, margin)
    return Spot(y0, x0, _softened(rng, out))


@dataclass(frozen=True, slots=True)
class Objects:
    """What stands out in a tile, at half resolution: label i + 1 of ``labels`` (t/2, t/2) is object i.

    ``boxes`` (n, 4) x, y, w, h; ``odds`` (n,) sum to 1: how often each is chosen.
    """

    labels: I32
    boxes: I32
    odds: F64


def salient_objects(rng: np.random.Generator, tile: U8) -> Objects:
    """What stands out from its surroundings in this very tile: brighter, darker or different in colour.

    Bright things alone or dark things alone keep a lead and the body that it comes from apart. Large
    and strong objects are chosen more often than small and faint ones.
    """
    half = u8(cv2.resize(tile, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    ground = u8(cv2.medianBlur(half, int(rng.choice([9, 15, 25]))))
    way = int(rng.integers(3))
    if way == 0:
        distance = highest_channel(u8(cv2.absdiff(half, ground)))
    else:
        above, below = (half, ground) if way == 1 else (ground, half)
        distance = u8(cv2.cvtColor(u8(cv2.subtract(above, below)), cv2.COLOR_RGB2GRAY))
    solid = (distance > rng.uniform(14, 55)).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(solid)
    area = stats[:, cv2.CC_STAT_AREA]
    kept = np.flatnonzero((area >= 6) & (area <= 0.35 * labels.size))
    kept = kept[kept > 0]
    renumbered = np.zeros(count, np.int32)
    renumbered[kept] = np.arange(1, len(kept) + 1)
    contrast = np.bincount(labels.ravel(), distance.ravel(), count) / np.maximum(area, 1)
    odds = area[kept] ** 0.75 * contrast[kept]
    boxes = np.asarray(stats[kept, :4], np.int32).reshape(-1, 4)
    return Objects(np.asarray(renumbered[labels], np.int32), boxes, odds / max(float(odds.sum()), 1e-9))


def object_spot(rng: np.random.Generator, side: int, objects: Objects) -> Spot:
    """One salient object (or a piece of it): a lead, a hole, a letter, a shine."""
    number = int(rng.choice(len(objects.boxes), p=objects.odds))
    grow = int(rng.integers(1, 6))
    bx, by, bw, bh = (2 * int(v) for v in objects.boxes[number])
    x0, y0, w, h = _inside((bx - grow, by - grow, bw + 2 * grow, bh + 2 * grow), side)
    own = objects.labels[y0 // 2 : (y0 + h + 1) // 2, x0 // 2 : (x0 + w + 1) // 2] == number + 1
    piece = own.astype(np.uint8) * 255
    solid = cv2.resize(piece, (w, h), interpolation=cv2.INTER_LINEAR)
    solid = cv2.dilate(solid, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grow + 1, 2 * grow + 1)))
    kind = rng.random()
    if kind < 0.2:  # only a part of it: a lead that is cut, a corner that broke off
        way, at = rng.uniform(0, 2 * np.pi), rng.uniform(-0.5, 0.5)
        yy, xx = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
        solid = np.where(xx * np.cos(way) + yy * np.sin(way) > at, solid, 0)
    elif kind < 0.45:
        return _bite(rng, Spot(y0, x0, _softened(rng, u8(solid.astype(np.uint8)))))
    return Spot(y0, x0, _softened(rng, u8(solid.astype(np.uint8))))


def _bite(rng: np.random.Generator, spot: Spot) -> Spot:
    """What lies around one point of a spot: one lead of a part, where part and leads stand out as one."""
    ys, xs = np.nonzero(spot.weight > 0.5)
    if not len(ys):
        return spot
    number = int(rng.integers(len(ys)))
    cy, cx, radius = int(ys[number]), int(xs[number]), round(float(np.exp(rng.uniform(np.log(5), np.log(45)))))
    y0, x0 = max(cy - radius, 0), max(cx - radius, 0)
    weight = spot.weight[y0 : cy + radius + 1, x0 : cx + radius + 1]
    if min(weight.shape) < 2:
        return spot
    disc = np.zeros(weight.shape, np.uint8)
    cv2.circle(disc, (cx - x0, cy - y0), radius, 255, -1, cv2.LINE_AA)
    return Spot(spot.y + y0, spot.x + x0, np.asarray(weight * (disc / np.float32(255)), np.float32))


def clouds(rng: np.random.Generator, h: int, w: int) -> F32:
    """Fractal noise (h, w) of about unit deviation: random octaves, random grain direction."""
    out = np.zeros((h, w), np.float32)
    power = 0.0
    persistence = float(rng.uniform(0.3, 1.1))
    stretch = float(np.exp(rng.normal(0, 0.5)))
    cell = float(max(h, w)) * float(rng.uniform(0.2, 0.8))
    weight = 1.0
    while cell > 1.5 and weight > 0.05:
        grid = (max(int(h / cell * stretch), 1) + 2, max(int(w / cell / stretch), 1) + 2)
        octave = rng.standard_normal(grid, dtype=np.float32)
        out += weight * cv2.resize(octave, (w, h), interpolation=cv2.INTER_CUBIC)
        power += weight * weight
        weight *= persistence
        cell /= 2
    return np.asarray(out / np.sqrt(power), np.float32)


# --- what happens there -----------------------------------------------------------------------


def _blend(tile: U8, spot: Spot, content: F32 | U8, strength: float = 1.0) -> U8:
    """A copy of the tile with ``content`` (the spot's window, (h, w, 3)) laid in."""
    out: U8 = tile.copy()
    rows, columns = spot.window
    old = tile[rows, columns].astype(np.float32)
    mixed = old + (np.asarray(content, np.float32) - old) * (spot.weight * np.float32(strength))[..., None]
    out[rows, columns] = np.clip(np.round(mixed), 0, 255)
    return u8(out)


def _window_of(picture: U8, spot: Spot, dy: int, dx: int) -> U8:
    """The window of the spot, moved by (dy, dx) and kept inside the picture."""
    h, w = spot.weight.shape
    y = min(max(spot.y + dy, 0), picture.shape[0] - h)
    x = min(max(spot.x + dx, 0), picture.shape[1] - w)
    return u8(picture[y : y + h, x : x + w])


def _ring(weight: F32) -> F32:
    """Where ``weight`` fades out: the seam of a spot."""
    solid = (weight > 0.5).astype(np.uint8)
    around = cv2.dilate(solid, np.ones((7, 7), np.uint8)) - cv2.erode(solid, np.ones((3, 3), np.uint8))
    return np.asarray(around, np.float32)


def _ground(rng: np.random.Generator, tile: U8, spot: Spot) -> F32:
    """What could lie under the spot: the place of the tile whose rim fits best, or the colour of the rim."""
    rows, columns = spot.window
    here = tile[rows, columns].astype(np.float32)
    ring = _ring(spot.weight)[..., None]
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
    rim = cv2.resize(_ring(spot.weight), (w // 2, h // 2), interpolation=cv2.INTER_AREA)
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


def elsewhere(rng: np.random.Generator, tile: U8, donor: U8, spot: Spot) -> U8:
    """Another place of a board appears here."""
    side = tile.shape[0]
    content = _window_of(donor, spot, int(rng.integers(-side, side)), int(rng.integers(-side, side)))
    if rng.random() < 0.3:
        content = content[::-1, ::-1]
    return _blend(tile, spot, content, float(rng.uniform(0.6, 1.0)) if rng.random() < 0.3 else 1.0)


def slip(rng: np.random.Generator, tile: U8, donor: U8, spot: Spot) -> U8:
    """The content of the spot slips by a few pixels; what it uncovers stays as it was."""
    reach, way = float(np.exp(rng.uniform(np.log(2.5), np.log(28)))), rng.uniform(0, 2 * np.pi)
    source = tile if rng.random() < 0.7 else donor
    return _blend(tile, spot, _window_of(source, spot, round(reach * np.sin(way)), round(reach * np.cos(way))))


def vanish(rng: np.random.Generator, tile: U8, donor: U8, spot: Spot) -> U8:
    """Only ground is left where something was."""
    return _blend(tile, spot, _ground(rng, tile, spot))


def move(rng: np.random.Generator, tile: U8, donor: U8, spot: Spot) -> U8:
    """The content moves, turns, tips over or is foreshortened, and leaves its ground behind."""
    side = tile.shape[0]
    kind = rng.random()
    angle = 0.0
    reach, sx, sy = 0.0, 1.0, 1.0
    h, w = spot.weight.shape
    if kind < 0.35:
        reach = float(rng.uniform(3, 20)) if rng.random() < 0.7 else float(rng.uniform(10, 60))
    elif kind < 0.8:
        angle = 180.0 if rng.random() < 0.25 else float(rng.uniform(6, 90) * rng.choice([-1, 1]))
        reach = float(rng.uniform(0, 12))
    else:
        factor = float(rng.uniform(0.25, 0.7))
        sx, sy = (factor, 1.0) if w >= h else (1.0, factor)
        reach = float(rng.uniform(0, 0.3)) * max(h, w)
    way = rng.uniform(0, 2 * np.pi)
    cy, cx = spot.y + (h - 1) / 2, spot.x + (w - 1) / 2
    m = cv2.getRotationMatrix2D((cx, cy), angle, 1.0)
    m = m @ np.array([[sx, 0, cx * (1 - sx)], [0, sy, cy * (1 - sy)], [0, 0, 1]])
    m[:, 2] += (reach * np.cos(way), reach * np.sin(way))
    emptied = tile if rng.random() < 0.25 else vanish(rng, tile, donor, spot)
    whole = np.zeros((side, side), np.float32)
    whole[spot.window] = spot.weight
    moved = cv2.warpAffine(tile, m, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    weight = cv2.warpAffine(whole, m, (side, side), flags=cv2.INTER_LINEAR)
    content = moved.astype(np.float32)
    if rng.random() < 0.3:  # what stands up catches the light differently
        content = content * np.float32(rng.uniform(0.75, 1.3))
    return _blend(emptied, Spot(0, 0, np.asarray(weight, np.float32)), np.asarray(content, np.float32))


def bend(rng: np.random.Generator, tile: U8, donor: U8, spot: Spot) -> U8:
    """The content is bent smoothly, most in the middle, as a lead that was hit."""
    h, w = spot.weight.shape
    size = max(h, w, 24)
    grow_y, grow_x = (size - h) // 2, (size - w) // 2
    side = tile.shape[0]
    x0, y0, w, h = _inside((spot.x - grow_x, spot.y - grow_y, size, size), side)
    yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
    bump = np.square(np.sin(np.pi * (yy + 0.5) / h)) * np.square(np.sin(np.pi * (xx + 0.5) / w))
    reach, way = float(rng.uniform(0.12, 0.3)) * min(h, w), rng.uniform(0, 2 * np.pi)
    turn = float(rng.uniform(-1.0, 1.0)) if rng.random() < 0.4 else 0.0
    dy = bump * np.float32(reach * np.sin(way)) + bump * turn * (xx - w / 2) * np.float32(0.7)
    dx = bump * np.float32(reach * np.cos(way)) - bump * turn * (yy - h / 2) * np.float32(0.7)
    content = cv2.remap(tile, xx + x0 + dx, yy + y0 + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return _blend(tile, Spot(y0, x0, np.ones((h, w), np.float32)), u8(content))


def foreign(rng: np.random.Generator, tile: U8, donor: U8, spot: Spot) -> U8:
    """A foreign piece, a spill, a torn surface: its own colour, light and texture."""
    h, w = spot.weight.shape
    grey = float(rng.uniform(10, 245))
    colour = np.full(3, grey) + rng.normal(0, 8, 3) if rng.random() < 0.6 else rng.uniform(10, 245, 3)
    if rng.random() < 0.3:  # about as bright as the place itself, only its texture is wrong
        rows, columns = spot.window
        colour = tile[rows, columns].reshape(-1, 3).mean(0) + rng.normal(0, 15, 3)
    yy, xx = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j].astype(np.float32)
    light = rng.uniform(0, 40) * (-xx - yy) + rng.uniform(0, 90) * np.exp(-((xx + 0.3) ** 2 + (yy + 0.3) ** 2) / 0.1)
    grain = clouds(rng, h, w) * float(rng.uniform(0, 45)) if rng.random() < 0.6 else np.zeros((h, w), np.float32)
    tint = 1 + rng.normal(0, 0.15, 3)
    content = colour + (light + grain)[..., None] * tint + rng.normal(0, 2.5, (h, w, 1))
    return _blend(tile, spot, np.clip(content, 0, 255).astype(np.float32), float(rng.uniform(0.5, 1.0)))


def scratch(rng: np.random.Generator, tile: U8, donor: U8, spot: Spot) -> U8:
    """A scratch, hair or fibre: a thin bent line, 1..4 px, from the spot on."""
    side = tile.shape[0]
    steps = int(rng.integers(2, 8))
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.45, steps))
    pace = rng.uniform(10, 140) / steps
    walk = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1) * pace, axis=0)
    h, w = spot.weight.shape
    points = np.round((walk + (spot.x + w / 2, spot.y + h / 2)) * 16).astype(np.int32)
    alpha = np.zeros((side, side), np.uint8)
    cv2.polylines(alpha, [points], False, 255, int(rng.integers(1, 5)), cv2.LINE_AA, 4)
    grey = float(rng.choice([rng.uniform(0, 60), rng.uniform(150, 250)]))
    x0, y0, bw, bh = cv2.boundingRect(alpha)
    if not bw:
        return tile
    line = Spot(y0, x0, np.asarray(alpha[y0 : y0 + bh, x0 : x0 + bw] / np.float32(255), np.float32))
    colour = np.clip(grey + rng.normal(0, 12, 3), 0, 255).astype(np.float32)
    return _blend(tile, line, np.broadcast_to(colour, (bh, bw, 3)), float(rng.uniform(0.5, 1.0)))


def relight(rng: np.random.Generator, tile: U8, donor: U8, spot: Spot) -> U8:
    """Light, contrast or colour of the place are wrong: a dry joint, a stain, a burn, a dull or flat surface."""
    rows, columns = spot.window
    here = tile[rows, columns].astype(np.float32)
    level = here.mean((0, 1))
    contrast = np.float32(rng.uniform(0.0, 0.85))
    lift = rng.choice([-1, 1]) * rng.uniform(10, 60) * (1 + rng.normal(0, 0.25, 3))
    if rng.random() < 0.3:
        lift = np.zeros(3)
    if rng.random() < 0.3:
        here = np.asarray(cv2.GaussianBlur(here, (0, 0), float(rng.uniform(1.5, 5))), np.float32)
    return _blend(tile, spot, np.clip((here - level) * contrast + level + lift, 0, 255).astype(np.float32))


Corrupter = Callable[[np.random.Generator, U8, U8, Spot], U8]
CORRUPTERS: tuple[tuple[Corrupter, float], ...] = (
    (elsewhere, 0.11),
    (slip, 0.09),
    (vanish, 0.30),
    (move, 0.16),
    (bend, 0.08),
    (foreign, 0.12),
    (scratch, 0.08),
    (relight, 0.11),
)
_WEIGHTS = np.array([w for _, w in CORRUPTERS]) / sum(w for _, w in CORRUPTERS)


def _spot(rng: np.random.Generator, side: int, boxes: I32, objects: Objects) -> Spot:
    """Where the next corruption happens: an object of the tile, a part of the board, or anywhere."""
    way = rng.random()
    if way < 0.55 and len(objects.boxes):
        return object_spot(rng, side, objects)
    if way < 0.76 and len(boxes):
        x, y, w, h = (int(v) for v in boxes[int(rng.integers(len(boxes)))])
        grow = int(rng.integers(0, 4))
        return shape_spot(rng, (x - grow, y - grow, w + 2 * grow, h + 2 * grow), side)
    return shape_spot(rng, random_box(rng, side), side)


def visible_change(tile: U8, clean: U8) -> U8:
    """Mask (t, t) of 0/1: where two pictures differ by ``VISIBLE_LEVELS`` or more, small gaps closed."""
    seen = (highest_channel(u8(cv2.absdiff(tile, clean))) >= VISIBLE_LEVELS).astype(np.uint8)
    round_brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (CLOSE_PX, CLOSE_PX))
    padded = cv2.copyMakeBorder(seen, CLOSE_PX, CLOSE_PX, CLOSE_PX, CLOSE_PX, cv2.BORDER_CONSTANT, value=0)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, round_brush)
    return u8(np.ascontiguousarray(closed[CLOSE_PX:-CLOSE_PX, CLOSE_PX:-CLOSE_PX]))


def corrupt_tile(rng: np.random.Generator, clean: U8, donor: U8, boxes: I32) -> Corruption:
    """Corrupt a clean tile (t, t, 3) in 1..8 places, or leave it clean (``CLEAN_SHARE``).

    ``boxes`` (n, 4): parts in this tile's pixels, which a third of the changes are aimed at.
    """
    if rng.random() < CLEAN_SHARE:
        return Corruption(clean, clean, np.zeros(clean.shape[:2], np.uint8))
    tile = clean
    objects = salient_objects(rng, clean)
    for _ in range(min(int(rng.geometric(0.3)), MOST_PLACES)):
        change = CORRUPTERS[int(rng.choice(len(CORRUPTERS), p=_WEIGHTS))][0]
        tile = change(rng, tile, donor, _spot(rng, clean.shape[0], boxes, objects))
    return Corruption(tile, clean, visible_change(tile, clean))


def vary_appearance(rng: np.random.Generator, tile: U8, drift: float = 1.0) -> U8:
    """Light, colour and sharpness as they drift on a line: none of it is a defect.

    ``drift`` scales the light's share: 1 for frames as they come.
    """
    side = tile.shape[0]
    gain = rng.normal(1.0, 0.045 * drift) * (1 + rng.normal(0, 0.015 * drift, 3))
    slope = rng.uniform(-0.03, 0.03, 2) * drift
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    field = 1 + ramp[None, :, None] * slope[0] + ramp[:, None, None] * slope[1]
    out = tile.astype(np.float32) * (field * gain).astype(np.float32) + float(rng.normal(0, 1.5 * drift))
    if rng.random() < 0.35:
        out = cv2.GaussianBlur(out, (0, 0), float(rng.uniform(0.3, 0.9)))
    return u8(np.clip(np.round(out), 0, 255))


def add_sensor_noise(rng: np.random.Generator, tile: U8) -> U8:
    """A little more noise than the camera gave, so that the network does not live on one sensor."""
    sigma = np.float32(rng.uniform(0, 2.5) * rng.choice([-1, 1]))
    start = int(rng.integers(NOISE_BANK.size - tile.size))
    noise = NOISE_BANK[start : start + tile.size].reshape(tile.shape) * sigma
    noise += tile
    return u8(np.clip(np.rint(noise, noise), 0, 255).astype(np.uint8))
