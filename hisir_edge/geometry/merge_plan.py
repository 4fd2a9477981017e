"""Merge plan of a tile plan: candidate tiles of each region of 16 x 16 px, and distances to tiles' borders."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from hisir_edge.arrays import F32, I32, Bool
from hisir_edge.geometry.tile import REGION_PX, TilePlan

CONTEXT_PX = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class MergePlan:
    """The merge plan of a tile plan, computed once.

    ``candidate`` (k, gy, gx): tile index or -1; ``cell`` (k, gy, gx): flat region index inside that
    tile; ``border`` (k, gy, gx): 0 in the tile's middle to 1 at its border; ``home`` rectangles: per
    tile the part of the frame that is its own by geometry (y0, y1, x0, x1 in pixels). Every pixel has one home.
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


def merge_plan_from_tiles(plan: TilePlan, run: Bool | None = None) -> MergePlan:
    """Candidates, border distances and home rectangles of a tile plan; ``run`` (n,): the tiles that have a say."""
    cells_h, cells_w = plan.padded_hw[0] // REGION_PX, plan.padded_hw[1] // REGION_PX
    side = plan.tile_px // REGION_PX
    covering: list[list[list[int]]] = [[[] for _ in range(cells_w)] for _ in range(cells_h)]
    for index, (y, x) in enumerate(plan.origins_yx):
        if run is not None and not run[index]:
            continue
        for gy in range(y // REGION_PX, y // REGION_PX + side):
            for gx in range(x // REGION_PX, x // REGION_PX + side):
                covering[gy][gx].append(index)
    depth = max(1, *(len(c) for row in covering for c in row))
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
    return MergePlan(
        plan=plan, candidate=candidate, cell=cell, border=border, contested=(candidate >= 0).sum(0) > 1, home=home
    )


def _border_cost(plan: TilePlan, own: I32, local_y: I32, local_x: I32, side: int) -> F32:
    """1 at a tile's border, 0 from ``CONTEXT_PX`` inwards; the frame's own edge is no border."""
    far = np.float32(1e6)
    top = np.where(own[..., 0] == 0, far, local_y)
    left = np.where(own[..., 1] == 0, far, local_x)
    bottom = np.where(own[..., 0] + plan.tile_px == plan.padded_hw[0], far, side - 1 - local_y)
    right = np.where(own[..., 1] + plan.tile_px == plan.padded_hw[1], far, side - 1 - local_x)
    distance_px = np.minimum(np.minimum(top, bottom), np.minimum(left, right)) * REGION_PX + REGION_PX / 2
    return np.clip(1 - distance_px / CONTEXT_PX, 0, 1).astype(np.float32)
