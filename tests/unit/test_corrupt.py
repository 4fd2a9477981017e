"""Self-supervised corruption: exact masks, clean stays clean, the same seed gives the same tile."""

from __future__ import annotations

import numpy as np
import pytest

from hisir_edge.learn.corrupt import (
    CORRUPTERS,
    VISIBLE_LEVELS,
    add_sensor_noise,
    corrupt_tile,
    part_boxes,
    vary_appearance,
)
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
    added = made.mask.astype(bool) & ~visible
    assert added.sum() <= 0.25 * visible.sum() + 4, "the mask holds more than closed pinholes"
    assert made.clean is clean


@pytest.mark.parametrize("change", [c for c, _ in CORRUPTERS], ids=lambda c: c.__name__)
def test_each_corruption_changes_some_tiles_and_is_reproducible(board, boxes, change):
    clean, donor = board[64:256, 64:256], board[128:320, 200:392]
    changed = 0
    for seed in range(12):
        box = (60 + seed, 50, 30, 22)
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
