"""Defects on a drawn board. Each returns the changed board; the mask is what the change altered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from hisir_edge.arrays import U8, u8
from hisir_edge.errors import InputError
from hisir_edge.sim.layout import Part
from hisir_edge.sim.render import Blemish, BoardInstance, Roi, draw_board, pad_box, with_part
from hisir_edge.sim.sprites import LOTS

VISIBLE_LEVELS = 12
MIN_DEFECT_PX = 4

Change = Callable[[BoardInstance, np.random.Generator], tuple[BoardInstance, str] | None]


@dataclass(frozen=True, slots=True)
class PlacedDefect:
    """A planted defect: class, where (designator or empty), box x, y, w, h on the board, mask area."""

    kind: str
    designator: str
    box_xywh: tuple[int, int, int, int]
    area_px: int


def _pick(board: BoardInstance, rng: np.random.Generator, wanted: Callable[[Part], bool]) -> Part | None:
    fitting = [p for p in board.layout.parts if wanted(p)]
    if not fitting:
        return None
    # by kind first, so that the many chip resistors do not crowd out the rest
    kinds = sorted({p.kind for p in fitting})
    kind = kinds[int(rng.integers(len(kinds)))]
    of_kind = [p for p in fitting if p.kind == kind]
    return of_kind[int(rng.integers(len(of_kind)))]


def _is_chip(part: Part) -> bool:
    return part.kind in ("chip_r", "chip_c")


def missing(board: BoardInstance, rng: np.random.Generator) -> tuple[BoardInstance, str] | None:
    """The part was not placed: bare, soldered pads."""
    part = _pick(board, rng, lambda p: p.kind != "connector")
    return None if part is None else (with_part(board, part.index, present=False), part.designator)


def shifted(board: BoardInstance, rng: np.random.Generator) -> tuple[BoardInstance, str] | None:
    """The part sits 5..14 px beside its place."""
    part = _pick(board, rng, lambda p: p.kind not in ("connector", "qfp"))
    if part is None:
        return None
    reach, way = rng.uniform(5, min(14, 4 + part.body_h * 0.35)), rng.uniform(0, 2 * np.pi)
    now = board.placed[part.index]
    moved = {"x": now.x + reach * np.cos(way), "y": now.y + reach * np.sin(way)}
    return with_part(board, part.index, **moved), part.designator


def rotated(board: BoardInstance, rng: np.random.Generator) -> tuple[BoardInstance, str] | None:
    """The part is turned by 8..30 degrees."""
    part = _pick(board, rng, lambda p: p.kind not in ("connector", "qfp", "elcap") and p.body_w >= 40)
    if part is None:
        return None
    turn = rng.uniform(8, 30) * rng.choice([-1, 1])
    angle = board.placed[part.index].angle_deg + turn
    return with_part(board, part.index, angle_deg=angle), part.designator


def tombstoned(board: BoardInstance, rng: np.random.Generator) -> tuple[BoardInstance, str] | None:
    """A chip stands on one pad: foreshortened and off centre."""
    part = _pick(board, rng, _is_chip)
    if part is None:
        return None
    side = int(rng.choice([-1, 1]))
    a = np.deg2rad(part.angle_deg)
    off = side * part.body_w * 0.36
    now = board.placed[part.index]
    change = {"stretch": float(rng.uniform(0.3, 0.5)), "x": now.x + off * np.cos(a), "y": now.y + off * np.sin(a)}
    return with_part(board, part.index, **change), part.designator


def reversed_polarity(board: BoardInstance, rng: np.random.Generator) -> tuple[BoardInstance, str] | None:
    """A polarised part turned by 180 degrees."""
    part = _pick(board, rng, lambda p: p.polarised and p.kind != "sot23")
    if part is None:
        return None
    angle = board.placed[part.index].angle_deg + 180
    return with_part(board, part.index, angle_deg=angle), part.designator


WRONG_KIND = {"chip_r": "chip_c", "chip_c": "chip_r", "tantalum": "diode", "diode": "tantalum", "led": "diode"}


def wrong_part(board: BoardInstance, rng: np.random.Generator) -> tuple[BoardInstance, str] | None:
    """Another component on the same pads."""
    part = _pick(board, rng, lambda p: p.kind in WRONG_KIND)
    if part is None:
        return None
    other = replace(part, kind=WRONG_KIND[part.kind], marking=f"{rng.integers(10, 99)}8")
    return with_part(board, part.index, part=other, lot=int(rng.integers(LOTS))), part.designator


def solder_bridge(board: BoardInstance, rng: np.random.Generator) -> tuple[BoardInstance, str] | None:
    """Solder between two neighbouring leads."""
    part = _pick(board, rng, lambda p: p.kind in ("soic", "qfp"))
    if part is None:
        return None
    i = int(rng.integers(len(part.pads) - 1))
    a, b = pad_box(part, part.pads[i]), pad_box(part, part.pads[i + 1])
    ca = np.array([(a[0] + a[2]) / 2, (a[1] + a[3]) / 2])
    cb = np.array([(b[0] + b[2]) / 2, (b[1] + b[3]) / 2])
    gap = float(np.abs(ca - cb).max())
    if gap > 40:
        return None
    x, y = (ca + cb) / 2
    across = float(rng.uniform(7, 16))
    w, h = (gap + 6, across) if abs(ca[0] - cb[0]) > abs(ca[1] - cb[1]) else (across, gap + 6)
    blob = _blob(rng, round(w), round(h), (186, 186, 182), glossy=True)
    at = Blemish(round(x - blob.shape[1] / 2), round(y - blob.shape[0] / 2), blob)
    return replace(board, blemishes=(*board.blemishes, at)), part.designator


def insufficient_solder(board: BoardInstance, rng: np.random.Generator) -> tuple[BoardInstance, str] | None:
    """A joint with too little solder: dull, its pad partly bare."""
    part = _pick(board, rng, lambda p: min(p.pads[0].w, p.pads[0].h) >= 10)
    if part is None:
        return None
    pad = int(rng.integers(len(part.pads)))
    return with_part(board, part.index, dry_pads=frozenset({pad})), part.designator


def lifted_lead(board: BoardInstance, rng: np.random.Generator) -> tuple[BoardInstance, str] | None:
    """One lead of an IC stands up: shorter, displaced, brighter."""
    part = _pick(board, rng, lambda p: p.kind in ("soic", "qfp", "sot23"))
    if part is None:
        return None
    return with_part(board, part.index, lifted=int(rng.integers(len(part.pads)))), part.designator


def _inside_board(board: BoardInstance, rng: np.random.Generator) -> tuple[int, int]:
    x0, y0, x1, y1 = board.layout.outline_xyxy
    return int(rng.integers(x0 + 12, x1 - 12)), int(rng.integers(y0 + 12, y1 - 12))


def scratch(board: BoardInstance, rng: np.random.Generator) -> tuple[BoardInstance, str] | None:
    """A thin bright or dark line, 2..4 px wide, bent once or twice."""
    side = int(min(rng.uniform(24, 170), min(board.layout.size_wh) / 3))
    rgba = np.zeros((side, side, 4), np.uint8)
    rgba[..., :3] = (214, 210, 190) if rng.random() < 0.7 else (20, 26, 22)
    steps = int(rng.integers(2, 5))
    points = np.cumsum(rng.normal(0, 0.16, (steps + 1, 2)) + rng.uniform(-1, 1, 2), axis=0)
    points = (points - points.min(0)) / max(float(np.ptp(points, axis=0).max()), 1e-6)
    pixels = np.round((points * (side - 9) + 4) * 16).astype(np.int32)
    alpha = np.zeros((side, side), np.uint8)
    cv2.polylines(alpha, [pixels], False, int(rng.integers(150, 230)), int(rng.integers(2, 5)), cv2.LINE_AA, 4)
    rgba[..., 3] = alpha
    x, y = _inside_board(board, rng)
    return replace(board, blemishes=(*board.blemishes, Blemish(x - side // 2, y - side // 2, rgba))), ""


def _blob(rng: np.random.Generator, w: int, h: int, rgb: tuple[int, int, int], glossy: bool) -> U8:
    """An irregular rounded piece of w x h pixels with its own light."""
    yy, xx = np.mgrid[-1.15 : 1.15 : (h + 4) * 1j, -1.15 : 1.15 : (w + 4) * 1j]
    angle = np.arctan2(yy, xx)
    edge = 1.0 + sum(rng.normal(0, 0.07) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 5))
    alpha = np.clip((edge - np.hypot(xx, yy)) * min(w, h) * 0.5, 0, 1)
    light = 24 * (-xx - yy) + (70 * np.exp(-((xx + 0.3) ** 2 + (yy + 0.3) ** 2) / 0.12) if glossy else 0)
    body = np.clip(np.array(rgb) + light[..., None] + rng.normal(0, 5, (*xx.shape, 1)), 0, 255)
    return u8(np.dstack([body, alpha * 255]).round())


FOREIGN_RGB = ((186, 186, 180), (226, 222, 214), (122, 82, 44), (28, 28, 30), (70, 96, 168), (180, 60, 50))


def foreign_object(board: BoardInstance, rng: np.random.Generator) -> tuple[BoardInstance, str] | None:
    """A solder ball, fibre clump or chip of plastic, 4..44 px."""
    size = float(np.exp(rng.uniform(np.log(4), np.log(44))))
    w, h = max(4, round(size)), max(4, round(size * rng.uniform(0.6, 1.0)))
    kind = int(rng.integers(len(FOREIGN_RGB)))
    blob = _blob(rng, w, h, FOREIGN_RGB[kind], glossy=kind == 0)
    x, y = _inside_board(board, rng)
    return replace(board, blemishes=(*board.blemishes, Blemish(x, y, blob))), ""


DEFECTS: dict[str, Change] = {
    "missing": missing,
    "shifted": shifted,
    "rotated": rotated,
    "tombstoned": tombstoned,
    "reversed_polarity": reversed_polarity,
    "wrong_part": wrong_part,
    "solder_bridge": solder_bridge,
    "insufficient_solder": insufficient_solder,
    "lifted_lead": lifted_lead,
    "scratch": scratch,
    "foreign_object": foreign_object,
}


def _changed_roi(before: BoardInstance, after: BoardInstance) -> Roi:
    """A box that surely holds everything the change touched."""
    boxes = []
    for a, b in zip(before.placed, after.placed, strict=True):
        if a is not b:
            reach = 0.5 * np.hypot(a.part.body_w + 80, a.part.body_h + 80) + 40
            boxes.append((a.x - reach, a.y - reach, a.x + reach, a.y + reach))
    for blemish in after.blemishes[len(before.blemishes) :]:
        h, w = blemish.rgba.shape[:2]
        boxes.append((blemish.x - 4, blemish.y - 4, blemish.x + w + 4, blemish.y + h + 4))
    box = np.array(boxes)
    w, h = before.layout.size_wh
    x0, y0 = np.maximum(np.floor(box[:, :2].min(0)), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(box[:, 2:].max(0)), (w, h)).astype(int)
    return int(x0), int(y0), int(x1), int(y1)


def plant_defect(
    board: BoardInstance, kind: str, rng: np.random.Generator, canvas: U8, mask: U8
) -> tuple[BoardInstance, PlacedDefect]:
    """Put one defect on a board, updating its drawing and its mask (0/255) in place.

    Tries other places until the change is visible (``VISIBLE_LEVELS`` grey levels over at least
    ``MIN_DEFECT_PX`` pixels of extent); InputError when this board has no place for the class.
    """
    if kind not in DEFECTS:
        raise InputError(
            expected=f"a defect class out of {', '.join(DEFECTS)}", received=repr(kind), fix="change --classes"
        )
    for _attempt in range(60):
        result = DEFECTS[kind](board, rng)
        if result is None:
            continue
        changed, designator = result
        x0, y0, x1, y1 = roi = _changed_roi(board, changed)
        if x1 - x0 < MIN_DEFECT_PX or y1 - y0 < MIN_DEFECT_PX or mask[y0:y1, x0:x1].any():
            continue
        now = draw_board(changed, roi)
        difference = np.abs(now.astype(np.int16) - canvas[y0:y1, x0:x1]).max(2)
        altered = (difference >= VISIBLE_LEVELS).astype(np.uint8)
        altered = cv2.morphologyEx(altered, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
        bx, by, bw, bh = cv2.boundingRect(altered)
        if max(bw, bh) < MIN_DEFECT_PX or altered.sum() < MIN_DEFECT_PX * 2:
            continue
        canvas[y0:y1, x0:x1] = now
        mask[y0:y1, x0:x1] |= u8(altered) * np.uint8(255)
        return changed, PlacedDefect(kind, designator, (bx + x0, by + y0, bw, bh), int(altered.sum()))
    raise InputError(
        expected=f"a board with room for a visible {kind!r} defect",
        received=f"product {board.layout.product} at {board.layout.size_wh[0]}x{board.layout.size_wh[1]}",
        fix="use a larger --size or leave the class out with --classes",
    )
