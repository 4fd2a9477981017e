"""What is looked at only where something may be seen is what looking everywhere finds."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hisir_edge.bundle.thresholds import Thresholds, Zone
from hisir_edge.geometry.noise_shape import NOISE_CELL_PX, WIDE_NOISE_CELL_PX, noise_shape
from hisir_edge.geometry.tile import padded_size
from hisir_edge.inspection.gain import Gain, gain_map
from hisir_edge.inspection.regions import Found, found_from_regions, regions_from_map, regions_in_window
from hisir_edge.inspection.registration.pose import Pose, bend_shape, pose_from_affine
from hisir_edge.inspection.rops import KEPT_FROM
from hisir_edge.inspection.score import logit_of_score
from hisir_edge.inspection.windows import MOST_WINDOWS, calibrated_windows, highest_calibrated, warped_window

THRESHOLDS = Thresholds(0.7, 2.0, 4)
ZONES = (
    Zone("dark", ((20.0, 30.0), (150.0, 25.0), (140.0, 110.0), (10.0, 90.0)), 0.0),
    Zone("dear", ((100.0, 60.0), (400.0, 80.0), (260.0, 200.0)), 2.5),
)
CELLS_PX = (NOISE_CELL_PX, WIDE_NOISE_CELL_PX)
seeds = st.integers(0, 2**32 - 1)
sizes = st.tuples(st.integers(48, 210), st.integers(48, 330))


def _gain(
    rng: np.random.Generator, hw: tuple[int, int], scale: float, zones: tuple[Zone, ...], cell_px: int = NOISE_CELL_PX
) -> tuple:
    noise = rng.integers(0, 200, noise_shape(hw, cell_px), dtype=np.uint8)
    return (hw, scale, THRESHOLDS, noise, zones)


def _scores(rng: np.random.Generator, hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A padded map with some blobs, also over the edges, and its highest score in each region of 16 x 16 px."""
    h, w = padded_size(hw)
    raw = rng.random((h, w), np.float32) * np.float32(0.2)
    for _ in range(int(rng.integers(0, 7))):
        y, x, r = int(rng.integers(-4, h + 4)), int(rng.integers(-4, w + 4)), int(rng.integers(1, 14))
        cv2.circle(raw, (x, y), r, float(rng.uniform(0.3, 9)), -1)
    return raw, raw.reshape(h // 16, 16, w // 16, 16).max((1, 3))


def _found(raw: np.ndarray, cell_max: np.ndarray, gain: Gain, pose: Pose | None, frame_hw: tuple) -> Found:
    mask, regions = np.zeros(frame_hw, bool), []
    for y, x, window in calibrated_windows(raw, cell_max, gain, pose, frame_hw):
        regions += regions_in_window(window, THRESHOLDS, (y, x), mask).called
    return found_from_regions(regions, mask)


@given(seeds, sizes, st.sampled_from(CELLS_PX))
def test_the_gain_lifts_the_thresholds_logit_by_the_noise_of_the_place(seed, hw, cell_px):
    """At the noise between cells, within half of a step; exactly where all cells around are as noisy."""
    rng = np.random.default_rng(seed)
    parts = _gain(rng, hw, 1.0, (), cell_px)
    noise = np.asarray(cv2.resize(parts[3].astype(np.float32), None, fx=cell_px, fy=cell_px))[: hw[0], : hw[1]]
    limit = float(logit_of_score(THRESHOLDS.pixel * THRESHOLDS.region_peak))
    lifted = np.asarray(np.logaddexp(0, limit + noise.astype(np.float64) / 32), np.float64)
    np.testing.assert_allclose(gain_map(*parts) * lifted, THRESHOLDS.region_peak, rtol=0.52 / 32)
    even = np.full_like(parts[3], rng.integers(0, 256))
    exactly = float(np.logaddexp(0, limit + float(even[0, 0]) / 32))
    np.testing.assert_allclose(gain_map(hw, 1.0, THRESHOLDS, even, ()) * exactly, THRESHOLDS.region_peak, rtol=1e-6)


@given(seeds, sizes, st.sampled_from([(), ZONES]), st.sampled_from([1.0, 0.5]), st.sampled_from(CELLS_PX))
@settings(max_examples=60, deadline=None)
def test_a_window_of_the_gain_is_the_gain_of_the_window(seed, hw, zones, scale, cell_px):
    rng = np.random.default_rng(seed)
    parts = _gain(rng, hw, scale, zones, cell_px)
    gain, whole = Gain(*parts), gain_map(*parts)
    padded = np.zeros(padded_size(hw), np.float32)
    padded[: hw[0], : hw[1]] = whole
    y0, x0 = int(rng.integers(hw[0])), int(rng.integers(hw[1]))
    y1, x1 = int(rng.integers(y0 + 1, len(padded) + 1)), int(rng.integers(x0 + 1, padded.shape[1] + 1))
    assert np.array_equal(gain.window(y0, y1, x0, x1), padded[y0:y1, x0:x1])
    highest = padded.reshape(gain.most.shape[0], 16, gain.most.shape[1], 16).max((1, 3))
    assert (gain.most >= highest).all()
    if not zones:  # what lies over no edge of a zone is the highest but for its last bits
        assert np.allclose(gain.most, highest, rtol=1e-6, atol=0)


@given(seeds, sizes, st.sampled_from([(), ZONES]))
@settings(max_examples=60, deadline=None)
def test_the_highest_calibrated_score_is_found(seed, hw, zones):
    rng = np.random.default_rng(seed)
    parts = _gain(rng, hw, 1.0, zones)
    raw, cell_max = _scores(rng, hw)
    raw = raw[: hw[0], : hw[1]]
    found, highest = highest_calibrated(raw, cell_max, Gain(*parts)), (raw * gain_map(*parts)).max()
    assert found == highest if found >= KEPT_FROM else highest <= found


@given(
    seeds,
    sizes,
    st.sampled_from([(), ZONES]),
    st.floats(-1.5, 1.5),
    st.floats(-14, 14),
    st.sampled_from([1.0, 0.5]),
    st.booleans(),
)
@example(2849, (193, 257), (), 0.0, 0.0, 1.0, True)
@example(377, (145, 289), (), 0.0, 13.9375, 1.0, True)
@settings(max_examples=150, deadline=None)
def test_windows_hold_every_region_of_the_frame_whole_and_once(seed, hw, zones, turn_deg, shift_px, scale, bent):
    rng = np.random.default_rng(seed)
    parts = _gain(rng, hw, scale, zones)
    raw, cell_max = _scores(rng, hw)
    raw = raw[: hw[0], : hw[1]]
    frame_hw = (round(hw[0] / scale), round(hw[1] / scale))
    a = np.deg2rad(turn_deg)
    turned = scale * np.array([[np.cos(a), -np.sin(a), shift_px], [np.sin(a), np.cos(a), -shift_px / 2]])
    pose = pose_from_affine(turned)
    if bent:
        matrix = pose.matrix.copy()
        matrix[2, :2] = rng.uniform(-5e-5, 5e-5, 2)
        pose = Pose(matrix, rng.uniform(-1.5, 1.5, (*bend_shape(hw), 2)).astype(np.float32))
    whole = warped_window(raw * gain_map(*parts), (0, 0), (0, frame_hw[0], 0, frame_hw[1]), pose)
    expected = regions_from_map(whole, THRESHOLDS)
    found = _found(raw, cell_max, Gain(*parts), pose, frame_hw)
    # OpenCV rounds coordinates to 1/32 px, of a window from another corner: an edge may move by as much
    kernel = np.ones((3, 3), np.uint8)
    blurred = np.abs(whole - 1) <= 0.25 * (cv2.dilate(whole, kernel) - cv2.erode(whole, kernel)) + 1e-3
    sure = [r for r in expected.regions if r.peak > 2.5 and r.area_px > 12]
    assert {_near(r.box_xywh, found.regions) for r in sure} <= {1}
    assert {_near(r.box_xywh, expected.regions) for r in found.regions if r.peak > 2.5 and r.area_px > 12} <= {1}
    if found.total == expected.total:
        assert not ((found.mask != expected.mask) & ~blurred).any()


def _near(box: tuple, regions: tuple) -> int:
    """How many regions have this box, but for two pixels."""
    return sum(np.abs(np.subtract(box, region.box_xywh)).max() <= 2 for region in regions)


@given(seeds, sizes, st.sampled_from([(), ZONES]))
@settings(max_examples=60, deadline=None)
def test_where_camera_and_golden_image_coincide_it_is_the_same_to_the_bit(seed, hw, zones):
    rng = np.random.default_rng(seed)
    parts = _gain(rng, hw, 1.0, zones)
    raw, cell_max = _scores(rng, hw)
    raw = raw[: hw[0], : hw[1]]
    expected = regions_from_map(raw * gain_map(*parts), THRESHOLDS)
    found = _found(raw, cell_max, Gain(*parts), None, hw)
    assert found.regions == expected.regions
    assert np.array_equal(found.mask, expected.mask)


def test_a_board_that_alarms_all_over_is_one_window_and_judged_alike():
    hw = (1024, 1024)
    parts = _gain(np.random.default_rng(2), hw, 1.0, ())
    raw = np.zeros(hw, np.float32)
    raw[40::80, 40::80] = 60
    raw[41::80, 40::80] = 60
    raw[40::80, 41::80] = 60
    raw[41::80, 41::80] = 60
    cell_max = raw.reshape(64, 16, 64, 16).max((1, 3))
    gain = Gain(*parts)
    assert (cell_max * gain.most >= 1).sum() > MOST_WINDOWS
    assert len(list(calibrated_windows(raw, cell_max, gain, None, hw))) == 1
    expected, found = regions_from_map(raw * gain_map(*parts), THRESHOLDS), _found(raw, cell_max, gain, None, hw)
    assert found.total == expected.total > MOST_WINDOWS
    assert found.regions == expected.regions


def test_a_score_that_is_no_number_is_not_dropped():
    raw, cell_max = np.zeros((48, 64), np.float32), np.zeros((3, 4), np.float32)
    raw[20, 20] = cell_max[1, 1] = np.nan
    gain = Gain(*_gain(np.random.default_rng(1), (48, 64), 1.0, ()))
    assert np.isnan(highest_calibrated(raw, cell_max, gain))
