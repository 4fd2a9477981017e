"""Products to pretrain on: their numbers, their boards, and that a stop costs nothing."""

from __future__ import annotations

import numpy as np
import pytest

from hisir_edge.errors import InputError
from hisir_edge.sim.clutter import clutter_of_product, strew, wires
from hisir_edge.sim.products import FIRST_PRODUCT, STACK_BOARDS, STACK_SIDE_PX, stack_of_product, write_stacks


@pytest.mark.parametrize("product", [7, 11, 23, 101, 110, 999, 4000, 4001])
def test_products_that_are_measured_with_are_never_drawn(product):
    with pytest.raises(InputError, match="from 1000 to 3999"):
        stack_of_product(product)


def test_boards_of_a_stack_are_of_one_kind_and_differ_as_good_boards_do():
    stack = stack_of_product(FIRST_PRODUCT + 7)
    assert stack.shape == (STACK_BOARDS, STACK_SIDE_PX, STACK_SIDE_PX, 3)
    middle = np.median(stack[::3], 0)
    off = np.abs(stack.astype(np.float32) - middle).mean((1, 2, 3))
    assert (off > 0).all() and (off < 12).all(), off
    other = stack_of_product(FIRST_PRODUCT + 8)
    assert np.abs(other[0].astype(np.float32) - middle).mean() > 3 * off.max()


def test_what_is_strewn_is_the_products_and_how_it_lies_the_boards():
    things = clutter_of_product(1234, (300, 200), 30)
    boards = []
    for seed in (1, 1, 2):
        canvas = np.full((200, 300, 3), 90, np.uint8)
        strew(canvas, things, seed)
        wires(canvas, 1234, seed, 2)
        boards.append(canvas)
    assert (boards[0] == boards[1]).all()
    changed = (np.abs(boards[0].astype(int) - 90).max(2) > 12).mean()
    differ = (np.abs(boards[0].astype(int) - boards[2]).max(2) > 12).mean()
    assert changed > 0.1, "things are seen"
    assert 0 < differ < 0.8 * changed


def test_stacks_that_are_there_are_not_drawn_again(tmp_path):
    said: list[tuple[int, int]] = []
    write_stacks(tmp_path, 2, 1, lambda done, total: said.append((done, total)))
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert sorted(before) == ["1000.npy", "1001.npy"]
    assert said == [(0, 2), (1, 2), (2, 2)]
    (tmp_path / "1001.npy").unlink()
    write_stacks(tmp_path, 2, 1, lambda done, total: None)
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert sorted(after) == sorted(before)
    assert after["1000.npy"] == before["1000.npy"]
