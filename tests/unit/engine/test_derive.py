"""Thresholds of an engine from its maps: a board has no say in the noise that it is judged with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hisir_edge.bundle.load import load_bundle
from hisir_edge.engine.acceptance.derive import derived_from_maps
from hisir_edge.engine.acceptance.maps import Maps
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


def test_what_one_board_alone_shows_is_no_noise_of_its_place(bundle, tmp_path):
    """A bad board among the good ones does not blind the place of its defect; one that is kept does."""
    maps = maps_with(tmp_path, (4,))
    derived, noise = derived_from_maps(bundle, maps, 0.05)
    assert sum(derived.alone) == 1
    assert noise[6, 9] < 32
    assert derived_from_maps(bundle, replace(maps, keep_alone=True), 0.05)[1][6, 9] >= 3.5 * 32
