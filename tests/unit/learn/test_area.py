"""The board's area is learnt from boards on a mat; boards anywhere are put on one golden image."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from hisir_edge.errors import InputError
from hisir_edge.inspection.registration.finder import inside_outline, outline_of
from hisir_edge.inspection.registration.pose import Pose
from hisir_edge.learn.data.area import _without_cables, area_from_json, area_picture, board_area, check_area
from hisir_edge.learn.data.memory import GoodBoards, good_boards_from_frames, good_boards_like
from hisir_edge.learn.data.tiles import CorruptedTiles, places_on_board
from hisir_edge.sim.mat import Loose, board_on_mat, lay_matrix
from hisir_edge.sim.render import board_from_seed, draw_board
from hisir_edge.sim.synth import render_board

FRAME = (960, 720)
LOOSE = Loose(shift_px=60, turn_deg=3)
BOARD = LOOSE.board_wh(FRAME)
PRODUCT = 7


def lay(seed: int) -> np.ndarray:
    """Where a rendered board lies: board pixels -> frame pixels."""
    return lay_matrix(PRODUCT * 1_000_003 + seed, LOOSE, FRAME)


@pytest.fixture(scope="module")
def boards() -> GoodBoards:
    return good_boards_from_frames([render_board(PRODUCT, seed, FRAME, loose=LOOSE).frame_rgb for seed in range(10)])


def test_boards_on_a_mat_are_found_and_put_on_one_golden_image(boards):
    assert (boards.locate, boards.kept) == ("anywhere", tuple(range(10)))
    x, y = np.meshgrid(np.linspace(20, BOARD[0] - 20, 6), np.linspace(20, BOARD[1] - 20, 5))
    places = np.stack([x.ravel(), y.ravel()], 1)
    golden = np.stack(
        [pose.to_golden(Pose(np.linalg.inv(lay(seed))).to_frame(places)) for seed, pose in enumerate(boards.poses)]
    )
    off = np.linalg.norm(golden - np.median(golden, axis=0), axis=2)
    assert np.median(off) < 0.3
    assert off.max() < 1.2


def test_the_area_is_the_board_and_not_the_mat(boards):
    hw = FRAME[::-1]
    learnt = inside_outline(hw, outline_of(hw, boards.area))
    ends = np.array([(0, 0), (BOARD[0] - 1, 0), (BOARD[0] - 1, BOARD[1] - 1), (0, BOARD[1] - 1)], float)
    poses = enumerate(boards.poses)
    on_golden = np.median(
        [pose.to_golden(Pose(np.linalg.inv(lay(seed))).to_frame(ends)) for seed, pose in poses], axis=0
    )
    really = inside_outline(hw, on_golden)
    assert (learnt & really).sum() / (learnt | really).sum() > 0.95
    assert (learnt & really).sum() / really.sum() > 0.98, "what is not in the area is not inspected"


def test_more_boards_lie_on_the_same_golden_image_and_strangers_do_not(boards):
    more = [render_board(PRODUCT, 20, FRAME, loose=LOOSE).frame_rgb, render_board(8, 1, FRAME, loose=LOOSE).frame_rgb]
    assert good_boards_like(boards, more).kept == (0,)


def test_boards_that_fill_the_frame_have_no_area_of_their_own():
    frames = [render_board(PRODUCT, seed, (512, 384)).frame_rgb for seed in range(6)]
    boards = good_boards_from_frames(frames)
    assert (boards.locate, boards.area) == ("fixture", None)
    assert board_area(boards.memory.mean_rgb, frames) is None


def test_a_persons_polygon_replaces_the_learnt_one():
    frames = [render_board(PRODUCT, seed, FRAME, loose=LOOSE).frame_rgb for seed in range(6)]
    drawn = ((300.0, 200.0), (640.0, 210.0), (630.0, 500.0), (310.0, 490.0))
    assert good_boards_from_frames(frames, area=drawn).area == drawn


def test_tiles_to_learn_from_show_the_board_and_nothing_counts_off_it(boards, tmp_path):
    stream = CorruptedTiles(tmp_path / "frames.npy", boards, 128, 8, 3)
    on_board = stream.on_board > 0
    for number in range(4):
        batch = stream.batch_of(number)
        assert batch.mask[batch.weight == 0].sum() == 0
        assert (batch.weight > 0).any(axis=(1, 2, 3)).all()
    assert 0.05 < on_board.mean() < 0.9
    assert stream.places is not None
    y, x = stream.places.T
    assert (y <= FRAME[1] - 128).all()
    assert (x <= FRAME[0] - 128).all()


def test_a_board_smaller_than_a_tile_still_has_places():
    small = np.zeros((400, 400), np.uint8)
    small[190:210, 190:200] = 1
    assert len(places_on_board(small, 128)) > 0


def test_the_picture_shows_the_area():
    golden = np.full((200, 300, 3), 100, np.uint8)
    shown = area_picture(golden, ((50.0, 50.0), (250.0, 50.0), (250.0, 150.0), (50.0, 150.0)))
    assert shown[100, 150].tolist() == [100, 100, 100]
    assert shown[10, 10].tolist() == [50, 50, 50]
    assert shown[50, 150].tolist() == [255, 0, 0]
    assert area_picture(golden, None) is golden


@pytest.mark.parametrize("text", ["[[1,2],[3,4]]", "[[1,2],[3,4],[5]]", "{}", "not json", "[[1,2],[3,4],[5,1e999]]"])
def test_a_polygon_that_is_none_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "area.json"
    path.write_text(text)
    with pytest.raises(InputError, match="corners"):
        area_from_json(path)
    path.write_text(json.dumps([[1, 2], [30, 4], [5, 60.5]]))
    assert area_from_json(path) == ((1, 2), (30, 4), (5, 60.5))


@pytest.mark.parametrize(
    "area", [((-50, 10), (100, 10), (100, 90)), ((10, 10), (1e30, 10), (5, 90)), ((10, 10), (11, 10), (11, 11))]
)
def test_a_polygon_beside_the_frame_or_of_no_size_is_refused(area):
    check_area(((0, 0), (639, 0), (639, 479), (0, 479)), (480, 640))
    check_area(None, (480, 640))
    with pytest.raises(InputError, match="around the board within the frame"):
        check_area(area, (480, 640))


def test_a_board_cut_by_the_frame_is_left_out_and_cuts_no_other():
    frames = [render_board(PRODUCT, seed, FRAME, loose=LOOSE).frame_rgb for seed in range(10)]
    cut = np.roll(frames[4], 260, axis=1)
    cut[:, :260] = frames[4][:, :1]
    boards = good_boards_from_frames([*frames[:4], cut, *frames[5:]])
    assert boards.locate == "anywhere"
    assert 4 not in boards.kept
    whole = good_boards_from_frames([*frames[:4], *frames[5:]])
    hw = FRAME[::-1]
    first, second = (inside_outline(hw, outline_of(hw, one.area)) for one in (boards, whole))
    assert abs(first.sum() - second.sum()) < 0.03 * second.sum()


@pytest.mark.parametrize("which", [0, 5])
def test_one_board_upside_down_is_left_out_wherever_it_stands(which):
    frames = [render_board(PRODUCT, seed, FRAME, loose=LOOSE).frame_rgb for seed in range(10)]
    frames[which] = np.ascontiguousarray(frames[which][::-1, ::-1])
    boards = good_boards_from_frames(frames)
    assert boards.locate == "anywhere"
    assert boards.kept == tuple(i for i in range(10) if i != which)


def test_a_textured_mat_that_lies_still_is_not_taken_for_the_board():
    """A perforated conveyor gives a fixture's anchors all they ask for; the boards on it move."""
    rng = np.random.default_rng(2)
    mat = cv2.GaussianBlur(rng.integers(0, 256, (*FRAME[::-1], 3), np.uint8), (0, 0), 2)
    mat = np.clip(mat.astype(int) * 2 - 128, 0, 255).astype(np.uint8)
    small = (480, 360)
    frames = []
    for seed in range(8):
        board = draw_board(board_from_seed(PRODUCT, seed, small))
        x, y = rng.uniform(-40, 40, 2)
        to_frame = np.array([[1, 0, 240 + x], [0, 1, 180 + y], [0, 0, 1.0]])
        frames.append(board_on_mat(board, np.asarray(mat, np.uint8), to_frame))
    boards = good_boards_from_frames(frames)
    assert boards.locate == "anywhere"
    assert boards.area is not None


def test_of_boards_that_lie_still_all_is_inspected():
    """What is plain like the board itself must not be taken for mat where nothing shows which is which."""
    rng = np.random.default_rng(8)
    plain = np.full((480, 640, 3), (30, 90, 40), np.uint8)
    for x, y in rng.integers(60, 300, (40, 2)):
        cv2.rectangle(plain, (int(x), int(y)), (int(x) + 14, int(y) + 8), [int(v) for v in rng.integers(0, 255, 3)], -1)
    frames = [np.clip(plain + rng.normal(0, 2, plain.shape), 0, 255).astype(np.uint8) for _ in range(6)]
    for register in ("auto", "anywhere"):
        area = good_boards_from_frames(frames, register).area
        assert inside_outline((480, 640), outline_of((480, 640), area)).mean() > 0.92


@pytest.mark.parametrize("side", ["bottom", "left", "none"])
def test_a_cable_that_leaves_the_picture_is_no_part_of_the_board(side):
    """Pins are thin, too, but end within the picture."""
    board = np.zeros((200, 300), np.uint8)
    cv2.rectangle(board, (90, 50), (230, 140), 1, -1)
    cv2.rectangle(board, (231, 90), (250, 93), 1, -1)
    expected = board.copy()
    if side == "bottom":
        cv2.line(board, (150, 140), (180, 199), 1, 9)
    if side == "left":
        cv2.line(board, (90, 100), (0, 70), 1, 9)
    found = _without_cables(board > 0)
    assert found[expected > 0].all()
    assert (found & (expected == 0)).sum() <= 350, "where it leaves the board it may be left"
    assert not found[190:].any()
    assert not found[:, :30].any()


def test_a_board_that_the_picture_cuts_is_no_cable():
    board = np.zeros((200, 300), np.bool_)
    board[60:, 90:230] = True
    assert (_without_cables(board) == board).all()


def test_a_thin_board_that_reaches_the_edge_is_no_cable():
    strip = np.zeros((200, 300), np.bool_)
    strip[90:110] = True
    strip[70:130, 120:180] = True
    assert (_without_cables(strip) == strip).all()
