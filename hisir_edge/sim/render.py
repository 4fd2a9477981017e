"""Draws a board: bare board once per product, then solder and parts of one individual board.

Everything random about a part is keyed by (board seed, part index), never drawn from a running
stream, so the same board with one defect differs from the good one at the defect alone. That is
what makes the defect masks exact.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from hisir_edge.arrays import F32, U8, u8
from hisir_edge.sim.layout import BoardLayout, Pad, Part, layout_from_product, pad_centre, rotate
from hisir_edge.sim.sprites import LOTS, PRINTS, sprite_from_part

Roi = tuple[int, int, int, int]
SOLDER_VARIANTS = 12
PLACEMENT_TOLERANCE_PX = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedPart:
    """One part on one board: the pose it really has, its lot and print, its solder joints."""

    part: Part
    x: float
    y: float
    angle_deg: float
    lot: int
    print_variant: int
    present: bool = True
    stretch: float = 1.0
    lifted: int | None = None
    dry_pads: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Blemish:
    """Something on top of the board: an RGBA picture whose upper left corner sits at (x, y)."""

    x: int
    y: int
    rgba: U8 = field(repr=False)


@dataclass(frozen=True, slots=True)
class BoardInstance:
    """One individual board of a product, before the camera."""

    layout: BoardLayout
    seed: int
    placed: tuple[PlacedPart, ...]
    blemishes: tuple[Blemish, ...] = ()


def board_from_seed(product: int, seed: int, size_wh: tuple[int, int]) -> BoardInstance:
    """A good board: parts jittered within placement tolerance, lots and print as they come."""
    layout = layout_from_product(product, size_wh)
    rng = np.random.default_rng([product, seed, 1])
    n = len(layout.parts)
    shift = np.clip(rng.normal(0, 0.6, (n, 2)), -PLACEMENT_TOLERANCE_PX, PLACEMENT_TOLERANCE_PX)
    # a long connector cannot turn as far as a chip: its leads stay within the same tolerance
    reach = np.array([0.5 * np.hypot(p.body_w, p.body_h) for p in layout.parts])
    limit = np.minimum(1.2, np.rad2deg(PLACEMENT_TOLERANCE_PX / reach)) if n else reach
    turn = np.clip(rng.normal(0, 0.5, n) * limit / 1.2, -limit, limit)
    lot_of_marking: dict[tuple[str, str], int] = {}
    placed = []
    for part in layout.parts:
        key = (part.kind, part.marking)
        lot = lot_of_marking.setdefault(key, int(rng.integers(LOTS)))
        i = part.index
        placed.append(
            PlacedPart(part=part, x=part.x + shift[i, 0], y=part.y + shift[i, 1], angle_deg=part.angle_deg + turn[i],
                       lot=lot, print_variant=int(rng.integers(PRINTS)))
        )  # fmt: skip
    return BoardInstance(layout, seed, tuple(placed))


def blend(canvas: U8, rgba: U8, x: int, y: int) -> None:
    """Composite an RGBA picture onto the canvas at (x, y), clipped to it."""
    h, w = rgba.shape[:2]
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, canvas.shape[1]), min(y + h, canvas.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    piece = rgba[y0 - y : y1 - y, x0 - x : x1 - x]
    target = canvas[y0:y1, x0:x1]
    alpha = piece[..., 3:].astype(np.uint16)
    mixed = piece[..., :3] * alpha + target * (255 - alpha) + 127
    target[:] = mixed // 255


def _smooth_noise(rng: np.random.Generator, shape_hw: tuple[int, int], cell: int, sigma: float) -> F32:
    h, w = shape_hw
    coarse = rng.normal(0, sigma, (h // cell + 2, w // cell + 2)).astype(np.float32)
    return cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC).astype(np.float32)


@functools.lru_cache(maxsize=2)
def bare_board(product: int, size_wh: tuple[int, int]) -> U8:
    """The product's printed circuit board without solder and parts, RGB uint8 (h, w, 3)."""
    layout = layout_from_product(product, size_wh)
    w, h = size_wh
    rng = np.random.default_rng([product, w, h, 3])
    canvas = np.empty((h, w, 3), np.uint8)
    canvas[:] = (30, 31, 33)
    x0, y0, x1, y1 = layout.outline_xyxy
    green = np.array(layout.mask_rgb, np.int16)
    cv2.rectangle(canvas, (x0, y0), (x1, y1), (150, 140, 96), -1)
    cv2.rectangle(canvas, (x0 + 3, y0 + 3), (x1 - 3, y1 - 3), green.tolist(), -1)
    pour = _smooth_noise(rng, (h, w), 160, 1.0) > 0.25
    pour[: y0 + 24], pour[y1 - 24 :], pour[:, : x0 + 24], pour[:, x1 - 24 :] = False, False, False, False
    canvas[pour] = (green + (9, 18, 11)).astype(np.uint8)
    trace = np.clip(green + (16, 34, 20), 0, 255).tolist()
    for i, points in enumerate(layout.traces):
        cv2.polylines(canvas, [np.array(points, np.int32)], False, trace, 3 + (i % 3) * 2, cv2.LINE_AA)
    for vx, vy in layout.vias:
        cv2.circle(canvas, (vx, vy), 7, (188, 176, 128), -1, cv2.LINE_AA)
        cv2.circle(canvas, (vx, vy), 3, (22, 24, 22), -1, cv2.LINE_AA)
    for hx, hy, radius in layout.holes:
        cv2.circle(canvas, (hx, hy), radius, (204, 188, 132), -1, cv2.LINE_AA)
        cv2.circle(canvas, (hx, hy), radius * 6 // 10, (26, 26, 28), -1, cv2.LINE_AA)
    for part in layout.parts:
        for pad in part.pads:
            _fill_turned(canvas, part, pad.x, pad.y, pad.w, pad.h, (176, 174, 166))
    for part in layout.parts:
        _silkscreen(canvas, layout, part)
    grain = rng.normal(0, 2.0, (h, w)).astype(np.float32)
    grain += _smooth_noise(rng, (h, w), 24, 1.2)
    for row in range(0, h, 256):
        piece = canvas[row : row + 256]
        piece[:] = np.clip(piece + grain[row : row + 256, :, None], 0, 255)
    canvas.setflags(write=False)
    return canvas


def _fill_turned(canvas: U8, part: Part, x: float, y: float, w: float, h: float, rgb: tuple[int, int, int]) -> None:
    corners = [(x - w / 2, y - h / 2), (x + w / 2, y - h / 2), (x + w / 2, y + h / 2), (x - w / 2, y + h / 2)]
    turned = [rotate(px, py, part.angle_deg) for px, py in corners]
    points = np.round((np.array(turned) + (part.x, part.y)) * 16).astype(np.int32)
    cv2.fillPoly(canvas, [points], rgb, cv2.LINE_AA, 4)


def _silkscreen(canvas: U8, layout: BoardLayout, part: Part) -> None:
    white = (206, 208, 202)
    half_w = max([part.body_w / 2] + [abs(p.x) + p.w / 2 for p in part.pads]) + 4
    half_h = max([part.body_h / 2] + [abs(p.y) + p.h / 2 for p in part.pads]) + 4
    if part.angle_deg % 180:
        half_w, half_h = half_h, half_w
    x0, y0, x1, y1 = (round(v) for v in (part.x - half_w, part.y - half_h, part.x + half_w, part.y + half_h))
    if part.body_w > 60:
        cv2.rectangle(canvas, (x0, y0), (x1, y1), white, 2, cv2.LINE_AA)
    scale = 0.42 if part.body_w > 60 else 0.3
    org = (x0, y0 - 3 if y0 - 16 > layout.outline_xyxy[1] else y1 + 14)
    cv2.putText(canvas, part.designator, org, cv2.FONT_HERSHEY_SIMPLEX, scale, white, 1, cv2.LINE_AA)
    if part.polarised:
        dx, dy = rotate(-half_w + 4 if part.angle_deg % 180 == 0 else -half_h + 4, 0, part.angle_deg)
        cv2.circle(canvas, (round(part.x + dx * 1.06), round(part.y + dy * 1.06)), 3, white, -1, cv2.LINE_AA)


@functools.lru_cache(maxsize=2048)
def solder_sprite(w: int, h: int, variant: int, dry: bool) -> U8:
    """A solder fillet on a pad: RGBA; a dry joint is a thin, dull film that leaves the pad bare."""
    rng = np.random.default_rng([w, h, variant, int(dry)])
    yy, xx = np.mgrid[-1 : 1 : (h + 4) * 1j, -1 : 1 : (w + 4) * 1j]
    reach = np.maximum(np.abs(xx) ** 3, np.abs(yy) ** 3) ** (1 / 3)
    cover = np.clip((1.02 - reach) * min(w, h) * 0.5, 0, 1)
    cx, cy = rng.uniform(-0.45, 0.45, 2)
    shine = np.exp(-(((xx - cx) / 0.42) ** 2 + ((yy - cy) / 0.34) ** 2))
    level = 142 + 26 * (xx * -0.5 + yy * -0.5) + rng.uniform(60, 105) * shine
    if dry:
        cover = cover * np.clip(1.6 - 2.4 * (xx * np.sign(cx) + 0.5), 0, 1) * 0.9
        level = 92 + 10 * shine
    rgba = np.dstack([level, level, level * 0.98, cover * 255])
    return np.clip(np.round(rgba), 0, 255).astype(np.uint8)


def _draw_solder(canvas: U8, board: BoardInstance, placed: PlacedPart, offset: tuple[int, int]) -> None:
    part = placed.part
    for i, pad in enumerate(part.pads):
        w, h = (pad.w, pad.h) if part.angle_deg % 180 == 0 else (pad.h, pad.w)
        variant = (board.seed * 7919 + part.index * 101 + i * 13) % SOLDER_VARIANTS
        sprite = solder_sprite(round(w), round(h), variant, i in placed.dry_pads)
        cx, cy = pad_centre(part, pad)
        blend(canvas, sprite, round(cx - sprite.shape[1] / 2) - offset[0], round(cy - sprite.shape[0] / 2) - offset[1])


def turned_sprite(sprite: U8, angle_deg: float, stretch: float, frac_xy: tuple[float, float]) -> U8:
    """Rotate and stretch a sprite about its centre with a sub-pixel offset; premultiplied inside."""
    h, w = sprite.shape[:2]
    side = int(np.ceil(np.hypot(w, h))) + 4
    m = cv2.getRotationMatrix2D((w / 2 - 0.5, h / 2 - 0.5), -angle_deg, 1.0)
    squash = np.array([[stretch, 0, (1 - stretch) * (w / 2 - 0.5)], [0, 1, 0], [0, 0, 1]])
    m = m @ squash
    m[:, 2] += (side / 2 - w / 2 + frac_xy[0], side / 2 - h / 2 + frac_xy[1])
    alpha = sprite[..., 3:].astype(np.float32) / 255
    pre = np.dstack([sprite[..., :3] * alpha, sprite[..., 3]]).astype(np.float32)
    out = np.asarray(cv2.warpAffine(pre, m, (side, side), flags=cv2.INTER_LINEAR), np.float32)
    out[..., :3] /= np.maximum(out[..., 3:] / 255, 1e-3)
    return u8(np.clip(np.round(out), 0, 255))


def _draw_part(canvas: U8, placed: PlacedPart, offset: tuple[int, int]) -> None:
    sprite = sprite_from_part(placed.part, placed.lot, placed.print_variant, placed.lifted)
    x, y = placed.x - offset[0], placed.y - offset[1]
    ix, iy = int(np.floor(x)), int(np.floor(y))
    picture = turned_sprite(sprite, placed.angle_deg, placed.stretch, (x - ix, y - iy))
    side = picture.shape[0]
    left, top = ix - side // 2, iy - side // 2
    height = 3 if placed.part.body_w < 60 else 7
    shadow = np.zeros_like(picture)
    shadow[..., 3] = cv2.blur(picture[..., 3], (height * 2 + 1, height * 2 + 1)) * 0.42
    blend(canvas, shadow, left + height, top + height)
    blend(canvas, picture, left, top)


def _touches(placed: PlacedPart, roi: Roi) -> bool:
    reach = 0.5 * np.hypot(placed.part.body_w + 80, placed.part.body_h + 80) + 12
    return bool(roi[0] - reach < placed.x < roi[2] + reach and roi[1] - reach < placed.y < roi[3] + reach)


def draw_board(board: BoardInstance, roi: Roi | None = None) -> U8:
    """The board as it is, RGB uint8, before lighting and camera; ``roi`` (x0, y0, x1, y1) crops it."""
    w, h = board.layout.size_wh
    x0, y0, x1, y1 = roi or (0, 0, w, h)
    canvas = bare_board(board.layout.product, board.layout.size_wh)[y0:y1, x0:x1].copy()
    near = [p for p in board.placed if _touches(p, (x0, y0, x1, y1))]
    for placed in near:
        _draw_solder(canvas, board, placed, (x0, y0))
    for placed in near:
        if placed.present:
            _draw_part(canvas, placed, (x0, y0))
    for blemish in board.blemishes:
        blend(canvas, blemish.rgba, blemish.x - x0, blemish.y - y0)
    return u8(canvas)


def with_part(board: BoardInstance, index: int, **changes: object) -> BoardInstance:
    """The same board with one placed part changed."""
    placed = list(board.placed)
    placed[index] = replace(placed[index], **changes)  # type: ignore[arg-type]
    return replace(board, placed=tuple(placed))


def pad_box(part: Part, pad: Pad) -> tuple[float, float, float, float]:
    """A pad's box x0, y0, x1, y1 in board pixels."""
    cx, cy = pad_centre(part, pad)
    w, h = (pad.w, pad.h) if part.angle_deg % 180 == 0 else (pad.h, pad.w)
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
