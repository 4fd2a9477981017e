"""Things of every shape and colour, strewn over a board: what no catalogue of parts foresees.

A product's clutter is fixed by its number; one board's differs from the next as good boards do: by tolerances in place
and turn, by lots of another colour, by wires and labels that never lie alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from hisir_edge.arrays import U8
from hisir_edge.sim.render import blend, turned_sprite
from hisir_edge.sim.sprites import Colour, Pen

LETTERS = "ABCDEFGHJKLMNPRSTUVXYZ0123456789"
LOT_LEVELS = 14


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing of a product: its pictures by lot (RGBA), where it lies and how loosely, turn in degrees."""

    lots: tuple[U8, ...]
    x: float
    y: float
    turn_deg: float
    loose_px: float
    loose_deg: float
    shadow_px: int


def _colour(rng: np.random.Generator) -> Colour:
    """Dark plastics, metals, whites and anything else."""
    way = rng.random()
    if way < 0.35:
        level, tint = rng.integers(16, 80), 10
    elif way < 0.65:
        level, tint = rng.integers(150, 250), 12
    else:
        level, tint = rng.integers(40, 200), 70
    r, g, b = np.clip(level + rng.integers(-tint, tint + 1, 3), 0, 255)
    return int(r), int(g), int(b)


def _other(colour: Colour, by: Colour) -> Colour:
    r, g, b = (int(np.clip(c + d, 0, 255)) for c, d in zip(colour, by, strict=True))
    return r, g, b


def _text(rng: np.random.Generator) -> str:
    return "".join(rng.choice(list(LETTERS), int(rng.integers(2, 7))))


def _block(rng: np.random.Generator, pen: Pen, w: float, h: float, body: Colour) -> None:
    pen.chamfered(w, h, min(w, h) * float(rng.uniform(0, 0.3)), body)
    if rng.random() < 0.5:
        shade = _other(body, (-30, -30, -30) if sum(body) > 300 else (30, 30, 30))
        pen.rect(0, 0, w * float(rng.uniform(0.3, 0.8)), h * float(rng.uniform(0.3, 0.8)), shade, cover=False)
    if rng.random() < 0.6 and min(w, h) > 14:
        pen.text(_text(rng), 0, 0, min(h * 0.5, w * 0.22, 26), _colour(rng), float(rng.uniform(0.4, 0.95)))


def _can(rng: np.random.Generator, pen: Pen, w: float, h: float, body: Colour) -> None:
    radius = min(w, h) / 2
    pen.disc(0, 0, radius, body)
    pen.disc(0, 0, radius * float(rng.uniform(0.5, 0.9)), _colour(rng), cover=False)
    if rng.random() < 0.5:  # a screw, or a can that is scored to burst
        turn = float(rng.uniform(0, np.pi))
        for angle in (turn, turn + np.pi / 2)[: int(rng.integers(1, 3))]:
            dx, dy = radius * 0.8 * np.cos(angle), radius * 0.8 * np.sin(angle)
            nx, ny = -dy * 0.08, dx * 0.08
            slot = [(-dx - nx, -dy - ny), (dx - nx, dy - ny), (dx + nx, dy + ny), (-dx + nx, -dy + ny)]
            pen.poly(slot, _other(body, (-60, -60, -60)), cover=False)


def _pins(rng: np.random.Generator, pen: Pen, w: float, h: float, body: Colour) -> None:
    """A row or two of pins, with a body below them or without."""
    pitch = float(rng.uniform(9, 22))
    columns, rows = max(int(w / pitch), 1), int(rng.integers(1, 3))
    if rng.random() < 0.7:
        pen.rect(0, 0, columns * pitch, rows * pitch, body)
    metal, round_pins = _colour(rng), rng.random() < 0.5
    size = pitch * float(rng.uniform(0.35, 0.7))
    for i in range(columns):
        for k in range(rows):
            x, y = (i - (columns - 1) / 2) * pitch, (k - (rows - 1) / 2) * pitch
            if round_pins:
                pen.disc(x, y, size / 2, metal)
            else:
                pen.rect(x, y, size, size, metal)


def _bands(rng: np.random.Generator, pen: Pen, w: float, h: float, body: Colour) -> None:
    """A thing with leads at its ends and bands around it."""
    metal = _colour(rng)
    pen.rect(0, 0, w, max(h * 0.16, 2.5), metal)
    pen.chamfered(w * 0.6, h * 0.7, h * 0.2, body)
    for i in range(int(rng.integers(0, 5))):
        pen.rect(w * (-0.2 + i * 0.1), 0, w * 0.04, h * 0.7, _colour(rng), cover=False)


def _label(rng: np.random.Generator, pen: Pen, w: float, h: float, body: Colour) -> None:
    pen.rect(0, 0, w, h, (236, 236, 230))
    for i in range(int(rng.integers(1, 4))):
        pen.text(_text(rng), 0, h * (-0.25 + 0.25 * i), h * 0.2, (30, 30, 34), 0.9)


def _polygon(rng: np.random.Generator, pen: Pen, w: float, h: float, body: Colour) -> None:
    angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
    pen.poly([(w / 2 * float(np.cos(a)), h / 2 * float(np.sin(a))) for a in angles], body)


Drawn = Callable[[np.random.Generator, Pen, float, float, Colour], None]
KINDS: tuple[tuple[Drawn, float], ...] = (
    (_block, 0.34), (_can, 0.2), (_pins, 0.18), (_bands, 0.12), (_polygon, 0.1), (_label, 0.06),
)  # fmt: skip


def clutter_of_product(product: int, size_wh: tuple[int, int], count: int) -> tuple[Thing, ...]:
    """``count`` things of a product on a board of this size; they may hide one another."""
    rng = np.random.default_rng([product, 31])
    things = []
    for _ in range(count):
        kind = KINDS[int(rng.choice(len(KINDS), p=[share for _, share in KINDS]))][0]
        long = float(np.exp(rng.uniform(np.log(9), np.log(190))))
        w, h = long, max(long * float(rng.uniform(0.25, 1.0)), 5.0)
        body, seed, grain = _colour(rng), int(rng.integers(2**31)), float(rng.uniform(1, 6))
        lots = []
        for lot in range(int(rng.choice([1, 1, 2, 3]))):
            pen = Pen(int(w) + 8, int(max(h, w if kind is _can else h)) + 8)
            one = np.random.default_rng(seed)
            shift = one.integers(-LOT_LEVELS, LOT_LEVELS + 1, 3) * lot
            kind(np.random.default_rng(seed), pen, w, h, _other(body, (int(shift[0]), int(shift[1]), int(shift[2]))))
            lots.append(pen.finish(np.random.default_rng([seed, lot]), grain))
        loose = kind is _label or rng.random() < 0.1
        things.append(
            Thing(
                lots=tuple(lots),
                x=float(rng.uniform(0, size_wh[0])),
                y=float(rng.uniform(0, size_wh[1])),
                turn_deg=float(rng.choice([0, 90, 180, 270]) + (rng.uniform(-45, 45) if rng.random() < 0.15 else 0)),
                loose_px=float(rng.uniform(0.2, 0.8)) * (3 if loose else 1),
                loose_deg=float(rng.uniform(0.1, 0.6)) * (5 if loose else 1),
                shadow_px=int(rng.integers(0, 9)),
            )
        )
    return tuple(things)


def strew(canvas: U8, things: tuple[Thing, ...], board_seed: int) -> None:
    """Draw a product's things on one board (h, w, 3), in place; ``board_seed`` fixes tolerances and lots."""
    rng = np.random.default_rng([board_seed, 32])
    for thing in things:
        sprite = thing.lots[int(rng.integers(len(thing.lots)))]
        x, y = np.array([thing.x, thing.y]) + np.clip(rng.normal(0, thing.loose_px, 2), -5, 5)
        turn = thing.turn_deg + float(rng.normal(0, thing.loose_deg))
        ix, iy = int(np.floor(x)), int(np.floor(y))
        picture = turned_sprite(sprite, turn, 1.0, (float(x - ix), float(y - iy)))
        left, top = ix - picture.shape[1] // 2, iy - picture.shape[0] // 2
        if thing.shadow_px:
            shadow = np.zeros_like(picture)
            side = 2 * thing.shadow_px + 1
            shadow[..., 3] = cv2.blur(picture[..., 3], (side, side)) * 0.4
            blend(canvas, shadow, left + thing.shadow_px, top + thing.shadow_px)
        blend(canvas, picture, left, top)


def wires(canvas: U8, product: int, board_seed: int, count: int) -> None:
    """Wires from place to place, which hang otherwise on each board; drawn in place."""
    h, w = canvas.shape[:2]
    rng, one = np.random.default_rng([product, 33]), np.random.default_rng([product, board_seed, 34])
    for _ in range(count):
        ends, colour = rng.uniform(0, 1, (4, 2)) * (w, h), _colour(rng)
        thick = int(rng.integers(3, 12))
        ends[1:3] += one.normal(0, 14, (2, 2))
        t = np.linspace(0, 1, 40)[:, None]
        curve = (1 - t) ** 3 * ends[0] + 3 * (1 - t) ** 2 * t * ends[1] + 3 * (1 - t) * t**2 * ends[2] + t**3 * ends[3]
        points = [np.round(curve * 16).astype(np.int32)]
        cv2.polylines(canvas, points, False, colour, thick, cv2.LINE_AA, 4)
        cv2.polylines(canvas, points, False, _other(colour, (45, 45, 45)), max(thick // 3, 1), cv2.LINE_AA, 4)
