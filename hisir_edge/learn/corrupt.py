"""Self-supervised corruption: turns a good tile into a defective one with an exact mask.

Each function changes a copy of the tile inside one region. What the network must undo is exactly
what changed visibly, so the mask is where the corrupted tile differs from the clean one by
``VISIBLE_LEVELS`` or more (as in DRAEM, Zavrtanik et al. 2021, arXiv 2108.07610, and CutPaste,
Li et al. 2021, arXiv 2104.04015, but aimed at board parts found in the good boards themselves).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from hisir_edge.arrays import F32, I32, U8, u8

Box = tuple[int, int, int, int]

VISIBLE_LEVELS = 10
CLEAN_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Corruption:
    """A corrupted tile (t, t, 3) uint8, the clean one it came from, and the mask (t, t) of 0/1."""

    tile: U8
    clean: U8
    mask: U8


def part_boxes(mean_rgb: U8, smallest_px: int = 6, largest_px: int = 220) -> I32:
    """Boxes (n, 4) x, y, w, h of what stands out from its surroundings: parts, leads, print.

    No labels: colour distance to the local median background, thresholded by Otsu, at two sizes.
    """
    h, w = mean_rgb.shape[:2]
    small = cv2.resize(mean_rgb, (max(w // 8, 8), max(h // 8, 8)), interpolation=cv2.INTER_AREA)
    ground = cv2.resize(cv2.medianBlur(small, 31 if min(small.shape[:2]) > 62 else 5), (w, h))
    distance = np.abs(mean_rgb.astype(np.int16) - ground).max(2).astype(np.uint8)
    _, solid = cv2.threshold(distance, 0, 255, cv2.THRESH_OTSU)
    boxes: list[Box] = []
    for close in (1, 5, 13):
        joined = cv2.morphologyEx(solid, cv2.MORPH_CLOSE, np.ones((close, close), np.uint8))
        _, _, stats, _ = cv2.connectedComponentsWithStats(joined)
        boxes += [
            (int(x), int(y), int(bw), int(bh))
            for x, y, bw, bh, area in stats[1:]
            if smallest_px <= max(bw, bh) <= largest_px and area >= 12
        ]
    return np.array(boxes, np.int32).reshape(-1, 4)


def region_mask(rng: np.random.Generator, box: Box, side: int) -> F32:
    """Soft region (side, side) in 0..1: rectangle, ellipse or ragged polygon inside the box."""
    x, y, w, h = box
    out = np.zeros((side, side), np.uint8)
    shape = rng.integers(3)
    angle = float(rng.uniform(0, 180)) if rng.random() < 0.3 else 0.0
    centre = (x + w / 2, y + h / 2)
    if shape == 0:
        corners = cv2.boxPoints((centre, (float(w), float(h)), angle))
        cv2.fillPoly(out, [np.round(corners * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    elif shape == 1:
        axes = (round(w * 8), round(h * 8))
        cv2.ellipse(out, (round(centre[0] * 16), round(centre[1] * 16)), axes, angle, 0, 360, 255, -1, cv2.LINE_AA, 4)
    else:
        t = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(4, 10))))
        r = rng.uniform(0.6, 1.0, len(t))
        points = np.stack([centre[0] + np.cos(t) * r * w / 2, centre[1] + np.sin(t) * r * h / 2], 1)
        cv2.fillPoly(out, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    if rng.random() < 0.5:
        out = cv2.GaussianBlur(out, (0, 0), float(rng.uniform(0.5, 1.4))).astype(np.uint8)
    return np.asarray(out / np.float32(255), np.float32)


def random_box(rng: np.random.Generator, side: int, low: float = 4.0, high: float = 110.0) -> Box:
    """A box of log-uniform size somewhere in the tile."""
    high = min(high, side * 0.6)
    w, h = np.exp(rng.uniform(np.log(low), np.log(high), 2))
    if rng.random() < 0.6:
        h = np.clip(w * rng.uniform(0.4, 2.2), low, high)
    wi, hi = max(2, round(w)), max(2, round(h))
    return int(rng.integers(0, side - min(wi, side - 1))), int(rng.integers(0, side - min(hi, side - 1))), wi, hi


def _mix(tile: U8, other: npt.ArrayLike, weight: npt.ArrayLike) -> U8:
    w = np.asarray(weight, np.float32)[..., None]
    mixed = np.asarray(tile, np.float32) * (1 - w) + np.asarray(other, np.float32) * w
    return u8(np.clip(np.round(mixed), 0, 255))


def _ground_colour(rng: np.random.Generator, tile: U8, box: Box) -> F32:
    """Colour around a box: the median of a ring, or a random pixel of the tile."""
    if rng.random() < 0.3:
        y, x = rng.integers(0, tile.shape[0], 2)
        return np.asarray(tile[y, x], np.float32)
    x, y, w, h = box
    m = 4 + int(0.15 * max(w, h))
    around = tile[max(y - m, 0) : y + h + m, max(x - m, 0) : x + w + m]
    ring = np.concatenate([around[:3].reshape(-1, 3), around[-3:].reshape(-1, 3), around[:, :3].reshape(-1, 3)])
    return np.asarray(np.median(ring, axis=0), np.float32)


def paste(rng: np.random.Generator, tile: U8, donor: U8, box: Box) -> U8:
    """Another place of a board appears here."""
    side = tile.shape[0]
    dx, dy = rng.integers(-side // 2, side // 2, 2)
    return _mix(tile, np.roll(donor, (int(dy), int(dx)), (0, 1)), region_mask(rng, box, side))


def paste_part(rng: np.random.Generator, tile: U8, donor: U8, box: Box) -> U8:
    """The place at the same spot of the donor tile: another part in this one's stead."""
    return _mix(tile, donor, region_mask(rng, box, tile.shape[0]))


def shift(rng: np.random.Generator, tile: U8, donor: U8, box: Box) -> U8:
    """The content of the box moves by a few pixels and leaves its ground behind."""
    reach, way = rng.uniform(3, 18), rng.uniform(0, 2 * np.pi)
    return _move(rng, tile, box, float(reach * np.cos(way)), float(reach * np.sin(way)), 0.0, (1.0, 1.0))


def turn(rng: np.random.Generator, tile: U8, donor: U8, box: Box) -> U8:
    """The content of the box turns: a few degrees, or upside down."""
    angle = 180.0 if rng.random() < 0.4 else float(rng.uniform(6, 45) * rng.choice([-1, 1]))
    return _move(rng, tile, box, 0.0, 0.0, angle, (1.0, 1.0))


def squash(rng: np.random.Generator, tile: U8, donor: U8, box: Box) -> U8:
    """The content of the box is foreshortened along its longer side, as a chip that stands up."""
    factor = float(rng.uniform(0.25, 0.7))
    sx, sy = (factor, 1.0) if box[2] >= box[3] else (1.0, factor)
    off = float(rng.uniform(-0.4, 0.4))
    return _move(rng, tile, box, off * box[2] * (sx < 1), off * box[3] * (sy < 1), 0.0, (sx, sy))


def _move(
    rng: np.random.Generator, tile: U8, box: Box, dx: float, dy: float, angle: float, scale: tuple[float, float]
) -> U8:
    side = tile.shape[0]
    x, y, w, h = box
    solid = np.zeros((side, side), np.uint8)
    cv2.rectangle(solid, (x, y), (x + w - 1, y + h - 1), 255, -1)
    emptied = _mix(tile, _ground_colour(rng, tile, box), solid.astype(np.float32) / 255)
    if rng.random() < 0.35:
        emptied = tile
    cx, cy = x + (w - 1) / 2, y + (h - 1) / 2
    m = cv2.getRotationMatrix2D((cx, cy), angle, 1.0)
    m = m @ np.array([[scale[0], 0, cx * (1 - scale[0])], [0, scale[1], cy * (1 - scale[1])], [0, 0, 1]])
    m[:, 2] += (dx, dy)
    moved = cv2.warpAffine(tile, m, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    if rng.random() < 0.3:  # what stands up catches the light differently
        moved = np.clip(moved * float(rng.uniform(0.75, 1.3)), 0, 255)
    weight = cv2.warpAffine(solid, m, (side, side), flags=cv2.INTER_LINEAR)
    return _mix(emptied, moved, weight.astype(np.float32) / 255)


def empty(rng: np.random.Generator, tile: U8, donor: U8, box: Box) -> U8:
    """Only the ground is left where something was."""
    side = tile.shape[0]
    colour = _ground_colour(rng, tile, box) + rng.normal(0, 3, 3)
    grain = rng.normal(0, rng.uniform(0.5, 3.0), (side, side, 1))
    return _mix(tile, np.clip(colour + grain, 0, 255), region_mask(rng, box, side))


def blob(rng: np.random.Generator, tile: U8, donor: U8, box: Box) -> U8:
    """A foreign piece with its own colour and light; or a spill of solder."""
    side = tile.shape[0]
    x, y, w, h = box
    yy, xx = np.mgrid[0:side, 0:side].astype(np.float32)
    u, v = (xx - x - w / 2) / max(w, 2), (yy - y - h / 2) / max(h, 2)
    grey = float(rng.uniform(20, 235))
    colour = np.full(3, grey) if rng.random() < 0.5 else rng.uniform(10, 245, 3)
    light = rng.uniform(0, 50) * (-u - v) + rng.uniform(0, 80) * np.exp(-((u + 0.15) ** 2 + (v + 0.15) ** 2) / 0.05)
    picture = np.clip(colour + light[..., None] + rng.normal(0, 3, (side, side, 1)), 0, 255)
    return _mix(tile, picture, region_mask(rng, box, side) * float(rng.uniform(0.6, 1.0)))


def line(rng: np.random.Generator, tile: U8, donor: U8, box: Box) -> U8:
    """A scratch, hair or fibre: a thin bent line, 1..4 px."""
    side = tile.shape[0]
    steps = int(rng.integers(2, 7))
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.35, steps))
    pace = rng.uniform(12, 140) / steps
    walk = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1) * pace, axis=0)
    points = np.round((walk + (box[0], box[1])) * 16).astype(np.int32)
    alpha = np.zeros((side, side), np.uint8)
    cv2.polylines(alpha, [points], False, 255, int(rng.integers(1, 5)), cv2.LINE_AA, 4)
    grey = float(rng.choice([rng.uniform(0, 60), rng.uniform(150, 250)]))
    colour = grey + rng.normal(0, 12, 3)
    return _mix(tile, np.clip(colour, 0, 255), alpha.astype(np.float32) * (float(rng.uniform(0.5, 1.0)) / 255))


def dull(rng: np.random.Generator, tile: U8, donor: U8, box: Box) -> U8:
    """Light and contrast of the place are wrong: a dry joint, a stain, a burn."""
    side = tile.shape[0]
    x, y, w, h = box
    level = tile[y : y + h, x : x + w].reshape(-1, 3).mean(0) if w and h else np.zeros(3)
    contrast, lift = float(rng.uniform(0.0, 0.8)), float(rng.choice([-1, 1]) * rng.uniform(12, 64))
    changed = np.clip((tile - level) * contrast + level + lift, 0, 255)
    return _mix(tile, changed, region_mask(rng, box, side))


def texture(rng: np.random.Generator, tile: U8, donor: U8, box: Box) -> U8:
    """A cloud-shaped area shows another place of a board, blended in (as in DRAEM)."""
    side = tile.shape[0]
    cells = int(rng.choice([3, 5, 9]))
    cloud = cv2.resize(rng.normal(0, 1, (cells, cells)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    weight = (cloud > rng.uniform(0.9, 1.7)).astype(np.float32) * float(rng.uniform(0.35, 1.0))
    return _mix(tile, donor, weight)


Corrupter = Callable[[np.random.Generator, U8, U8, Box], U8]
CORRUPTERS: tuple[tuple[Corrupter, float], ...] = (
    (paste, 0.13),
    (paste_part, 0.10),
    (shift, 0.13),
    (turn, 0.13),
    (squash, 0.07),
    (empty, 0.10),
    (blob, 0.13),
    (line, 0.11),
    (dull, 0.12),
    (texture, 0.04),
)
_WEIGHTS = np.array([w for _, w in CORRUPTERS]) / sum(w for _, w in CORRUPTERS)


def corrupt_tile(rng: np.random.Generator, clean: U8, donor: U8, boxes: I32) -> Corruption:
    """Corrupt a clean tile (t, t, 3) in 1..4 places, or leave it clean (``CLEAN_SHARE``).

    ``boxes`` (n, 4): parts in this tile's pixels, which half of the changes are aimed at.
    """
    side = clean.shape[0]
    tile = clean
    places = 0 if rng.random() < CLEAN_SHARE else int(rng.integers(1, 5))
    for _ in range(places):
        if len(boxes) and rng.random() < 0.6:
            x, y, w, h = (int(v) for v in boxes[int(rng.integers(len(boxes)))])
            grow = int(rng.integers(0, 4))
            box = (max(x - grow, 0), max(y - grow, 0), w + 2 * grow, h + 2 * grow)
        else:
            box = random_box(rng, side)
        change = CORRUPTERS[int(rng.choice(len(CORRUPTERS), p=_WEIGHTS))][0]
        tile = change(rng, tile, donor, box)
    difference = np.abs(tile.astype(np.int16) - clean).max(2)
    mask = (difference >= VISIBLE_LEVELS).astype(np.uint8)
    return Corruption(tile, clean, cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)).astype(np.uint8))


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
    sigma = float(rng.uniform(0, 2.5))
    noise = rng.standard_normal(tile.shape, dtype=np.float32) * sigma
    return u8(np.clip(np.round(tile + noise), 0, 255))
