"""Solder where none belongs: inside the tile, bright and dark by its form, in one piece or many."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hisir_edge.corruption.changes import WORN_SHARE, _rubbed, foreign, scratch, solder
from hisir_edge.corruption.metal import _height, shadow_of, solder_on
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


def spreads(pieces) -> list[float]:
    """Levels between the darkest and the brightest twentieth of each piece of 60 pixels and more."""
    return [float(np.ptp(np.percentile(one.mean(1), (5, 95)))) for one in pieces if len(one) >= 60]


def test_it_mirrors_light_and_dark_which_paint_does_not():
    tile, metal, paint = np.full((SIDE, SIDE, 3), 255, np.uint8), [], []
    for seed in range(80):
        piece, content = solder_on(np.random.default_rng(seed), SIDE, spot(seed))
        metal.append(content[piece.weight > 0.9])
        where = spot(seed)
        painted = foreign(np.random.default_rng(seed), tile, tile, where)
        paint.append(painted[where.window][where.weight > 0.9].astype(float))
    assert len(spreads(metal)) >= 40
    assert np.median(spreads(metal)) > 100 > 1.3 * np.median(spreads(paint))
    sizes = [len(one) for one in metal if len(one)]
    assert np.percentile(sizes, 90) > 3 * np.percentile(sizes, 10), "drops and splashes"
    assert np.median([np.ptp(one.mean(0)) for one in metal if len(one)]) < 15, "metal has hardly a colour of its own"


def test_a_shadow_fades_out():
    """Nowhere does it end in a straight line on bare ground."""
    seen = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        piece, _ = solder_on(rng, SIDE, spot(seed))
        shadow = shadow_of(rng, piece)
        if shadow is None:
            continue
        where, strength = shadow
        seen += 1
        edges = [where.weight[-1], where.weight[:, -1]]
        edges += [where.weight[0]] * (piece.y > 0) + [where.weight[:, 0]] * (piece.x > 0)
        inside = [piece.y + len(where.weight) < SIDE, piece.x + where.weight.shape[1] < SIDE, True, True]
        assert all(strength * edge.max() * 150 < 6 for edge, whole in zip(edges, inside, strict=False) if whole)
    assert seen >= 40


def test_a_form_is_highest_in_its_middle_and_ends_at_its_edge():
    solid = np.zeros((64, 64), np.uint8)
    cv2.circle(solid, (32, 32), 12, 255, -1)
    heights = np.stack([_height(np.random.default_rng(seed), solid) for seed in range(60)])
    mean = heights.mean(0)
    assert mean[32, 32] > mean[32, 24] > mean[32, 21] > mean[32, 18] > -0.5
    assert heights.std(0)[32, 32] > 0.5, "flat and high ones"


def test_solder_is_seen_and_leaves_the_rest_alone():
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


def test_ground_of_two_colours_stays_so_where_it_is_rubbed():
    """A line from blue mask over a black body: each half is its own colour, lighter or darker."""
    tile = np.full((SIDE, SIDE, 3), (20, 40, 140), np.uint8)
    tile[:, 64:] = 25
    line = Spot(20, 4, np.zeros((80, 120), np.float32))
    cv2.line(line.weight, (4, 4), (115, 75), 1.0, 5)
    rows, columns = np.nonzero(line.weight > 0.9)
    body = columns + line.x > 64 + 14
    for seed in range(40):
        out = _rubbed(np.random.default_rng(seed), tile, line)[rows + line.y, columns + line.x].astype(float)
        assert out[body][:, 2].mean() - out[body][:, 0].mean() < 60, "no blue of the mask"
        assert out[~body][:, 2].mean() >= out[~body][:, 0].mean() - 20
