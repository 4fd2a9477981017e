"""Good boards with planted defects, many on each, some of them taken worse: what the first look learns from and proves.

Boards that it learns from and boards that it is proven on are others, with other defects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from hisir_edge.arrays import F32, I16, I64, U8
from hisir_edge.corruption.plant import NAMES, plant
from hisir_edge.corruption.spots import largest_part, part_boxes
from hisir_edge.engine.acceptance.left_out import Others
from hisir_edge.engine.acceptance.maps import padded_board, touched_tiles
from hisir_edge.images import read_rgb
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.learn.data.run import RunRecord

TURN_STEP = 7
"""Of a board's turns each begins so many classes further on: it has no factor in common with their number, so that each
class comes where a board has room for one window."""
FILLED = 0.5
"""Share of a board that windows with a defect cover at most; they do not overlap."""
BLURS_PX, NOISES, QUALITIES = (0.0, 0.6, 1.2), (0.0, 2.0, 4.0), (100, 85, 75)
"""How a spoilt board may have been taken, each drawn for itself; the first of each is as it was."""


@dataclass(frozen=True, slots=True)
class Spoilt:
    """A board that lies in ``inspector.padded``: as it was (no ``numbers``), or with planted defects.

    ``numbers``: the tiles that see a window with a defect. ``truth`` (h, w): 0, or 1 + the class's place in ``NAMES``;
    ``defects`` (h, w): 0, or the number of the defect, from 1, which may have several pieces.
    ``gains``: the light of each tile; ``residual_px``: how exactly the board was registered.
    """

    gains: F32 | None = field(repr=False)
    numbers: I64 = field(repr=False)
    truth: U8 = field(repr=False)
    defects: I16 = field(repr=False)
    planted: int = 0
    residual_px: float = 0.0


def spoilt_boards(
    inspector: CpuInspector, record: RunRecord, others: Others | None, paths: list[str], seed: int, rounds: int
) -> Iterator[Spoilt]:
    """Each board as it is, then ``rounds`` times with defects; what is yielded lies in the inspector until the next."""
    boxes = part_boxes(inspector.bundle.memory_rgbd[..., :3], largest_px=largest_part(inspector.plan.tile_px))
    on_board, (h, w), t = padded_board(inspector), inspector.plan.padded_hw, inspector.plan.tile_px
    most = max(1, int(FILLED * (h * w if on_board is None else int(on_board.sum())) / t**2))
    for number, path in enumerate(paths):
        if others is not None:
            inspector.memory = others.memory_of(inspector, path)
        registration, gains = inspector.prepare(Pixels(read_rgb(Path(path), rules=record.rules)))
        residual_px = registration.residual_px if registration else 0.0
        clean = inspector.padded.copy()
        nothing = np.zeros((h, w), np.int16)
        yield Spoilt(gains, np.empty(0, np.int64), nothing.astype(np.uint8), nothing, 0, residual_px)
        for turn in range(rounds):
            key = (record.settings.seed, seed, number, turn)
            inspector.padded[:] = clean
            first = (number + turn * TURN_STEP) % len(NAMES)
            truth, places = plant(inspector.padded, t, boxes, key, first, most, on_board=on_board)
            if (turn + turn // len(NAMES)) % 2:  # no class is always on boards that were taken well
                _taken_worse(inspector.padded, key)
            defects = np.zeros((h, w), np.int16)
            for defect, (y, x) in enumerate(places, 1):  # windows do not overlap
                defects[y : y + t, x : x + t][truth[y : y + t, x : x + t] > 0] = defect
            numbers = np.array(touched_tiles(inspector, places), np.int64)
            yield Spoilt(gains, numbers, truth, defects, len(places), residual_px)
        inspector.padded[:] = clean


def _taken_worse(board: U8, key: tuple[int, ...]) -> None:
    """Blur, noise and compression of a board (h, w, 3), in place, within what lines see; light is taken out anyway."""
    rng = np.random.default_rng([*key, 7])
    blur, noise, quality = (rng.choice(values) for values in (BLURS_PX, NOISES, QUALITIES))
    if blur:
        cv2.GaussianBlur(board, (0, 0), float(blur), board)
    if noise:
        for row in board:  # a row at a time: a frame of normal deviates takes eight times the frame
            row[:] = np.clip(row + rng.normal(0, noise, row.shape).astype(np.float32), 0, 255)
    if quality < 100:
        stored = cv2.imencode(".jpg", board, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
        board[:] = np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR), np.uint8)
