"""From map to regions, against a slow and obvious reference."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hisir_edge.bundle.thresholds import Thresholds
from hisir_edge.inspection.regions import MAX_CONTOUR_POINTS, regions_from_map
from hisir_edge.records import MAX_REGIONS


def _flood(over: np.ndarray, start: tuple[int, int]) -> set[tuple[int, int]]:
    seen, todo = {start}, [start]
    while todo:
        y, x = todo.pop()
        for ny in range(max(y - 1, 0), min(y + 2, over.shape[0])):
            for nx in range(max(x - 1, 0), min(x + 2, over.shape[1])):
                if over[ny, nx] and (ny, nx) not in seen:
                    seen.add((ny, nx))
                    todo.append((ny, nx))
    return seen


def _reference(anomaly_map: np.ndarray, thresholds: Thresholds) -> list[tuple[float, set[tuple[int, int]]]]:
    over = anomaly_map >= 1.0
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(over), strict=True)}
    found = []
    while left:
        pixels = _flood(over, next(iter(left)))
        left -= pixels
        peak = max(float(anomaly_map[p]) for p in pixels)
        if len(pixels) >= thresholds.min_area_px and peak >= thresholds.region_peak:
            found.append((peak, pixels))
    return found


@given(st.integers(4, 30), st.integers(4, 30), st.integers(0, 10**6), st.integers(1, 6), st.floats(1.0, 1.6))
@settings(max_examples=80, deadline=None)
def test_regions_are_the_components_that_are_large_and_sure_enough(height, width, seed, area, peak):
    noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    anomaly_map = cv2.GaussianBlur(noise, (0, 0), 0.8) * np.float32(1.9)
    thresholds = Thresholds(0.5, peak, area)
    found = regions_from_map(anomaly_map, thresholds)
    expected = _reference(anomaly_map, thresholds)
    assert found.total == len(expected)
    mask = np.zeros(anomaly_map.shape, bool)
    for _, pixels in expected:
        for y, x in pixels:
            mask[y, x] = True
    assert np.array_equal(found.mask, mask)
    assert sorted(r.peak for r in found.regions) == sorted(p for p, _ in expected)
    assert [r.peak for r in found.regions] == sorted((r.peak for r in found.regions), reverse=True)
    assert sorted(r.area_px for r in found.regions) == sorted(len(pixels) for _, pixels in expected)
    for region in found.regions:
        x, y, w, h = region.box_xywh
        assert mask[y : y + h, x : x + w].any()
        assert all(x <= px < x + w and y <= py < y + h for px, py in region.contour_xy)
        assert 1 <= len(region.contour_xy) <= MAX_CONTOUR_POINTS


def test_exactly_on_the_threshold_counts():
    anomaly_map = np.zeros((20, 20), np.float32)
    anomaly_map[5:8, 5:8] = 1.0
    assert regions_from_map(anomaly_map, Thresholds(1.0, 1.0, 9)).total == 1
    assert regions_from_map(anomaly_map, Thresholds(1.0, 1.0, 10)).total == 0


def test_more_regions_than_a_message_holds_are_still_counted_and_masked():
    anomaly_map = np.zeros((120, 120), np.float32)
    anomaly_map[::4, ::4] = 2.0
    found = regions_from_map(anomaly_map, Thresholds(1.0, 1.0, 1))
    assert found.total == 900
    assert len(found.regions) == MAX_REGIONS
    assert int(found.mask.sum()) == 900
