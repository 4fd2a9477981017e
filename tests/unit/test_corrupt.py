"""Self-supervised corruption: exact masks, clean stays clean, the same seed gives the same tile."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hisir_edge.learn.appearance import add_sensor_noise, vary_appearance
from hisir_edge.learn.changes import vanish
from hisir_edge.learn.corrupt import CORRUPTERS, VISIBLE_LEVELS, corrupt_tile, visible_change
from hisir_edge.learn.ground import LEAST_CHANGE_LEVELS
from hisir_edge.learn.spots import Spot, object_spot, part_boxes, salient_objects, shape_spot
from hisir_edge.sim.synth import render_board


@pytest.fixture(scope="module")
def board() -> np.ndarray:
    return render_board(3, 1, (512, 384)).frame_rgb


@pytest.fixture(scope="module")
def boxes(board) -> np.ndarray:
    return part_boxes(board)


def test_parts_are_found_without_labels(boxes, board):
    assert len(boxes) > 20
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 0] + boxes[:, 2] <= board.shape[1]).all()
    assert (boxes[:, 1] + boxes[:, 3] <= board.shape[0]).all()


@pytest.mark.parametrize("seed", range(25))
def test_the_mask_is_what_changed_visibly(board, boxes, seed):
    clean, donor = board[64:256, 64:256], board[128:320, 200:392]
    made = corrupt_tile(np.random.default_rng(seed), clean, donor, boxes[:0])
    visible = np.abs(made.tile.astype(int) - clean).max(2) >= VISIBLE_LEVELS
    assert made.mask.dtype == np.uint8
    assert made.mask[visible].all(), "a visible change is not in the mask"
    assert np.array_equal(made.mask, visible_change(made.tile, clean))
    reach = cv2.dilate(visible.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
    assert not (made.mask.astype(bool) & ~reach).any(), "the mask holds more than closed gaps"
    assert made.clean is clean


@pytest.mark.parametrize("change", [c for c, _ in CORRUPTERS], ids=lambda c: c.__name__)
def test_each_corruption_changes_some_tiles_and_is_reproducible(board, boxes, change):
    clean, donor = board[64:256, 64:256], board[128:320, 200:392]
    changed = 0
    for seed in range(12):
        box = shape_spot(np.random.default_rng(100 + seed), (60 + seed, 50, 30, 22), 192)
        one = change(np.random.default_rng(seed), clean, donor, box)
        two = change(np.random.default_rng(seed), clean, donor, box)
        assert one.shape == clean.shape
        assert one.dtype == np.uint8
        assert np.array_equal(one, two)
        changed += not np.array_equal(one, clean)
    assert changed >= 8


def test_some_tiles_stay_clean(board, boxes):
    clean = board[64:256, 64:256]
    made = [corrupt_tile(np.random.default_rng(s), clean, clean[::-1], boxes[:0]) for s in range(80)]
    untouched = sum(not m.mask.any() for m in made)
    assert 6 <= untouched <= 40


def test_normal_drift_is_small(board):
    rng = np.random.default_rng(4)
    tile = board[:128, :128]
    for _ in range(20):
        varied = add_sensor_noise(rng, vary_appearance(rng, tile))
        assert varied.dtype == np.uint8
        assert abs(float(varied.mean()) - float(tile.mean())) < 0.25 * float(tile.mean()) + 6


@pytest.mark.parametrize(
    "box", [(0, 0, 4, 4), (-9, -3, 12, 300), (188, 188, 4, 4), (190, 5, 60, 8), (20, 30, 150, 150)]
)
def test_spots_stay_inside_the_tile(box):
    for seed in range(20):
        spot = shape_spot(np.random.default_rng(seed), box, 192)
        h, w = spot.weight.shape
        assert spot.y >= 0
        assert spot.x >= 0
        assert spot.y + h <= 192
        assert spot.x + w <= 192
        assert spot.weight.dtype == np.float32
        assert 0 <= spot.weight.min() <= spot.weight.max() <= 1


def test_objects_of_a_tile_are_found_and_cut_out_whole():
    tile = np.full((192, 192, 3), 120, np.uint8)
    cv2.line(tile, (40, 20), (60, 150), (230, 230, 230), 7)  # a lead
    cv2.circle(tile, (140, 100), 9, (20, 20, 20), -1)  # a hole
    whole = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        objects = salient_objects(rng, tile)
        assert 1 <= len(objects.boxes) <= 4
        assert objects.odds.sum() == pytest.approx(1)
        spot = object_spot(rng, 192, objects)
        picked = np.zeros((192, 192), bool)
        picked[spot.window] = spot.weight > 0.5
        lead, hole = (tile > 200).all(2), (tile < 50).all(2)
        whole += bool((picked & lead).sum() > 0.9 * lead.sum() or (picked & hole).sum() > 0.9 * hole.sum())
    assert whole >= 12


def test_a_plain_tile_has_no_objects_and_is_corrupted_all_the_same():
    plain = np.full((128, 128, 3), 90, np.uint8)
    rng = np.random.default_rng(3)
    assert len(salient_objects(rng, plain).boxes) == 0
    none = np.zeros((0, 4), np.int32)
    made = [corrupt_tile(np.random.default_rng(s), plain, plain, none).mask.any() for s in range(30)]
    assert sum(made) >= 8


def test_a_thing_that_vanishes_leaves_the_ground_of_its_own_tile():
    """A grid of holes, a lead over one of them: what is left shows a hole again, where a neighbour has one."""
    bare = np.full((192, 192, 3), (170, 120, 100), np.uint8)
    for y in range(24, 192, 36):
        for x in range(24, 192, 36):
            cv2.circle(bare, (x, y), 8, (20, 20, 20), -1, cv2.LINE_AA)
    tile = bare.copy()
    cv2.line(tile, (96, 82), (96, 110), (235, 235, 235), 9)
    weight = np.zeros((46, 33), np.float32)
    weight[4:42, 7:26] = 1
    spot = Spot(73, 80, weight)
    right = 0
    for seed in range(20):
        emptied = vanish(np.random.default_rng(seed), tile, tile, spot)
        left = np.abs(emptied.astype(int) - bare).max(2)[spot.window]
        right += bool((left < LEAST_CHANGE_LEVELS[0]).mean() > 0.9)
    assert right >= 14, "the best fitting place of the tile has a hole at the same distance"


def test_bright_things_are_kept_apart_from_the_dark_body_they_come_from():
    tile = np.full((192, 192, 3), 120, np.uint8)
    cv2.rectangle(tile, (60, 30), (130, 90), (20, 20, 20), -1)
    for x in (70, 95, 120):
        cv2.line(tile, (x, 90), (x, 150), (235, 235, 235), 6)
    leads = []
    for seed in range(40):
        objects = salient_objects(np.random.default_rng(seed), tile)
        leads += [w * h for _, _, w, h in objects.boxes if 20 <= h <= 36 and w <= 8]
    assert len(leads) >= 12


def test_objects_and_bites_of_them_lie_inside_the_tile():
    tile = np.full((192, 192, 3), 120, np.uint8)
    cv2.line(tile, (0, 30), (191, 160), (230, 230, 230), 16)  # from border to border
    seen = 0
    for seed in range(80):
        rng = np.random.default_rng(seed)
        objects = salient_objects(rng, tile)
        if not len(objects.boxes):  # only dark things were looked for
            continue
        spot = object_spot(rng, 192, objects)
        h, w = spot.weight.shape
        assert spot.y >= 0 and spot.y + h <= 192
        assert spot.x >= 0 and spot.x + w <= 192
        seen += spot.weight.max() > 0.5
    assert seen >= 30


def test_a_large_part_vanishes_into_what_lies_beside_it():
    striped = np.full((192, 192, 3), 150, np.uint8)
    striped[:, ::6] = 40
    tile = striped.copy()
    tile[50:140, 60:150] = (10, 10, 30)
    weight = np.ones((98, 98), np.float32)
    ground = 0
    for seed in range(20):
        emptied = vanish(np.random.default_rng(seed), tile, tile, Spot(46, 56, weight))
        inside = emptied[60:130, 70:140].astype(int)
        ground += bool(inside.std() > 20 and (np.abs(inside - (10, 10, 30)).max(2) < 20).mean() < 0.05)
    assert ground >= 8
