"""Other ways to merge overlapping tiles, to compare ROPS with; never used on the line."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hisir_edge.arrays import F32, I64
from hisir_edge.errors import InputError
from hisir_edge.geometry.merge_plan import MergePlan
from hisir_edge.geometry.tile import REGION_PX
from hisir_edge.inspection.cpu.inspector import MakeMerger
from hisir_edge.inspection.rops import Rops, check_finite

MergeAll = Callable[[MergePlan, F32], F32]
"""(plan, scores (n, t, t) of all tiles) -> the map of the padded frame."""


class WholeMerger:
    """Keeps every tile until the last is there; a ``Merger`` (workers.py)."""

    def __init__(self, plan: MergePlan, merge_all: MergeAll) -> None:
        t = plan.plan.tile_px
        self.plan, self.merge_all = plan, merge_all
        self.scores = np.zeros((len(plan.plan.origins_yx), t, t), np.float32)
        self.cell_max = np.zeros(plan.contested.shape, np.float32)

    def put(self, numbers: I64, scores: F32, misfit: F32) -> None:
        """See ``Merger``."""
        check_finite(scores, misfit)
        self.scores[numbers] = scores

    def undo(self) -> None:
        """See ``Merger``."""

    def merged(self) -> F32:
        """See ``Merger``."""
        padded = self.merge_all(self.plan, self.scores)
        h, w = padded.shape
        self.cell_max = padded.reshape(h // REGION_PX, REGION_PX, w // REGION_PX, REGION_PX).max((1, 3))
        return padded[: self.plan.plan.frame_hw[0], : self.plan.plan.frame_hw[1]]


def _mean(plan: MergePlan, scores: F32) -> F32:
    """Average of the logits' softplus over all tiles that see a pixel."""
    total = np.zeros(plan.plan.padded_hw, np.float32)
    count = np.zeros(plan.plan.padded_hw, np.float32)
    t = plan.plan.tile_px
    for tile, (y, x) in zip(scores, plan.plan.origins_yx, strict=True):
        total[y : y + t, x : x + t] += tile
        count[y : y + t, x : x + t] += 1
    return np.asarray(total / count, np.float32)


def _highest(plan: MergePlan, scores: F32) -> F32:
    """The highest score of all tiles that see a pixel."""
    merged = np.zeros(plan.plan.padded_hw, np.float32)
    t = plan.plan.tile_px
    for tile, (y, x) in zip(scores, plan.plan.origins_yx, strict=True):
        window = merged[y : y + t, x : x + t]
        np.maximum(window, tile, out=window)
    return merged


def _centre(plan: MergePlan, scores: F32) -> F32:
    """Each pixel from the tile whose middle is nearest: cut in the middle of every overlap."""
    merged = np.zeros(plan.plan.padded_hw, np.float32)
    for tile, (oy, ox), (y0, y1, x0, x1) in zip(scores, plan.plan.origins_yx, plan.home, strict=True):
        merged[y0:y1, x0:x1] = tile[y0 - oy : y1 - oy, x0 - ox : x1 - ox]
    return merged


OTHERS: dict[str, MergeAll] = {"mean": _mean, "max": _highest, "centre": _centre}
MERGES = ("rops", *OTHERS)


def merge_from_name(name: str) -> MakeMerger:
    """A merging rule; InputError names the known ones."""
    if name not in MERGES:
        raise InputError(expected=f"a merge out of {', '.join(MERGES)}", received=repr(name), fix="correct --merge")
    return Rops if name == "rops" else lambda plan: WholeMerger(plan, OTHERS[name])
