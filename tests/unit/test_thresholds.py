"""Thresholds keep the stated false-call rate on boards that they have not seen."""

from __future__ import annotations

import numpy as np
import pytest

from hisir_edge.errors import InputError
from hisir_edge.learn.thresholds import logit_of_score, peaks_from_map, score_of_logit, thresholds_from_peaks


def test_softplus_and_back():
    logits = np.linspace(-12, 30, 85)
    scores = np.array([score_of_logit(float(v)) for v in logits])
    assert np.allclose(logit_of_score(scores), logits, atol=1e-6)


def test_peaks_are_block_maxima():
    rng = np.random.default_rng(2)
    raw = rng.random((200, 330)).astype(np.float32)
    raw[10, 300], raw[11, 301], raw[199, 5] = 9, 8, 7
    peaks = peaks_from_map(raw, 3)
    assert peaks[:2].tolist() == [9, 7], "two peaks of one block count once"
    assert len(peaks) == 3


@pytest.mark.parametrize("bad", [0.0, -1.0, 11.0, float("nan")])
def test_a_rate_that_is_none_is_refused(bad):
    with pytest.raises(InputError):
        thresholds_from_peaks([np.array([1.0, 0.5])], bad)


def test_no_boards_is_an_error():
    with pytest.raises(InputError):
        thresholds_from_peaks([], 0.1)


def _board_peaks(rng: np.random.Generator, law: str, count: int = 12) -> np.ndarray:
    """Highest block maxima of one simulated board of 3000 blocks, as raw scores."""
    if law == "normal":
        logits = rng.normal(-6.0, 2.0, 3000)
    elif law == "exponential":
        logits = rng.exponential(0.8, 3000) - 6.0
    else:  # boards differ as a whole, as light and lots do
        logits = rng.normal(-6.0 + rng.normal(0, 0.7), 1.8, 3000)
    return np.sort(np.logaddexp(0, logits))[::-1][:count]


@pytest.mark.parametrize("law", ["normal", "exponential", "mixed"])
@pytest.mark.parametrize(("held_out", "rate"), [(8, 0.05), (20, 0.05), (20, 0.5), (40, 0.02)])
def test_the_false_call_rate_holds_on_unseen_boards(law, held_out, rate):
    rng = np.random.default_rng(17)
    called = []
    for _ in range(60):
        seen = [_board_peaks(rng, law) for _ in range(held_out)]
        thresholds = thresholds_from_peaks(seen, rate)
        region = thresholds.region_peak * thresholds.pixel
        called.append(np.mean([(_board_peaks(rng, law) >= region).sum() for _ in range(20)]))
    assert rate / 6 <= np.mean(called) <= 2.5 * rate


def test_no_seen_board_fails_where_the_rate_wants_fewer_than_one():
    rng = np.random.default_rng(5)
    for _ in range(50):
        seen = [_board_peaks(rng, "mixed") for _ in range(8)]
        thresholds = thresholds_from_peaks(seen, 0.05)
        assert max(p.max() for p in seen) <= thresholds.region_peak * thresholds.pixel * (1 + 1e-9)
