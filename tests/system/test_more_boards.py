"""More good boards for the thresholds of what is built: the network stays, what is known of good boards grows."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from support import small
from support.building import one_line
from support.commands import here
from support.small import writable_copy

from hisir_edge.bundle.integrity import sha256_of
from hisir_edge.images import png_bytes, read_rgb
from hisir_edge.learn.data.run import load_record
from hisir_edge.sim.synth import write_dataset


@pytest.fixture(scope="module")
def more(tmp_path_factory):
    """Six more good boards of the small product, and one that the run has learnt."""
    folder = tmp_path_factory.mktemp("more")
    write_dataset(3, 6, (512, 384), folder / "set", (6, 1, 0))
    return folder / "set" / "train" / "good"


@pytest.fixture(scope="module")
def run_in_float32(small_boards, tmp_path_factory):
    """A run that is the same on processors with and without bfloat16 of their own, and its bundle."""
    folder = tmp_path_factory.mktemp("float32")
    run = small.small_run(small_boards, folder / "run", precision="fp32")
    return run, small.small_bundle(run, folder / "bundle")


def manifest_of(bundle):
    return json.loads((bundle / "manifest.json").read_text())


def test_thresholds_alone_are_derived_anew(small_run, small_bundle, more, tmp_path):
    run, bundle = writable_copy(small_run, tmp_path / "run"), writable_copy(small_bundle, tmp_path / "bundle")
    before = manifest_of(bundle)
    learnt = load_record(run).train[0]
    good = tmp_path / "good"
    shutil.copytree(more, good)
    shutil.copy(learnt, good / "known.png")
    options = ("--thresholds-only", "--out", bundle)
    done = here("build-engine", run, *options, "--good", good)
    assert done.returncode == 0, done.stderr
    assert "1 pictures show boards that the run has" in done.stderr
    after = manifest_of(bundle)
    count = before["thresholds"]["held_out_boards"]
    assert after["thresholds"]["held_out_boards"] == count + 6 == after["metrics"]["held_out_boards"]
    assert after["thresholds"]["false_calls_per_board"] == before["thresholds"]["false_calls_per_board"]
    assert after["thresholds"]["false_calls_upper_bound_95"] < before["thresholds"]["false_calls_upper_bound_95"]
    for name in ("model.onnx", "golden.jpg", "deviation.jpg", "calibration.json"):
        assert after["files"][name] == before["files"][name] == sha256_of(bundle / name)
    for key in ("variants", "recipe", "calibration", "backbone", "product", "precision"):
        assert after[key] == before[key]
    assert load_record(run).added == 6
    again = here("build-engine", run, *options, "--good", good)
    assert again.returncode == 2
    assert "all of boards that it has" in one_line(again)
    stricter = here("build-engine", run, *options, "--false-calls-per-board", 0.05)
    assert stricter.returncode == 0, stricter.stderr
    pixel_and_peak = [m["thresholds"]["pixel"] * m["thresholds"]["region_peak"] for m in (after, manifest_of(bundle))]
    assert pixel_and_peak[1] > pixel_and_peak[0]
    looked = here("inspect", good, "--bundle", bundle, "--out", tmp_path / "seen")
    assert looked.returncode == 0, looked.stderr


def test_a_bad_board_among_the_good_is_named_and_sets_no_threshold(run_in_float32, more, tmp_path):
    run, bundle = (
        writable_copy(one, tmp_path / name) for one, name in zip(run_in_float32, ("run", "bundle"), strict=True)
    )
    good = tmp_path / "good"
    shutil.copytree(more, good)
    options = ("--thresholds-only", "--out", bundle, "--least-planted-recall", 0)
    clean = here("build-engine", writable_copy(run, tmp_path / "clean"), *options, "--good", good)
    assert clean.returncode == 0, clean.stderr
    without = manifest_of(bundle)["thresholds"]
    assert without["not_counted"] == []
    spoilt = min(good.glob("*.png"))
    picture = read_rgb(spoilt)
    checks = picture.astype(int) + 45 * ((np.indices(picture.shape[:2]) // 4).sum(0) % 2 * 2 - 1)[..., None]
    spoilt.write_bytes(png_bytes(np.clip(checks, 0, 255).astype(np.uint8)))
    all_over = here("build-engine", writable_copy(run, tmp_path / "over"), *options, "--good", good)
    assert all_over.returncode == 0, all_over.stderr
    assert spoilt.name in all_over.stdout, "a board that is bad all over is named, too"
    left_out = manifest_of(bundle)["thresholds"]["region_peak"]
    kept = here("build-engine", tmp_path / "over", *options, "--keep-odd")
    assert kept.returncode == 0, kept.stderr
    counted = manifest_of(bundle)["thresholds"]["region_peak"]
    assert left_out <= 0.6 * counted, "what is bad all over moves the threshold less than it would"
    picture[100:260, 120:330] = (0, 255, 0)  # something lies on it
    spoilt.write_bytes(png_bytes(picture))
    (run / "odd").mkdir(exist_ok=True)
    done = here("build-engine", run, *options, "--good", good)
    assert done.returncode == 0, done.stderr
    assert "1 place(s) that one good board alone shows did not count" in done.stderr
    found = manifest_of(bundle)["thresholds"]
    (place,) = found["not_counted"]
    assert place["picture"] == spoilt.name in done.stdout
    assert abs(place["x"] - 120) < 40 and abs(place["y"] - 100) < 40
    assert found["region_peak"] <= 1.5 * without["region_peak"]
    (shown,) = (run / "odd").glob("judged-*.png")
    assert read_rgb(shown).shape[1] > 200
    assert f"not counted  {spoilt.name} alone differs" in here("bundle", "show", bundle).stdout
    kept = here("build-engine", run, *options, "--keep-odd")
    assert kept.returncode == 0, kept.stderr
    counted = manifest_of(bundle)["thresholds"]
    assert counted["not_counted"] == [] and counted["region_peak"] > 1.3 * found["region_peak"]
    assert not list((run / "odd").glob("judged-*.png"))


def test_what_does_not_belong_together_is_refused(small_run, small_bundle, more, tmp_path):
    run, bundle = writable_copy(small_run, tmp_path / "run"), writable_copy(small_bundle, tmp_path / "bundle")
    write_dataset(3, 6, (544, 384), tmp_path / "wider", (1, 1, 0))
    options = ("--thresholds-only", "--out", bundle)
    done = here("build-engine", run, *options, "--good", tmp_path / "wider" / "train" / "good")
    assert done.returncode == 2
    assert "good boards of 512x384" in one_line(done)
    done = here("build-engine", *options, "--good", more)
    assert done.returncode == 2
    assert "one RUN with --good" in one_line(done)
    other = writable_copy(run, tmp_path / "other")

    with np.load(other / "memory.npz") as stored:
        np.savez(other / "memory.npz", mean_rgb=stored["mean_rgb"][::-1], deviation=stored["deviation"])
    done = here("build-engine", other, *options)
    assert done.returncode == 2
    assert "a bundle that was built from" in one_line(done)
    assert manifest_of(bundle) == manifest_of(small_bundle)


def test_a_whole_build_with_more_boards(small_run, more, tmp_path):
    """Engines are compared on the boards that the run began with, thresholds come from all."""
    run = writable_copy(small_run, tmp_path / "run")
    options = ("--false-calls-per-board", 0.2, "--least-planted-recall", 0.5)
    done = here("build-engine", run, "--out", tmp_path / "bundle", "--good", more, *options)
    assert done.returncode == 0, done.stderr
    record = load_record(run)
    assert record.added == 6
    assert manifest_of(tmp_path / "bundle")["thresholds"]["held_out_boards"] == len(record.held_out)
    assert "thresholds from all" in done.stderr


def test_boards_that_spoil_a_build_are_not_kept(small_run, small_bundle, more, tmp_path):
    run, bundle = writable_copy(small_run, tmp_path / "run"), writable_copy(small_bundle, tmp_path / "bundle")
    good = tmp_path / "good"
    shutil.copytree(more, good)
    (good / "dark.png").write_bytes(png_bytes(np.full((384, 512, 3), 9, np.uint8)))
    before = load_record(run)
    done = here("build-engine", run, "--thresholds-only", "--out", bundle, "--good", good)
    assert done.returncode == 2
    assert "dark.png" in one_line(done)
    assert load_record(run) == before
    assert manifest_of(bundle) == manifest_of(small_bundle)
