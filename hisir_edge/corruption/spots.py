"""Where a corruption happens: soft regions of a tile, of free shape, at known parts, or objects of the tile itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, I32, U8, u8

Box = tuple[int, int, int, int]

MOST_GROWTH_PX = 14
LARGE_PX = 2_000_000
SHAPED = (
    (cv2.MORPH_CLOSE, 1), (cv2.MORPH_CLOSE, 5), (cv2.MORPH_CLOSE, 13), (cv2.MORPH_OPEN, 9), (cv2.MORPH_OPEN, 21)
)  # fmt: skip
"""Closing joins what belongs together, opening cuts bodies free of the tracks and leads that tie them up."""
ALIKE_LOG = 0.35
"""Objects count as alike whose width, height, area and contrast differ by less than this, as logarithms."""
MOST_COMPARED = 400
EXTENDED_SHARE, MOST_EXTENSION_PX = 0.4, 26
LONG_RATIO = 1.8
CUT_SHARE = 0.4
"""Of rare objects that go missing alone, so many are cut off and leave a piece."""


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


def largest_part(tile_px: int) -> int:
    """The longer side up to which parts are aimed at, in pixels: those that a tile shows whole."""
    return int(tile_px * 0.86)


def part_boxes(mean_rgb: U8, smallest_px: int = 6, largest_px: int = 220) -> I32:
    """Boxes (n, 4) x, y, w, h of what stands out from its surroundings: parts, leads, print.

    No labels: colour distance to the local median background, thresholded by Otsu, at several sizes.
    """
    h, w = mean_rgb.shape[:2]
    small = cv2.resize(mean_rgb, (max(w // 8, 8), max(h // 8, 8)), interpolation=cv2.INTER_AREA)
    ground = cv2.resize(cv2.medianBlur(small, min(31, int(0.9 * min(small.shape[:2])) | 1)), (w, h))
    distance = highest_channel(u8(cv2.absdiff(mean_rgb, ground)))
    _, solid = cv2.threshold(distance, 0, 255, cv2.THRESH_OTSU)

    def boxes(how: int, brush: int) -> list[Box]:
        shaped = cv2.morphologyEx(solid, how, np.ones((brush, brush), np.uint8))
        _, _, stats, _ = cv2.connectedComponentsWithStats(shaped)
        return [
            (int(x), int(y), int(bw), int(bh))
            for x, y, bw, bh, area in stats[1:]
            if smallest_px <= max(bw, bh) <= largest_px and area >= 12
        ]

    if h * w < LARGE_PX:
        found = [boxes(how, brush) for how, brush in SHAPED]
    else:  # a line that starts waits for it; OpenCV lets other threads go on
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(boxes, *zip(*SHAPED, strict=True)))
    return np.array([box for some in found for box in some], np.int32).reshape(-1, 4)


def highest_channel(picture: U8) -> U8:
    """The largest of the three channels at each pixel, (h, w); ten times as fast as NumPy's ``max(2)``."""
    a, b, c = cv2.split(picture)
    return u8(cv2.max(cv2.max(a, b), c))


def random_box(rng: np.random.Generator, side: int, low: float = 4.0, high: float = 150.0) -> Box:
    """A box of log-uniform size somewhere in the tile."""
    high = min(high, side * 0.6)
    w, h = np.exp(rng.uniform(np.log(low), np.log(high), 2))
    if rng.random() < 0.6:
        h = np.clip(w * rng.uniform(0.4, 2.2), low, high)
    wi, hi = max(2, round(w)), max(2, round(h))
    return int(rng.integers(0, side - min(wi, side - 1))), int(rng.integers(0, side - min(hi, side - 1))), wi, hi


def inside_tile(box: Box, side: int) -> Box:
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
    x, y, w, h = inside_tile(box, side)
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
    """Objects of a tile, at half resolution: label i + 1 of ``labels`` (t/2, t/2) is object i.

    ``boxes`` (n, 4) x, y, w, h; ``odds`` (n,) sum to 1: how often each is chosen; ``alike`` (n,): how many
    there are of its kind.
    """

    labels: I32
    boxes: I32
    odds: F64
    alike: F64


def salient_objects(rng: np.random.Generator, tile: U8) -> Objects:
    """Objects that stand out from their surroundings in this tile: brighter, darker or different in colour.

    Bright things alone or dark things alone keep a lead and the body that it comes from apart. Large
    and strong objects are chosen more often than small and faint ones, and one of twenty holes less
    often than one of three leads.
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
    sizes = np.asarray(area[kept], np.int32)
    renumbered = np.zeros(count, np.int32)
    renumbered[kept] = np.arange(1, len(kept) + 1)
    contrast = np.bincount(labels.ravel(), distance.ravel(), count) / np.maximum(area, 1)
    boxes = np.asarray(stats[kept, :4], np.int32).reshape(-1, 4)
    alike = _alike(boxes, sizes, contrast[kept])
    odds = sizes**0.75 * contrast[kept] / np.sqrt(alike)
    return Objects(np.asarray(renumbered[labels], np.int32), boxes, odds / max(float(odds.sum()), 1e-9), alike)


def _alike(boxes: I32, area: I32, contrast: F64) -> F64:
    """For each object how many there are of its size, form and strength, itself included."""
    if len(boxes) > MOST_COMPARED:
        return np.ones(len(boxes))
    what = np.log(np.column_stack([boxes[:, 2:], area, contrast + 1.0]))
    near = (np.abs(what[:, None] - what[None]) < ALIKE_LOG).all(2)
    return np.asarray(near.sum(1), np.float64)


def object_spot(rng: np.random.Generator, side: int, objects: Objects) -> Spot:
    """One salient object (or a piece of it): a lead, a hole, a letter, a shine."""
    spot = _whole_object(rng, side, objects, int(rng.choice(len(objects.boxes), p=objects.odds)))
    kind = rng.random()
    if kind < 0.2:
        return _cut(rng, spot)
    return _bite(rng, spot) if kind < 0.45 else spot


def rare_object_spot(rng: np.random.Generator, side: int, objects: Objects) -> Spot:
    """One object, whole or a part of it, of which there are few or no others in the tile."""
    odds = objects.odds / np.sqrt(objects.alike)
    spot = _whole_object(rng, side, objects, int(rng.choice(len(odds), p=odds / odds.sum())))
    return _cut(rng, spot) if rng.random() < CUT_SHARE else spot


def _cut(rng: np.random.Generator, spot: Spot) -> Spot:
    """The part of a spot beyond a line across it: the rest of a cut lead, a corner that broke off."""
    h, w = spot.weight.shape
    way, at = rng.uniform(0, 2 * np.pi), rng.uniform(-0.5, 0.5)
    across = np.array([np.sin(way) / h, np.cos(way) / w])  # the line's normal, in half extents of the spot
    yy, xx = np.mgrid[0:h, 0:w] + 0.5
    beyond_px = ((2 * yy - h) * across[0] + (2 * xx - w) * across[1] - at) / (2 * np.linalg.norm(across))
    return Spot(spot.y, spot.x, np.asarray(spot.weight * np.clip(beyond_px + 0.5, 0, 1), np.float32))


def _whole_object(rng: np.random.Generator, side: int, objects: Objects, number: int) -> Spot:
    # beyond its edge, now and then by far: a lead ends in the hole that it dips into, dark by then
    grow = round(float(np.exp(rng.uniform(0, np.log(MOST_GROWTH_PX)))))
    bx, by, bw, bh = (2 * int(v) for v in objects.boxes[number])
    along = _extension(rng, objects, number)
    room = grow + max(abs(along[0]), abs(along[1]))
    x0, y0, w, h = inside_tile((bx - room, by - room, bw + 2 * room, bh + 2 * room), side)
    own = objects.labels[y0 // 2 : (y0 + h + 1) // 2, x0 // 2 : (x0 + w + 1) // 2] == number + 1
    piece = own.astype(np.uint8) * 255
    solid = cv2.resize(piece, (w, h), interpolation=cv2.INTER_LINEAR)
    if along != (0, 0):
        solid = cv2.dilate(solid, _line_brush(along))
    solid = cv2.dilate(solid, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grow + 1, 2 * grow + 1)))
    return Spot(y0, x0, _softened(rng, u8(solid)))


def _extension(rng: np.random.Generator, objects: Objects, number: int) -> tuple[int, int]:
    """(y, x) by which a long object goes on beyond one of its ends, where it is dark or hidden; often (0, 0)."""
    if rng.random() >= EXTENDED_SHARE:
        return 0, 0
    x, y, w, h = (int(v) for v in objects.boxes[number])
    ys, xs = np.nonzero(objects.labels[y : y + h, x : x + w] == number + 1)
    if len(ys) < 6:
        return 0, 0
    spread, axes = np.linalg.eigh(np.cov(np.stack([ys, xs])))
    if spread[1] < LONG_RATIO**2 * spread[0]:
        return 0, 0
    reach = axes[:, 1] * float(rng.uniform(4, MOST_EXTENSION_PX)) * float(rng.choice([-1, 1]))
    return round(float(reach[0])), round(float(reach[1]))


def _line_brush(along: tuple[int, int]) -> U8:
    """A brush that spreads what it dilates by ``along`` (y, x) to one side."""
    reach = max(abs(along[0]), abs(along[1]))
    brush = np.zeros((2 * reach + 1, 2 * reach + 1), np.uint8)
    cv2.line(brush, (reach, reach), (reach - along[1], reach - along[0]), 1)
    return brush


def _bite(rng: np.random.Generator, spot: Spot) -> Spot:
    """The part of a spot around one point: one lead, where a part and its leads stand out as one."""
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
    cell = max(float(max(h, w)) * float(rng.uniform(0.2, 0.8)), 1.6)  # a window of a few pixels has one octave
    weight = 1.0
    while cell > 1.5 and weight > 0.05:
        grid = (max(int(h / cell * stretch), 1) + 2, max(int(w / cell / stretch), 1) + 2)
        octave = rng.standard_normal(grid, dtype=np.float32)
        out += weight * cv2.resize(octave, (w, h), interpolation=cv2.INTER_CUBIC)
        power += weight * weight
        weight *= persistence
        cell /= 2
    return np.asarray(out / np.sqrt(power), np.float32)
