"""The first look learns what the whole network would say of each region, from the engine that ships itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hisir_edge.arrays import F32, I64, U8
from hisir_edge.engine.cascade.spoilt import Spoilt
from hisir_edge.geometry.tile import REGION_PX, tiles_from_frame
from hisir_edge.images import picture_file
from hisir_edge.inspection.cascade.planes import PLANES, planes_of_tiles
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.light import explain_white
from hisir_edge.net.first_look import FirstLookNet

LEAST_SCORE, MOST_OF_THRESHOLD = 0.03, 2.0
"""Scores below and above do not differ: certainly nothing, certainly a call."""
UNDER_WEIGHT, CALL_WEIGHT, NEAR_A_CALL = 4.0, 4.0, 0.5
"""To expect too little costs more than too much, and more where there is a call, or half of one."""
BATCH, RATE, CUT_PX = 32, 5e-3, 128
"""Pieces of tiles, around a call where there is one: more calls seen in the same time."""


class Lessons:
    """Tiles as the first look sees them, and the logarithm of the whole network's highest score in each region."""

    def __init__(self, folder: Path, inspector: CpuInspector, count: int) -> None:
        t, side = inspector.plan.tile_px, inspector.plan.tile_px // REGION_PX
        self.inspector, self.used = inspector, 0
        self.planes = picture_file(folder / "lessons.npy", (count, PLANES, t, t))
        self.scores = np.empty((count, side, side), np.float32)
        self.levels = np.empty((count, side, side), np.float32)
        """Scores times the gain of the place, in units of the region threshold."""

    @property
    def full(self) -> bool:
        """Whether there is no room for more."""
        return self.used == len(self.planes)

    def add(self, board: Spoilt, numbers: I64) -> None:
        """Tiles of a board that lies in the inspector."""
        one, k = self.inspector, self.inspector.engine.batch
        for first in range(0, min(len(numbers), len(self.planes) - self.used), k):
            here = numbers[first : first + min(k, len(self.planes) - self.used)]
            tiles, cues, scores = tiles_and_scores(one, board.gains, here)
            where = slice(self.used, self.used + len(here))
            planes_of_tiles(tiles, cues, self.planes[where])
            self.scores[where] = highest_by_region(scores)
            self.levels[where] = self.scores[where] * _gain_of_tiles(one, here)
            self.used += len(here)


def tiles_and_scores(inspector: CpuInspector, gains: F32 | None, numbers: I64) -> tuple[U8, U8, F32]:
    """Tiles (n, 3, t, t), cues (n, 4, t, t) and the whole network's raw scores (n, t, t) of the inspector's frame."""
    n, t = len(numbers), inspector.plan.tile_px
    tiles, cues = np.empty((n, 3, t, t), np.uint8), np.empty((n, 4, t, t), np.uint8)
    tiles_from_frame(inspector.plan, inspector.padded, numbers, tiles, gains)
    inspector.memory.tiles_into(inspector.plan, numbers, cues)
    if gains is not None:
        explain_white(tiles, cues, gains[numbers])
    scores, misfit = np.empty((n, t, t), np.float32), np.empty((n, t // REGION_PX, t // REGION_PX), np.float32)
    inspector.engine.infer(tiles, cues, scores, misfit)
    return tiles, cues, scores


def highest_by_region(scores: F32) -> F32:
    """(n, t, t) -> (n, t/16, t/16)."""
    n, t = scores.shape[:2]
    return np.asarray(scores.reshape(n, t // REGION_PX, REGION_PX, t // REGION_PX, REGION_PX).max((2, 4)), np.float32)


def _gain_of_tiles(inspector: CpuInspector, numbers: I64) -> F32:
    side = inspector.plan.tile_px // REGION_PX
    most, peak = inspector.gain.most, inspector.bundle.thresholds.region_peak
    corners = np.array(inspector.plan.origins_yx, np.int64)[numbers] // REGION_PX
    cells = np.stack([most[y : y + side, x : x + side] for y, x in corners.tolist()])
    return np.asarray(cells / np.float32(peak), np.float32)


def distilled(lessons: Lessons, steps: int, seed: int, on_step: Callable[[int, int], object]) -> FirstLookNet:
    """A first look trained on the lessons; the same for the same seed."""
    torch.manual_seed(seed)
    net, rng = FirstLookNet(), np.random.default_rng([seed, 33])
    optimizer = torch.optim.AdamW(net.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    top = float(lessons.scores[: lessons.used].max())
    thresholds = lessons.inspector.bundle.thresholds
    top = min(top, MOST_OF_THRESHOLD * thresholds.region_peak * thresholds.pixel)
    wanted = np.log(np.clip(lessons.scores[: lessons.used], LEAST_SCORE, max(top, 2 * LEAST_SCORE)))
    calls = (lessons.levels[: lessons.used] >= NEAR_A_CALL).any((1, 2))
    with_calls, without = np.flatnonzero(calls), np.flatnonzero(~calls)
    for step in range(steps):
        planes, scores, levels = _pieces(rng, lessons, wanted, _drawn(rng, with_calls, without))
        loss = _loss(net(planes), scores, levels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        on_step(step + 1, steps)
    return net.eval()


def _drawn(rng: np.random.Generator, with_calls: I64, without: I64) -> I64:
    """Half of a batch with calls, half without, where there are both; in order, as they lie in the file."""
    parts = [one for one in (with_calls, without) if len(one)]
    return np.sort(np.concatenate([rng.choice(one, BATCH // len(parts)) for one in parts]))


def _pieces(rng: np.random.Generator, lessons: Lessons, wanted: F32, chosen: I64) -> tuple[Tensor, Tensor, Tensor]:
    """Of each chosen tile a piece with one of its calls, or any: planes, logarithms of scores, levels."""
    side = wanted.shape[1]
    k = min(CUT_PX // REGION_PX, side)
    planes, scores, levels = [], [], []
    for n in chosen.tolist():
        calls = np.argwhere(lessons.levels[n] >= NEAR_A_CALL)
        at = calls[rng.integers(len(calls))] if len(calls) else rng.integers(0, side, 2)
        y, x = np.clip(at - rng.integers(0, k, 2), 0, side - k).tolist()
        px = slice(y * REGION_PX, (y + k) * REGION_PX), slice(x * REGION_PX, (x + k) * REGION_PX)
        planes.append(np.asarray(lessons.planes[n][:, px[0], px[1]]))
        scores.append(wanted[n, y : y + k, x : x + k])
        levels.append(lessons.levels[n, y : y + k, x : x + k])
    return torch.from_numpy(np.stack(planes)), torch.from_numpy(np.stack(scores)), torch.from_numpy(np.stack(levels))


def _loss(expected: Tensor, wanted: Tensor, levels: Tensor) -> Tensor:
    short = expected - wanted
    weight = torch.where(short < 0, UNDER_WEIGHT, 1.0) * torch.where(levels >= NEAR_A_CALL, CALL_WEIGHT, 1.0)
    return (weight * functional.mse_loss(expected, wanted, reduction="none")).mean()
