"""Light is measured robustly and taken out; defects, lots and noise are not light."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hisir_edge.errors import InspectionError
from hisir_edge.geometry.tile import plan_from_size, tiles_from_frame
from hisir_edge.inspection.light import (
    explain_white,
    gains_from_light,
    golden_light,
    light_of_frame,
    tables_of_gains,
    without_light,
)
from hisir_edge.sim.render import board_from_seed, draw_board


@pytest.fixture(scope="module")
def board() -> np.ndarray:
    return draw_board(board_from_seed(3, 1, (640, 480)))


def _lit(board: np.ndarray, planes: np.ndarray) -> np.ndarray:
    return without_light(board, -planes)


@given(st.lists(st.floats(-0.12, 0.12), min_size=3, max_size=3), st.floats(-0.08, 0.08), st.floats(-0.08, 0.08))
@settings(max_examples=25, deadline=None)
def test_a_known_light_is_found_and_taken_out(board, gains, slope_x, slope_y):
    planes = np.array([[gain, slope_x, slope_y] for gain in gains])
    rng = np.random.default_rng(1)
    lit = np.clip(_lit(board, planes) + rng.normal(0, 2, board.shape), 0, 255).astype(np.uint8)
    found = light_of_frame(golden_light(board), lit)
    assert np.abs(found - planes).max() < 0.02
    left = without_light(lit, found).astype(float) - board
    clipped = (lit == 255) | (board > 220)
    assert np.abs(left[~clipped].mean()) < 1.5


def test_a_large_defect_is_not_taken_for_light(board):
    spoiled = board.copy()
    spoiled[100:240, 150:400] = (200, 60, 50)
    planes = light_of_frame(golden_light(board), spoiled)
    assert np.abs(planes).max() < 0.02


def test_a_board_in_the_dark_is_an_error(board):
    with pytest.raises(InspectionError, match="light"):
        light_of_frame(golden_light(board), (board * 0.4).astype(np.uint8))


@pytest.mark.parametrize(("gain", "judged"), [(1.1, True), (1.5, False)])
def test_a_board_that_went_white_is_an_error_and_a_little_white_is_not(board, gain, judged):
    """The picture is cut at 255; a bright board has much to lose, white print has nothing."""
    pale = np.clip(board.astype(float) + 60, 0, 225).astype(np.uint8)
    lit = np.clip(pale * gain, 0, 255).astype(np.uint8)
    light = golden_light(pale)
    if judged:
        assert np.exp(light_of_frame(light, lit)[:, 0]) == pytest.approx(gain, abs=0.03)
    else:
        with pytest.raises(InspectionError, match=r"white where good boards are not.*brighter.*lower the exposure"):
            light_of_frame(light, lit)


def test_white_that_is_no_light_is_left_to_the_network(board):
    labelled = board.copy()
    labelled[100:220, 200:400] = 255
    assert np.abs(light_of_frame(golden_light(board), labelled)).max() < 0.02
    area = np.zeros(board.shape[:2], np.bool_)
    area[:, :180] = True
    brighter = np.clip(board * 1.2, 0, 255).astype(np.uint8)
    brighter[100:220, 200:400] = 255
    assert np.exp(light_of_frame(golden_light(board, area), brighter)[:, 0]) == pytest.approx(1.2, abs=0.05)


def test_tiles_get_the_light_of_their_middle(board):
    planes = np.array([[0.05, 0.04, -0.03], [0.0, 0.04, -0.03], [-0.05, 0.04, -0.03]])
    plan = plan_from_size((480, 640), 128, 32)
    gains = gains_from_light(plan, planes)
    n = len(plan.origins_yx)
    assert gains.shape == (n, 3)
    plain, even = np.empty((2, n, 3, 128, 128), np.uint8)
    lit = _lit(board, planes)
    tiles_from_frame(plan, board, np.arange(n), plain)
    tiles_from_frame(plan, lit, np.arange(n), even, gains)
    middle = (slice(None), slice(None), slice(32, 96), slice(32, 96))
    bright = plain[middle] < 200
    assert np.abs(even[middle].astype(int) - plain[middle])[bright].max() <= 4


def test_what_went_white_is_as_bright_as_the_memory_and_what_is_new_stays(board):
    """20 % brighter and clipped: bright places are taken for what they were, a splash on dark ground is seen."""
    plan = plan_from_size((480, 640), 128, 32)
    n, bright = len(plan.origins_yx), board.copy()
    bright[100:140, 200:260] = 240
    lit = np.clip(np.rint(bright * 1.2), 0, 255).astype(np.uint8)
    lit[300:310, 400:410] = 255
    cues, tiles = np.zeros((n, 4, 128, 128), np.uint8), np.empty((n, 3, 128, 128), np.uint8)
    remembered = cues[:, :3].copy()
    tiles_from_frame(plan, bright, np.arange(n), remembered)
    cues[:, :3] = remembered
    gains = np.full((n, 3), 1 / 1.2, np.float32)
    tiles_from_frame(plan, lit, np.arange(n), tiles, gains)
    clipped = tiles.copy()
    explain_white(tiles, cues, gains)
    assert np.abs(clipped.astype(int) - remembered).max() > 25, "240 became 212"
    for tile, memory, (y, x) in zip(tiles, remembered, plan.origins_yx, strict=True):
        differs = np.abs(tile.astype(int) - memory).max(0)
        splash = np.zeros((128, 128), bool)
        splash[max(300 - y, 0) : max(310 - y, 0), max(400 - x, 0) : max(410 - x, 0)] = True
        assert differs[~splash].max() <= 2
        assert not splash.any() or differs[splash].min() > 60
    darker = tiles.copy()
    explain_white(darker, cues, np.full((n, 3), 1.1, np.float32))
    assert np.array_equal(darker, tiles), "in light that is not brighter white is white"


@given(st.lists(st.floats(0.5, 2, width=32), min_size=3, max_size=3))
def test_a_table_is_what_the_product_is(gains):
    """The GPU looks up what the CPU multiplies: the same to the bit, in OpenCV's vectors and beside them."""
    levels = np.tile(np.arange(256, dtype=np.uint8), (3, 1))[:, 5:]
    table = tables_of_gains(np.array([gains], np.float32))[0, 0]
    for colour, gain in enumerate(gains):
        assert np.array_equal(cv2.convertScaleAbs(levels, None, gain, 0), table[levels, colour])


def test_a_uniform_frame_has_no_light_to_find():
    black = np.zeros((300, 300, 3), np.uint8)
    assert np.array_equal(light_of_frame(golden_light(black), black), np.zeros((3, 3)))
