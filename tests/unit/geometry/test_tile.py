"""Tile geometry: every pixel covered, one tile shape, awkward sizes, merging what was cut gives it back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hisir_edge.errors import InputError
from hisir_edge.geometry.merge_plan import merge_plan_from_tiles
from hisir_edge.geometry.tile import (
    REGION_PX,
    padded_frame,
    plan_from_size,
    scaled_frame,
    tiles_from_frame,
    tiles_from_planes,
)
from hisir_edge.inspection.rops import map_from_tiles

AWKWARD = [(64, 64), (65, 64), (64, 127), (97, 131), (128, 128), (255, 257), (300, 97), (191, 640)]


@st.composite
def plans(draw):
    tile = draw(st.sampled_from([32, 64, 96]))
    overlap = draw(st.integers(1, tile // 32)) * 16
    height, width = draw(st.integers(tile, 400)), draw(st.integers(tile, 400))
    return plan_from_size((height, width), tile, overlap), overlap


@given(plans())
@settings(max_examples=150, deadline=None)
def test_every_pixel_is_covered_by_tiles_of_one_shape(made):
    plan, overlap = made
    covered = np.zeros(plan.padded_hw, int)
    for y, x in plan.origins_yx:
        assert y % REGION_PX == 0 and x % REGION_PX == 0
        assert 0 <= y <= plan.padded_hw[0] - plan.tile_px and 0 <= x <= plan.padded_hw[1] - plan.tile_px
        covered[y : y + plan.tile_px, x : x + plan.tile_px] += 1
    assert covered.min() >= 1
    assert all(p >= f and p - f < REGION_PX for p, f in zip(plan.padded_hw, plan.frame_hw, strict=True))
    for axis in (0, 1):
        starts = sorted({origin[axis] for origin in plan.origins_yx})
        assert all(b - a <= plan.tile_px - overlap for a, b in itertools.pairwise(starts))


@given(plans(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_merging_the_tiles_of_a_map_gives_the_map_back(made, seed):
    plan, _ = made
    rng = np.random.default_rng(seed)
    truth = rng.random(plan.padded_hw, np.float32)
    tiles = np.stack([truth[y : y + plan.tile_px, x : x + plan.tile_px] for y, x in plan.origins_yx])
    side = plan.tile_px // REGION_PX
    misfit = rng.random((len(tiles), side, side), np.float32)
    merged = map_from_tiles(merge_plan_from_tiles(plan), tiles, misfit)
    assert merged.shape == plan.frame_hw
    assert np.array_equal(merged, truth[: plan.frame_hw[0], : plan.frame_hw[1]])


@pytest.mark.parametrize("frame_hw", AWKWARD)
def test_tiles_hold_the_frame_pixel_by_pixel(frame_hw):
    plan = plan_from_size(frame_hw, 64, 16)
    frame = np.random.default_rng(1).integers(0, 256, (*frame_hw, 3), np.uint8)
    padded = padded_frame(plan, frame)
    assert np.array_equal(padded[: frame_hw[0], : frame_hw[1]], frame)
    out, planes = np.zeros((2, len(plan.origins_yx) + 3, 3, 64, 64), np.uint8)
    numbers = np.arange(len(plan.origins_yx))
    tiles_from_frame(plan, padded, numbers, out)
    tiles_from_planes(plan, np.ascontiguousarray(padded.transpose(2, 0, 1)), numbers, planes)
    assert np.array_equal(out, planes)
    for tile, (y, x) in zip(out, plan.origins_yx, strict=False):
        assert np.array_equal(tile.transpose(1, 2, 0), padded[y : y + 64, x : x + 64])


@pytest.mark.parametrize(
    ("frame_hw", "tile", "overlap", "words"),
    [
        ((63, 200), 64, 16, "at least 64x64"),
        ((200, 31), 32, 16, "200"),
        ((200, 200), 50, 16, "multiple of 32"),
        ((200, 200), 64, 48, "16..32"),
        ((200, 200), 64, 20, "steps of 16"),
        ((200, 200), 0, 16, "multiple of 32"),
    ],
)
def test_impossible_plans_are_refused_with_numbers(frame_hw, tile, overlap, words):
    with pytest.raises(InputError, match=words):
        plan_from_size(frame_hw, tile, overlap)


def test_a_frame_of_another_size_is_refused():
    plan = plan_from_size((100, 200), 64, 16)
    with pytest.raises(InputError, match=r"200x100.*201x100"):
        padded_frame(plan, np.zeros((100, 201, 3), np.uint8))


def test_scaling_averages_areas():
    frame = np.zeros((8, 8, 3), np.uint8)
    frame[::2, ::2] = 200
    assert np.array_equal(scaled_frame(frame, 0.5), np.full((4, 4, 3), 50, np.uint8))
    assert scaled_frame(frame, 1.0) is frame


@pytest.mark.parametrize("kept", [True, False])
def test_cues_are_the_same_kept_or_cut(monkeypatch, kept):
    from hisir_edge.inspection.cpu import tile_workers as workers
    from hisir_edge.inspection.memory.shown import ShownTiles
    from hisir_edge.inspection.memory.variants import Chooser

    if not kept:
        monkeypatch.setattr(workers, "KEPT_CUES_BYTES", 0)
    plan = plan_from_size((250, 330), 64, 16)
    planes = np.random.default_rng(2).integers(0, 256, (4, *plan.padded_hw), np.uint8)
    run = np.delete(np.arange(len(plan.origins_yx)), [3, 4, 11])
    cues, room = workers.Cues(plan, planes, run), np.empty((9, 4, 64, 64), np.uint8)
    for numbers in (run[:5], run[6:14], run[-1:], run[[2, 0, 7]], np.array([3, 5])):
        found = cues.of(numbers, room, ShownTiles(Chooser((), (250, 330)), planes))
        assert found.flags.c_contiguous and len(found) == len(numbers)
        for one, number in zip(found, numbers, strict=True):
            y, x = plan.origins_yx[number]
            assert np.array_equal(one, planes[:, y : y + 64, x : x + 64])
