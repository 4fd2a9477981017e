"""Where a file's parts lie on a picture that nobody has clicked at: parts are laid over what stands out from the board.

Coarse: the outline of all parts over the outline of all that stands out, in eight ways (quarter turns, mirrored or
not) at several sizes. Fine: each part's nearest thing of about its size, again and again, closer each time (iterative
closest point). Which of the eight is right is told by how many parts find such a thing; a doubt is an error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from hisir_edge.arrays import F64, U8
from hisir_edge.corruption.spots import part_boxes
from hisir_edge.engine.parts.fit import Fit, fitted
from hisir_edge.errors import InputError

SCALES = (0.85, 0.92, 1.0, 1.08, 1.16)
ROUNDS, FIRST, LAST = 24, 0.06, 0.004
"""Rounds of the fine part; how far a part may lie from its thing at first and last, of the outline's diagonal."""
LIKE = 1.2
"""How much a factor of e in size counts, in units of that distance."""
LEAST_SHARE, LEAST_LEAD = 0.5, 1.25
"""Of the parts that have to find something, and how many times as many as in the second best way."""
LEAST_PARTS = 8


@dataclass(frozen=True, slots=True)
class Found:
    """``share``: of the parts that lie on something of about their size; ``lead``: times as many as the second way."""

    fit: Fit
    share: float
    lead: float


def found_on_picture(points_mm: F64, sizes_mm: F64, picture: U8, ways: tuple[bool, ...]) -> Found:
    """Of centres and upright sizes (n, 2) in mm; ``ways``: mirrored or not. InputError where it is in doubt."""
    if len(points_mm) < LEAST_PARTS:
        raise InputError(
            expected=f"{LEAST_PARTS} parts or more to be found by",
            received=f"{len(points_mm)}",
            fix="name fiducials: --at",
        )
    centres, sides = _things(picture)
    if len(centres) < LEAST_PARTS:
        raise InputError(
            expected="a picture of a board", received=f"one with {len(centres)} things on it", fix="name the right one"
        )
    tries = [
        (quarter, mirrored, *_laid(points_mm, sizes_mm, centres, sides, quarter, mirrored))
        for mirrored in ways for quarter in range(4)
    ]  # fmt: skip
    best = max(tries, key=lambda one: one[3])
    second = max((one[3] for one in tries if one[:2] != best[:2]), default=0.0)
    lead = best[3] / max(second, 1e-6)
    if best[3] < LEAST_SHARE or lead < LEAST_LEAD:
        raise InputError(
            expected=f"a place where {LEAST_SHARE:.0%} of the parts lie on something, and clearly more than elsewhere",
            received=f"{best[3]:.0%}, and {second:.0%} the next best way",
            fix="name two or more fiducials or parts (--at FID1=412,377 --at FID2=3790,2805); without them the file "
            "has to hold nearly all parts of the board",
        )
    return Found(best[2], best[3], lead)


def share_on_things(fit: Fit, points_mm: F64, sizes_mm: F64, picture: U8) -> float:
    """Which share of the parts lies on something of about its size that stands out from the board."""
    centres, sides = _things(picture)
    if not len(centres):
        return 0.0
    diagonal = float(np.hypot(*picture.shape[:2]))
    quarter = round(fit.turned_deg / 90) % 4
    return float(_nearest(fit, points_mm, sizes_mm, centres, sides, diagonal * LAST, quarter)[0].mean())


def _things(picture: U8) -> tuple[F64, F64]:
    """Centres and sides (n, 2) of what stands out."""
    boxes = part_boxes(picture, largest_px=max(picture.shape[:2]) // 4).astype(np.float64)
    return boxes[:, :2] + boxes[:, 2:] / 2, np.maximum(boxes[:, 2:], 1)


def _laid(
    points_mm: F64, sizes_mm: F64, centres: F64, sides: F64, quarter: int, mirrored: bool
) -> tuple[Fit, float]:  # fmt: skip
    """The best of several sizes: the fit and the share of parts that lie on something."""
    seen = points_mm * np.array([-1.0 if mirrored else 1.0, -1.0])
    turn = np.linalg.matrix_power(np.array([[0.0, -1.0], [1.0, 0.0]]), quarter)
    (low, high), (to_low, to_high) = (np.percentile(what, (1, 99), 0) for what in (seen @ turn.T, centres))
    diagonal = float(np.hypot(*(to_high - to_low)))
    about = float(np.sqrt(np.prod((to_high - to_low) / np.maximum(high - low, 1e-3))))
    best: tuple[Fit, float] | None = None
    for scale in SCALES:
        laid = (seen @ turn.T - (low + high) / 2) * about * scale + (to_low + to_high) / 2
        fit = fitted(points_mm, laid, mirrored)
        for turn_no in range(ROUNDS):
            reach = diagonal * FIRST * (LAST / FIRST) ** (turn_no / (ROUNDS - 1))
            near, to = _nearest(fit, points_mm, sizes_mm, centres, sides, reach, quarter)
            if near.sum() < LEAST_PARTS // 2:
                break
            fit = fitted(points_mm[near], centres[to[near]], mirrored)
        share = float(_nearest(fit, points_mm, sizes_mm, centres, sides, diagonal * LAST, quarter)[0].mean())
        if best is None or share > best[1]:
            best = fit, share
    assert best is not None  # noqa: S101  # there are scales
    return best


def _nearest(
    fit: Fit, points_mm: F64, sizes_mm: F64, centres: F64, sides: F64, reach_px: float, quarter: int
) -> tuple[F64, F64]:
    """Whether each part has a thing of about its size within reach, and which."""
    sizes_px = np.maximum((sizes_mm if quarter % 2 == 0 else sizes_mm[:, ::-1]) * fit.px_per_mm, 1)
    things = np.column_stack([centres / reach_px, LIKE * np.log(sides)])
    parts = np.column_stack([fit.to_px(points_mm) / reach_px, LIKE * np.log(sizes_px)])
    away, which = cKDTree(things).query(parts, distance_upper_bound=1.0)
    return np.isfinite(away), which
