"""What one good board alone shows is told from the tail of all: found when it is there, hardly ever when not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hisir_edge.learn.evaluation.tails import LEAST_BOARDS, alone_on, tail_of, without_highest
from hisir_edge.learn.evaluation.thresholds import derived_from_peaks


def boards(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    return [np.sort(rng.exponential(1.0, 12))[::-1] for _ in range(count)]


@pytest.mark.parametrize("count", [10, 24, 40])
def test_boards_of_one_tail_have_nothing_of_their_own(count):
    rng = np.random.default_rng(count)
    share = np.mean([any(alone_on(boards(rng, count))) for _ in range(400)])
    assert share <= 0.05


@given(st.integers(0, 10**6), st.integers(10, 60), st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_so_many_places_are_found_where_they_are(seed, count, places):
    rng = np.random.default_rng(seed)
    peaks, most = boards(rng, count), max(1, int(0.1 * count))
    which = rng.choice(count, min(places, most), replace=False)
    for number in which:
        peaks[number] = np.append(40.0 + rng.uniform(0, 20), peaks[number])
    counts = alone_on(peaks)
    found = {i for i, n in enumerate(counts) if n}
    assert found >= set(which)
    assert len(found - set(which)) <= 1, "a good board is taken for such a one by chance, in 0.1 to 1.5 % of sets"
    left = without_highest(peaks, counts)
    assert tail_of(left)[1] < 3
    assert all(len(a) + n == len(b) for a, n, b in zip(left, counts, peaks, strict=True))


@pytest.mark.parametrize("count", [10, 24, 40])
@pytest.mark.parametrize("places", [2, 4, 10])
def test_many_on_one_board_do_not_hide_each_other(count, places):
    rng = np.random.default_rng([count, places])
    peaks = boards(rng, count)
    peaks[3] = np.concatenate([np.sort(rng.uniform(20, 30, places))[::-1], peaks[3]])
    assert alone_on(peaks) == tuple(places if i == 3 else 0 for i in range(count))


def test_where_good_boards_show_nothing_one_that_does_is_alone():
    quiet = [np.array([0.0, 0.0, -0.3, -0.5]) for _ in range(12)]  # regions too small to count
    quiet[4] = np.array([11.4, 0.0, -0.3])
    assert alone_on(quiet) == tuple(int(i == 4) for i in range(12))
    assert derived_from_peaks([[board] for board in quiet], 0.05, (9,)).thresholds.region_peak < 2


def test_a_board_that_is_one_region_is_not_left_without_a_peak():
    """It touches every cell, so that there is no quiet one beside it."""
    peaks = boards(np.random.default_rng(9), 12)
    peaks[0] = np.array([40.0])
    found = derived_from_peaks([[board] for board in peaks], 0.05, (9,))
    assert found.alone == (1, *(0,) * 11)
    learnt = derived_from_peaks([[b] for b in peaks[1:7]], 0.05, (9,), others=[[b] for b in (*peaks[7:], peaks[0])])
    assert learnt.alone == (*(0,) * 11, 1)
    assert found.thresholds.region_peak < 14, "40 logits are 58"


def test_what_many_boards_show_is_how_good_boards_are():
    rng = np.random.default_rng(6)
    peaks = [np.append(30.0 + rng.uniform(0, 10), b) if i < 12 else b for i, b in enumerate(boards(rng, 24))]
    assert not any(alone_on(peaks))


def test_of_few_boards_none_is_unlike_all_others():
    peaks = boards(np.random.default_rng(7), LEAST_BOARDS - 1)
    peaks[0] = np.append(99.0, peaks[0])
    assert not any(alone_on(peaks))


def test_a_bad_board_among_the_good_does_not_move_the_threshold():
    rng = np.random.default_rng(8)
    clean = boards(rng, 24)
    spoilt = [np.append(25.0, clean[0]), *clean[1:]]

    def region(peaks, **how):
        found = derived_from_peaks([[board] for board in peaks], 0.05, (9,), **how)
        return found.thresholds.pixel * found.thresholds.region_peak, found.alone

    without, _ = region(clean)
    with_one, alone = region(spoilt)
    counted, none = region(spoilt, keep_alone=True)
    assert with_one == pytest.approx(without, rel=0.03)
    assert alone == (1, *(0,) * 23)
    assert counted > without + 1
    assert not any(none)
    learnt, alone = region(clean[:12], others=[[board] for board in [*clean[12:], np.append(25.0, clean[3])]])
    assert alone == (*(0,) * 24, 1), "also on a board that the network has learnt"
    assert learnt == pytest.approx(without, rel=0.35)
