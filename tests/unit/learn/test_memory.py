"""Good boards are registered and lit alike; the odd one out is left out by number, not by luck."""

from __future__ import annotations

import numpy as np
import pytest

from hisir_edge.errors import InputError
from hisir_edge.learn.data.alignment import lost_allowed
from hisir_edge.learn.data.memory import good_boards_from_frames, good_boards_like
from hisir_edge.sim.synth import render_board

SIZE = (384, 320)


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    return [render_board(3, seed, SIZE).frame_rgb for seed in range(8)]


@pytest.fixture(scope="module")
def stranger() -> np.ndarray:
    return render_board(4, 1, SIZE).frame_rgb


@pytest.mark.parametrize("place", [0, 3, 7])
def test_one_board_of_another_product_is_left_out_wherever_it_stands(frames, stranger, place):
    mixed = [*frames[:place], stranger, *frames[place + 1 :]]
    boards = good_boards_from_frames(mixed)
    assert boards.registered
    assert boards.kept == tuple(i for i in range(8) if i != place)
    assert len(boards.frames) == len(boards.poses) == len(boards.lights) == 7


def test_a_continued_run_finds_the_same_memory(frames, stranger):
    mixed = [stranger, *frames[1:]]
    one, two = good_boards_from_frames(list(mixed)), good_boards_from_frames(list(mixed))
    assert np.array_equal(one.memory.mean_rgb, two.memory.mean_rgb)
    assert np.array_equal(one.memory.deviation, two.memory.deviation)


def test_a_board_in_the_dark_is_left_out(frames):
    dark = [*frames[:5], frames[5] // 3, *frames[6:]]
    assert good_boards_from_frames(dark).kept == (0, 1, 2, 3, 4, 6, 7)


def test_boards_that_do_not_lie_alike_are_not_registered_or_refused(frames, stranger):
    others = [render_board(4 + i, 1, SIZE).frame_rgb for i in range(4)]
    assert not good_boards_from_frames([*frames[:3], *others]).registered
    with pytest.raises(InputError, match="more than a tenth"):
        good_boards_from_frames([*frames[:3], *others], "on")


def test_more_boards_are_seen_as_the_line_sees_them(frames, stranger):
    boards = good_boards_from_frames(frames[:6])
    like = good_boards_like(boards, [frames[6], stranger, frames[7]])
    assert like.kept == (0, 2)
    assert like.memory is boards.memory
    assert good_boards_like(boards, [stranger]).kept == ()


@pytest.mark.parametrize(("boards", "lost"), [(1, 0), (2, 0), (3, 1), (8, 1), (19, 1), (20, 2), (96, 9)])
def test_one_board_or_a_tenth_may_be_lost(boards, lost):
    assert lost_allowed(boards) == lost
