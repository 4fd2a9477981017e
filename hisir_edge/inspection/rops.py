"""ROPS, region-level optimised patch selection: per region, one tile's result is chosen; never an average.

Where tiles overlap, every region of 16 x 16 px has several candidates. The choice asks which tile
sees the region best: how well it reconstructs what it itself trusts there (``misfit``), how far the
region lies from the tile's border (context), and whether it agrees with the other candidates. It
never asks which alarms least. Neighbouring regions are pulled to the same tile (Potts term), so that
choices come in coherent patches (HiSIR-Net, arXiv 2512.17296; the form is ours, decision 0004).
"""

from __future__ import annotations

import cv2
import numpy as np

from hisir_edge.arrays import F32, I32, I64, Bool
from hisir_edge.errors import InspectionError
from hisir_edge.geometry.merge_plan import MergePlan
from hisir_edge.geometry.tile import REGION_PX

BORDER_WEIGHT = 1.0
MISFIT_WEIGHT = 0.5
AGREEMENT_WEIGHT = 0.25
COHERENCE_WEIGHT = 0.3
SWEEPS = 2
FORBIDDEN = np.float32(1e9)
KEPT_FROM = np.float32(0.25)
"""Calibrated score from which a region's pixels are kept where not the whole map is wanted; 1.0 is the threshold."""


class Rops:
    """Takes tiles as they come out of the engine and gives the map of the frame; see ``Merger``.

    A tile's results go where it is at home; those of its other regions are set aside until ``merged`` chooses. So a
    frame costs 4 bytes a pixel for its map and 4 for each pixel that a second tile sees, not 4 for every tile's pixel.

    With ``most_gain`` (gh, gw), the highest gain in each region, only regions are kept that may reach ``KEPT_FROM`` in
    calibrated score, and those around them in the same tile; the map is 0 elsewhere. Pages that are never written take
    no memory, and a good board costs one look at its scores. The choice and ``cell_max`` are the same to the bit.
    """

    def __init__(self, plan: MergePlan, most_gain: F32 | None = None) -> None:
        self.plan = plan
        n, side = len(plan.plan.origins_yx), plan.plan.tile_px // REGION_PX
        self.out = np.zeros(plan.plan.padded_hw, np.float32)
        self._cells = _as_cells(self.out)
        grid = self._cells.shape[:2]
        home = np.zeros(grid, np.int64)
        for number, (y0, y1, x0, x1) in enumerate(plan.home):
            home[y0 // REGION_PX : y1 // REGION_PX, x0 // REGION_PX : x1 // REGION_PX] = number
        self._home = home
        origins = np.array(plan.plan.origins_yx, np.int64) // REGION_PX
        rows, columns = (origins[:, axis, None] + np.arange(side) for axis in (0, 1))
        self._place = rows[:, :, None] * grid[1] + columns[:, None, :]
        """(n, side, side): where each region of each tile lies in the grid, flat."""
        self._away = home.ravel()[self._place] != np.arange(n)[:, None, None]
        """(n, side, side): regions of each tile that have their home in another one; and their number among these."""
        self._slot = np.where(self._away, np.cumsum(self._away).reshape(n, side, side) - 1, -1)
        self._others = np.zeros((int(self._away.sum()), REGION_PX, REGION_PX), np.float32)
        self._level, self._misfit, self._peak = np.zeros((3, n, side, side), np.float32)
        self._waved = np.zeros(n, np.bool_)
        self._contest = _Contest(plan)
        self._replaced: tuple[Bool, F32] | None = None
        self.cell_max = np.zeros(grid, np.float32)
        self._floor: F32 | None = None
        self._kept = np.zeros(grid, np.bool_)
        """Regions of the map that their home tile has filled; and per tile its other regions that are set aside."""
        self._kept_away = np.zeros((n, side, side), np.bool_)
        if most_gain is not None:
            with np.errstate(divide="ignore"):
                self._floor = (KEPT_FROM / most_gain).ravel()[self._place]

    def put(self, numbers: I64, scores: F32, misfit: F32) -> None:
        """See ``Merger.put``."""
        if self._replaced is not None:
            raise RuntimeError("undo first: what was chosen for the last frame lies over the tiles' own regions")
        check_finite(scores, misfit)
        k, side = len(numbers), self._level.shape[1]
        self._waved[numbers] = False
        bands = scores.reshape(k, side, REGION_PX, side, REGION_PX)
        self._misfit[numbers] = misfit
        # one row of each region stands for its level: enough to see which candidate is the odd one out
        self._level[numbers] = bands[:, :, REGION_PX // 2].mean(-1)
        rows = scores.reshape(k, side, REGION_PX, side * REGION_PX).max(2).reshape(-1, REGION_PX)
        self._peak[numbers] = np.ascontiguousarray(rows.T).max(0).reshape(k, side, side)
        if self._floor is not None:
            self._keep_seen(numbers, bands.swapaxes(2, 3), self._floor)
            return
        for tile, number in zip(scores, numbers, strict=True):
            (y, x), (y0, y1, x0, x1) = self.plan.plan.origins_yx[number], self.plan.home[number]
            self.out[y0:y1, x0:x1] = tile[y0 - y : y1 - y, x0 - x : x1 - x]
        away = self._away[numbers]
        self._others[self._slot[numbers][away]] = bands.swapaxes(2, 3)[away]

    def wave(self, numbers: I64) -> None:
        """These tiles were not run, since nothing is expected in them: scores of 0, chosen where nothing else is."""
        self._misfit[numbers] = self._level[numbers] = self._peak[numbers] = 0
        self._waved[numbers] = True
        if self._floor is not None:
            self._clear(numbers, np.zeros((len(numbers), *self._away.shape[1:]), np.bool_))
            return
        for y0, y1, x0, x1 in np.array(self.plan.home)[numbers].tolist():
            self.out[y0:y1, x0:x1] = 0
        self._others[self._slot[numbers][self._away[numbers]]] = 0

    def _keep_seen(self, numbers: I64, regions: F32, floor: F32) -> None:
        """Keep what reaches the floor and what lies around it; ``regions`` (k, side, side, 16, 16)."""
        seen = self._peak[numbers] >= floor[numbers]
        if not seen.any() and not self._kept.any():  # most tiles of most boards
            self._kept_away[numbers] = False
            return
        keep, away, place = _with_neighbours(seen), self._away[numbers], self._place[numbers]
        columns = self._cells.shape[1]
        self._clear(numbers, keep)
        if keep.any():
            here = place[keep & ~away]
            self._cells[here // columns, here % columns] = regions[keep & ~away]
            self._others[self._slot[numbers][keep & away]] = regions[keep & away]

    def _clear(self, numbers: I64, keep: Bool) -> None:
        """What the last frame left of these tiles' regions goes, but for those to ``keep`` (k, side, side)."""
        away, place = self._away[numbers], self._place[numbers]
        kept, columns = self._kept.ravel(), self._cells.shape[1]
        gone = place[~keep & ~away]
        gone = gone[kept[gone]]
        self._cells[gone // columns, gone % columns] = 0
        kept[place[~away]] = keep[~away]
        self._kept_away[numbers] = keep & away

    def undo(self) -> None:
        """See ``Merger.undo``."""
        if self._replaced is not None:
            where, before = self._replaced
            self._cells[where] = before
            self._replaced = None

    def merged(self) -> F32:
        """See ``Merger.merged``."""
        if self._replaced is not None:  # asked again
            return self.out[: self.plan.plan.frame_hw[0], : self.plan.plan.frame_hw[1]]
        tile, cell = self._contest.choose(self._level, self._misfit, self._waved)
        side = self._level.shape[1]
        where = (tile >= 0) & (tile != self._home)
        chosen, local = tile[where], cell[where]
        if self._floor is not None:  # where neither view was kept, 0 stays 0
            seen = self._kept[where] | self._kept_away.reshape(len(self._peak), -1)[chosen, local]
            where[where] = seen
            chosen, local = chosen[seen], local[seen]
        self._replaced = (where, self._cells[where])
        others = self._others[self._slot[chosen, local // side, local % side]]
        if self._floor is not None:
            others[~self._kept_away.reshape(len(self._peak), -1)[chosen, local]] = 0
        self._cells[where] = others
        self.cell_max = np.where(tile >= 0, self._peak.reshape(len(self._peak), -1)[tile, cell], np.float32(0))
        return self.out[: self.plan.plan.frame_hw[0], : self.plan.plan.frame_hw[1]]


def map_from_tiles(plan: MergePlan, scores: F32, misfit: F32) -> F32:
    """Merge the scores (n, t, t) and misfits (n, t/16, t/16) of all tiles into the map of the frame, (h, w)."""
    rops = Rops(plan)
    rops.put(np.arange(len(scores)), scores, misfit)
    return rops.merged()


def check_finite(scores: F32, misfit: F32) -> None:
    """InspectionError unless all are numbers."""
    for what, values in (("misfits", misfit), ("scores", scores)):
        # one NaN or infinity anywhere makes the sum one; OpenCV adds up in less than half of NumPy's time
        if values.size and not np.isfinite(cv2.sumElems(values.reshape(-1, values.shape[-1]))[0]):
            raise InspectionError(
                expected=f"finite {what}", received="NaN or infinity", fix="verify or rebuild the bundle"
            )


def _with_neighbours(regions: Bool) -> Bool:
    """Regions (k, side, side) and the eight around each of them in the same tile."""
    out: Bool = regions.copy()
    out[:, 1:] |= regions[:, :-1]
    out[:, :-1] |= regions[:, 1:]
    rows = out.copy()
    out[:, :, 1:] |= rows[:, :, :-1]
    out[:, :, :-1] |= rows[:, :, 1:]
    return out


def _as_cells(frame: F32) -> F32:
    """A view (gh, gw, 16, 16) of a padded frame (h, w)."""
    h, w = frame.shape
    cells: F32 = frame.reshape(h // REGION_PX, REGION_PX, w // REGION_PX, REGION_PX).swapaxes(1, 2)
    return cells


class _Contest:
    """Regions that more than one tile sees, and the choice between their candidates."""

    def __init__(self, plan: MergePlan) -> None:
        self.only = np.where((plan.candidate >= 0).any(0), plan.candidate.max(0), -1)
        self.only_cell = plan.cell.max(0)  # 0 where no tile sees a region; the one tile where only one does
        count = (plan.candidate >= 0).sum(0)
        # by the number of candidates: along most seams there are two, and four or more where seams cross
        groups = (_Group(plan, (count > least) & (count <= most)) for least, most in ((1, 2), (2, len(plan.candidate))))
        self.groups = [group for group in groups if len(group.where[0])]

    def choose(self, level: F32, misfit: F32, waved: Bool) -> tuple[I32, I32]:
        """Per region of the grid the tile, -1 where there is none, and the region's flat number in it.

        ``waved`` (n,): tiles that were not run, which are chosen where no other one was either.
        """
        tile, cell = self.only.copy(), self.only_cell.copy()
        costs = [group.cost(level, misfit, waved if waved.any() else None) for group in self.groups]
        best = [cost.argmin(0) for cost in costs]
        for _ in range(SWEEPS):
            for group, chosen in zip(self.groups, best, strict=True):
                tile[group.where] = group.candidate[chosen, group.number]
            best = [
                (cost + np.float32(COHERENCE_WEIGHT / 4) * group.disagreeing(tile)).argmin(0)
                for group, cost in zip(self.groups, costs, strict=True)
            ]
        for group, chosen in zip(self.groups, best, strict=True):
            tile[group.where] = group.candidate[chosen, group.number]
            cell[group.where] = group.cell[chosen, group.number]
        return tile, cell


class _Group:
    """Some contested regions: ``candidate`` (k, m) and so on, of which the first ones of each column are there."""

    def __init__(self, plan: MergePlan, inside: Bool) -> None:
        grid = inside.shape
        self.where = np.nonzero(inside)
        self.number = np.arange(len(self.where[0]))
        count = (plan.candidate[:, inside] >= 0).sum(0)
        depth = int(count.max(initial=0))
        self.candidate = np.ascontiguousarray(plan.candidate[:depth, inside])
        self.cell = np.ascontiguousarray(plan.cell[:depth, inside])
        self.present = self.candidate >= 0
        self.border = BORDER_WEIGHT * plan.border[:depth, inside]
        self.source = np.maximum(self.candidate, 0).astype(np.int64) * (plan.plan.tile_px // REGION_PX) ** 2 + self.cell
        gy, gx = self.where
        self.around = [
            np.clip(gy + dy, 0, grid[0] - 1) * grid[1] + np.clip(gx + dx, 0, grid[1] - 1)
            for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1))
        ]
        self.middle = ((count - 1) // 2, count // 2)

    def disagreeing(self, tile: I32) -> F32:
        """(k, m): number of 4-neighbours assigned to a different tile (Potts penalty); ``tile`` (gh, gw)."""
        flat = tile.ravel()
        return np.asarray(sum((self.candidate != flat[place]).astype(np.float32) for place in self.around), np.float32)

    def cost(self, level: F32, misfit: F32, waved: Bool | None = None) -> F32:
        """(k, m): cost of each candidate, without the Potts penalty; ``waved``: see ``_Contest.choose``."""
        present, middle = (self.present, self.middle) if waved is None else self._without(waved)
        level, fit = level.ravel()[self.source], misfit.ravel()[self.source]
        best_fit = np.where(present, fit, np.float32(np.inf)).min(0)
        worse = np.minimum((fit - best_fit) / (best_fit + np.float32(0.01)), np.float32(2))
        ordered = np.sort(np.where(present, level, np.float32(np.inf)), axis=0)
        median = (ordered[middle[0], self.number] + ordered[middle[1], self.number]) / np.float32(2)
        odd = np.abs(level - median)
        cost = self.border + np.float32(MISFIT_WEIGHT) * worse + np.float32(AGREEMENT_WEIGHT) * odd / (odd + 1)
        return np.asarray(np.where(present, cost, FORBIDDEN), np.float32)

    def _without(self, waved: Bool) -> tuple[Bool, tuple[I64, I64]]:
        """Which candidates are there, and the two middle ones, without tiles that were not run beside one that was."""
        ran = self.present & ~waved[np.maximum(self.candidate, 0)]
        present: Bool = np.where(ran.any(0), ran, self.present)
        count = present.sum(0)
        return present, ((count - 1) // 2, count // 2)
