"""What a build makes several times is made once, within a budget, and nobody changes what is kept."""

from __future__ import annotations

import numpy as np
import pytest

from hisir_edge.images import png_bytes, read_rgb
from hisir_edge.images.kept import arrays_kept, made_once


def test_an_array_is_made_once_and_a_change_of_it_is_the_callers_own():
    made = []

    def make():
        made.append(1)
        return np.arange(5)

    made_once("key", make)
    made_once("key", make)
    assert len(made) == 2, "nothing is kept outside"
    with arrays_kept(1000):
        first = made_once("key", make)
        first[:] = 0
        with arrays_kept(0):  # within another one nothing changes
            second = made_once("key", make)
        second[0] = 9
        assert made_once("key", make).tolist() == [0, 1, 2, 3, 4] and len(made) == 3
    made_once("key", make)
    assert len(made) == 4


def test_no_more_is_kept_than_the_budget_and_the_oldest_goes():
    made = []

    def once(number, size=40):
        def make():
            made.append(number)
            return np.full(size, number, np.uint8)

        return made_once(number, make)

    with arrays_kept(100):
        for number in (1, 2, 1, 3, 1, 2):  # 2 is the one that was not asked for
            assert once(number)[0] == number
        once(4, 101)  # larger than all of it
        once(1)
    assert made == [1, 2, 3, 2, 4]


def test_a_picture_that_is_replaced_is_read_anew(tmp_path):
    path = tmp_path / "a.png"
    with arrays_kept(10_000_000):
        for value in (10, 200, 10):
            path.write_bytes(png_bytes(np.full((20, 30, 3), value, np.uint8)))
            first = read_rgb(path)
            assert first.min() == first.max() == value
            first[:] = 0
            assert read_rgb(path).min() == value


def test_what_cannot_be_made_is_not_kept():
    def fails():
        raise ValueError("no")

    with arrays_kept(100):
        with pytest.raises(ValueError, match="no"):
            made_once("key", fails)
        assert made_once("key", lambda: np.ones(3)).sum() == 3
