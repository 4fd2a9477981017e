"""Thresholds from good boards only, for a stated number of false calls per board.

Peaks over threshold (Coles 2001, An Introduction to Statistical Modeling of Extreme Values, ch. 4)
with an exponential tail on the gate's logits: the highest local peaks of the held-out good boards
say how fast peaks thin out, and the tail is followed to the wanted rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hisir_edge.arrays import F32, F64
from hisir_edge.errors import InputError
from hisir_edge.line.judge import Thresholds

BLOCK_PX = 64
PEAKS_PER_BOARD = 12
SURE_SCORE = float(np.log(2.0))
"""softplus(0): the score at which the gate trusts input and reconstruction alike."""
MIN_AREA_PX = 8


@dataclass(frozen=True, slots=True)
class GoodPeaks:
    """The highest peaks (raw scores) of each held-out good board, one row a board."""

    scores: F64


def peaks_from_map(raw_map: F32, count: int = PEAKS_PER_BOARD) -> F64:
    """The ``count`` highest block maxima of a raw map (h, w), highest first; blocks of 64 px."""
    h, w = raw_map.shape
    bottom, right = -h % BLOCK_PX, -w % BLOCK_PX
    padded = np.pad(raw_map, ((0, bottom), (0, right)), constant_values=-np.inf)
    blocks = padded.reshape(padded.shape[0] // BLOCK_PX, BLOCK_PX, -1, BLOCK_PX).max((1, 3))
    ordered = np.sort(blocks.ravel())[::-1].astype(np.float64)
    return ordered[:count]


def logit_of_score(score: F64) -> F64:
    """Inverse of softplus, stable at both ends."""
    score = np.maximum(score, 1e-12)
    return np.asarray(score + np.log(-np.expm1(-score)))


def score_of_logit(logit: float) -> float:
    """Softplus."""
    return float(np.logaddexp(0.0, logit))


def thresholds_from_peaks(peaks: list[F64], false_calls_per_board: float, min_area_px: int = MIN_AREA_PX) -> Thresholds:
    """Thresholds at which a good board shows ``false_calls_per_board`` regions in the mean.

    The mask's threshold is the gate's own boundary, or the region threshold where that is lower.
    """
    if not peaks:
        raise InputError(
            expected="at least one held-out good board", received="none", fix="train with more good boards"
        )
    if not 0 < false_calls_per_board <= 10:
        raise InputError(
            expected="a false-call rate above 0 and up to 10 a board",
            received=str(false_calls_per_board),
            fix="change --false-calls-per-board",
        )
    logits = np.sort(logit_of_score(np.concatenate(peaks)))[::-1]
    count = len(logits)
    floor = logits[-1]
    excess = max(float((logits[:-1] - floor).mean()) if count > 1 else 1.0, 0.05)
    # the mean number of peaks over the floor, per board, thins by e every `excess`
    region_logit = floor + excess * np.log(max(count / len(peaks) / false_calls_per_board, 1.0))
    region = score_of_logit(
        max(float(region_logit), float(logits[0]) if false_calls_per_board * len(peaks) < 1 else -1e9)
    )
    pixel = min(region, SURE_SCORE)
    return Thresholds(pixel, max(region / pixel, 1.0), min_area_px)
