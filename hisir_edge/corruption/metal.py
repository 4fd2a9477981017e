"""Solder where none belongs: a drop on a joint, a bridge between two, a splash of small balls.

Molten metal has a form, not a colour: it is domed, and each of its slopes mirrors another lamp or the dark beside it.
So a height is drawn, and every pixel is lit by the way that it faces (a table of brightness over normals, "lit sphere":
Sloan et al. 2001).
"""

from __future__ import annotations

import cv2
import numpy as np

from hisir_edge.arrays import F32, U8, u8
from hisir_edge.corruption.spots import Spot, clouds

DROP_SHARE, STRAND_SHARE = 0.4, 0.4
"""Of solder so much is a drop of the spot's own form, and so much a strand from the spot on; the rest is a splash."""
LARGEST_DROP_PX, MOST_BALLS, LEAST_PX, ROOM_PX = 90, 40, 4, 14
ROUGH_SHARE, BRIGHT_SHARE, SHADOW_SHARE = 0.7, 0.75, 0.5


def solder_on(rng: np.random.Generator, side: int, spot: Spot) -> tuple[Spot, F32]:
    """The outline of solder at a spot of a tile of ``side`` pixels, and its picture (h, w, 3), in 0..255."""
    way = rng.random()
    if way < DROP_SHARE and max(spot.weight.shape) <= LARGEST_DROP_PX:
        solid = _drop(rng, side, spot)
    elif way < DROP_SHARE + STRAND_SHARE:
        solid = _strand(rng, side, spot)
    else:
        solid = _splash(rng, side, spot)
    x0, y0, w, h = cv2.boundingRect(solid)
    # with room around it: what is blurred in a box that just holds it ends at the box in a straight line
    y1, x1, y0, x0 = y0 + h + ROOM_PX, x0 + w + ROOM_PX, max(y0 - ROOM_PX, 0), max(x0 - ROOM_PX, 0)
    piece = np.ascontiguousarray(solid[y0:y1, x0:x1])
    soft = cv2.GaussianBlur(piece, (0, 0), float(rng.uniform(0.4, 0.9))) if rng.random() < 0.7 else piece
    return Spot(y0, x0, np.asarray(soft / np.float32(255), np.float32)), _lit(rng, _height(rng, piece))


def shadow_of(rng: np.random.Generator, solder: Spot) -> tuple[Spot, float] | None:
    """What stands up darkens one side of its surroundings: where, and how much, 0 to 1; None where it does not."""
    if rng.random() >= SHADOW_SHARE:
        return None
    dy, dx = (int(v) for v in rng.integers(-4, 5, size=2))
    y, x = max(solder.y + dy, 0), max(solder.x + dx, 0)
    blurred = cv2.GaussianBlur(solder.weight, (0, 0), float(rng.uniform(0.8, 3.0)))
    return Spot(y, x, np.asarray(blurred, np.float32)), float(rng.uniform(0.15, 0.7))


def _drop(rng: np.random.Generator, side: int, spot: Spot) -> U8:
    """The spot, grown a little, its edge drawn in and out."""
    out = np.zeros((side, side), np.float32)
    out[spot.window] = spot.weight
    grown = cv2.GaussianBlur(out, (0, 0), float(rng.uniform(1.0, 4.0)))
    ragged = grown + clouds(rng, side, side) * np.float32(rng.uniform(0, 0.15)) * (grown > 0.02)
    return _or_a_ball(rng, u8((ragged > rng.uniform(0.2, 0.5)).astype(np.uint8) * 255), spot)


def _strand(rng: np.random.Generator, side: int, spot: Spot) -> U8:
    """From the spot on over a few points, thick here and thin there: a bridge."""
    out = np.zeros((side, side), np.uint8)
    points = int(rng.integers(2, 6))
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.6, points))
    pace = float(np.exp(rng.uniform(np.log(4), np.log(24))))
    steps = np.stack([np.cos(heading), np.sin(heading)], 1) * pace * rng.uniform(0.5, 1.5, (points, 1))
    walk = np.cumsum(steps, axis=0) + _middle(spot)
    radius = float(np.exp(rng.uniform(np.log(1.5), np.log(11))))
    before = walk[0]
    for point in walk:
        thick = max(round(2 * radius * float(rng.uniform(0.5, 1.4))), 1)
        ends = [tuple(int(v) for v in np.round(one * 16)) for one in (before, point)]
        cv2.line(out, ends[0], ends[1], 255, thick, cv2.LINE_AA, 4)
        before = point
    return _or_a_ball(rng, out, spot)


def _splash(rng: np.random.Generator, side: int, spot: Spot) -> U8:
    """Balls around the spot, most of them small; now and then a single one."""
    out = np.zeros((side, side), np.uint8)
    count = max(1, round(float(np.exp(rng.uniform(0, np.log(MOST_BALLS))))))
    far = float(rng.uniform(3, 40)) if count > 1 else 0.0
    stretch = np.array([1.0, rng.uniform(0.15, 1.0)])
    angle = rng.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    places = (rng.normal(0, far, (count, 2)) * stretch) @ turn + _middle(spot)
    radii = np.exp(rng.uniform(np.log(1.2), np.log(5.0 if count > 3 else 9.0), count))
    for place, radius in zip(places, radii, strict=True):
        at = tuple(int(v) for v in np.round(place * 16))
        cv2.circle(out, at, round(float(radius) * 16), 255, -1, cv2.LINE_AA, 4)
    return _or_a_ball(rng, out, spot)


def _middle(spot: Spot) -> np.ndarray:
    h, w = spot.weight.shape
    return np.array([spot.x + w / 2, spot.y + h / 2])


def _or_a_ball(rng: np.random.Generator, solid: U8, spot: Spot) -> U8:
    """Where chance has put all but a pixel or two off the tile: one ball in the spot."""
    if np.count_nonzero(solid > 127) >= LEAST_PX:
        return solid
    at = tuple(int(min(max(v, 4), solid.shape[0] - 5)) for v in _middle(spot))
    return u8(cv2.circle(solid, at, int(rng.integers(2, 5)), 255, -1))


def _height(rng: np.random.Generator, solid: U8) -> F32:
    """Domed where it is narrow, flatter in the middle of what is wide; rough or smooth. In pixels, (h, w)."""
    padded = cv2.copyMakeBorder(solid, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    inward = cv2.distanceTransform((padded > 127).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    reach = max(min(float(inward.max()), float(rng.uniform(3, 14))), 1.0)
    in_share = np.clip(inward / reach, 0, 1)
    height = np.sqrt(np.maximum(1 - np.square(1 - in_share), 0)) * reach * float(rng.uniform(0.4, 1.1))
    height = cv2.GaussianBlur(height.astype(np.float32), (0, 0), float(rng.uniform(0.6, 1.6)))
    if rng.random() < ROUGH_SHARE:
        height = height + clouds(rng, *solid.shape) * np.float32(rng.uniform(0.1, 0.25) * reach)
    return np.asarray(height, np.float32)


def _lit(rng: np.random.Generator, height: F32) -> F32:
    """Metal of this form under a few lamps, (h, w, 3) in 0..255."""
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    length = np.sqrt(np.square(slope_x) + np.square(slope_y) + 1)
    nx, ny, up = -slope_x / length, -slope_y / length, 1 / length
    dull = rng.random() < 0.25
    bright = rng.uniform(70, 200) if rng.random() < BRIGHT_SHARE else rng.uniform(20, 90)
    light = float(bright) * (0.25 + 0.75 * np.power(up, float(rng.uniform(0.5, 3))))
    for _ in range(int(rng.integers(2, 7))):
        lamp = rng.uniform(-0.75, 0.75, 2)
        wide = float(rng.uniform(0.2, 0.5) if dull else rng.uniform(0.08, 0.35))
        away = np.square(nx - np.float32(lamp[0])) + np.square(ny - np.float32(lamp[1]))
        light = light + float(rng.uniform(30, 90) if dull else rng.uniform(60, 230)) * np.exp(-away / wide**2)
    grain = rng.normal(0, rng.uniform(1, 9), height.shape)
    tint = 1 + rng.normal(0, 0.02, 3) + np.array([0.05, 0.0, -0.05]) * rng.uniform(-0.7, 1.5)
    return np.asarray(np.clip((light + grain)[..., None] * tint, 0, 255), np.float32)
