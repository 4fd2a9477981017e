"""Which boards engines are compared on, and which the thresholds come from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.training import small_settings

from hisir_edge.engine.acceptance.maps import COMPARED_BOARDS, Maps, boards_compared
from hisir_edge.learn.data.run import RunRecord, load_record, save_record

NAMES = tuple(f"{i}.png" for i in range(40))


def record_of(held_out: int, **changes) -> RunRecord:
    paths = NAMES[:held_out]
    record = RunRecord(
        settings=small_settings(Path("data"), 1), frame_hw=(96, 128), scale=1.0, locate="fixture",
        train=("a.png",), held_out=paths,
    )  # fmt: skip
    return replace(record, **changes)


@pytest.mark.parametrize(
    ("held_out", "changes", "expected"),
    [
        (8, {}, 8),
        (11, {"added": 3}, 8),
        (4, {"each_left_out": True, "train": NAMES[:4]}, 4),
        (40, {"each_left_out": True, "train": NAMES}, COMPARED_BOARDS),
        (40, {"each_left_out": True, "train": NAMES[:5], "added": 35}, 5),
        (40, {"each_left_out": True}, 40),  # trained: the network has not learnt them
    ],
)
def test_engines_are_compared_on_boards_that_stay_the_same(held_out, changes, expected):
    assert boards_compared(record_of(held_out, **changes)) == expected


def test_the_first_boards_keep_what_is_planted_and_what_was_added():
    maps = Maps(
        good=tuple(Path(f"g{i}") for i in range(7)), held_out=5, planted=(Path("p"),), truth=(Path("t"),),
        boards=(0, 0, 1, 2, 3),
    )  # fmt: skip
    part = maps.first(2)
    assert part.good == (Path("g0"), Path("g1"), Path("g5"), Path("g6"))
    assert part.held_out == 2
    assert part.boards == (0, 0)
    assert (part.planted, part.truth) == (maps.planted, maps.truth)
    assert maps.first(5) is maps


def test_a_record_keeps_how_its_boards_are_judged(tmp_path):
    record = record_of(5, each_left_out=True, added=2)
    save_record(tmp_path, record)
    assert load_record(tmp_path) == record
    assert record.begun_with == ("0.png", "1.png", "2.png")
