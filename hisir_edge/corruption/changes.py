"""Changes of a spot, one function each: it vanishes, moves, bends, is covered, scratched, lit otherwise.

Each takes (rng, tile, donor, spot) and returns a changed copy of the tile (t, t, 3) uint8; ``donor`` is a tile of
another good board.
"""

from __future__ import annotations

import cv2
import numpy as np

from hisir_edge.arrays import F32, U8, u8
from hisir_edge.corruption.ground import ground_under, window_of
from hisir_edge.corruption.metal import shadow_of, solder_on
from hisir_edge.corruption.spots import Spot, clouds, inside_tile

FAINT_SHARE, FAINT_LEVELS = 0.4, (15.0, 70.0)
"""Share of faint scratches, and the range of their contrast to the ground."""
WORN_SHARE, MOST_WORN_PX, GROUND_SIGMA_PX = 0.4, 8, 4.0
"""Share of scratches that are the ground itself, rubbed lighter or darker, how wide these are, and over how much of it
its colour is taken."""


def laid_in(tile: U8, spot: Spot, content: F32 | U8, strength: float = 1.0) -> U8:
    """A copy of the tile with ``content`` (the spot's window, (h, w, 3)) laid in."""
    out: U8 = tile.copy()
    rows, columns = spot.window
    old = tile[rows, columns].astype(np.float32)
    mixed = old + (np.asarray(content, np.float32) - old) * (spot.weight * np.float32(strength))[..., None]
    out[rows, columns] = np.clip(np.round(mixed), 0, 255)
    return u8(out)


def elsewhere(rng: np.random.Generator, tile: U8, donor: U8, spot: Spot) -> U8:
    """Another place of a board appears here."""
    side = tile.shape[0]
    content = window_of(donor, spot, int(rng.integers(-side, side)), int(rng.integers(-side, side)))
    if rng.random() < 0.3:
        content = content[::-1, ::-1]
    return laid_in(tile, spot, content, float(rng.uniform(0.6, 1.0)) if rng.random() < 0.3 else 1.0)


def slip(rng: np.random.Generator, tile: U8, donor: U8, spot: Spot) -> U8:
    """The content of the spot slips by a few pixels; what it uncovers stays as it was."""
    reach, way = float(np.exp(rng.uniform(np.log(2.5), np.log(28)))), rng.uniform(0, 2 * np.pi)
    source = tile if rng.random() < 0.7 else donor
    return laid_in(tile, spot, window_of(source, spot, round(reach * np.sin(way)), round(reach * np.cos(way))))


def vanish(rng: np.random.Generator, tile: U8, donor: U8, spot: Spot) -> U8:
    """Only ground is left where something was."""
    return laid_in(tile, spot, ground_under(rng, tile, spot))


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
    return laid_in(emptied, Spot(0, 0, np.asarray(weight, np.float32)), np.asarray(content, np.float32))


def bend(rng: np.random.Generator, tile: U8, donor: U8, spot: Spot) -> U8:
    """The content is bent smoothly, most in the middle, as a lead that was hit."""
    h, w = spot.weight.shape
    size = max(h, w, 24)
    grow_y, grow_x = (size - h) // 2, (size - w) // 2
    side = tile.shape[0]
    x0, y0, w, h = inside_tile((spot.x - grow_x, spot.y - grow_y, size, size), side)
    yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
    bump = np.square(np.sin(np.pi * (yy + 0.5) / h)) * np.square(np.sin(np.pi * (xx + 0.5) / w))
    reach, way = float(rng.uniform(0.12, 0.3)) * min(h, w), rng.uniform(0, 2 * np.pi)
    turn = float(rng.uniform(-1.0, 1.0)) if rng.random() < 0.4 else 0.0
    dy = bump * np.float32(reach * np.sin(way)) + bump * turn * (xx - w / 2) * np.float32(0.7)
    dx = bump * np.float32(reach * np.cos(way)) - bump * turn * (yy - h / 2) * np.float32(0.7)
    content = cv2.remap(tile, xx + x0 + dx, yy + y0 + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return laid_in(tile, Spot(y0, x0, np.ones((h, w), np.float32)), u8(content))


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
    return laid_in(tile, spot, np.clip(content, 0, 255).astype(np.float32), float(rng.uniform(0.5, 1.0)))


def solder(rng: np.random.Generator, tile: U8, donor: U8, spot: Spot) -> U8:
    """Solder where none belongs: a drop, a bridge, a splash; lit by its form, with or without a shadow."""
    piece, content = solder_on(rng, tile.shape[0], spot)
    shadow = shadow_of(rng, piece)
    if shadow is not None:
        where, strength = shadow
        h, w = tile[where.window].shape[:2]
        tile = laid_in(tile, Spot(where.y, where.x, where.weight[:h, :w]), np.zeros((h, w, 3), np.float32), strength)
    return laid_in(tile, piece, content, float(rng.uniform(0.85, 1.0)))


def scratch(rng: np.random.Generator, tile: U8, donor: U8, spot: Spot) -> U8:
    """A scratch, hair or fibre: a thin bent line, 1..4 px, from the spot on; now and then hardly off its ground.

    Or the ground itself rubbed lighter or darker, along a line up to 8 px wide.
    """
    side = tile.shape[0]
    worn = rng.random() < WORN_SHARE
    steps = int(rng.integers(2, 8))
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.45, steps))
    pace = rng.uniform(10, 140) / steps
    walk = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1) * pace, axis=0)
    h, w = spot.weight.shape
    points = np.round((walk + (spot.x + w / 2, spot.y + h / 2)) * 16).astype(np.int32)
    alpha = np.zeros((side, side), np.uint8)
    cv2.polylines(alpha, [points], False, 255, int(rng.integers(1, MOST_WORN_PX + 1 if worn else 5)), cv2.LINE_AA, 4)
    x0, y0, bw, bh = cv2.boundingRect(alpha)
    if not bw:
        return tile
    if worn:
        return _rubbed(
            rng, tile, Spot(y0, x0, np.asarray(alpha[y0 : y0 + bh, x0 : x0 + bw] / np.float32(255), np.float32))
        )
    if rng.random() < FAINT_SHARE:
        grey = float(tile[alpha > 0].mean() + rng.choice([-1, 1]) * rng.uniform(*FAINT_LEVELS))
    else:
        grey = float(rng.choice([rng.uniform(0, 60), rng.uniform(150, 250)]))
    line = Spot(y0, x0, np.asarray(alpha[y0 : y0 + bh, x0 : x0 + bw] / np.float32(255), np.float32))
    colour = np.clip(grey + rng.normal(0, 12, 3), 0, 255).astype(np.float32)
    return laid_in(tile, line, np.broadcast_to(colour, (bh, bw, 3)), float(rng.uniform(0.5, 1.0)))


def _rubbed(rng: np.random.Generator, tile: U8, line: Spot) -> U8:
    """The ground along a line, lighter or darker, unevenly so, with all of its own texture or less."""
    here = tile[line.window].astype(np.float32)
    ground = cv2.GaussianBlur(here, (0, 0), GROUND_SIGMA_PX)
    lift = (rng.uniform(25, 130) if rng.random() < 0.75 else -rng.uniform(20, 80)) * (1 + rng.normal(0, 0.2, 3))
    worn = (here - ground) * np.float32(rng.uniform(0, 1)) + ground + lift
    patchy = 1 + clouds(rng, *line.weight.shape) * np.float32(rng.uniform(0, 0.5))
    weight = np.asarray(np.clip(line.weight * patchy, 0, 1), np.float32)
    return laid_in(tile, Spot(line.y, line.x, weight), np.clip(worn, 0, 255).astype(np.float32))


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
    return laid_in(tile, spot, np.clip((here - level) * contrast + level + lift, 0, 255).astype(np.float32))
