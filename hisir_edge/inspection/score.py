"""Scores and logits: a raw score is the softplus of the gate's logit. Every conversion between the two is here.

The network itself applies ``torch.nn.functional.softplus`` (``net/hisir_net.py``), and ``kernels.cu`` reads the
network's scores; neither converts back.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hisir_edge.arrays import F32, F64

LEAST_SCORE = 1e-12
"""Lower scores are taken for this one, whose logit is finite."""


def score_of_logit(logit: F32) -> F32:
    """Softplus of logits, float32 of any shape."""
    return np.asarray(np.logaddexp(np.float32(0), np.asarray(logit, np.float32)), np.float32)


def score_of_one_logit(logit: float) -> float:
    """Softplus of one logit, in float64."""
    return float(np.logaddexp(0.0, logit))


def logit_of_score(score: npt.ArrayLike) -> F64:
    """Inverse of softplus, float64 of any shape; stable at both ends."""
    score = np.maximum(np.asarray(score, np.float64), LEAST_SCORE)
    return np.asarray(score + np.log(-np.expm1(-score)))
