"""Other ways to merge overlapping tiles, to compare ROPS with; never used on the line."""

from __future__ import annotations

import numpy as np

from hisir_edge.arrays import F32
from hisir_edge.errors import InputError
from hisir_edge.line.inspect import Merge
from hisir_edge.line.merge import MergePlan, map_from_tiles


def _cropped(plan: MergePlan, merged: F32) -> F32:
    return merged[: plan.plan.frame_hw[0], : plan.plan.frame_hw[1]]


def _mean(plan: MergePlan, scores: F32, misfit: F32, out: F32 | None) -> F32:
    """Average of the logits' softplus over all tiles that see a pixel."""
    total = np.zeros(plan.plan.padded_hw, np.float32)
    count = np.zeros(plan.plan.padded_hw, np.float32)
    t = plan.plan.tile_px
    for tile, (y, x) in zip(scores, plan.plan.origins_yx, strict=True):
        total[y : y + t, x : x + t] += tile
        count[y : y + t, x : x + t] += 1
    return _cropped(plan, total / count)


def _highest(plan: MergePlan, scores: F32, misfit: F32, out: F32 | None) -> F32:
    """The highest score of all tiles that see a pixel."""
    merged = np.zeros(plan.plan.padded_hw, np.float32)
    t = plan.plan.tile_px
    for tile, (y, x) in zip(scores, plan.plan.origins_yx, strict=True):
        window = merged[y : y + t, x : x + t]
        np.maximum(window, tile, out=window)
    return _cropped(plan, merged)


def _centre(plan: MergePlan, scores: F32, misfit: F32, out: F32 | None) -> F32:
    """Each pixel from the tile whose middle is nearest: cut in the middle of every overlap."""
    merged = np.zeros(plan.plan.padded_hw, np.float32)
    for tile, (oy, ox), (y0, y1, x0, x1) in zip(scores, plan.plan.origins_yx, plan.home, strict=True):
        merged[y0:y1, x0:x1] = tile[y0 - oy : y1 - oy, x0 - ox : x1 - ox]
    return _cropped(plan, merged)


MERGES: dict[str, Merge] = {"rops": map_from_tiles, "mean": _mean, "max": _highest, "centre": _centre}


def merge_from_name(name: str) -> Merge:
    """A merging rule; InputError names the known ones."""
    if name not in MERGES:
        raise InputError(expected=f"a merge out of {', '.join(MERGES)}", received=repr(name), fix="correct --merge")
    return MERGES[name]
