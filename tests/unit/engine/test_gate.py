"""The acceptance gate refuses what drifted, and says what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hisir_edge.bundle.thresholds import Thresholds
from hisir_edge.corruption.plant import plant
from hisir_edge.engine.acceptance.derive import Reading
from hisir_edge.engine.acceptance.gate import CLEAR, Drift, drift_between, table_of_drift
from hisir_edge.engine.acceptance.maps import Maps
from hisir_edge.learn.evaluation.thresholds import Derived

SAME = Drift(
    map_error_max=0.1, map_error_p999=0.01, pixel_auroc_fp32=0.99, pixel_auroc=0.99, aupro_fp32=0.95, aupro=0.95,
    planted=10, recall_fp32=0.9, recall=0.9, clear=7, clear_missed=0, seen=9, standing=1.0, held_out_boards=8,
    false_regions_fp32=0, false_regions=0, max_drop=0.005,
)  # fmt: skip


def test_no_drift_passes():
    assert SAME.refusals() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"aupro": 0.944}, "AUPRO drops by 0.0060"),
        ({"pixel_auroc": 0.98}, "pixel AUROC drops by 0.0100"),
        ({"clear_missed": 1}, "1 of 7 planted defects that float32 clearly finds"),
        ({"false_regions": 2}, "2 false regions"),
        ({"recall": 0.7}, "2 more planted defects missed than by float32 (at most 1)"),
        ({"clear": 0, "recall": 0.0}, "9 more planted defects missed"),
        ({"standing": 0.79}, "stand out 0.79 times as far"),
        ({"standing": float("nan")}, "stand out nan"),
        ({"seen": 0, "standing": 0.0}, "sees none of 10 planted defects"),
        ({"map_error_max": float("nan")}, "no numbers"),
        ({"aupro": float("nan")}, "AUPRO drops by nan"),
    ],
)
def test_each_limit_refuses_and_names_itself(changes, words):
    assert any(words in said for said in replace(SAME, **changes).refusals())


@pytest.mark.parametrize(
    "changes", [{"aupro": 0.9451}, {"recall": 0.8}, {"standing": 0.81}, {"false_regions": 1}, {"aupro": 0.99}]
)
def test_within_the_limits_it_passes(changes):
    assert replace(SAME, **changes).refusals() == []


def test_the_table_names_every_limit():
    table = table_of_drift(SAME)
    for words in ("AUPRO@0.3", "pixel AUROC", "recall of 10", "clearly found", "8 good boards", "p99.9"):
        assert words in table


def _reading(peaks: tuple[float, ...], marks: tuple[float, ...] = ()) -> Reading:
    derived = Derived(Thresholds(0.7, 2, 9), 0.1, 60)
    return Reading(
        derived=derived,
        noise=np.zeros((1, 1), np.uint8),
        auroc=0.99,
        aupro=0.95,
        peaks=peaks,
        marks=marks or peaks,
        false_regions=0,
    )


def _maps(folder: Path, maps: list[np.ndarray], planted: int = 0) -> Maps:
    """Maps of which the last ``planted`` ones are of boards with planted defects."""
    folder.mkdir()
    paths = []
    for number, values in enumerate(maps):
        paths.append(folder / f"{number}.npy")
        np.save(paths[-1], values)
    good = len(paths) - planted
    return Maps(tuple(paths[:good]), good, tuple(paths[good:]), ())


def test_map_errors_are_the_worst_and_missed_means_below_one(tmp_path):
    rng = np.random.default_rng(0)
    ours = [rng.random((40, 50)).astype(np.float32) for _ in range(3)]
    theirs = [m.copy() for m in ours]
    theirs[1][3, 4:14] += np.arange(1, 11) * 0.7
    drift = drift_between(
        _maps(tmp_path / "a", ours), _reading((CLEAR, CLEAR - 0.01, 9, 0.5)),
        _maps(tmp_path / "b", theirs), _reading((0.99, 0.2, 1.0, 0.5)), 0.005,
    )  # fmt: skip
    assert drift.map_error_max == pytest.approx(7)
    assert 3.5 < drift.map_error_p999 < 7
    on_planted = drift_between(
        _maps(tmp_path / "c", ours, 2), _reading((2.0,)), _maps(tmp_path / "d", theirs, 2), _reading((2.0,)), 0.005
    )
    assert on_planted.map_error_max == pytest.approx(7)
    assert (drift.clear, drift.clear_missed) == (2, 1)
    assert (drift.recall_fp32, drift.recall) == (0.75, 0.25)


def test_planted_defects_are_the_same_each_time_and_where_the_truth_says():
    rng = np.random.default_rng(5)
    board = np.kron(rng.integers(0, 256, (24, 32, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    first, second = board.copy(), board.copy()
    truth, places = plant(first, 128, np.zeros((0, 4), np.int32), (3, 1), 4)
    again, _ = plant(second, 128, np.zeros((0, 4), np.int32), (3, 1), 4)
    assert np.array_equal(first, second) and np.array_equal(truth, again)
    assert 2 <= len(places) <= 6
    changed = (first != board).any(2)
    windows = np.zeros(truth.shape, bool)
    for y, x in places:
        assert not windows[y : y + 128, x : x + 128].any(), "windows lie apart"
        windows[y : y + 128, x : x + 128] = True
    assert not changed[~windows].any() and not truth[~windows].any()
    assert truth.any() and changed[truth > 0].mean() > 0.3
    classes = [int(truth[y : y + 128, x : x + 128].max()) for y, x in places]
    assert classes == [5 + i for i in range(len(places))], "one class a window, in turn"


@pytest.mark.parametrize(
    ("float32", "engine", "seen", "standing"),
    [
        ((0.4, 0.6, 2.0), (0.0, 0.6, 2.0), 2, 1.0),  # what float32 does not see does not count
        ((1.0, 2.0), (0.5, 1.0), 2, 0.5),
        ((9.0, 2.0), (3.5, 2.0), 2, 1.0),  # a score that saturates far above the threshold is whole
        ((1.45,) * 8, (0.29,) * 8, 8, 0.2),  # an engine that goes blind, nothing of it clear
        ((2.0, 2.0), (0.0, 2.0), 2, (1e-3 / 2) ** 0.5),
        ((0.3,), (0.3,), 0, 0.0),
    ],
)
def test_how_far_planted_defects_stand_out(tmp_path, float32, engine, seen, standing):
    one = [np.zeros((4, 4), np.float32)]
    drift = drift_between(
        _maps(tmp_path / "a", one),
        _reading((0.0,), float32),
        _maps(tmp_path / "b", one),
        _reading((0.0,), engine),
        0.005,
    )
    assert drift.seen == seen
    assert drift.standing == pytest.approx(standing)


def test_of_two_photos_of_a_board_the_worse_one_counts_for_each_area():
    from hisir_edge.engine.acceptance.peaks import one_a_board

    first = [np.array([5.0, 1.0]), np.array([0.0])]
    second = [np.array([4.9, 0.5]), np.array([4.9, 0.1])]
    other = [np.array([1.0]), np.array([1.0])]
    found = one_a_board([first, second, other], (0, 0, 1))
    assert [[area.tolist() for area in board] for board in found] == [[[5.0, 1.0], [4.9, 0.1]], [[1.0], [1.0]]]
