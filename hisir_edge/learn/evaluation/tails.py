"""How fast the highest peaks of good boards thin out, and which of them are of no such tail.

Peaks over a threshold have an exponential tail (Coles 2001, An Introduction to Statistical Modeling of Extreme Values,
ch. 4). A peak far beyond it is a place that no other good board has: a bad board among the good ones, or a variant seen
once. Such peaks are found from the innermost of a few candidates outwards, so that two do not hide each other (Rosner
1983, Technometrics 25, "Percentage points for a generalized ESD many-outlier procedure", here for exponential tails).
"""

from __future__ import annotations

import numpy as np

from hisir_edge.arrays import F64, I64

LEAST_TAIL_PEAKS = 8
LEAST_TAIL_LOGITS = 0.05
LEAST_BOARDS = 8
"""With fewer boards nothing can be said to be unlike all others."""
MOST_ALONE_SHARE = 0.1
"""Of all boards so many, one at least, may have such a place; where more have one, it is how good boards are."""
MOST_TRIED = 64
"""Peaks that are looked at: a board that is bad all over has many."""
ALONE_CHANCE = 5e-3
"""How seldom good boards without such a place are to be taken to have one; by simulation 0.1 to 1.5 % of sets are."""


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
    of = np.repeat(np.arange(len(peaks)), [len(board) for board in peaks])
    every = np.concatenate(peaks)
    order = np.argsort(-every, kind="stable")
    most = _most_tried(of[order], max(1, int(MOST_ALONE_SHARE * len(peaks))))
    for count in range(most, 0, -1):
        highest = float(every[order[count - 1]])
        counts = np.bincount(of[order[:count]], minlength=len(peaks))
        if _is_beyond(highest, without_highest(peaks, tuple(counts)), ALONE_CHANCE / most):
            return tuple(int(n) for n in counts)
    return none


def _most_tried(of: I64, most_boards: int) -> int:
    """How many of the highest peaks lie on so few boards; ``of``: the boards of all peaks, the highest first."""
    seen = set[int]()
    for count, board in enumerate(of[:MOST_TRIED].tolist()):
        seen.add(board)
        if len(seen) > most_boards:
            return count
    return min(len(of), MOST_TRIED)


def _is_beyond(peak: float, rest: list[F64], chance: float) -> bool:
    """Whether a peak that is the next one above all the rest is too high for their tail but for such a chance."""
    floor, scale, over = tail_of(rest)
    highest = max(float(board[0]) for board in rest)
    # of a tail whose highest one is not known (censored, type II)
    scale = scale + max(highest - floor, 0.0) / over
    beyond = np.exp(-max(peak - floor, 1e-9) / scale)
    return bool(-np.expm1((over + 1) * np.log1p(-beyond)) < chance)


def without_highest(peaks: list[F64], counts: tuple[int, ...]) -> list[F64]:
    """Peaks, highest first, less so many of each board's highest; one that has no other is as quiet as the quietest."""
    quietest = min((float(board[-1]) for board in peaks if len(board)), default=0.0)
    return [
        board[count:] if count < len(board) else np.array([quietest])
        for board, count in zip(peaks, counts, strict=True)
    ]
