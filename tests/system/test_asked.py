"""How many planted defects a bundle must find where good boards differ much: as many as a golden-image difference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.building import manifest_of, one_line, refused
from support.commands import here
from support.small import writable_copy

from hisir_edge.engine.build import build_bundle
from hisir_edge.engine.options import BuildOptions
from hisir_edge.images import png_bytes, read_rgb
from hisir_edge.learn.data.run import USUAL_STEPS, load_checkpoint, load_record, save_checkpoint

MORE_THAN_IT_FINDS = BuildOptions(product="p3", precision="fp32", false_calls_per_board=0.2, usual_planted_recall=0.99)


def changed(run: Path, out: Path, change) -> Path:
    """A copy of a run with another checkpoint."""
    writable_copy(run, out)
    state = load_checkpoint(out)
    assert state is not None
    change(state)
    save_checkpoint(out, state)
    return out


@pytest.fixture(scope="module")
def trained(small_run, tmp_path_factory):
    """The small run as if it had gone on: what a short one finds is no measure of its boards."""
    return changed(small_run, tmp_path_factory.mktemp("asked") / "run", lambda state: state.update(step=USUAL_STEPS))


@pytest.fixture(scope="module")
def built(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("asked") / "bundle"
    build_bundle(trained, out, MORE_THAN_IT_FINDS)
    return out


def test_less_is_enough_where_a_difference_finds_less_and_the_bundle_says_so(built):
    figures = manifest_of(built)["metrics"]
    assert (figures["least_by_difference"], figures["usual_planted_recall"]) == (True, 0.99)
    assert figures["least_planted_recall"] == pytest.approx(figures["difference_recall"] - 0.05)
    assert figures["least_planted_recall"] <= figures["recall"] < 0.99
    assert figures["difference_recall"] > 0.4, "these boards are plain enough for a difference to find many"


def test_thresholds_made_anew_ask_for_what_the_network_found_and_as_much_as_a_person_says(built, trained, tmp_path):
    bundle, run = writable_copy(built, tmp_path / "bundle"), writable_copy(trained, tmp_path / "run")
    command = ("build-engine", run, "--thresholds-only", "--out", bundle)
    again = here(*command)
    assert again.returncode == 0, again.stderr
    before, after = manifest_of(built)["metrics"], manifest_of(bundle)["metrics"]
    assert (after["recall"], after["difference_recall"]) == (before["recall"], before["difference_recall"])
    assert after["least_planted_recall"] == pytest.approx(max(before["recall"], before["difference_recall"]) - 0.05)
    assert "a golden-image difference finds" in again.stdout and "would pass" in again.stderr
    strict = here(*command, "--least-planted-recall", 0.99)
    assert "expected at least 99% of the planted defects to be found" in one_line(strict)
    assert "golden-image difference" not in one_line(strict), "a person's own share is not let off"


def test_bad_boards_among_those_that_are_added_are_not_let_off(built, trained, tmp_path):
    bundle, run = writable_copy(built, tmp_path / "bundle"), writable_copy(trained, tmp_path / "run")
    rng, bad = np.random.default_rng(4), tmp_path / "bad"
    bad.mkdir()
    for number, path in enumerate(load_record(run).train[:4]):
        picture = read_rgb(Path(path))
        at = np.s_[60:330, 60:450]
        picture[at] = np.clip(
            picture[at].astype(int) + rng.integers(-90, 90, (9, 13, 1)).repeat(30, 0).repeat(30, 1), 0, 255
        )
        (bad / f"{number}.png").write_bytes(png_bytes(picture))
    said = one_line(here("build-engine", run, "--thresholds-only", "--out", bundle, "--good", bad, "--keep-odd"))
    assert "of the planted defects to be found" in said and "by its thresholds of before" in said
    assert load_record(run).added == 0


def test_a_network_that_finds_less_than_a_difference_is_refused(trained, tmp_path):
    def blinded(state):
        weights = state["best"] if state.get("best") else state["average"]
        weights["gate.head.0.weight"] *= -1  # sure of what it is not

    said = refused(changed(trained, tmp_path / "run", blinded), tmp_path / "out", MORE_THAN_IT_FINDS)
    assert "of the planted defects to be found" in said and "a golden-image difference finds" in said


def test_a_short_training_is_not_let_off(small_run, tmp_path):
    said = refused(small_run, tmp_path / "out", MORE_THAN_IT_FINDS)
    assert "expected at least 99% of the planted defects" in said and "difference" not in said
