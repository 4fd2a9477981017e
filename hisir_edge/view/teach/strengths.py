"""What other strengths would have called: false calls against confirmed and planted defects, strength by strength."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hisir_edge.bundle.manifest import Manifest
from hisir_edge.geometry.box import BoxXYWH
from hisir_edge.revisions.change import LEAST_FACTOR, expected_calls, planted_found
from hisir_edge.view.statistics import CONFIRMED, FALSE_CALL, REPAIRED

STEP, MOST = 1.1, 4.0
"""Each strength offered is so many times the one before, up to the highest."""


@dataclass(frozen=True, slots=True)
class SeenBoard:
    """A board: the last strength offered at which it is called, by its place on the scale; -1: at none.

    ``defects``: of each that was called the last strength at which something is called there, and what people said.
    ``outcome``: what people made of the board as it was judged (``statistics.outcome_of``).
    """

    last: int
    defects: tuple[tuple[int, str], ...]
    outcome: str


def scale_of(manifest: Manifest) -> tuple[float, ...]:
    """The strengths that are offered, in units of the present one, rising; 1 is one of them."""
    least = max(1 / manifest.thresholds.region_peak, 1 / MOST, LEAST_FACTOR)
    down = int(np.floor(-np.log(least) / np.log(STEP) + 1e-9))
    up = int(np.floor(np.log(MOST) / np.log(STEP)))
    return tuple(round(STEP**n, 4) for n in range(-down, up + 1))


def seen_board(
    calls: Callable[[int, BoxXYWH | None], bool], count: int, defects: Sequence[tuple[BoxXYWH, str]], outcome: str
) -> SeenBoard:
    """A board by halving: what is called at one strength is taken to be called at each lower one.

    ``calls``: whether anything is called at a place of the scale of ``count``, in a box of the frame or, None,
    anywhere; ``defects``: box and word of each.
    """

    def last(box: BoxXYWH | None, high: int) -> int:
        low = -1  # it is called there at low, as far as that is a place, and is not at high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if calls(middle, box) else (low, middle)
        return low

    whole = last(None, count)
    return SeenBoard(whole, tuple((last(box, whole + 1), word) for box, word in defects), outcome)


def points_of(boards: Sequence[SeenBoard], manifest: Manifest) -> list[dict[str, Any]]:
    """For each strength, the lowest first: boards called, false calls among them, confirmed defects found and lost.

    ``planted``: the share of the build's planted defects found, None: not recorded; ``expected``: false calls on a
    good board by the build's own boards; ``new``: boards called that were not; ``waiting``: called, not reviewed.
    """
    scale = scale_of(manifest)
    return [_point(boards, manifest, place, strength, scale.index(1.0)) for place, strength in enumerate(scale)]


def _point(boards: Sequence[SeenBoard], manifest: Manifest, place: int, strength: float, now: int) -> dict[str, Any]:
    called = [board for board in boards if board.last >= place]
    confirmed = [last for board in boards for last, word in board.defects if word in (CONFIRMED, REPAIRED)]
    rejected = [last for board in boards for last, word in board.defects if word == FALSE_CALL]
    return {
        "strength": strength, "called": len(called),
        "false_calls": sum(board.outcome == "false call" for board in called),
        "waiting": sum(board.outcome == "waiting" for board in called),
        "new": sum(board.last < now for board in called),
        "confirmed_found": sum(last >= place for last in confirmed),
        "confirmed_lost": sum(last < place for last in confirmed),
        "rejected_gone": sum(last < place for last in rejected),
        "planted": planted_found(manifest, strength), "expected": expected_calls(manifest, strength),
    }  # fmt: skip
