"""ROPS selects, never averages; prefers the tile that sees a region best, not the one that alarms least."""

from __future__ import annotations

import numpy as np
import pytest

from hisir_edge.errors import InspectionError
from hisir_edge.geometry.merge_plan import merge_plan_from_tiles
from hisir_edge.geometry.tile import REGION_PX, plan_from_size
from hisir_edge.inspection.rops import KEPT_FROM, Rops, map_from_tiles


def _two_tiles():
    plan = plan_from_size((64, 96), 64, 32)
    assert plan.origins_yx == ((0, 0), (0, 32))
    return merge_plan_from_tiles(plan)


def _misfit(left: float, right: float) -> np.ndarray:
    return np.stack([np.full((4, 4), left, np.float32), np.full((4, 4), right, np.float32)])


def test_every_pixel_comes_from_one_of_its_tiles():
    rng = np.random.default_rng(3)
    plan = plan_from_size((200, 330), 96, 48)
    merge = merge_plan_from_tiles(plan)
    n, side = len(plan.origins_yx), 96 // REGION_PX
    scores = rng.random((n, 96, 96), np.float32)
    merged = map_from_tiles(merge, scores, rng.random((n, side, side), np.float32))
    explained = np.zeros(merged.shape, bool)
    for tile, (y, x) in zip(scores, plan.origins_yx, strict=True):
        view = merged[y : y + 96, x : x + 96]
        explained[y : y + 96, x : x + 96] |= view == tile[: view.shape[0], : view.shape[1]]
    assert explained.all()


def test_a_region_is_never_torn_between_tiles():
    rng = np.random.default_rng(4)
    plan = plan_from_size((160, 224), 96, 32)
    merge = merge_plan_from_tiles(plan)
    scores = np.stack([np.full((96, 96), i, np.float32) for i in range(len(plan.origins_yx))])
    merged = map_from_tiles(merge, scores, rng.random((len(scores), 6, 6), np.float32))
    cells = merged.reshape(160 // 16, 16, 224 // 16, 16)
    assert (cells == cells[:, :1, :, :1]).all()


def test_the_tile_that_reconstructs_the_overlap_better_wins_it():
    merge = _two_tiles()
    scores = np.stack([np.full((64, 64), 1, np.float32), np.full((64, 64), 2, np.float32)])
    assert (map_from_tiles(merge, scores, _misfit(0.01, 0.5))[:, 32:64] == 1).all()
    assert (map_from_tiles(merge, scores, _misfit(0.5, 0.01))[:, 32:64] == 2).all()


def test_quiet_scores_do_not_win_by_being_quiet():
    merge = _two_tiles()
    for loud in (0, 1):
        scores = np.zeros((2, 64, 64), np.float32)
        scores[loud] = 9
        merged = map_from_tiles(merge, scores, _misfit(*((0.01, 0.4) if loud == 0 else (0.4, 0.01))))
        assert (merged[:, 32:64] == 9).all()


def test_with_equal_tiles_each_keeps_its_own_side_of_the_overlap():
    merge = _two_tiles()
    scores = np.stack([np.full((64, 64), 1, np.float32), np.full((64, 64), 2, np.float32)])
    merged = map_from_tiles(merge, scores, _misfit(0.1, 0.1))
    assert (merged[:, :48] == 1).all() and (merged[:, 48:] == 2).all()


def test_one_odd_region_follows_its_neighbours():
    merge = _two_tiles()
    scores = np.stack([np.full((64, 64), 1, np.float32), np.full((64, 64), 2, np.float32)])
    misfit = _misfit(0.10, 0.13)
    misfit[0, 1, 2] = 0.131  # region (1, 2) alone would narrowly prefer the right tile
    assert (map_from_tiles(merge, scores, misfit)[:, 32:48] == 1).all()


def _random(seed: int, hw=(200, 330), tile=96, overlap=48):
    rng = np.random.default_rng(seed)
    plan = plan_from_size(hw, tile, overlap)
    n, side = len(plan.origins_yx), tile // REGION_PX
    return rng, plan, rng.random((n, tile, tile), np.float32), rng.random((n, side, side), np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_neither_order_nor_batches_of_the_tiles_matter(seed):
    rng, plan, scores, misfit = _random(seed)
    merge = merge_plan_from_tiles(plan)
    rops = Rops(merge)
    for _ in range(3):  # the next frame finds the last one's choices in the buffers
        rops.undo()
        for batch in np.array_split(rng.permutation(len(scores)), int(rng.integers(1, 9))):
            rops.put(batch, scores[batch], misfit[batch])
        for _ in range(2):
            assert np.array_equal(rops.merged(), map_from_tiles(merge, scores, misfit))
        padded = rops.out.reshape(plan.padded_hw[0] // 16, 16, plan.padded_hw[1] // 16, 16)
        assert np.array_equal(rops.cell_max, padded.max((1, 3)))
        scores, misfit = rng.random(scores.shape, np.float32), rng.random(misfit.shape, np.float32)
    with pytest.raises(RuntimeError, match="undo"):
        rops.put(np.arange(1), scores[:1], misfit[:1])


@pytest.mark.parametrize("seed", range(8))
def test_what_is_kept_of_a_map_is_what_the_whole_one_has_there(seed):
    """Frame after frame, some tiles put again: above the floor all is there, elsewhere it is the same or 0."""
    rng, plan, _, misfit = _random(seed)
    n, t = len(plan.origins_yx), plan.tile_px
    merge = merge_plan_from_tiles(plan)
    gain = rng.uniform(0, 2, merge.contested.shape).astype(np.float32) * (rng.random(merge.contested.shape) > 0.2)
    little, whole = Rops(merge, gain), Rops(merge)
    scores = np.zeros((n, t, t), np.float32)
    for turn in range(5):
        again = np.arange(n) if turn % 2 == 0 else rng.choice(n, max(1, n // 3), replace=False)
        quiet = rng.random((len(again), t, t), np.float32) * np.float32(0.08)
        spots = rng.random(quiet.shape) > 0.9995
        scores[again] = np.where(spots, rng.uniform(0, 3, quiet.shape), quiet).astype(np.float32)
        misfit[again] = rng.random(misfit[again].shape, np.float32)
        for one in (little, whole):
            one.undo()
            for batch in np.array_split(again, 2):
                one.put(batch, scores[batch], misfit[batch])
        kept, everything = little.merged(), whole.merged()
        assert np.array_equal(little.cell_max, whole.cell_max)
        same = little.out.reshape(-1, 16, little.out.shape[1] // 16, 16).swapaxes(1, 2)
        full = whole.out.reshape(-1, 16, little.out.shape[1] // 16, 16).swapaxes(1, 2)
        equal, empty = (same == full).all((2, 3)), (same == 0).all((2, 3))
        assert (equal | empty).all()
        with np.errstate(divide="ignore"):
            assert equal[whole.cell_max >= KEPT_FROM / gain].all()
        assert kept.shape == everything.shape
        assert empty.any()


@pytest.mark.parametrize("seed", range(5))
def test_tiles_put_again_leave_the_others_as_they_were(seed):
    rng, plan, scores, misfit = _random(seed)
    merge = merge_plan_from_tiles(plan)
    rops = Rops(merge)
    rops.put(np.arange(len(scores)), scores, misfit)
    rops.merged()
    again = rng.choice(len(scores), 3, replace=False)
    scores[again], misfit[again] = rng.random(scores[again].shape), rng.random(misfit[again].shape)
    rops.undo()
    rops.put(again, scores[again], misfit[again])
    assert np.array_equal(rops.merged(), map_from_tiles(merge, scores, misfit))


def test_tiles_that_are_not_run_have_no_say():
    _, plan, scores, misfit = _random(7)
    run = np.ones(len(scores), bool)
    run[[0, 3]] = False
    rops = Rops(merge_plan_from_tiles(plan, run))
    rops.put(np.flatnonzero(run), scores[run], misfit[run])
    merged = rops.merged()
    covered = np.zeros(plan.padded_hw, bool)
    explained = np.zeros(plan.padded_hw, bool)
    for (y, x), tile, here in zip(plan.origins_yx, scores, run, strict=True):
        if here:
            covered[y : y + 96, x : x + 96] = True
            explained[y : y + 96, x : x + 96] |= rops.out[y : y + 96, x : x + 96] == tile
    assert (~covered).any()
    assert explained[covered].all()
    assert (rops.out[~covered] == 0).all()
    assert merged.shape == plan.frame_hw


@pytest.mark.parametrize("spoil", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(spoil):
    _, plan, scores, misfit = _random(1)
    rops = Rops(merge_plan_from_tiles(plan))
    scores[1, 5, 5] = spoil
    with pytest.raises(InspectionError, match="finite scores"):
        rops.put(np.arange(len(scores)), scores, misfit)
