"""What was kept of a map judges as the map did, to the bit; and says when it cannot know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hisir_edge.archive.judge_again import JudgeAgain, ZoneTrial
from hisir_edge.backends import engine_from_bundle
from hisir_edge.bundle.load import load_bundle
from hisir_edge.bundle.thresholds import MassRule, Thresholds, Zone
from hisir_edge.errors import InputError
from hisir_edge.geometry.box import meet
from hisir_edge.geometry.noise_shape import noise_shape
from hisir_edge.geometry.tile import padded_size
from hisir_edge.images import read_rgb
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.gain import Gain
from hisir_edge.inspection.regions import found_from_regions, regions_in_window
from hisir_edge.inspection.registration.pose import Pose, bend_shape
from hisir_edge.inspection.windows import calibrated_windows, evidence_of_map, fill_map, pose_of_evidence, wipe_map

LIMITS = Thresholds(0.7, 2.0, 4)


def found_in(raw, cell_max, gain, pose, frame_hw):
    mask, regions = np.zeros(frame_hw, bool), []
    for y, x, window in calibrated_windows(raw, cell_max, gain, pose, frame_hw):
        regions += regions_in_window(window, LIMITS, (y, x), mask).called
    return found_from_regions(regions, mask)


@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(48, 210), st.integers(48, 330)), st.floats(0.3, 4.0))
@settings(max_examples=80, deadline=None)
def test_what_is_kept_finds_the_same_to_the_bit_also_where_places_matter_more(seed, hw, times):
    rng = np.random.default_rng(seed)
    padded = rng.random(padded_size(hw), np.float32) * np.float32(0.15)
    for _ in range(int(rng.integers(0, 9))):
        y, x, side = int(rng.integers(padded.shape[0])), int(rng.integers(padded.shape[1])), int(rng.integers(1, 20))
        padded[y : y + side, x : x + side] = rng.uniform(0.05, 9)
    cell_max = padded.reshape(padded.shape[0] // 16, 16, padded.shape[1] // 16, 16).max((1, 3))
    raw, noise = padded[: hw[0], : hw[1]], rng.integers(0, 120, noise_shape(hw), dtype=np.uint8)
    gain = Gain(hw, 1.0, LIMITS, noise, ())
    matrix = np.eye(3)
    matrix[:2, 2], matrix[2, :2] = rng.uniform(-9, 9, 2), rng.uniform(-5e-5, 5e-5, 2)
    pose = Pose(matrix, rng.uniform(-1.5, 1.5, (*bend_shape(hw), 2)).astype(np.float32) if seed % 2 else None)
    evidence = evidence_of_map(raw, cell_max, gain, pose)
    assert evidence is not None
    again, most = np.zeros(hw, np.float32), np.zeros_like(cell_max)
    fill_map(evidence, again, most)
    zone = Zone("all", ((-1.0, -1.0), (hw[1], -1.0), (hw[1], hw[0]), (-1.0, hw[0])), times)
    other = Gain(hw, 1.0, LIMITS, noise, (zone,))
    for one in (gain, other):
        expected = found_in(raw, cell_max, one, pose, hw)
        found = found_in(again, most, one, pose_of_evidence(evidence), hw)
        assert found.regions == expected.regions
        assert np.array_equal(found.mask, expected.mask)
    wipe_map(evidence, again, most)
    assert not again.any() and not most.any()


def test_a_board_that_alarms_all_over_has_a_verdict_and_no_evidence():
    hw = (1600, 1600)
    gain = Gain(hw, 1.0, LIMITS, np.zeros(noise_shape(hw), np.uint8), ())
    raw, cell_max = np.full(hw, 9, np.float32), np.full((100, 100), 9, np.float32)
    assert evidence_of_map(raw, cell_max, gain, None) is None
    cell_max[80:] = 0
    kept = evidence_of_map(raw, cell_max, gain, None)
    assert kept is not None and len(kept.scores) == 8000


@pytest.fixture(scope="module")
def judged(small_bundle: Path, small_boards: Path):
    """The bundle, and each test board's judgement."""
    bundle = load_bundle(small_bundle)
    inspector = CpuInspector(bundle, engine_from_bundle(bundle, 2))
    inspector.keep_evidence()
    out = [inspector.inspect(read_rgb(path)) for path in sorted((small_boards / "test").glob("*/*.png"))]
    inspector.close()
    assert {one.result.value for one in out} == {"PASS", "FAIL"}
    return bundle, out


def test_boards_of_a_real_line_are_judged_as_the_line_judged_them(judged):
    bundle, boards = judged
    again = JudgeAgain(bundle)
    for board in boards:
        found = again.judge(board.evidence)
        assert found.result is board.result
        assert [(r.box_xywh, r.peak, r.area_px) for r in found.found.regions] == [
            (r.box_xywh, r.peak, r.area_px) for r in board.regions
        ]
        assert np.array_equal(found.found.mask, board.mask)
        assert found.score == max(board.score, 0.25)
        assert (found.reached >= 1) == bool(board.regions)


def inspected_with(bundle, small_boards, thresholds, zones) -> list:
    """The test boards, inspected by the network under other thresholds and zones."""
    inspector = CpuInspector(replace(bundle, thresholds=thresholds, zones=zones), engine_from_bundle(bundle, 2))
    found = [inspector.inspect(read_rgb(path)) for path in sorted((small_boards / "test").glob("*/*.png"))]
    inspector.close()
    return found


@pytest.mark.parametrize("times", [0.6, 50])
def test_other_thresholds_are_what_an_inspection_with_them_finds(judged, small_boards, times):
    bundle, boards = judged
    thresholds = replace(bundle.thresholds, region_peak=bundle.thresholds.region_peak * times)
    again = JudgeAgain(bundle, thresholds)
    for board, expected in zip(boards, inspected_with(bundle, small_boards, thresholds, bundle.zones), strict=True):
        found = again.judge(board.evidence)
        assert found.result is expected.result
        assert [r.box_xywh for r in found.found.regions] == [r.box_xywh for r in expected.regions]


def square(x, y, half):
    return ((x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half))


@pytest.mark.parametrize(("sensitivity", "half"), [(0.0, 30.0), (0.0, 6.0), (3.0, 60.0), (0.4, 500.0), (4.0, 900.0)])
def test_other_zones_are_what_an_inspection_with_them_finds(judged, small_boards, sensitivity, half):
    """Against the slow way: each board inspected anew by the network, one zone more, one changed, one taken out."""
    bundle, boards = judged
    x, y, w, h = next(board for board in boards if board.regions).regions[0].box_xywh
    zone = Zone("here", square(x + w / 2, y + h / 2, half), sensitivity)
    other = Zone("there", square(100.0, 90.0, 40.0), 2.0)
    changed = 0
    for now, then in (
        (bundle.zones, (*bundle.zones, zone)), (bundle.zones, (*bundle.zones, other, zone)),
        ((*bundle.zones, other), (*bundle.zones, replace(other, sensitivity=0.0))),
        ((*bundle.zones, other), bundle.zones),
    ):  # fmt: skip
        here = replace(bundle, zones=now)
        before = boards if now == bundle.zones else inspected_again(here, small_boards)
        trial = ZoneTrial(JudgeAgain(here), then)
        for board, expected in zip(before, inspected_with(bundle, small_boards, bundle.thresholds, then), strict=True):
            gone, come = trial.counted(board.evidence)
            assert board.regions_total - gone + come == expected.regions_total
            changed += gone != come
    assert changed


def inspected_again(bundle, small_boards) -> list:
    inspector = CpuInspector(bundle, engine_from_bundle(bundle, 2))
    inspector.keep_evidence()
    found = [inspector.inspect(read_rgb(path)) for path in sorted((small_boards / "test").glob("*/*.png"))]
    inspector.close()
    return found


@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from([0.5, 1.0, 1.7, 4.0, 12.0]))
@settings(max_examples=60, deadline=None)
def test_whether_a_place_is_called_is_what_judging_all_of_the_frame_finds(judged, seed, by_mass, times):
    bundle, rng = judged[0], np.random.default_rng(seed)
    mass = MassRule(*rng.uniform((0.02, -3), (0.4, 0))) if by_mass else None
    here = replace(bundle, thresholds=replace(bundle.thresholds, mass=mass))
    base = JudgeAgain(here)
    hw = base.gain.hw
    raw = np.zeros(padded_size(hw), np.float32)
    for _ in range(int(rng.integers(0, 12))):
        y, x, side = int(rng.integers(hw[0])), int(rng.integers(hw[1])), int(rng.integers(1, 40))
        y, x = (0 if rng.random() < 0.2 else y), (0 if rng.random() < 0.2 else x)
        raw[y : y + side, x : x + side] = rng.uniform(0.3, 3 * bundle.thresholds.region_peak) * bundle.thresholds.pixel
    cell_max = raw.reshape(raw.shape[0] // 16, 16, raw.shape[1] // 16, 16).max((1, 3))
    matrix = np.eye(3)
    matrix[:2, 2] = rng.uniform(-40, 40, 2)  # beyond the golden image its edge goes on
    evidence = evidence_of_map(raw[: hw[0], : hw[1]], cell_max, base.gain, Pose(matrix, None) if seed % 3 else None)
    assert evidence is not None
    judge = base.with_thresholds(replace(here.thresholds, region_peak=here.thresholds.region_peak * times))
    boxes = [region.box_xywh for region in judge.found(evidence).regions]
    assert judge.calls(evidence) == bool(boxes)
    (x, y), (w, h) = rng.integers(-20, hw[::-1]).tolist(), rng.integers(1, 120, 2).tolist()
    for within in ((x, y, w, h), *boxes):
        assert judge.calls(evidence, within_xywh=within) == any(meet(within, box) for box in boxes)
    assert base.judge(evidence).found.total == JudgeAgain(here).judge(evidence).found.total, "nothing was left behind"


def test_what_was_not_kept_is_not_guessed_at(judged):
    bundle, _ = judged
    h, w = bundle.recipe.frame_hw
    everywhere = ((-1.0, -1.0), (float(w), -1.0), (float(w), float(h)), (-1.0, float(h)))
    with pytest.raises(InputError, match="4 times as sensitive"):
        ZoneTrial(JudgeAgain(bundle), (*bundle.zones, Zone("much", everywhere, 4.5)))
    ignoring = replace(bundle, zones=(*bundle.zones, Zone("ignored", everywhere, 0.0)))
    with pytest.raises(InputError, match="none that was ignored"):
        ZoneTrial(JudgeAgain(ignoring), bundle.zones)
    with pytest.raises(InputError, match="4 times as sensitive"):
        JudgeAgain(bundle, replace(bundle.thresholds, pixel=bundle.thresholds.pixel / 5))


@given(st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_a_gain_under_other_zones_is_the_one_made_anew(seed, before, after):
    rng = np.random.default_rng(seed)
    hw = int(rng.integers(30, 150)), int(rng.integers(30, 190))
    noise = rng.integers(0, 120, noise_shape(hw), dtype=np.uint8)

    def some(count):
        return tuple(
            Zone(f"{n}", tuple(map(tuple, rng.uniform(-20, 200, (4, 2)))), float(rng.choice([0, 0.5, 2])), n == 2)
            for n in range(count)
        )

    zones = some(before)
    other = (*zones, *some(after)) if seed % 2 else some(after)
    gain = Gain(hw, 1.0, LIMITS, noise, zones)
    found, changed = gain.with_zones(other)
    expected = Gain(hw, 1.0, LIMITS, noise, other)
    assert np.array_equal(found.most, expected.most)
    differs = gain.window(0, hw[0], 0, hw[1]) != expected.window(0, hw[0], 0, hw[1])
    assert np.array_equal(found.window(0, hw[0], 0, hw[1]), expected.window(0, hw[0], 0, hw[1]))
    rows, columns = np.nonzero(differs)
    where = np.zeros_like(changed)
    where[rows // 16, columns // 16] = True
    assert not (where & ~changed).any()
