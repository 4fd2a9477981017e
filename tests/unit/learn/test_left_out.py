"""A memory without one board is what the others alone make."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hisir_edge.errors import InputError
from hisir_edge.learn.data.left_out import LeftOut, Memories
from hisir_edge.learn.data.statistics import robust_memory


def rows_of(boards, start, end):
    return [one[start:end].copy() for one in boards]


@given(count=st.integers(4, 45), seed=st.integers(0, 2**32 - 1), alike=st.booleans())
def test_each_board_left_out_gives_the_memory_of_the_others(count, seed, alike):
    rng = np.random.default_rng(seed)
    boards = list(rng.integers(100, 104 if alike else 256, (count, 5, 7, 3), dtype=np.uint8))
    left_out = LeftOut(partial(rows_of, boards), (5, 7), count)
    for number in {0, count // 2, count - 1}:
        others = [one for i, one in enumerate(boards) if i != number]
        expected = robust_memory(partial(rows_of, others), (5, 7))
        memory = left_out.memory_without(boards[number])
        assert (memory.mean_rgb == expected.mean_rgb).all()
        assert np.abs(memory.deviation.astype(int) - expected.deviation).max() <= 1, "float32 sums round otherwise"


def test_photos_of_one_board_are_left_out_together():
    pictures = np.random.default_rng(3).integers(0, 256, (9, 5, 7, 3), dtype=np.uint8)
    shown = (0, 1, 1, 3, 4, 5, 5, 5, 8)
    memories = Memories(lambda number, y0, y1: pictures[number, y0:y1].copy(), (5, 7), shown)
    for number, board in enumerate(shown):
        others = [one for one, other in zip(pictures, shown, strict=True) if other != board]
        expected = robust_memory(partial(rows_of, others), (5, 7))
        memory = memories.memory_without(number)
        assert (memory.mean_rgb == expected.mean_rgb).all()
        assert np.abs(memory.deviation.astype(int) - expected.deviation).max() <= 1
    alone = Memories(lambda number, y0, y1: pictures[number, y0:y1].copy(), (5, 7), (0,) * 9)
    rest = robust_memory(partial(rows_of, list(np.delete(pictures, 4, 0))), (5, 7))
    assert (alone.memory_without(4).mean_rgb == rest.mean_rgb).all(), "of one board its other pictures"


def test_too_few_boards_are_refused():
    with pytest.raises(InputError, match="at least 4 good boards"):
        LeftOut(lambda a, b: [], (5, 7), 3)
