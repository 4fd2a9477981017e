"""Registration finds the fixture error, shrugs off a defect, and refuses what is not the board."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hisir_edge.errors import InspectionError
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.registration.fixture import anchors_from_golden, register_frame
from hisir_edge.inspection.registration.shrink import grey_shrunk
from hisir_edge.sim.camera import Shot, frame_from_board
from hisir_edge.sim.render import board_from_seed, draw_board

SIZE = (1280, 960)


@pytest.mark.parametrize(("hw", "factor"), [((960, 1280), 1), ((964, 1284), 2), ((1000, 1604), 4), ((961, 1283), 2)])
def test_bands_are_shrunk_as_the_whole_is(hw, factor):
    rgb = np.random.default_rng(1).integers(0, 256, (*hw, 3), np.uint8)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if factor > 1:
        grey = cv2.resize(grey, (hw[1] // factor, hw[0] // factor), interpolation=cv2.INTER_AREA)
    assert np.array_equal(grey_shrunk(Pixels(rgb), factor), grey)


def _shot(dx: float, dy: float, turn: float, noise: float = 1.5) -> Shot:
    return Shot(
        seed=1,
        shift_xy_px=(dx, dy),
        turn_deg=turn,
        defocus_sigma_px=0.6,
        gain_rgb=(1.05, 1.0, 0.97),
        gradient_xy=(0.04, -0.03),
        noise_sigma=noise,
    )


@pytest.fixture(scope="module")
def golden():
    return frame_from_board(draw_board(board_from_seed(7, 1, SIZE)), _shot(0, 0, 0))


@pytest.mark.parametrize(
    ("dx", "dy", "turn"), [(0, 0, 0), (3, -3, 0.3), (-3, 2.4, -0.3), (8, -8, 1.0), (-7.5, 8, -1.0), (0.5, 0.25, 0.05)]
)
def test_the_board_is_found_within_half_a_pixel(golden, dx, dy, turn):
    frame = frame_from_board(draw_board(board_from_seed(7, 2, SIZE)), _shot(dx, dy, turn))
    found = register_frame(anchors_from_golden(golden), frame)
    truth = cv2.getRotationMatrix2D((SIZE[0] / 2, SIZE[1] / 2), turn, 1.0)
    truth[:, 2] += (dx, dy)
    inverse = cv2.invertAffineTransform(truth)
    corners = np.array([[0, 0, 1], [SIZE[0], 0, 1], [0, SIZE[1], 1], [SIZE[0], SIZE[1], 1]], float).T
    assert np.abs(found.pose.affine @ corners - inverse @ corners).max() < 0.5
    assert found.residual_px < 1.0 and found.inlier_share > 0.5


def test_a_covered_quarter_of_the_board_does_not_move_it(golden):
    frame = frame_from_board(draw_board(board_from_seed(7, 2, SIZE)), _shot(2, 1, 0.2))
    frame[: SIZE[1] // 2, : SIZE[0] // 2] = 128
    truth = cv2.getRotationMatrix2D((SIZE[0] / 2, SIZE[1] / 2), 0.2, 1.0)
    truth[:, 2] += (2, 1)
    found = register_frame(anchors_from_golden(golden), frame)
    assert np.abs(found.pose.affine - cv2.invertAffineTransform(truth))[:, 2].max() < 1.0


@pytest.mark.parametrize("what", ["grey", "noise", "upside down", "other product", "far away"])
def test_what_is_not_the_board_in_its_place_is_refused(golden, what):
    rng = np.random.default_rng(5)
    frames = {
        "grey": lambda: np.full_like(golden, 90),
        "noise": lambda: rng.integers(0, 256, golden.shape, np.uint8),
        "upside down": lambda: np.ascontiguousarray(golden[::-1, ::-1]),
        "other product": lambda: frame_from_board(draw_board(board_from_seed(8, 1, SIZE)), _shot(0, 0, 0)),
        "far away": lambda: np.roll(golden, 150, axis=1),
    }
    with pytest.raises(InspectionError, match="fixture"):
        register_frame(anchors_from_golden(golden), frames[what]())


def test_a_frame_of_another_size_is_refused(golden):
    with pytest.raises(InspectionError):
        register_frame(anchors_from_golden(golden), golden[:-1])


@pytest.mark.parametrize(
    "hw",
    [(256, 5248), (256, 16416), (320, 8192), (160, 4096), (160, 2048), (16000, 256), (130, 600), (256, 32766)],
)
def test_strips_register_and_have_a_search_range(hw):
    """LED boards and line scans: 12 px of play along and across, whatever the ratio of their sides."""
    rng = np.random.default_rng(4)
    coarse = cv2.GaussianBlur(rng.integers(0, 256, (hw[0] // 4 + 1, hw[1] // 4 + 1, 3), np.uint8), (0, 0), 1)
    golden = np.ascontiguousarray(cv2.resize(coarse, (hw[1], hw[0]), interpolation=cv2.INTER_CUBIC))
    anchors = anchors_from_golden(golden)  # type: ignore[arg-type]
    assert all(level.search_px >= 4 for level in anchors.levels)
    assert anchors.levels[0].search_px * anchors.levels[0].factor >= 20
    moved = cv2.warpAffine(golden, np.float64([[1, 0, 11.3], [0, 1, -8.7]]), (hw[1], hw[0]), borderMode=1)  # type: ignore[arg-type, call-overload]
    found = register_frame(anchors, moved)
    assert np.abs(found.pose.affine - [[1, 0, -11.3], [0, 1, 8.7]])[:, 2].max() < 0.3
