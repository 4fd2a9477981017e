"""Board layout: which part sits where, fixed by the product number and the frame size.

The scale is fixed (``PX_PER_MM``), so a larger frame shows a larger board with more parts of the
same size in pixels, and a defect of 6 px is a defect of 6 px at every frame size.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources

import numpy as np

from hisir_edge.errors import InputError

PX_PER_MM = 25
MIN_SIDE_PX, MAX_SIDE_PX = 256, 8192
DEMONSTRATION = (7, (4096, 3000))


@dataclass(frozen=True, slots=True)
class Pad:
    """One solder pad, in the part's own coordinates (pixels, origin at the part's centre)."""

    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A placed component: centre in board pixels, quarter-turn angle, body size, pads."""

    index: int
    kind: str
    designator: str
    x: float
    y: float
    angle_deg: int
    body_w: int
    body_h: int
    pads: tuple[Pad, ...]
    marking: str
    polarised: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardLayout:
    """A product's board: outline, colours, parts and copper."""

    product: int
    size_wh: tuple[int, int]
    outline_xyxy: tuple[int, int, int, int]
    mask_rgb: tuple[int, int, int]
    parts: tuple[Part, ...]
    traces: tuple[tuple[tuple[int, int], ...], ...]
    vias: tuple[tuple[int, int], ...]
    holes: tuple[tuple[int, int, int], ...]


CHIP_SIZES = ((25, 13), (40, 20), (50, 31), (80, 40))
SOLDERMASK_RGB = ((24, 92, 52), (16, 80, 44), (30, 104, 66), (22, 58, 104), (18, 72, 60))


def _chip_pads(w: int, h: int) -> tuple[Pad, ...]:
    return tuple(Pad(s * w * 0.5, 0, w * 0.36, h * 1.12) for s in (-1, 1))


def _row_pads(n: int, pitch: float, dx: float, w: float, h: float) -> list[Pad]:
    first = -(n - 1) * pitch / 2
    return [Pad(s * dx, first + i * pitch, w, h) for s in (-1, 1) for i in range(n)]


def _soic(rng: np.random.Generator) -> tuple[int, int, tuple[Pad, ...]]:
    n, pitch = int(rng.choice([4, 7, 8])), 32
    return 96, n * pitch - 6, tuple(_row_pads(n, pitch, 66, 38, 15))


def _qfp(rng: np.random.Generator) -> tuple[int, int, tuple[Pad, ...]]:
    n = int(rng.choice([11, 12, 16]))
    pitch = 20
    side = n * pitch + 16
    rows = _row_pads(n, pitch, side / 2 + 16, 34, 10)
    return side, side, tuple(rows + [Pad(p.y, p.x, p.h, p.w) for p in rows])


def _outline_of(kind: str, rng: np.random.Generator) -> tuple[int, int, tuple[Pad, ...]]:
    """Body width, body height and pads of one component of this kind."""
    if kind in ("chip_r", "chip_c"):
        w, h = CHIP_SIZES[int(rng.choice(4, p=[0.2, 0.45, 0.25, 0.1]))]
        return w, h, _chip_pads(w, h)
    if kind == "led":
        return 52, 32, _chip_pads(52, 32)
    if kind == "diode":
        return 108, 66, tuple(Pad(s * 58, 0, 34, 40) for s in (-1, 1))
    if kind == "tantalum":
        w, h = ((88, 44), (150, 108))[int(rng.integers(2))]
        return w, h, tuple(Pad(s * w * 0.5, 0, w * 0.28, h * 0.66) for s in (-1, 1))
    if kind == "elcap":
        d = int(rng.choice([158, 200]))
        return d, d, tuple(Pad(s * d * 0.48, 0, d * 0.3, d * 0.16) for s in (-1, 1))
    if kind == "sot23":
        pads = (Pad(-24, -30, 18, 22), Pad(24, -30, 18, 22), Pad(0, 30, 18, 22))
        return 74, 36, pads
    if kind == "soic":
        return _soic(rng)
    if kind == "qfp":
        return _qfp(rng)
    if kind == "inductor":
        d = int(rng.choice([100, 170]))
        return d, d, tuple(Pad(s * d * 0.47, 0, d * 0.2, d * 0.5) for s in (-1, 1))
    if kind == "crystal":
        return 118, 52, tuple(Pad(s * 58, 0, 28, 34) for s in (-1, 1))
    n = int(rng.choice([4, 6, 10]))
    return n * 50 + 36, 118, tuple(Pad((i - (n - 1) / 2) * 50, 66, 22, 44) for i in range(n))


# kind, parts per million board pixels, designator letter, polarised
CATALOGUE = (
    ("connector", 0.30, "J", False),
    ("qfp", 0.45, "U", True),
    ("elcap", 0.9, "C", True),
    ("inductor", 0.7, "L", False),
    ("soic", 1.5, "U", True),
    ("tantalum", 1.5, "C", True),
    ("crystal", 0.5, "Y", False),
    ("diode", 1.6, "D", True),
    ("sot23", 3.0, "Q", True),
    ("led", 1.6, "D", True),
    ("chip_r", 24.0, "R", False),
    ("chip_c", 22.0, "C", False),
)


def _marking(kind: str, rng: np.random.Generator) -> str:
    if kind == "chip_r":
        return f"{rng.integers(10, 99)}{rng.integers(0, 5)}"
    if kind == "inductor":
        return f"{rng.integers(10, 99)}0"
    if kind in ("soic", "qfp"):
        return f"{rng.choice(['TX', 'MC', 'LM', 'AD', 'ST'])}{rng.integers(100, 9999)}"
    if kind in ("tantalum", "elcap"):
        return f"{rng.choice([10, 22, 47, 100, 220])}"
    return f"{rng.choice(['A', 'B', 'M', 'S'])}{rng.integers(1, 99)}"


class _Occupancy:
    """Which cells of the board are taken; 8 px cells."""

    cell = 8

    def __init__(self, size_wh: tuple[int, int]) -> None:
        self.taken = np.zeros((size_wh[1] // self.cell + 1, size_wh[0] // self.cell + 1), bool)

    def claim(self, x0: float, y0: float, x1: float, y1: float) -> bool:
        rows = slice(int(y0) // self.cell, int(y1) // self.cell + 1)
        cols = slice(int(x0) // self.cell, int(x1) // self.cell + 1)
        if self.taken[rows, cols].any():
            return False
        self.taken[rows, cols] = True
        return True


def _place_parts(rng: np.random.Generator, outline: tuple[int, int, int, int], space: _Occupancy) -> list[Part]:
    x0, y0, x1, y1 = outline
    megapixels = (x1 - x0) * (y1 - y0) / 1e6
    parts: list[Part] = []
    numbers: dict[str, int] = {}
    for kind, density, letter, polarised in CATALOGUE:
        count = int(density * megapixels + rng.random())
        for _ in range(count):
            body_w, body_h, pads = _outline_of(kind, rng)
            half_w = max([body_w / 2] + [abs(p.x) + p.w / 2 for p in pads]) + 9
            half_h = max([body_h / 2] + [abs(p.y) + p.h / 2 for p in pads]) + 9
            for _attempt in range(40):
                angle = int(rng.choice([0, 90, 180, 270]))
                hw, hh = (half_w, half_h) if angle % 180 == 0 else (half_h, half_w)
                if x1 - x0 < 2 * hw + 8 or y1 - y0 < 2 * hh + 8:
                    break
                grid = 8 if body_w > 60 else 4
                x = round(rng.uniform(x0 + hw + 4, x1 - hw - 4) / grid) * grid
                y = round(rng.uniform(y0 + hh + 4, y1 - hh - 4) / grid) * grid
                if space.claim(x - hw, y - hh, x + hw, y + hh):
                    numbers[letter] = numbers.get(letter, 0) + 1
                    designator = f"{letter}{numbers[letter]}"
                    parts.append(
                        Part(
                            index=len(parts), kind=kind, designator=designator, x=x, y=y, angle_deg=angle,
                            body_w=body_w, body_h=body_h, pads=pads, marking=_marking(kind, rng), polarised=polarised,
                        )
                    )  # fmt: skip
                    break
    return parts


def rotate(x: float, y: float, angle_deg: float) -> tuple[float, float]:
    """Turn a point about the origin (image axes, clockwise positive)."""
    a = np.deg2rad(angle_deg)
    return float(x * np.cos(a) - y * np.sin(a)), float(x * np.sin(a) + y * np.cos(a))


def pad_centre(part: Part, pad: Pad) -> tuple[float, float]:
    """Board coordinates of a pad's centre."""
    dx, dy = rotate(pad.x, pad.y, part.angle_deg)
    return part.x + dx, part.y + dy


def _route(
    rng: np.random.Generator, parts: list[Part], outline: tuple[int, int, int, int], ties: dict[int, list[int]]
) -> tuple[list[tuple[tuple[int, int], ...]], list[tuple[int, int]]]:
    """Traces with 45-degree corners from pads to pads near by, vias where they end in the open.

    Of parts equally near the one with the lower number comes first, on every processor; ``ties``: exceptions.
    """
    traces: list[tuple[tuple[int, int], ...]] = []
    vias: list[tuple[int, int]] = []
    if not parts:
        return traces, vias
    centres = np.array([[p.x, p.y] for p in parts])
    for part in parts:
        distances = np.abs(centres - centres[part.index]).sum(1)
        near = np.array(ties.get(part.index, np.argsort(distances, kind="stable")[1:7]))
        for pad in part.pads[:: max(1, len(part.pads) // 12)]:
            ax, ay = (round(v) for v in pad_centre(part, pad))
            if len(near) and rng.random() < 0.75:
                other = parts[int(rng.choice(near))]
                bx, by = (round(v) for v in pad_centre(other, other.pads[int(rng.integers(len(other.pads)))]))
            else:
                bx = int(np.clip(ax + int(rng.integers(-90, 91)), outline[0] + 20, outline[2] - 20))
                by = int(np.clip(ay + int(rng.integers(-90, 91)), outline[1] + 20, outline[3] - 20))
                vias.append((bx, by))
            dx, dy = bx - ax, by - ay
            d = min(abs(dx), abs(dy))
            mx, my = ax + d * (1 if dx > 0 else -1), ay + d * (1 if dy > 0 else -1)
            traces.append(((ax, ay), (mx, my), (bx, by)))
    return traces, vias


def _ties() -> dict[int, list[int]]:
    """Of the product that ``engines/demo`` knows: in what order neighbours at one distance came when it was trained.

    An unstable sort had left that to the processor (those with AVX-512), and no other board is the one that it knows.
    """
    text = (resources.files("hisir_edge.sim") / "ties.json").read_text()
    return {int(part): neighbours for part, neighbours in json.loads(text).items()}


@functools.lru_cache(maxsize=2)
def layout_from_product(product: int, size_wh: tuple[int, int]) -> BoardLayout:
    """Layout of a product at a frame size in pixels (w, h), each 256..8192; deterministic."""
    w, h = size_wh
    if not (MIN_SIDE_PX <= w <= MAX_SIDE_PX and MIN_SIDE_PX <= h <= MAX_SIDE_PX):
        raise InputError(
            expected=f"a frame size of {MIN_SIDE_PX}..{MAX_SIDE_PX} px on each side",
            received=f"{w}x{h}",
            fix="choose another --size",
        )
    if product < 0:
        raise InputError(expected="a product number of 0 or more", received=str(product), fix="change --product")
    rng = np.random.default_rng([product, w, h])
    margin = max(10, round(min(w, h) * 0.018))
    outline = (margin, margin, w - margin, h - margin)
    space = _Occupancy(size_wh)
    holes: list[tuple[int, int, int]] = []
    if min(w, h) >= 700:
        radius = 40
        inset = margin + 70
        for hx, hy in ((inset, inset), (w - inset, inset), (inset, h - inset), (w - inset, h - inset)):
            space.claim(hx - radius * 1.5, hy - radius * 1.5, hx + radius * 1.5, hy + radius * 1.5)
            holes.append((hx, hy, radius))
    parts = _place_parts(rng, outline, space)
    traces, vias = _route(rng, parts, outline, _ties() if (product, size_wh) == DEMONSTRATION else {})
    free_vias = [v for v in vias if _inside(v, outline) and space.claim(v[0] - 6, v[1] - 6, v[0] + 6, v[1] + 6)]
    colour = SOLDERMASK_RGB[int(rng.integers(len(SOLDERMASK_RGB)))]
    return BoardLayout(
        product=product,
        size_wh=size_wh,
        outline_xyxy=outline,
        mask_rgb=colour,
        parts=tuple(parts),
        traces=tuple(traces),
        vias=tuple(free_vias),
        holes=tuple(holes),
    )


def _inside(point: tuple[int, int], outline: tuple[int, int, int, int]) -> bool:
    x0, y0, x1, y1 = outline
    return x0 + 16 < point[0] < x1 - 16 and y0 + 16 < point[1] < y1 - 16
