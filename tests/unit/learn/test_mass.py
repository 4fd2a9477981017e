"""What a region's mass is worth: boards of smooth noise, whose thresholds hold, and weak defects that they show."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hisir_edge.bundle.load import load_bundle
from hisir_edge.bundle.thresholds import MassRule, Thresholds, Zone
from hisir_edge.engine.acceptance.alone import models_of
from hisir_edge.engine.acceptance.derive import derived_from_maps, reading_from_maps
from hisir_edge.engine.acceptance.maps import Maps
from hisir_edge.inspection.gain import gain_map
from hisir_edge.inspection.regions import mass_of, regions_from_map, strength_of
from hisir_edge.inspection.score import logit_of_score, score_of_one_logit
from hisir_edge.learn.evaluation.mass import LEAST_REGIONS, Seen, rule_of_boards, seen_on, strengths

HW = (384, 512)
SURE = float(np.log(2.0))


def noisy_logits(rng: np.random.Generator, spread: float = 1.1) -> np.ndarray:
    """Smooth noise that reaches logit 0 here and there, as a good board's map does."""
    noise = cv2.GaussianBlur(rng.standard_normal(HW).astype(np.float32), (0, 0), 5)
    return (noise / noise.std() * np.float32(spread) - np.float32(3.4)).astype(np.float32)


def softplus(logits: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, logits).astype(np.float32)


def maps_of(folder, logits: list[np.ndarray], held_out: int) -> Maps:
    files = []
    for number, one in enumerate(logits):
        files.append(folder / f"{number}.npy")
        np.save(files[-1], softplus(one))
    return Maps(tuple(files), held_out, (), ())


@pytest.fixture
def bundle(small_bundle):
    return replace(load_bundle(small_bundle), zones=())


def test_thresholds_with_mass_keep_their_rate_on_boards_that_they_have_not_seen(bundle, tmp_path):
    rng = np.random.default_rng(11)
    derived, noise = derived_from_maps(bundle, maps_of(tmp_path, [noisy_logits(rng) for _ in range(40)], 40), 0.2)
    assert derived.thresholds.mass is not None
    gain = gain_map(HW, 1.0, derived.thresholds, noise, ())
    called = [regions_from_map(softplus(noisy_logits(rng)) * gain, derived.thresholds).total for _ in range(200)]
    assert 0.02 <= np.mean(called) <= 0.4, "twice the promised rate at most"
    assert np.mean(called) <= derived.upper_bound


def test_what_is_weak_and_large_is_called_and_was_not_by_its_peak(bundle, tmp_path):
    rng = np.random.default_rng(12)
    derived, noise = derived_from_maps(bundle, maps_of(tmp_path, [noisy_logits(rng) for _ in range(24)], 24), 0.05)
    gain = gain_map(HW, 1.0, derived.thresholds, noise, ())
    logit = float(logit_of_score(np.array(derived.thresholds.region_peak * derived.thresholds.pixel)))
    board = noisy_logits(rng)
    cv2.line(board, (60, 60), (420, 300), 0.6 * logit, 9)  # a scratch, nowhere as high as the threshold
    peaks_alone = replace(derived.thresholds, mass=None)
    assert regions_from_map(softplus(board) * gain, peaks_alone).total == 0
    found = regions_from_map(softplus(board) * gain, derived.thresholds)
    assert found.total == 1
    assert found.regions[0].peak > derived.thresholds.region_peak
    assert found.mask[180, 240] == found.mask[60, 60] == True  # noqa: E712  # of NumPy
    small = noisy_logits(rng)
    small[100:106, 100:106] = logit + 1.5
    assert regions_from_map(softplus(small) * gain, derived.thresholds).total == 1, "a small sure one still is"


def test_the_bound_of_a_magnifying_zone_counts_mass_in(bundle, tmp_path):
    rng = np.random.default_rng(21)
    maps = maps_of(tmp_path, [noisy_logits(rng) for _ in range(24)], 24)
    everywhere = Zone("all", ((0, 0), (511, 0), (511, 383), (0, 383)), 2.0)
    zoned = replace(bundle, zones=(everywhere,))
    derived, noise = derived_from_maps(zoned, maps, 0.05)
    assert derived.thresholds.mass is not None
    gain = gain_map(HW, 1.0, derived.thresholds, noise, zoned.zones)
    called = [regions_from_map(softplus(noisy_logits(rng)) * gain, derived.thresholds).total for _ in range(100)]
    assert np.mean(called) <= 1.25 * derived.upper_bound


def test_what_one_board_alone_shows_is_named_and_sets_no_threshold(bundle, tmp_path):
    rng = np.random.default_rng(17)
    clean = [noisy_logits(rng) for _ in range(24)]
    bad = [one.copy() for one in clean]
    bad[20][100:180, 200:290] = 4.5
    for name in ("clean", "bad"):
        (tmp_path / name).mkdir()
    pictures = tuple(f"{number}.png" for number in range(24))
    good = reading_from_maps(bundle, maps_of(tmp_path / "clean", clean, 6), 0.05)
    maps = replace(maps_of(tmp_path / "bad", bad, 6), pictures=pictures)
    seen, kept = (reading_from_maps(bundle, replace(maps, keep_alone=keep), 0.05) for keep in (False, True))
    (place,) = seen.alone
    assert place.picture == "20.png" and place.strength > 1
    x, y, w, h = place.box_xywh
    assert abs(x - 200) < 30 and abs(y - 100) < 30 and abs(w - 90) < 60 and abs(h - 80) < 60
    assert not good.alone and not kept.alone
    limit, with_it = (r.derived.thresholds.region_peak for r in (good, seen))
    assert with_it == pytest.approx(limit, rel=0.15)
    assert kept.derived.thresholds.region_peak > 1.3 * limit
    (model,) = models_of(seen.alone, 0.5)
    assert (model.picture, model.width) == ("20.png", 2 * w)


def test_boards_without_regions_have_no_rule(bundle, tmp_path):
    rng = np.random.default_rng(13)
    quiet = [noisy_logits(rng, 0.4) for _ in range(12)]
    assert derived_from_maps(bundle, maps_of(tmp_path, quiet, 12), 0.05)[0].thresholds.mass is None
    seen = [Seen(np.ones(1), np.ones(1))] * (LEAST_REGIONS - 1)
    assert rule_of_boards(seen) is None
    assert rule_of_boards([*seen, Seen(np.ones(1), np.ones(1))]) is not None


def test_a_scaled_bundle_weighs_the_frames_pixels_as_its_own(bundle, tmp_path):
    rng = np.random.default_rng(14)
    maps = maps_of(tmp_path, [noisy_logits(rng) for _ in range(24)], 24)
    whole = derived_from_maps(bundle, maps, 0.05)[0].thresholds
    half = derived_from_maps(replace(bundle, recipe=replace(bundle.recipe, scale=0.5)), maps, 0.05)[0].thresholds
    assert half.mass == MassRule(whole.mass.logits_per_root / 2, whole.mass.logits_at_none)
    values = np.full(100, 2.0, np.float32)
    as_seen_by_the_camera = np.full(400, 2.0, np.float32)
    assert strength_of(as_seen_by_the_camera, half) == pytest.approx(strength_of(values, whole), rel=1e-6)


@given(st.integers(0, 10**6), st.floats(0.01, 0.3), st.floats(-2, 2))
@settings(max_examples=60, deadline=None)
def test_more_is_never_weaker(seed, slope, at_none):
    rng = np.random.default_rng(seed)
    values = rng.uniform(1, 6, int(rng.integers(1, 300))).astype(np.float32)
    thresholds = Thresholds(SURE, 4.0, 1, MassRule(slope, at_none))
    strength = strength_of(values, thresholds)
    assert strength >= values.max()
    assert strength_of(np.append(values, np.float32(1.5)), thresholds) >= strength
    assert strength_of(values * np.float32(1.1), thresholds) >= strength
    worth = slope * np.sqrt(mass_of(values, SURE)) + at_none
    assert strength == pytest.approx(max(values.max(), score_of_one_logit(worth) / SURE), rel=1e-6)
    assert mass_of(values, SURE) == pytest.approx(logit_of_score(values.astype(float) * SURE).sum(), rel=1e-4)


def test_mass_is_not_worth_more_than_a_peak_that_is_as_rare():
    rng = np.random.default_rng(15)
    maps = [noisy_logits(rng) for _ in range(300)]
    boards = [seen_on(np.asarray(softplus(one) / SURE, np.float32), one, Thresholds(SURE, 4.0, 9)) for one in maps]
    rule = rule_of_boards(boards)
    assert rule is not None
    peaks = np.concatenate([one.peaks for one in boards])
    worths = np.concatenate([rule.logits_per_root * one.roots + rule.logits_at_none for one in boards])
    found = {count: int((worths >= np.sort(peaks)[-count]).sum()) for count in (300, 100, 50, 20)}
    assert 200 < found[300] < 450, "one region a board shows as much"
    assert all(found[count] <= count for count in (100, 50, 20)), "and further out it is the rarer one"
    assert (np.concatenate([strengths(one, rule) for one in boards]) >= peaks).all()


@pytest.mark.parametrize("peak", [0.05, 5.0])
@pytest.mark.parametrize("seed", range(5))
def test_what_one_board_alone_shows_by_its_mass_is_no_rule(seed, peak):
    """A large patch on one board, faint or not: its mass is far beyond the tail; the rule is as without it."""
    rng = np.random.default_rng(seed)

    def regions(count: int) -> Seen:
        peaks = rng.exponential(0.7, count)
        return Seen(peaks, 5 + 4 * peaks + rng.exponential(2.0, count))

    boards = [regions(6) for _ in range(16)]
    without = rule_of_boards(boards)
    patch = Seen(np.append(boards[3].peaks, peak), np.append(boards[3].roots, 400.0))
    found = rule_of_boards([*boards[:3], patch, *boards[4:]])
    assert without is not None and found is not None
    assert found.logits_per_root == pytest.approx(without.logits_per_root, rel=1e-9)
    assert found.logits_at_none == pytest.approx(without.logits_at_none, abs=1e-9)
    kept = rule_of_boards([*boards[:3], patch, *boards[4:]], keep_alone=True)
    assert kept is not None and kept.logits_per_root < 0.6 * without.logits_per_root


def test_regions_are_left_out_whole_and_a_board_keeps_one():
    rng = np.random.default_rng(3)
    boards = [Seen(rng.exponential(0.7, 5), 5 + rng.exponential(2.0, 5)) for _ in range(15)]
    both = rule_of_boards([*boards, Seen(np.array([0.1, 60.0, 0.2]), np.array([500.0, 6.0, 5.5]))])
    without = rule_of_boards([*boards, Seen(np.array([0.2]), np.array([5.5]))])
    assert both == without, "one stands alone by its peak, the other by its mass"
    only = rule_of_boards([*boards, Seen(np.array([60.0]), np.array([500.0]))])
    assert only is not None and np.isfinite(only.logits_per_root)
