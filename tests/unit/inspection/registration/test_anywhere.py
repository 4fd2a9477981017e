"""Boards anywhere in the frame: found at known poses to a third of a pixel, or refused with what is wrong."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from hisir_edge.arrays import u8
from hisir_edge.bundle.thresholds import Thresholds
from hisir_edge.errors import InspectionError
from hisir_edge.geometry.noise_shape import noise_shape
from hisir_edge.images.pixels import CONVERSIONS, Pixels
from hisir_edge.inspection.gain import Gain
from hisir_edge.inspection.registration.anywhere import BoardModel, find_board
from hisir_edge.inspection.registration.finder import anywhere_model
from hisir_edge.inspection.registration.landmarks import landmarks_of
from hisir_edge.inspection.registration.pose import Pose
from hisir_edge.inspection.registration.refine import FIRST_EACH, PATCH_PX
from hisir_edge.inspection.windows import calibrated_windows
from hisir_edge.sim.camera import frame_from_board, shot_from_seed
from hisir_edge.sim.mat import Loose, board_on_mat, lay_matrix, mat_picture
from hisir_edge.sim.render import board_from_seed, draw_board

FRAME = (1600, 1200)
LOOSE = Loose(shift_px=150, turn_deg=10, scale_share=0.05, tilt_share=0.05)
BOARD = LOOSE.board_wh(FRAME)


def picture(to_frame: np.ndarray, seed: int = 2, product: int = 7) -> np.ndarray:
    """A board of a product, laid on the mat at a pose, before the camera."""
    board = draw_board(board_from_seed(product, seed, BOARD))
    shot = replace(shot_from_seed(seed), shift_xy_px=(0.0, 0.0), turn_deg=0.0)
    return frame_from_board(board_on_mat(board, mat_picture(7, FRAME), to_frame), shot)


def straight() -> np.ndarray:
    """A board in the middle of the frame."""
    return lay_matrix(0, Loose(), FRAME) @ _smaller()


def _smaller() -> np.ndarray:
    full = Loose().board_wh(FRAME)
    return np.array([[1, 0, (full[0] - BOARD[0]) / 2], [0, 1, (full[1] - BOARD[1]) / 2], [0, 0, 1.0]])


@pytest.fixture(scope="module")
def model() -> BoardModel:
    golden = picture(straight(), seed=1)
    corners = Pose(np.linalg.inv(straight())).to_golden(np.zeros((0, 2)))
    assert corners.shape == (0, 2)
    ends = np.array([(0, 0), (BOARD[0] - 1, 0), (BOARD[0] - 1, BOARD[1] - 1), (0, BOARD[1] - 1)], float)
    area = tuple((float(x), float(y)) for x, y in Pose(np.linalg.inv(straight())).to_frame(ends))
    return anywhere_model(golden, None, area)


def errors_px(found: Pose, to_frame: np.ndarray) -> np.ndarray:
    """By how much places of the board are put beside where they are, in the frame."""
    x, y = np.meshgrid(np.linspace(20, BOARD[0] - 20, 9), np.linspace(20, BOARD[1] - 20, 7))
    board = np.stack([x.ravel(), y.ravel()], 1)
    on_golden = Pose(np.linalg.inv(straight())).to_frame(board)
    return np.asarray(np.linalg.norm(found.to_frame(on_golden) - Pose(np.linalg.inv(to_frame)).to_frame(board), axis=1))


@pytest.mark.parametrize("seed", range(6))
def test_it_is_found_to_a_third_of_a_pixel(model, seed):
    to_frame = lay_matrix(seed, LOOSE, FRAME)
    found = find_board(model, Pixels(picture(to_frame, seed + 10)))
    off = errors_px(found.pose, to_frame)
    assert np.median(off) < 0.3, off
    assert off.max() < 1.0
    assert found.inlier_share > 0.5
    assert found.inliers > 30


@pytest.mark.parametrize("pixel_format", ["Mono8", "BGR8", "BayerRG8", "BayerGB8"])
def test_frames_as_cameras_give_them_are_registered_alike(model, pixel_format):
    to_frame = lay_matrix(1, LOOSE, FRAME)
    rgb = picture(to_frame, 3)
    if pixel_format == "Mono8":
        data = u8(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
    elif pixel_format == "BGR8":
        data = np.ascontiguousarray(rgb[..., ::-1])
    else:
        data = np.empty(rgb.shape[:2], np.uint8)
        order = {"BayerRG8": ((0, 1), (1, 2)), "BayerGB8": ((1, 2), (0, 1))}[pixel_format]
        for y in (0, 1):
            for x in (0, 1):
                data[y::2, x::2] = rgb[y::2, x::2, order[y][x]]
    assert pixel_format in CONVERSIONS
    off = errors_px(find_board(model, Pixels(data, pixel_format)).pose, to_frame)
    assert np.median(off) < 0.5


def test_a_covered_third_of_the_board_does_not_move_it(model):
    to_frame = lay_matrix(2, LOOSE, FRAME)
    frame = picture(to_frame, 4)
    frame[:, : FRAME[0] // 2 - 100] = 120
    found = find_board(model, Pixels(frame))
    assert np.median(errors_px(found.pose, to_frame)) < 0.5


def turned(matrix: np.ndarray, degrees: float, scale: float = 0.7) -> np.ndarray:
    middle = np.array([(FRAME[0] - 1) / 2, (FRAME[1] - 1) / 2])
    turn = np.vstack([cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), degrees, scale), (0, 0, 1)])
    return np.asarray(turn @ matrix)


@pytest.mark.parametrize("seed", [3, 5])
def test_a_board_with_half_of_it_gone_is_still_this_board(model, seed):
    """A first fit to the few details that are left may lead past most others; they are searched again around it."""
    to_frame = lay_matrix(seed, LOOSE, FRAME)
    frame = picture(to_frame, seed)
    gone = np.random.default_rng(seed).random((FRAME[1] // 50, FRAME[0] // 50)) < 0.5
    frame[np.kron(gone, np.ones((50, 50), np.bool_))] = (40, 90, 60)
    found = find_board(model, Pixels(frame))
    assert np.median(errors_px(found.pose, to_frame)) < 0.6
    assert found.inlier_share < 0.6


def test_details_that_are_searched_first_do_not_lead_past_the_others(model):
    """A quarter of the details is searched first; here they are the ones that lie beside their places, all alike."""
    to_frame = straight()
    frame = picture(to_frame, 4)
    clean, reach = frame.copy(), PATCH_PX // 2 + 2
    for x, y in model.patches.middles_xy[::FIRST_EACH].astype(int):
        there = slice(y - reach, y + reach), slice(x - reach, x + reach)
        frame[there] = clean[y - reach - 9 : y + reach - 9, x - reach - 10 : x + reach - 10]
    found = find_board(model, Pixels(frame))
    assert np.median(errors_px(found.pose, to_frame)) < 0.5
    assert found.inlier_share < 0.9


@pytest.mark.parametrize("degrees", [-28, 36])
def test_a_board_laid_askew_by_hand_is_found(model, degrees):
    to_frame = turned(straight(), degrees, 0.93)
    assert np.median(errors_px(find_board(model, Pixels(picture(to_frame, 4))).pose, to_frame)) < 0.5


def shifted(matrix: np.ndarray, dx: float, dy: float = 0) -> np.ndarray:
    return np.asarray(np.array([[1, 0, dx], [0, 1, dy], [0, 0, 1.0]]) @ matrix)


def scaled(matrix: np.ndarray, scale: float) -> np.ndarray:
    mx, my = (FRAME[0] - 1) / 2, (FRAME[1] - 1) / 2
    about = np.array([[scale, 0, mx * (1 - scale)], [0, scale, my * (1 - scale)], [0, 0, 1.0]])
    return np.asarray(about @ matrix)


FAULTS = {
    "turned by 90 degrees": lambda: picture(turned(straight(), 90)),
    "turned by 180 degrees": lambda: picture(turned(straight(), 180)),
    "turned by 45 degrees": lambda: picture(turned(straight(), -45)),
    "turned by (59|60|61) degrees": lambda: picture(turned(straight(), 60)),
    "mirrored": lambda: np.ascontiguousarray(picture(straight())[:, ::-1]),
    "leaves the frame": lambda: picture(shifted(straight(), BOARD[0] * 0.55)),
    "0.8. times its size": lambda: picture(scaled(straight(), 0.82)),
    "nothing that looks like it|another board": lambda: picture(straight(), product=8),
    "nothing that looks like it": lambda: mat_picture(7, FRAME),
}


@pytest.mark.parametrize("words", FAULTS)
def test_what_cannot_be_inspected_is_refused_by_name(model, words):
    with pytest.raises(InspectionError, match=words):
        find_board(model, Pixels(FAULTS[words]()))


def test_two_boards_are_refused():
    small = (660, 500)
    board = draw_board(board_from_seed(7, 1, small))
    mat = mat_picture(7, FRAME)

    def at(x: float) -> np.ndarray:
        return np.array([[1, 0, x], [0, 1, (FRAME[1] - small[1]) / 2], [0, 0, 1.0]])

    left, right = 60.0, FRAME[0] - 60.0 - small[0]
    golden = board_on_mat(board, mat, at(left))
    x0, y0 = left, (FRAME[1] - small[1]) / 2
    ends = ((x0, y0), (x0 + small[0], y0), (x0 + small[0], y0 + small[1]), (x0, y0 + small[1]))
    one = anywhere_model(golden, None, ends)
    assert find_board(one, Pixels(golden)).inlier_share > 0.9
    with pytest.raises(InspectionError, match="two boards"):
        find_board(one, Pixels(board_on_mat(board, golden, at(right))))


def test_a_frame_of_noise_or_one_colour_is_refused(model):
    for frame in (
        np.full((*FRAME[::-1], 3), 90, np.uint8),
        np.random.default_rng(1).integers(0, 256, (*FRAME[::-1], 3), np.uint8),
    ):
        with pytest.raises(InspectionError, match="nothing that looks like it"):
            find_board(model, Pixels(frame))


@pytest.mark.parametrize("bow_px", [2.5, 0.0])
def test_a_warped_board_is_followed_and_a_flat_one_left_flat(model, bow_px):
    frame = picture(straight(), 6)
    x, y = np.meshgrid(np.linspace(-1.9, 1.9, FRAME[0]), np.linspace(-1.9, 1.9, FRAME[1]))
    along = bow_px * (x * x - 0.3) * np.exp(-(y**2))
    columns, rows = np.meshgrid(np.arange(FRAME[0], dtype=np.float32), np.arange(FRAME[1], dtype=np.float32))
    bowed = u8(cv2.remap(frame, columns, (rows + along).astype(np.float32), cv2.INTER_LINEAR))
    found = find_board(model, Pixels(bowed))
    assert (found.pose.bend is not None) == bool(bow_px)
    places = Pose(np.linalg.inv(straight())).to_frame(np.array([[40.0, 40], [420, 300], [800, 600], [800, 40]]))
    seen = found.pose.to_frame(places)
    for (gx, gy), (_, fy) in zip(places, seen, strict=True):
        expected = gy - along[round(gy), round(gx)]
        assert abs(fy - expected) < 0.6


@pytest.mark.parametrize("seed", range(4))
def test_a_mask_lies_within_a_pixel_of_where_the_frame_shows_the_place(model, seed):
    """A spot of the golden image's map, put back into the frame by the pose that was found, against the true pose."""
    to_frame = lay_matrix(seed, LOOSE, FRAME)
    pose = find_board(model, Pixels(picture(to_frame, seed + 30))).pose
    hw = (FRAME[1], FRAME[0])
    gain = Gain(hw, 1.0, Thresholds(0.5, 1.0, 1), np.zeros(noise_shape(hw), np.uint8), ())
    rng = np.random.default_rng(seed)
    for _ in range(4):
        board = rng.uniform(60, np.array(BOARD) - 60, 2)
        at = Pose(np.linalg.inv(straight())).to_frame(board[None])[0]
        y, x = np.mgrid[: hw[0], : hw[1]]
        raw = np.where((x - at[0]) ** 2 + (y - at[1]) ** 2 < 12**2, np.float32(2), np.float32(0))
        cells = np.zeros((-(-hw[0] // 16) * 16, -(-hw[1] // 16) * 16), np.float32)
        cells[: hw[0], : hw[1]] = raw
        highest = cells.reshape(cells.shape[0] // 16, 16, -1, 16).max((1, 3))
        ((top, left, window),) = calibrated_windows(raw, highest, gain, pose, hw)
        rows, columns = np.nonzero(window >= 1)
        middle = np.array([columns.mean() + left, rows.mean() + top])
        really = Pose(np.asarray(np.linalg.inv(to_frame), np.float64)).to_frame(board[None])[0]
        assert np.linalg.norm(middle - really) < 1.0


@pytest.mark.parametrize("size", [(2563, 700), (5123, 700), (1601, 1203)])
def test_a_frame_that_no_factor_divides_is_found_where_it_is(size):
    w, h = size
    rng = np.random.default_rng(3)
    small = cv2.GaussianBlur(rng.integers(0, 256, (h // 4 + 1, w // 4 + 1, 3), np.uint8), (0, 0), 1)
    golden = np.ascontiguousarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC)[:h, :w])
    area = ((40.0, 40.0), (w - 41.0, 40.0), (w - 41.0, h - 41.0), (40.0, h - 41.0))
    found = find_board(anywhere_model(u8(golden), None, area), Pixels(u8(golden)))
    places = np.array([[50.0, 50.0], [w / 2, h / 2], [w - 50.0, h - 50.0]])
    assert np.abs(found.pose.to_frame(places) - places).max() < 0.1


@pytest.mark.parametrize("size", [(8191, 603), (4096, 400), (1600, 160)])
def test_strips_have_landmarks(size):
    rng = np.random.default_rng(4)
    small = cv2.GaussianBlur(rng.integers(0, 256, (size[1] // 4, size[0] // 4, 3), np.uint8), (0, 0), 1)
    strip = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)
    assert len(landmarks_of(Pixels(u8(strip))).points_xy) > 50


def test_a_nearly_symmetric_board_that_is_mirrored_is_not_called_turned():
    """Its upper half is like its lower one turned over, as rows of pins and resistors are."""
    rng = np.random.default_rng(6)
    half = cv2.GaussianBlur(rng.integers(0, 256, (150, 400, 3), np.uint8), (0, 0), 2)
    half = np.clip((half.astype(int) - 128) * 3 + 128, 0, 255).astype(np.uint8)
    board = np.concatenate([half, half[::-1]])
    print_ = cv2.GaussianBlur(rng.integers(0, 256, (90, 400, 3), np.uint8), (0, 0), 2)
    board[200:290] = np.clip((print_.astype(int) - 128) * 3 + 128, 0, 255).astype(np.uint8)
    frame = np.full((600, 800, 3), 90, np.uint8)
    frame[150:450, 200:600] = board
    symmetric = anywhere_model(u8(frame), None, ((200.0, 150.0), (599.0, 150.0), (599.0, 449.0), (200.0, 449.0)))
    with pytest.raises(InspectionError, match="a mirrored board"):
        find_board(symmetric, Pixels(u8(np.ascontiguousarray(frame[:, ::-1]))))
    with pytest.raises(InspectionError, match="turned by 180 degrees"):
        find_board(symmetric, Pixels(u8(np.ascontiguousarray(frame[::-1, ::-1]))))
