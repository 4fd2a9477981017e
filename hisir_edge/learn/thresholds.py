"""Thresholds from good boards only, for a stated number of false calls per board.

Peaks over threshold (Coles 2001, An Introduction to Statistical Modeling of Extreme Values, ch. 4)
with an exponential tail on the gate's logits: the highest local peaks of the held-out good boards,
about one a board, say how fast peaks thin out, and the tail is followed to the wanted rate.
"""

from __future__ import annotations

import numpy as np

from hisir_edge.arrays import F32, F64
from hisir_edge.errors import InputError
from hisir_edge.line.judge import Thresholds

BLOCK_PX = 64
PEAKS_PER_BOARD = 12
SURE_SCORE = float(np.log(2.0))
"""softplus(0): the score at which the gate trusts input and reconstruction alike."""
MIN_AREA_PX = 8
LEAST_TAIL_PEAKS = 8
LEAST_TAIL_LOGITS = 0.05


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
    region = score_of_logit(_logit_at_rate(logit_of_score(np.concatenate(peaks)), len(peaks), false_calls_per_board))
    pixel = min(region, SURE_SCORE)
    return Thresholds(pixel, max(region / pixel, 1.0), min_area_px)


def _logit_at_rate(logits: F64, boards: int, rate: float) -> float:
    """Where ``rate`` peaks a board remain: the tail above the highest peaks (about one a board), followed.

    Never below the highest peak seen where fewer than one is wanted on all these boards together.
    """
    ordered = np.sort(logits)[::-1]
    over = min(max(boards, LEAST_TAIL_PEAKS), len(ordered) - 1)
    if over < 1:
        return float(ordered[0]) + 1.0
    floor = float(ordered[over])
    scale = max(float((ordered[:over] - floor).mean()), LEAST_TAIL_LOGITS)
    # peaks over the floor thin by e every `scale` logits
    at_rate = floor + scale * float(np.log(over / boards / rate))
    return max(at_rate, float(ordered[0])) if rate * boards < 1 else at_rate
