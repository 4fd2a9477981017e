"""Tiles that show what people have reviewed: good places as they are, real defects laid over good boards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hisir_edge.corruption.corrupt import Corruption
from hisir_edge.inspection.registration.pose import pose_from_affine
from hisir_edge.learn.data.memory import unregistered_boards
from hisir_edge.learn.data.tiles import CorruptedTiles
from hisir_edge.learn.review.boards import ReviewedBoard, ReviewedPlace
from hisir_edge.learn.review.tiles import Patch, ReviewedTiles, golden_polygon, patch_of, together, with_patch

T = 64


def clean_tile(rng: np.random.Generator) -> Corruption:
    tile = rng.integers(60, 90, (T, T, 3)).astype(np.uint8)
    return Corruption(tile, tile, np.zeros((T, T), np.uint8))


@given(st.integers(0, 10**6), st.integers(-40, 80), st.integers(-40, 80), st.integers(2, 40), st.integers(2, 40))
@settings(max_examples=100, deadline=None)
def test_a_patch_is_seen_where_it_lies_and_nowhere_else(seed, top, left, h, w):
    rng = np.random.default_rng(seed)
    made = clean_tile(rng)
    patch = Patch(100 + top, 200 + left, np.full((h, w, 3), 220, np.uint8), np.ones((h, w), np.uint8))
    after = with_patch(rng, made, patch, (100, 200))
    y0, y1, x0, x1 = (min(max(v, 0), T) for v in (top - 8, top + h + 8, left - 8, left + w + 8))
    outside = np.ones((T, T), bool)
    outside[y0:y1, x0:x1] = False
    assert (after.tile[outside] == made.tile[outside]).all()
    assert not after.mask[outside].any()
    assert after.clean is made.clean
    inner = after.mask[max(top + 4, 0) : max(top + h - 4, 0), max(left + 4, 0) : max(left + w - 4, 0)]
    assert inner.all(), "a bright patch on a dark tile is all of it a defect"


def test_what_was_corrupted_before_stays_so_beside_a_patch():
    rng = np.random.default_rng(1)
    made = clean_tile(rng)
    before = made.tile.copy()
    before[50:60, 50:60] = 255
    mask = np.zeros((T, T), np.uint8)
    mask[50:60, 50:60] = 1
    patch = Patch(0, 0, np.full((10, 10, 3), 220, np.uint8), np.ones((10, 10), np.uint8))
    after = with_patch(rng, Corruption(before, made.tile, mask), patch, (0, 0))
    assert after.mask[50:60, 50:60].all() and after.mask[3:7, 3:7].all()


def test_a_defect_is_cut_out_as_registration_lays_it():
    frame = np.zeros((80, 120, 3), np.uint8)
    frame[30:40, 50:70] = 200
    boards = unregistered_boards([np.zeros((80, 120, 3), np.uint8), frame])
    shifted = pose_from_affine(np.array([[1.0, 0, 5], [0, 1.0, -3]]))
    boards.poses[1:] = [shifted]
    place = ReviewedPlace("confirmed", ((50, 30), (69, 30), (69, 39), (50, 39)))
    polygon = golden_polygon(boards, 1, place, 1.0)
    assert polygon.min(0).tolist() == [55, 27] and polygon.max(0).tolist() == [74, 36]
    patch = patch_of(boards, 1, [polygon])
    assert patch is not None
    bright = np.argwhere(patch.picture[..., 0] > 100) + (patch.y, patch.x)
    assert bright.min(0).tolist() == [27, 55] and bright.max(0).tolist() == [36, 74]
    assert patch.inside[bright[:, 0] - patch.y, bright[:, 1] - patch.x].all()
    assert patch_of(boards, 1, [polygon + 500]) is None


def test_outlines_of_one_part_are_one_defect():
    def box(x, y, w=10, h=10):
        return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], np.float64)

    a, b, c, far = box(0, 0), box(20, 0), box(40, 0), box(300, 300)
    assert [len(group) for group in together([a, c, far])] == [1, 1, 1]
    groups = together([a, c, far, b])  # the one between them
    assert sorted(len(group) for group in groups) == [1, 3]
    assert together([]) == []
    boards = unregistered_boards([np.full((80, 120, 3), 7, np.uint8)] * 2)
    patch = patch_of(boards, 1, [a, b])
    assert patch is not None and patch.inside[5, 15] == 0 and patch.inside[5, 5] == patch.inside[5, 25] == 1


def test_a_polygon_is_scaled_with_the_frame():
    boards = unregistered_boards([np.zeros((40, 60, 3), np.uint8)] * 2)
    place = ReviewedPlace("escape", ((0, 0), (99.5, 0), (99.5, 59.5)))
    assert golden_polygon(boards, 0, place, 0.5).tolist() == [[-0.25, -0.25], [49.5, -0.25], [49.5, 29.5]]


@pytest.mark.parametrize(
    ("kinds", "good"),
    [
        (["false call"], True),
        (["false call", "open"], False),
        (["escape"], False),
        (["false call", "confirmed"], False),
        ([], False),
    ],
)
def test_a_board_is_good_where_all_that_was_called_is_not_so(kinds, good):
    places = tuple(ReviewedPlace(kind, ((0, 0), (1, 0), (1, 1))) for kind in kinds)
    assert ReviewedBoard("l/e/1", "u", "p.png", places).is_good == good


def test_tiles_show_the_places_and_are_the_same_for_the_same_number(tmp_path):
    rng = np.random.default_rng(3)
    boards = unregistered_boards([rng.integers(60, 90, (200, 300, 3)).astype(np.uint8) for _ in range(3)])
    patch = Patch(90, 140, np.full((12, 20, 3), 230, np.uint8), np.ones((12, 20), np.uint8))
    reviewed = ReviewedTiles(((2, 50.0, 60.0),), (patch,))
    stream = CorruptedTiles(tmp_path / "b.npy", boards, T, 8, 1, reviewed=reviewed, share=0.5)
    first = stream.reviewed_batches(1000, 4)
    assert stream.share == 0.5 and stream.frames is None
    bright = [(batch.tile.min(1) > 180).any((1, 2)) & batch.mask.any((1, 2, 3)) for batch in first]
    assert 4 <= int(np.sum(bright)) <= 28, "about half of 32 tiles show the defect"
    again = stream.reviewed_batches(1000, 4)
    assert all((a == b).all() for one, other in zip(first, again, strict=True) for a, b in zip(one, other, strict=True))
    stream.remove_files()
