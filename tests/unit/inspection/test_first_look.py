"""The first look leaves out what cannot be a defect, and nothing else; whatever is unusual or broken is looked at."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.first_look import CASCADE, EVERYTHING, NOTHING, network

from hisir_edge.config.tables import InferTable
from hisir_edge.errors import BundleError
from hisir_edge.geometry.merge_plan import merge_plan_from_tiles
from hisir_edge.geometry.tile import REGION_PX, plan_from_size
from hisir_edge.images import read_rgb
from hisir_edge.inspection.cascade.first_look import (
    LEAST_SAMPLE,
    beside,
    calibrated_on_board,
    sample_of_tiles,
    suspicious,
)
from hisir_edge.inspection.cascade.planes import MIDDLE, planes_of_tiles
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.rops import Rops
from hisir_edge.inspection.selftest import check_first_look, with_plants
from hisir_edge.learn.evaluation.evaluate import evaluate_inspector
from hisir_edge.learn.evaluation.figures import figures
from hisir_edge.records import Result


def looking(inspector: CpuInspector, expected: float) -> CpuInspector:
    """An inspector of the same bundle with such a first look."""
    bundle = inspector.bundle
    manifest = bundle.manifest.model_copy(update={"cascade": CASCADE})
    one = CpuInspector(replace(bundle, manifest=manifest, first_look=network(expected)), inspector.engine)
    one.watch_optics()
    assert one.look_first()
    return one


@pytest.fixture
def boards(small_boards, inspector) -> list[np.ndarray]:
    good = [read_rgb(path) for path in sorted((small_boards / "test" / "good").iterdir())[:2]]
    return [*good, with_plants(good[0], inspector.bundle.manifest.self_test.plants)]


def test_planes_say_how_far_a_pixel_is_from_what_good_boards_show():
    tile = np.array([[10, 200], [30, 40]], np.uint8)[None].repeat(3, 0)
    tile[1] += 5
    cue = np.stack([np.full((2, 2), v, np.uint8) for v in (20, 20, 20, 8)])
    out = np.empty((1, 8, 2, 2), np.uint8)
    planes_of_tiles(tile[None], cue[None], out)
    assert out[0, 0].tolist() == [[MIDDLE - 5, MIDDLE + 90], [MIDDLE + 5, MIDDLE + 10]]
    np.testing.assert_array_equal(out[0, 3:7], cue)
    # |15 - 20| is less than |10 - 20|; the deviation comes off, and nothing is below 0
    assert out[0, 7].tolist() == [[2, 177], [7, 17]]


@given(
    seed=st.integers(0, 10**6), hw=st.tuples(st.integers(64, 300), st.integers(64, 300)), level=st.floats(0.05, 0.95)
)
def test_whatever_may_be_called_is_seen_by_every_tile_that_can_see_it(seed, hw, level):
    plan, rng = plan_from_size(hw, 64, 16), np.random.default_rng(seed)
    grid = (plan.padded_hw[0] // REGION_PX, plan.padded_hw[1] // REGION_PX)
    calibrated = np.where(rng.random(grid) < 0.03, rng.random(grid), 0).astype(np.float32)
    numbers = np.arange(len(plan.origins_yx))[rng.random(len(plan.origins_yx)) < 0.9]
    looked = set(suspicious(plan, numbers, calibrated, level).tolist())
    for number in numbers.tolist():
        y, x = (side // REGION_PX for side in plan.origins_yx[number])
        around = calibrated[max(y - 1, 0) : y + 5, max(x - 1, 0) : x + 5]
        assert (number in looked) == bool((around >= np.float32(level)).any())


def test_what_is_no_number_is_looked_at():
    plan = plan_from_size((128, 128), 64, 16)
    calibrated = np.zeros((8, 8), np.float32)
    calibrated[4, 4] = np.nan
    assert len(suspicious(plan, np.arange(len(plan.origins_yx)), calibrated, 0.5))


def test_of_several_tiles_the_highest_counts_and_the_gain_with_it():
    plan = plan_from_size((64, 112), 64, 16)
    expected = np.full((2, 4, 4), np.log(0.5), np.float32)
    expected[1, :, 0] = np.log(2.0)
    gain = np.full((4, 7), 3.0, np.float32)
    board = calibrated_on_board(plan, np.arange(2), expected, gain)
    np.testing.assert_allclose(board[:, 3], 6.0, rtol=1e-5)
    np.testing.assert_allclose(np.delete(board, 3, 1), 1.5, rtol=1e-5)
    assert beside(np.eye(5, dtype=bool))[0].tolist() == [True, True, True, False, False]


def test_where_everything_is_suspicious_nothing_changes(inspector, boards):
    inspector.watch_optics()
    for board in boards:
        whole, looked = inspector.inspect(board), looking(inspector, EVERYTHING).inspect(board)
        assert looked.looked_share == whole.looked_share == 1
        assert (looked.result, looked.score, looked.regions) == (whole.result, whole.score, whole.regions)
        np.testing.assert_array_equal(looked.mask, whole.mask)


@given(st.integers(0, 400), st.integers(1, 8))
def test_the_sample_and_the_others_are_all_tiles_once(count, batch):
    numbers = np.arange(count) * 3
    sample, rest = sample_of_tiles(numbers, batch)
    assert sorted([*sample, *rest]) == numbers.tolist()
    assert not len(rest) or LEAST_SAMPLE <= len(sample) < len(numbers)


def test_where_all_of_a_sample_is_suspicious_the_first_look_ends_there(inspector, boards, monkeypatch):
    """What was not asked could spare nothing; where the sample is quiet all of it is asked."""
    monkeypatch.setattr("hisir_edge.inspection.cascade.first_look.LEAST_SAMPLE", 1)
    for expected, asked in ((EVERYTHING, 1), (NOTHING, 2)):
        one = looking(inspector, expected)
        seen, expect = [], one.workers.expect
        monkeypatch.setattr(one.workers, "expect", lambda *a, e=expect, s=seen: s.append(a[3]) or e(*a))
        judged = one.inspect(boards[-1])
        assert len(seen) == asked
        assert judged.looked_share == (1 if asked == 1 else 0)
        whole = np.concatenate(seen)
        assert (len(whole) < len(one.numbers)) if asked == 1 else sorted(whole) == one.numbers.tolist()


def test_where_nothing_is_nothing_is_looked_at_and_nothing_is_left_of_the_board_before(inspector, boards):
    one = looking(inspector, EVERYTHING)
    assert one.inspect(boards[-1]).result is Result.FAIL
    one._first_look = looking(inspector, NOTHING)._first_look
    judged = one.inspect(boards[0])
    assert (judged.result, judged.looked_share) == (Result.PASS, 0)
    assert 0 < judged.score < 1e-6, "what is expected of what was not looked at"
    assert not judged.mask.any()


def test_a_region_of_which_a_corner_is_suspicious_is_seen_whole(inspector, boards, monkeypatch):
    """Whichever region of 16 px the first look notices of it."""
    board = boards[0].copy()
    t = inspector.plan.tile_px
    y, x = inspector.plan.origins_yx[len(inspector.plan.origins_yx) // 2]
    board[max(y - 30, 0) : y + t // 2, max(x - 30, 0) : x + t // 2] = board[:1, :1]  # over several tiles' borders
    inspector.watch_optics()
    whole = inspector.inspect(board)
    assert whole.result is Result.FAIL
    one = looking(inspector, NOTHING)
    cells = cells_of(whole.mask, inspector.gain.most.shape)
    rows, columns = np.nonzero(cells)
    corners = [int(i) for i in (rows.argmin(), rows.argmax(), columns.argmin(), columns.argmax(), len(rows) // 2)]
    side, shares = t // REGION_PX, []
    for row, column in {(int(rows[i]), int(columns[i])) for i in corners}:
        expected = np.full((len(one.numbers), side, side), NOTHING, np.float32)
        for k, number in enumerate(one.numbers):
            top, left = (v // REGION_PX for v in one.plan.origins_yx[number])
            if 0 <= row - top < side and 0 <= column - left < side:
                expected[k, row - top, column - left] = EVERYTHING

        def expect(padded, gains, memory, numbers, look, expected=expected):
            return expected[np.searchsorted(one.numbers, numbers)]

        monkeypatch.setattr(one.workers, "expect", expect)
        judged = one.inspect(board)
        shares.append(judged.looked_share)
        noticed = [r.box_xywh for r in whole.regions if whole_has(r, row, column)]
        assert set(noticed) <= {r.box_xywh for r in judged.regions}
        assert judged.result is Result.FAIL
    assert min(shares) < 1


def whole_has(region, row: int, column: int) -> bool:
    """Whether a region of 16 px lies in a called region's box, where the frame is not moved by more than that."""
    x, y, w, h = region.box_xywh
    return y <= row * REGION_PX < y + h - REGION_PX and x <= column * REGION_PX < x + w - REGION_PX


@pytest.mark.parametrize("unusual", ["warning", "residual", "no number", "unwatched", "off", "evidence"])
def test_a_board_that_is_unusual_is_looked_at_everywhere(inspector, boards, monkeypatch, unusual):
    one = looking(inspector, NOTHING)
    if unusual in ("warning", "off"):
        one.watch_optics("off" if unusual == "off" else "warning")
        fault = SimpleNamespace(words="blurred", fix="look")
        monkeypatch.setattr(one._watch, "faults", lambda seen: (fault,))
        monkeypatch.setattr(one._watch, "is_lost", lambda seen: False)
    elif unusual == "unwatched":
        one._watch = None
    elif unusual in ("residual", "no number"):
        strict = CASCADE.model_copy(update={"most_residual_px": 0.0 if unusual == "residual" else float("nan")})
        one.bundle = replace(one.bundle, manifest=one.bundle.manifest.model_copy(update={"cascade": strict}))
    else:
        one.keep_evidence()
    judged = one.inspect(boards[-1])
    assert (judged.result, judged.looked_share) == (Result.FAIL, 1)
    assert one.sibling().inspect(boards[-1]).result is Result.FAIL


@pytest.mark.parametrize("broken", ["no number", "fails", "shape"])
def test_a_first_look_that_breaks_is_an_error(inspector, boards, broken):
    one = looking(inspector, float("nan") if broken == "no number" else NOTHING)
    if broken == "fails":
        one._first_look._session = SimpleNamespace(run=lambda *_: 1 / 0)
    elif broken == "shape":
        one._first_look._session = SimpleNamespace(run=lambda *_: (np.zeros((1, 1, 1), np.float32),))
    judged = one.inspect(boards[0])
    assert judged.result is Result.ERROR
    assert 'infer.cascade = "off"' in judged.reason


def test_a_first_look_that_does_not_load_is_one_message(inspector):
    manifest = inspector.bundle.manifest.model_copy(update={"cascade": CASCADE})
    one = CpuInspector(replace(inspector.bundle, manifest=manifest, first_look=b"none"), inspector.engine)
    with pytest.raises(BundleError, match="build-engine --cascade"):
        one.look_first()


def test_without_a_first_look_all_goes_on_as_before(inspector, boards):
    assert not inspector.look_first()
    assert check_first_look(inspector) is None
    assert inspector.inspect(boards[0]).looked_share == 1
    assert InferTable().cascade == "auto"


def test_figures_with_the_first_look_are_those_of_a_line(inspector, small_boards):
    """Whatever it waves through is 0 in the map, and a defect there is missed."""
    whole = figures(evaluate_inspector(CpuInspector(inspector.bundle, inspector.engine, Rops), small_boards))
    for expected, share in ((EVERYTHING, 1.0), (NOTHING, 0.0)):
        manifest = inspector.bundle.manifest.model_copy(update={"cascade": CASCADE})
        bundle = replace(inspector.bundle, manifest=manifest, first_look=network(expected))
        one = CpuInspector(bundle, inspector.engine, Rops)
        one.watch_optics()
        assert one.look_first()
        seen = figures(evaluate_inspector(one, small_boards))
        assert (seen["looked_share"], seen["looked_share_good"]) == (share, share)
        if share:
            assert {k: v for k, v in seen.items() if v != whole[k]} == {}
        else:
            assert (seen["recall"], seen["false_calls_per_board"], seen["pixel_auroc"]) == (0, 0, 0.5)


def test_a_first_look_that_loses_what_the_bundle_finds_is_told(inspector):
    one = looking(inspector, NOTHING)
    one._first_look = None
    with pytest.raises(BundleError, match="with its first look as without it"):
        check_first_look(one)


@given(seed=st.integers(0, 10**6), share=st.floats(0, 1), whole=st.booleans())
def test_tiles_that_are_waved_through_are_chosen_last(seed, share, whole):
    """The map is that of the tiles that were run, where they see it; elsewhere it is 0; whatever was there before."""
    rng = np.random.default_rng(seed)
    plan = plan_from_size((150, 170), 64, 32)
    n = len(plan.origins_yx)
    every, gain = np.arange(n), np.ones((plan.padded_hw[0] // REGION_PX, plan.padded_hw[1] // REGION_PX), np.float32)
    merged = merge_plan_from_tiles(plan, np.ones(n, np.bool_))
    scores = (rng.random((2, n, 64, 64)) ** 4 * 3).astype(np.float32)
    misfit = rng.random((2, n, 4, 4)).astype(np.float32)
    waved = rng.random(n) < share
    rops = Rops(merged, None if whole else gain)
    rops.put(every, scores[0], misfit[0])
    rops.merged()
    rops.undo()
    rops.wave(every[waved])
    rops.put(every[~waved], scores[1][~waved], misfit[1][~waved])
    found = rops.merged().copy()
    seen = np.zeros(plan.padded_hw, np.bool_)
    for number in every[~waved].tolist():
        y, x = plan.origins_yx[number]
        seen[y : y + 64, x : x + 64] = True
    seen = seen[:150, :170]
    assert not found[~seen].any()
    assert not rops.cell_max[~cells_of(seen, gain.shape)].any()
    # as if there were no other tiles: what was not run has no say
    alone = Rops(merge_plan_from_tiles(plan, ~waved), None if whole else gain)
    alone.put(every[~waved], scores[1][~waved], misfit[1][~waved])
    np.testing.assert_array_equal(found, alone.merged())
    np.testing.assert_array_equal(rops.cell_max, alone.cell_max)


def cells_of(pixels: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    padded = np.zeros((grid[0] * REGION_PX, grid[1] * REGION_PX), np.bool_)
    padded[: pixels.shape[0], : pixels.shape[1]] = pixels
    return np.asarray(padded.reshape(grid[0], REGION_PX, grid[1], REGION_PX).any((1, 3)))


def test_the_networks_of_these_tests_are_valid():
    onnx.checker.check_model(onnx.load_from_string(network(1.0)))
