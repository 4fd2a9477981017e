"""ROPS, region-level optimised patch selection: per region, one tile's result is chosen; never an average.

Where tiles overlap, every region of 16 x 16 px has several candidates. The choice asks which tile
sees the region best: how well it reconstructs what it itself trusts there (``misfit``), how far the
region lies from the tile's border (context), and whether it agrees with the other candidates. It
never asks which alarms least. Neighbouring regions are pulled to the same tile (Potts term), so that
choices come in coherent patches (HiSIR-Net, arXiv 2512.17296; the form is ours, decision 0004).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from hisir_edge.arrays import F32, I32, Bool
from hisir_edge.line.tile import REGION_PX, TilePlan

CONTEXT_PX = 96
BORDER_WEIGHT = 1.0
MISFIT_WEIGHT = 0.5
AGREEMENT_WEIGHT = 0.25
COHERENCE_WEIGHT = 0.3
SWEEPS = 2
FORBIDDEN = np.float32(1e9)


@dataclass(frozen=True, slots=True)
class MergePlan:
    """What merging needs of a tile plan, computed once.

    ``candidate`` (k, gy, gx): tile index or -1; ``cell`` (k, gy, gx): flat region index inside that
    tile; ``border`` (k, gy, gx): 0 in the tile's middle to 1 at its border; ``home`` rectangles: per
    tile the part of the frame that is its own by geometry (y0, y1, x0, x1 in pixels).
    """

    plan: TilePlan
    candidate: I32
    cell: I32
    border: F32
    contested: Bool
    home: tuple[tuple[int, int, int, int], ...]


def _axis_homes(starts: list[int], tile_px: int, length: int) -> list[tuple[int, int]]:
    """Cut an axis at the middle of each overlap, on the region grid."""
    cuts = [0]
    for a, b in itertools.pairwise(starts):
        cuts.append((b + a + tile_px) // 2 // REGION_PX * REGION_PX)
    cuts.append(length)
    return list(itertools.pairwise(cuts))


def merge_plan_from_tiles(plan: TilePlan) -> MergePlan:
    """Candidates, border distances and home rectangles of a tile plan."""
    cells_h, cells_w = plan.padded_hw[0] // REGION_PX, plan.padded_hw[1] // REGION_PX
    side = plan.tile_px // REGION_PX
    covering: list[list[list[int]]] = [[[] for _ in range(cells_w)] for _ in range(cells_h)]
    for index, (y, x) in enumerate(plan.origins_yx):
        for gy in range(y // REGION_PX, y // REGION_PX + side):
            for gx in range(x // REGION_PX, x // REGION_PX + side):
                covering[gy][gx].append(index)
    depth = max(len(c) for row in covering for c in row)
    candidate = np.full((depth, cells_h, cells_w), -1, np.int32)
    for gy, row in enumerate(covering):
        for gx, tiles in enumerate(row):
            candidate[: len(tiles), gy, gx] = tiles
    origins = np.array(plan.origins_yx, np.int32)
    own = origins[np.maximum(candidate, 0)]
    gy, gx = np.mgrid[0:cells_h, 0:cells_w]
    local_y, local_x = gy - own[..., 0] // REGION_PX, gx - own[..., 1] // REGION_PX
    cell = np.where(candidate >= 0, local_y * side + local_x, 0).astype(np.int32)
    border = _border_cost(plan, own, local_y, local_x, side)
    ys, xs = sorted(set(origins[:, 0].tolist())), sorted(set(origins[:, 1].tolist()))
    home_y = dict(zip(ys, _axis_homes(ys, plan.tile_px, plan.padded_hw[0]), strict=True))
    home_x = dict(zip(xs, _axis_homes(xs, plan.tile_px, plan.padded_hw[1]), strict=True))
    home = tuple((*home_y[y], *home_x[x]) for y, x in plan.origins_yx)
    return MergePlan(plan, candidate, cell, border, (candidate >= 0).sum(0) > 1, home)


def _border_cost(plan: TilePlan, own: I32, local_y: I32, local_x: I32, side: int) -> F32:
    """1 at a tile's border, 0 from ``CONTEXT_PX`` inwards; the frame's own edge is no border."""
    far = np.float32(1e6)
    top = np.where(own[..., 0] == 0, far, local_y)
    left = np.where(own[..., 1] == 0, far, local_x)
    bottom = np.where(own[..., 0] + plan.tile_px == plan.padded_hw[0], far, side - 1 - local_y)
    right = np.where(own[..., 1] + plan.tile_px == plan.padded_hw[1], far, side - 1 - local_x)
    distance_px = np.minimum(np.minimum(top, bottom), np.minimum(left, right)) * REGION_PX + REGION_PX / 2
    return np.clip(1 - distance_px / CONTEXT_PX, 0, 1).astype(np.float32)


def _gathered(plan: MergePlan, per_cell: F32) -> F32:
    """(n, side, side) values of tiles -> (k, gy, gx) values of candidates."""
    flat = per_cell.reshape(len(per_cell), -1)
    return flat[np.maximum(plan.candidate, 0), plan.cell]


def _choose(plan: MergePlan, scores: F32, misfit: F32) -> I32:
    """Chosen candidate (0..k-1) per region, (gy, gx)."""
    present = plan.candidate >= 0
    n, t, _ = scores.shape
    side = t // REGION_PX
    fit = np.where(present, _gathered(plan, misfit), np.nan)
    best_fit = np.nanmin(fit, 0)
    cost = BORDER_WEIGHT * plan.border + MISFIT_WEIGHT * np.minimum((fit - best_fit) / (best_fit + 0.01), 2.0)
    # one row of each region stands for its level: enough to see which candidate is the odd one out
    level = _gathered(plan, scores.reshape(n, side, REGION_PX, side, REGION_PX)[:, :, REGION_PX // 2].mean(-1))
    level = np.where(present, level, np.nan)
    odd = np.abs(level - np.nanmedian(level, 0))
    cost = cost + AGREEMENT_WEIGHT * odd / (odd + 1.0)
    cost = np.where(present, cost, FORBIDDEN).astype(np.float32)
    choice: I32 = cost.argmin(0).astype(np.int32)
    for _ in range(SWEEPS):
        chosen_tile = np.take_along_axis(plan.candidate, choice[None], 0)[0]
        choice = (cost + COHERENCE_WEIGHT * _strangers(plan, chosen_tile)).argmin(0).astype(np.int32)
    return choice


def _strangers(plan: MergePlan, chosen_tile: I32) -> F32:
    """Per candidate, the share of its four neighbours that are taken from another tile."""
    padded = np.pad(chosen_tile, 1, mode="edge")
    around = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return sum((plan.candidate != tile).astype(np.float32) for tile in around) / np.float32(4)  # type: ignore[no-any-return]


def map_from_tiles(plan: MergePlan, scores: F32, misfit: F32, out: F32 | None = None) -> F32:
    """Merge tile scores (n, t, t) and misfits (n, t/16, t/16) into the map of the frame, (h, w).

    ``out``: a padded-frame-sized array to fill instead of a new one; the result is a view of it.
    """
    if out is None:
        out = np.empty(plan.plan.padded_hw, np.float32)
    for tile, (oy, ox), (y0, y1, x0, x1) in zip(scores, plan.plan.origins_yx, plan.home, strict=True):
        out[y0:y1, x0:x1] = tile[y0 - oy : y1 - oy, x0 - ox : x1 - ox]
    if plan.contested.any():
        _override(plan, out, scores, _choose(plan, scores, misfit))
    return out[: plan.plan.frame_hw[0], : plan.plan.frame_hw[1]]


def _override(plan: MergePlan, out: F32, scores: F32, choice: I32) -> None:
    """Rewrite the regions whose chosen tile is not the one at home there."""
    chosen = np.take_along_axis(plan.candidate, choice[None], 0)[0]
    cell = np.take_along_axis(plan.cell, choice[None], 0)[0]
    at_home = np.empty(chosen.shape, np.int32)
    for index, (y0, y1, x0, x1) in enumerate(plan.home):
        at_home[y0 // REGION_PX : y1 // REGION_PX, x0 // REGION_PX : x1 // REGION_PX] = index
    gy, gx = np.nonzero(plan.contested & (chosen != at_home))
    n, t, _ = scores.shape
    side = t // REGION_PX
    cells = scores.reshape(n, side, REGION_PX, side, REGION_PX)
    local = cell[gy, gx]
    picked = cells[chosen[gy, gx], local // side, :, local % side, :]
    target = out.reshape(out.shape[0] // REGION_PX, REGION_PX, out.shape[1] // REGION_PX, REGION_PX)
    target[gy, :, gx, :] = picked
