"""The kernels of the cascade against what the CPU line does with the same tiles."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hisir_edge.geometry.merge_plan import merge_plan_from_tiles
from hisir_edge.geometry.tile import plan_from_size
from hisir_edge.inspection.cascade.first_look import calibrated_on_board, suspicious
from hisir_edge.inspection.cascade.planes import planes_of_tiles
from hisir_edge.inspection.rops import Rops

from .test_kernels import _merged, launch

T, SIDE = 64, 4
seeds = st.integers(0, 2**32 - 1)


def test_planes_are_those_of_the_cpu_for_every_pair_of_bytes(kernels):
    tile, cue = np.zeros((2, 3, 256, 256), np.uint8), np.zeros((2, 4, 256, 256), np.uint8)
    tile[0], cue[0, :3] = np.arange(256)[:, None], np.arange(256)[None]
    rng = np.random.default_rng(1)
    tile[1], cue[1] = rng.integers(0, 256, (3, 256, 256)), rng.integers(0, 256, (4, 256, 256))
    cue[0, 3] = 17
    ours, theirs = np.zeros((3, 8, 256, 256), np.uint8), np.zeros((2, 8, 256, 256), np.uint8)
    launch(kernels, "planes_u8", (256, 256, 3), tile, cue, 256, 0, 2, ours)
    planes_of_tiles(tile, cue, theirs)
    np.testing.assert_array_equal(ours[:2], theirs)
    np.testing.assert_array_equal(ours[2], theirs[1], "beyond the last tile it is that one once more")


def _case(seed, hw=(150, 170)):
    rng = np.random.default_rng(seed)
    plan = plan_from_size(hw, T, 32)
    n = len(plan.origins_yx)
    return rng, plan, n, merge_plan_from_tiles(plan, np.ones(n, np.bool_))


@given(seeds, st.floats(-3, 1), st.sampled_from(["", "nan", "inf", "-inf"]))
@settings(max_examples=60, deadline=None)
def test_suspicious_tiles_are_those_of_the_cpu(kernels, seed, log_level, spoil):
    rng, plan, n, merge = _case(seed)
    depth, rows, columns = merge.candidate.shape
    expected = (rng.random((n, SIDE, SIDE)) ** 8 * 4 - 4).astype(np.float32)
    gain = rng.random((rows, columns)).astype(np.float32) + np.float32(0.5)
    level = np.array([np.exp(log_level)], np.float32)
    if spoil:
        expected[rng.integers(n), 1, 2] = float(spoil)
    calibrated, no_number = np.full((rows, columns), -1, np.float32), np.zeros(1, np.int32)
    launch(
        kernels, "expected_scores", (columns, rows, 1), merge.candidate, merge.cell, depth, rows, columns, SIDE**2,
        expected, gain, calibrated, no_number,
    )  # fmt: skip
    assert no_number[0] == bool(spoil)
    look, numbers, count = np.full(n, 7, np.int32), np.full(n, 7, np.int32), np.zeros(1, np.int32)
    origins = np.array(plan.origins_yx, np.int32)
    launch(
        kernels, "suspicious_tiles", (n, 1, 1), origins, n, SIDE, rows, columns, calibrated, level, look
    )  # fmt: skip
    launch(kernels, "listed_tiles", (1, 1, 1), look, n, numbers, count)
    wanted = suspicious(plan, np.arange(n), calibrated, float(level[0]))
    np.testing.assert_array_equal(np.flatnonzero(look), wanted)
    np.testing.assert_array_equal(numbers[: count[0]], wanted)
    if not spoil:
        on_board = calibrated_on_board(plan, np.arange(n), expected, gain)
        np.testing.assert_allclose(calibrated, on_board, rtol=1e-6)


@given(seeds, st.floats(0, 1), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_what_is_left_goes_through_the_engine_alone_and_is_merged_as_on_the_cpu(kernels, seed, share, size):
    """Packed in calls of ``size``, through an engine that inverts, to where their tiles have their scores."""
    rng, _, n, merge = _case(seed)
    tiles = rng.integers(0, 256, (n, 3, T, T), dtype=np.uint8)
    cues = rng.integers(0, 256, (n, 4, T, T), dtype=np.uint8)
    look = (rng.random(n) < share).astype(np.int32)
    run = np.flatnonzero(look)
    numbers, count = np.zeros(n, np.int32), np.zeros(1, np.int32)
    launch(kernels, "listed_tiles", (1, 1, 1), look, n, numbers, count)
    scores, misfit = np.full((n, T, T), np.nan, np.float32), np.full((n, SIDE, SIDE), np.nan, np.float32)
    launch(kernels, "waved_through", (T, T, n), look, T, scores, misfit)
    for first in range(0, len(run), size):
        packed, packed_cues = np.zeros((size, 3, T, T), np.uint8), np.zeros((size, 4, T, T), np.uint8)
        launch(kernels, "packed_tiles", (T, T, size), tiles, cues, T, first, numbers, count, packed, packed_cues)
        given_scores, given_misfit = _engine(packed, packed_cues)
        launch(
            kernels, "placed_scores", (T, T, size), given_scores, given_misfit, T, first, numbers, count, scores, misfit
        )  # fmt: skip
    wanted_scores, wanted_misfit = _engine(tiles, cues)
    np.testing.assert_array_equal(scores[run], wanted_scores[run])
    np.testing.assert_array_equal(misfit[run], wanted_misfit[run])
    assert not scores[look == 0].any() and not misfit[look == 0].any()
    rops = Rops(merge)
    rops.wave(np.flatnonzero(look == 0))
    rops.put(run, scores[run], misfit[run])
    rops.merged()
    out, _ = _merged(kernels, merge, scores, misfit, look)
    np.testing.assert_array_equal(out, rops.out)


def _engine(tiles, cues):
    scores = (255 - tiles[:, 0].astype(np.float32) + cues[:, 3]) / np.float32(100)
    return np.ascontiguousarray(scores), np.ascontiguousarray(scores[:, ::16, ::16] / np.float32(9))


def test_where_nothing_is_left_nothing_is_packed(kernels):
    numbers, count = np.zeros(2, np.int32), np.zeros(1, np.int32)
    tiles, cues = np.ones((2, 3, T, T), np.uint8), np.ones((2, 4, T, T), np.uint8)
    packed, packed_cues = np.zeros((1, 3, T, T), np.uint8), np.zeros((1, 4, T, T), np.uint8)
    launch(kernels, "packed_tiles", (T, T, 1), tiles, cues, T, 0, numbers, count, packed, packed_cues)
    assert not packed.any() and not packed_cues.any()
