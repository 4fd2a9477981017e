"""Component pictures: one RGBA sprite per part, lot and print variant, drawn upright and cached."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from hisir_edge.arrays import F64, I32, U8
from hisir_edge.sim.layout import Pad, Part

SUPERSAMPLE = 2
LOTS = 3
PRINTS = 4

Colour = tuple[int, int, int]

# kind -> body colours of the lots that a purchaser would mix
BODY_RGB: dict[str, tuple[Colour, ...]] = {
    "chip_r": ((34, 34, 38), (28, 30, 36), (44, 42, 44)),
    "chip_c": ((150, 122, 92), (164, 138, 106), (138, 116, 94)),
    "led": ((226, 222, 206), (218, 216, 210), (230, 220, 190)),
    "diode": ((38, 38, 40), (46, 45, 48), (30, 31, 34)),
    "tantalum": ((206, 158, 46), (214, 170, 62), (196, 146, 40)),
    "elcap": ((186, 188, 192), (176, 178, 184), (196, 196, 198)),
    "sot23": ((36, 36, 40), (30, 31, 34), (46, 45, 48)),
    "soic": ((40, 40, 44), (34, 35, 38), (50, 49, 52)),
    "qfp": ((44, 44, 48), (38, 39, 42), (52, 51, 55)),
    "inductor": ((58, 58, 62), (68, 67, 70), (50, 51, 56)),
    "crystal": ((188, 188, 186), (178, 180, 182), (198, 196, 190)),
    "connector": ((226, 220, 200), (232, 228, 214), (216, 208, 186)),
}
METAL: Colour = (196, 196, 192)
PRINT_RGB: dict[str, Colour] = {"tantalum": (96, 50, 10), "elcap": (30, 30, 34), "crystal": (80, 80, 82)}


class Pen:
    """Draws on a supersampled RGB canvas with coverage in part coordinates (origin at the centre)."""

    def __init__(self, width: int, height: int) -> None:
        s = SUPERSAMPLE
        self.rgb = np.zeros((height * s, width * s, 3), np.uint8)
        self.alpha = np.zeros((height * s, width * s), np.uint8)
        self.centre = (width / 2, height / 2)

    def _points(self, points: F64) -> I32:
        scaled = (points + np.array(self.centre)) * SUPERSAMPLE * 16
        return np.asarray(np.round(scaled), np.int32)

    def poly(self, points: list[tuple[float, float]], colour: Colour, cover: bool = True) -> None:
        """Fill a polygon; ``cover`` makes it opaque, otherwise it only tints what is there."""
        pts = self._points(np.array(points, np.float64))
        cv2.fillPoly(self.rgb, [pts], colour, cv2.LINE_AA, 4)
        if cover:
            cv2.fillPoly(self.alpha, [pts], 255, cv2.LINE_AA, 4)

    def rect(self, x: float, y: float, w: float, h: float, colour: Colour, cover: bool = True) -> None:
        """Fill a rectangle given by its centre and size."""
        self.poly(
            [(x - w / 2, y - h / 2), (x + w / 2, y - h / 2), (x + w / 2, y + h / 2), (x - w / 2, y + h / 2)],
            colour,
            cover,
        )

    def chamfered(self, w: float, h: float, cut: float, colour: Colour) -> None:
        """Fill a centred rectangle with cut corners."""
        x, y, c = w / 2, h / 2, cut
        top, right = [(-x + c, -y), (x - c, -y)], [(x, -y + c), (x, y - c)]
        bottom, left = [(x - c, y), (-x + c, y)], [(-x, y - c), (-x, -y + c)]
        corners = [*top, *right, *bottom, *left]
        self.poly(corners, colour)

    def disc(self, x: float, y: float, radius: float, colour: Colour, cover: bool = True) -> None:
        """Fill a circle."""
        a = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        self.poly([(x + radius * np.cos(t), y + radius * np.sin(t)) for t in a], colour, cover)

    def text(self, text: str, x: float, y: float, height: float, colour: Colour, strength: float) -> None:
        """Print centred text of a cap height, blended by ``strength``."""
        scale = height * SUPERSAMPLE / 21.0
        thick = max(1, round(scale * 2.0))
        (tw, th), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
        org = (round((x + self.centre[0]) * SUPERSAMPLE - tw / 2), round((y + self.centre[1]) * SUPERSAMPLE + th / 2))
        layer = np.zeros(self.alpha.shape, np.uint8)
        cv2.putText(layer, text, org, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thick, cv2.LINE_AA)
        weight = (layer.astype(np.float32) * (strength / 255.0))[..., None]
        self.rgb[:] = np.round(self.rgb * (1 - weight) + np.array(colour, np.float32) * weight)

    def finish(self, rng: np.random.Generator, grain: float) -> U8:
        """RGBA at final size, with a bevel-like light from the upper left and surface grain."""
        h, w = self.alpha.shape
        solid = self.alpha.astype(np.float32)
        soft = cv2.GaussianBlur(solid, (0, 0), 3.0 * SUPERSAMPLE)
        light = np.clip((np.roll(soft, (3, 3), (0, 1)) - np.roll(soft, (-3, -3), (0, 1))) * -0.16, -26, 26)
        noise = rng.normal(0, grain, (h // 2 + 1, w // 2 + 1)).astype(np.float32)
        light += cv2.resize(noise, (w, h), interpolation=cv2.INTER_LINEAR)
        rgb = np.clip(self.rgb + light[..., None], 0, 255).astype(np.uint8)
        size = (w // SUPERSAMPLE, h // SUPERSAMPLE)
        # premultiplied while shrinking, so that no black fringe bleeds into the edge
        pre = cv2.resize(rgb * (solid[..., None] / 255), size, interpolation=cv2.INTER_AREA)
        cover = cv2.resize(solid, size, interpolation=cv2.INTER_AREA)
        out = np.dstack([pre / np.maximum(cover[..., None] / 255, 1e-3), cover])
        return np.clip(np.round(out), 0, 255).astype(np.uint8)


def _shade(colour: Colour, by: int) -> Colour:
    r, g, b = (int(np.clip(c + by, 0, 255)) for c in colour)
    return r, g, b


def _lead(pen: Pen, part: Part, pad: Pad, lifted: bool) -> None:
    """A gull-wing lead from the body's edge to its pad; a lifted one is short, high and bright."""
    horizontal = abs(pad.x) > part.body_w / 2 - 2
    edge = (part.body_w if horizontal else part.body_h) / 2 - 3
    reach = (abs(pad.x) + pad.w * 0.3) if horizontal else (abs(pad.y) + pad.h * 0.3)
    thick = (pad.h if horizontal else pad.w) * 0.62
    slip = 0.0
    if lifted:
        reach, slip = edge + (reach - edge) * 0.62, thick * 0.45
    side = np.sign(pad.x if horizontal else pad.y)
    mid = side * (edge + reach) / 2
    colour = _shade(METAL, 34 if lifted else 0)
    along = reach - edge
    if horizontal:
        pen.rect(mid, pad.y + slip, along, thick, colour)
        pen.rect(side * (edge + along * 0.2), pad.y + slip, along * 0.22, thick, _shade(colour, -46))
    else:
        pen.rect(pad.x + slip, mid, thick, along, colour)
        pen.rect(pad.x + slip, side * (edge + along * 0.2), thick, along * 0.22, _shade(colour, -46))


def _draw_chip(pen: Pen, part: Part, body: Colour) -> None:
    w, h = part.body_w, part.body_h
    pen.rect(0, 0, w, h, METAL)
    pen.rect(0, 0, w * 0.58, h, body)
    if part.kind == "chip_r":
        pen.rect(0, -h * 0.42, w * 0.58, h * 0.12, _shade(body, 30), cover=False)


def _draw_round(pen: Pen, part: Part, body: Colour) -> None:
    d = part.body_w
    pen.chamfered(d, d, d * 0.13, (36, 36, 38))
    pen.disc(0, 0, d * 0.46, _shade(body, -30))
    pen.disc(0, 0, d * 0.43, body)
    a = np.linspace(np.pi * 0.68, np.pi * 1.32, 24)
    pen.poly([(d * 0.43 * np.cos(t), d * 0.43 * np.sin(t)) for t in a], (42, 44, 52), cover=False)


def _draw_two_pole(pen: Pen, part: Part, body: Colour) -> None:
    w, h = part.body_w, part.body_h
    for s in (-1, 1):
        pen.rect(s * w * 0.5, 0, w * 0.16, h * 0.5, METAL)
    pen.chamfered(w, h, 3, body)
    band = {"tantalum": (118, 66, 14), "diode": (176, 176, 172), "led": (58, 130, 70)}[part.kind]
    pen.rect(-w * 0.38, 0, w * 0.12, h * 0.96, band, cover=False)
    if part.kind == "led":
        pen.disc(w * 0.06, 0, h * 0.3, (238, 206, 88), cover=False)


def _draw_ic(pen: Pen, part: Part, body: Colour, lifted: int | None) -> None:
    for i, pad in enumerate(part.pads):
        _lead(pen, part, pad, i == lifted)
    pen.chamfered(part.body_w, part.body_h, 4 if part.kind == "sot23" else 7, body)
    if part.kind != "sot23":
        pen.disc(-part.body_w * 0.34, -part.body_h * 0.36, 7, _shade(body, 30), cover=False)


def _draw_connector(pen: Pen, part: Part, body: Colour) -> None:
    w, h = part.body_w, part.body_h
    pen.chamfered(w, h, 3, body)
    pen.rect(0, -h * 0.06, w - 22, h * 0.56, _shade(body, -52), cover=False)
    for pad in part.pads:
        pen.rect(pad.x, -h * 0.06, 15, 30, (212, 184, 110), cover=False)
        pen.rect(pad.x, h * 0.5 + 8, 12, 30, METAL)


def _draw_block(pen: Pen, part: Part, body: Colour) -> None:
    w, h = part.body_w, part.body_h
    pen.chamfered(w, h, h * (0.42 if part.kind == "crystal" else 0.1), body)
    if part.kind == "inductor":
        pen.disc(0, 0, w * 0.4, _shade(body, 16), cover=False)
    else:
        pen.rect(0, 0, w * 0.8, h * 0.62, _shade(body, 10), cover=False)


@functools.lru_cache(maxsize=8192)
def sprite_from_part(part: Part, lot: int, print_variant: int, lifted: int | None = None) -> U8:
    """RGBA uint8 (h, w, 4) picture of a part, unrotated, its centre at the picture's centre."""
    half_w = max([part.body_w / 2] + [abs(p.x) + p.w / 2 for p in part.pads])
    half_h = max([part.body_h / 2] + [abs(p.y) + p.h / 2 for p in part.pads])
    pen = Pen(2 * int(half_w + 7), 2 * int(half_h + 7))
    body = BODY_RGB[part.kind][lot]
    if part.kind in ("chip_r", "chip_c"):
        _draw_chip(pen, part, body)
    elif part.kind == "elcap":
        _draw_round(pen, part, body)
    elif part.kind in ("tantalum", "diode", "led"):
        _draw_two_pole(pen, part, body)
    elif part.kind in ("sot23", "soic", "qfp"):
        _draw_ic(pen, part, body, lifted)
    elif part.kind == "connector":
        _draw_connector(pen, part, body)
    else:
        _draw_block(pen, part, body)
    rng = np.random.default_rng([part.index, lot, print_variant, 17])
    _print_marking(pen, part, lot, rng)
    return pen.finish(rng, 2.2)


def _print_marking(pen: Pen, part: Part, lot: int, rng: np.random.Generator) -> None:
    """Print that differs from board to board: position, strength, and the date code of the lot."""
    if part.kind in ("chip_c", "led", "connector") or part.body_h < 18:
        return
    colour = PRINT_RGB.get(part.kind, (198, 198, 194))
    strength = float(rng.uniform(0.45, 0.8))
    dx, dy = rng.uniform(-1.5, 1.5, 2)
    if part.kind in ("soic", "qfp"):
        size = min(15.0, part.body_w / 7)
        pen.text(part.marking, dx, dy - size * 0.8, size, colour, strength)
        code = f"{20 + lot}{int(rng.integers(10, 52))}"
        pen.text(code, dx, dy + size * 0.9, size * 0.8, colour, strength * 0.9)
    else:
        pen.text(part.marking, dx, dy, min(part.body_h * 0.42, 26.0), colour, strength)
