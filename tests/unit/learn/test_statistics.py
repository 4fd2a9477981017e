"""The golden image and its deviation are what most good boards show, however odd a few of them are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hisir_edge.errors import InputError
from hisir_edge.learn.data.statistics import mean_memory, robust_memory, sort_boards, trimmed_of
from hisir_edge.net.position import DEVIATION_GAIN


def _boards(count: int, sigma: float = 5.0, hw: tuple[int, int] = (150, 60)) -> list[np.ndarray]:
    rng = np.random.default_rng(count)
    base = rng.integers(60, 190, (*hw, 3))
    return [np.clip(np.round(base + rng.normal(0, sigma, base.shape)), 0, 255).astype(np.uint8) for _ in range(count)]


def _memory(boards: list[np.ndarray]):
    return robust_memory(lambda y0, y1: [board[y0:y1].copy() for board in boards], boards[0].shape[:2])


@pytest.mark.parametrize("count", [3, 5, 8, 20, 40])
def test_of_noise_it_is_the_mean_and_the_standard_deviation(count):
    boards = _boards(count)
    robust, plain = _memory(boards), mean_memory(boards)
    assert np.abs(robust.mean_rgb.astype(int) - plain.mean_rgb).mean() < 3
    # the largest of three channels' deviations, each known to a few boards
    ratio = robust.deviation.mean() / plain.deviation.mean()
    assert 0.75 < ratio < 1.35


def test_one_odd_board_moves_nothing():
    boards = _boards(20)
    clean = _memory(boards)
    odd = [*boards[:-1], np.full_like(boards[0], 255)]
    seen = _memory(odd)
    assert np.abs(seen.mean_rgb.astype(int) - clean.mean_rgb).max() <= 6
    assert seen.deviation.mean() < 1.3 * clean.deviation.mean()
    blurred = mean_memory(odd)
    assert blurred.deviation.mean() > 3 * mean_memory(boards).deviation.mean()


def test_a_variant_of_a_fifth_of_the_boards_still_shows_in_the_deviation():
    boards = _boards(20)
    for board in boards[:4]:
        board[40:60, 20:40] = 250
    deviation = _memory(boards).deviation
    assert deviation[45:55, 25:35].mean() > 2 * deviation[100:, :].mean()


def test_few_boards_are_not_trimmed():
    assert [trimmed_of(n) for n in (1, 2, 4, 5, 30, 40, 100)] == [0, 0, 0, 1, 2, 2, 5]
    two = [np.full((10, 10, 3), v, np.uint8) for v in (100, 110)]
    memory = _memory(two)
    assert memory.mean_rgb.flat[0] == 105
    assert memory.deviation.flat[0] == 5 * DEVIATION_GAIN


def test_no_board_is_refused():
    with pytest.raises(InputError, match="at least one good board"):
        mean_memory([])


@given(st.integers(1, 70), st.integers(0, 2**32 - 1), st.sampled_from([np.uint8, np.int16]))
@settings(max_examples=60, deadline=None)
def test_boards_are_sorted_as_numpy_sorts_them(boards, seed, kind):
    rng = np.random.default_rng(seed)
    stack = rng.integers(-300 if kind is np.int16 else 0, 256, (boards, 19, 5, 3)).astype(kind)
    expected = np.sort(stack, axis=0)
    sort_boards(stack)
    assert np.array_equal(stack, expected)
