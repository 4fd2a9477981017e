"""Thresholds of an engine from its maps: a board has no say in the noise that it is judged with."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from hisir_edge.bundle.load import load_bundle
from hisir_edge.bundle.thresholds import Zone
from hisir_edge.engine.acceptance.derive import derived_from_maps, of_network, reading_from_maps
from hisir_edge.engine.acceptance.maps import Maps
from hisir_edge.inspection.gain import gain_map, noise_in_logits
from hisir_edge.inspection.regions import regions_from_map
from hisir_edge.inspection.score import logit_of_score, score_of_one_logit

PLACE = (slice(200, 212), slice(300, 312))


@pytest.fixture
def bundle(small_bundle):
    return replace(load_bundle(small_bundle), zones=())


def maps_with(folder, strong_on: tuple[int, ...], boards: tuple[int, ...] = ()) -> Maps:
    """Twelve quiet maps, ten of them held out; on some a place of logit 4."""
    rng, files = np.random.default_rng(3), []
    for number in range(12):
        logits = rng.normal(-6, 0.3, (384, 512)).astype(np.float32)
        if number in strong_on:
            logits[PLACE] = 4
        files.append(folder / f"{number}.npy")
        np.save(files[-1], np.logaddexp(0, logits).astype(np.float32))
    return Maps(tuple(files), 10, (), (), boards)


def region_logit(bundle, maps: Maps) -> float:
    thresholds = derived_from_maps(bundle, maps, 0.05)[0].thresholds
    return float(logit_of_score(np.array(thresholds.pixel * thresholds.region_peak)))


def test_one_boards_own_peak_is_not_taken_for_noise(bundle, tmp_path):
    assert score_of_one_logit(4.0) > 1
    maps = maps_with(tmp_path, (4,))
    assert region_logit(bundle, replace(maps, keep_alone=True)) > 3.99
    assert region_logit(bundle, maps) < 2, "nor counted, for no other board shows it"


def test_photos_of_one_board_are_all_left_out(bundle, tmp_path):
    boards = (0, 1, 2, 3, 4, 4, 4, 4, 4, 4)
    assert region_logit(bundle, maps_with(tmp_path, (4, 5, 6, 7, 8, 9), boards)) > 3.99


def test_a_place_that_most_boards_show_is_noise_and_frees_the_rest(bundle, tmp_path):
    _, noise = derived_from_maps(bundle, maps_with(tmp_path, tuple(range(0, 12, 2))), 0.05)
    assert noise[6, 9] >= 3.5 * 32, "its spread counts, beside its mean"
    assert region_logit(bundle, maps_with(tmp_path, tuple(range(0, 12, 2)))) < 2.0


def test_a_place_that_two_boards_show_is_noise_and_sets_no_threshold(bundle, tmp_path):
    maps = maps_with(tmp_path, (3, 7))
    derived, noise = derived_from_maps(bundle, maps, 0.05)
    assert noise[6, 9] >= 3.5 * 32
    assert not any(derived.alone)
    assert region_logit(bundle, maps) < 2


def cones(folder, places: dict[int, list[tuple[int, int, float]]], boards: int, everywhere=()) -> Maps:
    """Maps of smooth noise up to logit 1 with cones at (y, x, logit), by board; ``everywhere``: on all of them."""
    rng, files = np.random.default_rng(5), []
    ys, xs = np.mgrid[:384, :512]
    for number in range(boards):
        logits = 11 * cv2.GaussianBlur(rng.normal(0, 1, (384, 512)), (0, 0), 3) - 3.4
        for y, x, height in (*everywhere, *places.get(number, ())):
            logits = np.maximum(logits, height - 0.7 * np.hypot(ys - y, xs - x))
        files.append(folder / f"cone{number}.npy")
        np.save(files[-1], np.logaddexp(0, logits).astype(np.float32))
    return Maps(tuple(files), boards, (), ())


@pytest.mark.parametrize("y_x", [(206, 306), (192, 288), (223, 319), (208, 320)])
def test_what_one_board_alone_shows_is_no_noise_of_its_place(bundle, tmp_path, y_x):
    """A bad board among the good ones does not blind the place of its defect; one that is kept does."""
    maps = cones(tmp_path, {4: [(*y_x, 9.0)]}, 12)
    derived, noise = derived_from_maps(bundle, maps, 0.05)
    assert [bool(n) for n in derived.alone] == [n == 4 for n in range(12)]
    assert noise.max() < 2.5 * 32, "in no cell that it touches"
    kept = noise_in_logits(derived_from_maps(bundle, replace(maps, keep_alone=True), 0.05)[1], (384, 512))
    assert kept[y_x] > 7


@pytest.mark.parametrize(("boards", "strong", "weak"), [(12, 16, 6), (12, 14, 5), (18, 16, 6), (24, 16, 6)])
def test_a_second_board_is_judged_as_if_the_one_left_out_were_not_there(bundle, tmp_path, boards, strong, weak):
    maps = cones(tmp_path, {3: [(206, 306, strong)], 7: [(206, 306, weak)]}, boards)
    derived, noise = derived_from_maps(bundle, maps, 0.05)
    assert [bool(n) for n in derived.alone] == [n == 3 for n in range(boards)]
    assert weak - 0.7 < noise[6, 9] / 32 < weak + 0.1, "as much as two show"
    alone = region_logit(bundle, cones(tmp_path, {7: [(206, 306, weak)]}, boards))
    assert alone - 0.6 < region_logit(bundle, maps) <= weak, "not by what the first one shows"


def test_a_noisy_place_is_no_noisier_for_a_defect_of_one_board_there(bundle, tmp_path):
    noisy = cones(tmp_path, {}, 24, everywhere=[(206, 306, 3.0)])
    assert derived_from_maps(bundle, noisy, 0.05)[1][6, 9] / 32 == pytest.approx(2.6, abs=0.3)
    spoilt = cones(tmp_path, {5: [(210, 300, 14.0)]}, 24, everywhere=[(206, 306, 3.0)])
    derived, noise = derived_from_maps(bundle, spoilt, 0.05)
    assert derived.alone[5]
    assert noise[6, 9] / 32 == pytest.approx(2.6, abs=0.3)


def test_what_an_ignored_zone_hides_is_no_noise_beside_it(bundle, tmp_path):
    hidden = ((280.0, 180.0), (330.0, 180.0), (330.0, 230.0), (280.0, 230.0))
    maps = cones(tmp_path, {2: [(206, 306, 6.0)], 9: [(206, 306, 6.0)]}, 12)
    assert derived_from_maps(bundle, maps, 0.05)[1].max() > 5 * 32
    ignored = replace(bundle, zones=(Zone("label", hidden, 0.0),))
    assert derived_from_maps(ignored, maps, 0.05)[1].max() < 2.5 * 32


@pytest.mark.parametrize("sensitivity", [2.0, 10.0])
def test_what_is_left_out_is_where_it_is_also_beside_a_dear_zone(bundle, tmp_path, sensitivity):
    dear = ((60.0, 60.0), (140.0, 60.0), (140.0, 140.0), (60.0, 140.0))
    maps = cones(tmp_path, {4: [(276, 400, 9.0)]}, 12, everywhere=[(100, 100, 3.0)])
    derived, noise = derived_from_maps(replace(bundle, zones=(Zone("dear", dear, sensitivity),)), maps, 0.05)
    assert derived.alone[4]
    assert noise[276 // 32, 400 // 32] < 2.5 * 32
    assert noise[100 // 32, 100 // 32] / 32 == pytest.approx(2.6, abs=0.3)


def test_photos_of_one_board_are_one_board_for_the_noise(bundle, tmp_path):
    """A defect on two of its photos is left out on both, and nothing else of them is."""
    places = {4: [(206, 306, 9.0)], 5: [(206, 306, 8.0), (40, 450, 4.0)], 8: [(40, 450, 4.0)]}
    maps = replace(cones(tmp_path, places, 13), boards=(0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 10, 11))
    derived, noise = derived_from_maps(bundle, maps, 0.05)
    assert derived.alone[4]
    assert noise[6, 9] < 2.5 * 32
    assert noise[1, 14] / 32 == pytest.approx(3.6, abs=0.3)


def test_a_board_that_is_bad_all_over_brings_no_other_its_own_noise(bundle, tmp_path):
    """It is left out everywhere, and the rest is judged as if it were not there; else it would hide itself."""
    rare = {1: [(60, 60, 4.0)], 6: [(300, 100, 3.5)]}
    clean = cones(tmp_path, rare, 11)
    without = region_logit(bundle, clean)
    spoilt = tmp_path / "spoilt.npy"
    np.save(spoilt, np.load(clean.good[0]) + np.float32(7))
    derived, noise = derived_from_maps(bundle, replace(clean, good=(*clean.good, spoilt), held_out=12), 0.05)
    assert [bool(n) for n in derived.alone] == [n == 11 for n in range(12)]
    assert noise.max() <= 4 * 32
    found = float(logit_of_score(np.array(derived.thresholds.pixel * derived.thresholds.region_peak)))
    assert found == pytest.approx(without, abs=0.6)


def test_photos_of_one_board_alone_have_no_noise_and_no_traceback(bundle, tmp_path):
    maps = replace(cones(tmp_path, {1: [(206, 306, 4.0)]}, 3), boards=(0, 0, 0))
    derived, noise = derived_from_maps(bundle, maps, 0.05)
    assert not noise.any()
    assert derived.thresholds.region_peak >= 1


def test_what_was_not_counted_is_as_strong_as_the_bundle_finds_it(bundle, tmp_path):
    maps = replace(cones(tmp_path, {4: [(206, 306, 9.0)]}, 12), pictures=tuple(f"{n}.png" for n in range(12)))
    reading = reading_from_maps(bundle, maps, 0.05)
    (place,) = reading.alone
    assert place.picture == "4.png"
    limits = of_network(reading.derived.thresholds, bundle.recipe.scale)
    gain = gain_map((384, 512), bundle.recipe.scale, reading.derived.thresholds, reading.noise, ())
    strongest = regions_from_map(np.load(maps.good[4]) * gain, limits).regions[0]
    assert place.strength == pytest.approx(strongest.peak / limits.region_peak, rel=1e-6)
    assert place.strength > 1
