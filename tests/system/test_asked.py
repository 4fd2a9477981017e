"""How many planted defects a bundle must find where good boards differ much: as many as a golden-image difference."""

from __future__ import annotations

import pytest
from support.building import manifest_of, refused
from support.commands import here
from support.small import writable_copy

from hisir_edge.engine.build import build_bundle
from hisir_edge.engine.options import BuildOptions
from hisir_edge.learn.data.run import load_checkpoint, save_checkpoint

MORE_THAN_IT_FINDS = BuildOptions(product="p3", precision="fp32", false_calls_per_board=0.2, usual_planted_recall=0.99)


@pytest.fixture(scope="module")
def built(small_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("asked") / "bundle"
    build_bundle(small_run, out, MORE_THAN_IT_FINDS)
    return out


def test_less_is_enough_where_a_difference_finds_less_and_the_bundle_says_so(built):
    figures = manifest_of(built)["metrics"]
    assert figures["least_by_difference"]
    assert figures["difference_recall"] - 0.15 < figures["least_planted_recall"] < figures["difference_recall"]
    assert figures["least_planted_recall"] <= figures["recall"] < 0.99
    assert figures["difference_recall"] > 0.4, "these boards are plain enough for a difference to find many"


def test_thresholds_made_anew_ask_for_no_more_than_a_difference_finds_and_as_much_as_a_person_says(
    built, small_run, tmp_path
):
    bundle = writable_copy(built, tmp_path / "bundle")
    command = ("build-engine", writable_copy(small_run, tmp_path / "run"), "--thresholds-only", "--out", bundle)
    again = here(*command)
    assert again.returncode == 0, again.stderr
    before, after = manifest_of(built)["metrics"], manifest_of(bundle)["metrics"]
    assert (after["least_planted_recall"], after["recall"]) == (before["least_planted_recall"], before["recall"])
    assert after["least_by_difference"] and after["difference_recall"] is None, "enough is found: nothing is measured"
    strict = here(*command, "--least-planted-recall", 0.99)
    assert strict.returncode == 2
    assert "expected at least 99% of the planted defects to be found" in strict.stderr
    assert "golden-image difference" not in strict.stderr, "a person's own share is not let off"


def test_a_network_that_finds_less_than_a_difference_is_refused(small_run, tmp_path):
    run = writable_copy(small_run, tmp_path / "run")
    state = load_checkpoint(run)
    weights = state["best"] if state.get("best") else state["average"]
    weights["gate.head.0.weight"] *= -1  # sure of what it is not
    save_checkpoint(run, state)
    said = refused(run, tmp_path / "out", MORE_THAN_IT_FINDS)
    assert "of the planted defects to be found" in said and "a golden-image difference finds" in said
