"""What one good board alone shows is found, named and not learnt; what several show is a variant."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from hisir_edge.learn.data.memory import GoodBoards, good_boards_from_frames
from hisir_edge.learn.data.odd import differing_boards, odd_pieces, piece_picture
from hisir_edge.learn.data.tiles import CorruptedTiles
from hisir_edge.sim.synth import render_board

SIZE = (512, 384)


def _frames(count: int = 10) -> list[np.ndarray]:
    return [render_board(7, seed, SIZE).frame_rgb.copy() for seed in range(count)]


def _spot(frame: np.ndarray, x: int = 200, y: int = 150) -> None:
    cv2.circle(frame, (x, y), 14, (250, 40, 230), -1)


@pytest.fixture(scope="module")
def spotted() -> GoodBoards:
    frames = _frames()
    _spot(frames[3])
    return good_boards_from_frames(frames)


def test_a_defect_on_one_board_is_found_where_it_is(spotted):
    found = odd_pieces(differing_boards(spotted))
    board, piece = found[0]
    assert spotted.kept[board] == 3
    x, y, w, h = piece.box_xywh
    assert x < 200 < x + w
    assert y < 150 < y + h
    assert piece.peak > 3
    picture = piece_picture(piece, spotted.memory.mean_rgb)
    assert picture.shape[0] >= 100
    assert sum(number == board for number, _ in found) == 1


def test_clean_boards_have_no_odd_places():
    assert odd_pieces(differing_boards(good_boards_from_frames(_frames()))) == []


def test_what_several_boards_show_is_not_odd():
    frames = _frames(20)
    for frame in frames[:3]:
        _spot(frame)
    assert odd_pieces(differing_boards(good_boards_from_frames(frames))) == []


def test_nothing_is_learnt_from_an_odd_place(spotted, tmp_path):
    boards = replace(spotted, ignored=((3, (180, 130, 40, 40)),))
    stream = CorruptedTiles(tmp_path / "frames.npy", boards, 128, 4, 1)
    counting = stream._counting(3, 100, 150)
    assert counting.shape == (128, 128)
    assert not counting[30:70, 30:70].any()
    assert counting.sum() == 128 * 128 - 40 * 40
    assert stream._counting(2, 100, 150).all()
    assert stream._counting(3, 240, 380).all()
    assert stream._counting(3, 150, 200)[:20, :20].sum() == 0


def test_loose_objects_have_none():
    frames = [np.random.default_rng(i).integers(0, 255, (160, 160, 3), np.uint8) for i in range(6)]
    boards = good_boards_from_frames(frames, "off")
    assert differing_boards(boards) == []
    assert odd_pieces([]) == []
