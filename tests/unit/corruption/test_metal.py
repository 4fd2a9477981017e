"""Solder where none belongs: inside the tile, bright and dark by its form, in one piece or many."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hisir_edge.corruption.changes import WORN_SHARE, scratch, solder
from hisir_edge.corruption.metal import _height, solder_on
from hisir_edge.corruption.spots import Spot, shape_spot

SIDE = 128


def spot(seed: int, box: tuple[int, int, int, int] = (50, 50, 24, 18)) -> Spot:
    return shape_spot(np.random.default_rng(1000 + seed), box, SIDE)


@pytest.mark.parametrize(
    "box", [(50, 50, 24, 18), (0, 0, 3, 3), (124, 124, 4, 4), (-9, 100, 300, 12), (4, 4, 120, 120)]
)
def test_it_stays_inside_the_tile_and_is_there(box):
    for seed in range(60):
        piece, content = solder_on(np.random.default_rng(seed), SIDE, spot(seed, box))
        h, w = piece.weight.shape
        assert 0 <= piece.y <= SIDE - h and 0 <= piece.x <= SIDE - w
        assert piece.weight.dtype == np.float32 and 0 <= piece.weight.min() <= piece.weight.max() <= 1
        assert piece.weight.max() > 0.15, "nothing is laid in"
        assert content.shape == (h, w, 3) and content.dtype == np.float32
        assert np.isfinite(content).all() and 0 <= content.min() <= content.max() <= 255


def test_it_mirrors_light_and_dark_which_paint_does_not():
    """Most pieces of some size show more than 100 levels between their darkest and brightest tenth."""
    spread, sizes, grey = [], [], []
    for seed in range(80):
        piece, content = solder_on(np.random.default_rng(seed), SIDE, spot(seed))
        inside = content[piece.weight > 0.9]
        if len(inside) >= 60:
            low, high = np.percentile(inside.mean(1), (5, 95))
            spread.append(high - low)
            sizes.append(len(inside))
            grey.append(np.ptp(inside.mean(0)))
    assert len(spread) >= 40
    assert np.median(spread) > 50 and np.percentile(spread, 80) > 90
    assert np.percentile(sizes, 90) > 3 * np.percentile(sizes, 10), "drops and splashes"
    assert np.median(grey) < 15, "metal has hardly a colour of its own"


def test_a_form_is_highest_in_its_middle_and_ends_at_its_edge():
    solid = np.zeros((64, 64), np.uint8)
    cv2.circle(solid, (32, 32), 12, 255, -1)
    heights = np.stack([_height(np.random.default_rng(seed), solid) for seed in range(60)])
    mean = heights.mean(0)
    assert mean[32, 32] > mean[32, 24] > mean[32, 21] > mean[32, 18] > -0.5
    assert heights.std(0)[32, 32] > 0.5, "flat and high ones"


def test_solder_and_rubbed_ground_are_seen_and_leave_the_rest_alone():
    tile = np.full((SIDE, SIDE, 3), (30, 60, 140), np.uint8)
    seen = 0
    for seed in range(40):
        out = solder(np.random.default_rng(seed), tile, tile, spot(seed))
        changed = np.abs(out.astype(int) - tile).max(2)
        seen += bool((changed > 60).sum() >= 4)
        assert (changed == 0).mean() > 0.3
    assert seen >= 32


def test_a_scratch_may_be_the_ground_itself_rubbed_lighter():
    """On blue ground most scratches of the kind stay blue, as bare solder mask does; a hair has a colour of its own."""
    tile = np.full((SIDE, SIDE, 3), (30, 60, 140), np.uint8)
    blue = lighter = 0
    for seed in range(120):
        out = scratch(np.random.default_rng(seed), tile, tile, spot(seed)).astype(int)
        changed = np.abs(out - tile).max(2) > 20
        if changed.sum() >= 10:
            line = out[changed].mean(0)
            blue += bool(line[2] - line[0] > 60)
            lighter += bool(line[2] - line[0] > 60 and line.mean() > 90)
    assert blue >= 120 * WORN_SHARE * 0.5
    assert lighter >= 15
