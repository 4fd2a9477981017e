"""How fast the highest peaks of good boards thin out, and which of them are of no such tail.

Peaks over a threshold have an exponential tail (Coles 2001, An Introduction to Statistical Modeling of Extreme Values,
ch. 4). A peak far beyond it is a place that no other good board has: a bad board among the good ones, or a variant seen
once. Such peaks are found from the innermost of a few candidates outwards, so that two do not hide each other (Rosner
1983, Technometrics 25, "Percentage points for a generalized ESD many-outlier procedure", here for exponential tails).
"""

from __future__ import annotations

import numpy as np

from hisir_edge.arrays import F64

LEAST_TAIL_PEAKS = 8
LEAST_TAIL_LOGITS = 0.05
LEAST_BOARDS = 8
"""With fewer boards nothing can be said to be unlike all others."""
MOST_ALONE_SHARE = 0.1
"""Of all boards so many, one at least, may have such a place; where more have one, it is how good boards are."""
ALONE_CHANCE = 5e-3
"""How seldom good boards without such a place are taken to have one."""


def tail_of(peaks: list[F64]) -> tuple[float, float, int]:
    """(floor, scale, peaks above the floor): about one peak a board lies above the floor.

    Regions below the minimum area count as 0 and say nothing of how fast the others thin out: where the floor would lie
    among them, it is the lowest peak over 0, or 0 itself where only one is over it.
    """
    ordered = np.sort(np.concatenate(peaks))[::-1]
    over = min(max(len(peaks), LEAST_TAIL_PEAKS), len(ordered) - 1)
    sure = int((ordered > 0).sum())
    if 0 < sure < over and ordered[sure] == 0:
        over = max(sure - 1, 1)
    if over < 1:
        return float(ordered[0]), 1.0, 1
    floor = float(ordered[over])
    return floor, max(float((ordered[:over] - floor).mean()), LEAST_TAIL_LOGITS), over


def alone_on(peaks: list[F64]) -> tuple[int, ...]:
    """By board, how many of its highest peaks are of no tail that the peaks of all boards together have."""
    none = (0,) * len(peaks)
    if len(peaks) < LEAST_BOARDS:
        return none
    floor, _, over = tail_of(peaks)
    ordered = np.sort(np.concatenate(peaks))[::-1]
    excess = ordered[:over] - floor
    most = min(max(1, int(MOST_ALONE_SHARE * len(peaks))), over - LEAST_TAIL_PEAKS // 2)
    for count in range(most, 0, -1):
        # the highest of those that are left when count - 1 are gone, against a tail of which it alone is not known
        left = over - count + 1
        scale = max((excess[count:].sum() + excess[count]) / (left - 1), LEAST_TAIL_LOGITS)
        # below the double's grain a peak at the floor itself would be log 0
        beyond = np.exp(-max(excess[count - 1], 1e-9) / scale)
        chance = -np.expm1(left * np.log1p(-beyond))
        if chance < ALONE_CHANCE / most:
            return tuple(int((board >= ordered[count - 1]).sum()) for board in peaks)
    return none


def without_highest(peaks: list[F64], counts: tuple[int, ...]) -> list[F64]:
    """Peaks, highest first, less so many of each board's highest."""
    return [board[count:] for board, count in zip(peaks, counts, strict=True)]
