"""What share of planted defects is asked for, and what a golden-image difference scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hisir_edge.bundle.metrics import MetricsModel
from hisir_edge.engine.acceptance.asked import FEWEST_SHARE, Asked, asked_again, asked_for, settled
from hisir_edge.engine.acceptance.difference import LEAST_DEVIATION_LEVELS, ORDINARY_DEVIATIONS, GoldenDifference
from hisir_edge.inspection.score import logit_of_score
from hisir_edge.net.position import DEVIATION_GAIN


def never() -> float:
    raise AssertionError("measured although enough is found")


@pytest.mark.parametrize(
    ("found", "difference", "share"),
    [
        (0.79, 0.86, 0.8),  # a difference finds more than is asked for: nothing is let off
        (0.79, 0.82, 0.77),
        (0.79, 0.4, 0.35),  # what chance explains of the planted defects less
        (0.06, 0.08, FEWEST_SHARE),
        (0.12, 0.0, FEWEST_SHARE),  # a difference finds none: a network must find some
    ],
)
def test_what_a_difference_finds_is_enough_where_it_is_less(found, difference, share):
    asked = settled(asked_for(None), found, 96, lambda: difference)
    assert asked.share == pytest.approx(share)
    assert (asked.usual, asked.difference) == (0.8, difference)


def test_a_share_that_a_person_asks_for_and_one_that_is_found_stay():
    assert settled(asked_for(0.9), 0.1, 96, never).share == 0.9
    assert settled(asked_for(None), 0.8, 96, never) == asked_for(None)
    assert settled(asked_for(0.0), 0.0, 96, never).share == 0
    assert settled(asked_for(None), 0.0, 0, never).share == 0.8, "nothing planted is nothing to compare on"
    assert settled(asked_for(None, is_short=True), 0.5, 96, never).share == 0.8, "it would find more if it went on"


def metrics(**changes: Any) -> MetricsModel:
    plain = [name for name, field in MetricsModel.model_fields.items() if field.is_required()]
    values: dict[str, Any] = dict.fromkeys(plain, 1)
    return MetricsModel(**values | {"recall": 0.83, "least_planted_recall": 0.8} | changes)


def test_other_thresholds_are_asked_for_what_the_bundle_was_built_for():
    built = metrics(least_by_difference=True)
    bad_board_among_them = settled(asked_again(built, None, fewer_calls=False), 0.49, 96, lambda: 0.19)
    assert bad_board_among_them.share == pytest.approx(0.78), "the network is the same, and found 0.83"
    assert settled(asked_again(built, None, fewer_calls=True), 0.49, 96, lambda: 0.19).share == pytest.approx(0.14)
    lowered = metrics(least_by_difference=True, least_planted_recall=0.07, difference_recall=0.12, recall=0.2)
    assert settled(asked_again(lowered, None, fewer_calls=False), 0.9, 96, never).share == 0.8, (
        "it does not stay so low"
    )
    assert asked_again(metrics(least_planted_recall=0.6), None, fewer_calls=False) == Asked(usual=0.6)
    assert asked_again(built, 0.3, fewer_calls=False) == Asked(usual=0.3)
    assert settled(asked_again(None, None, fewer_calls=False), 0.1, 96, never).share == 0, "one without figures"


def test_what_may_be_counted_on_is_nearly_what_is_found_where_less_was_enough():
    assert metrics().promised_recall == 0.8
    assert metrics(recall=0.49, least_planted_recall=0.14, difference_recall=0.19).promised_recall == pytest.approx(
        0.44
    )


def test_a_difference_counts_in_the_deviations_of_its_place():
    side = 32
    tiles, cues = np.full((2, 3, side, side), 100, np.uint8), np.full((2, 4, side, side), 100, np.uint8)
    cues[:, 3] = 0
    cues[1, 3] = round(4 * LEAST_DEVIATION_LEVELS * DEVIATION_GAIN)  # five times as much in all
    tiles[:, 1] += 80  # one channel is enough
    scores, misfit = np.empty((2, side, side), np.float32), np.ones((2, 2, 2), np.float32)
    GoldenDifference().infer(tiles, cues, scores, misfit)
    quiet, varied = logit_of_score(scores).mean((1, 2))
    assert quiet == pytest.approx(80 / LEAST_DEVIATION_LEVELS - ORDINARY_DEVIATIONS, abs=1e-3)
    assert varied == pytest.approx(80 / (5 * LEAST_DEVIATION_LEVELS) - ORDINARY_DEVIATIONS, abs=1e-3)
    assert not misfit.any()
