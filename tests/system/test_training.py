"""Training through the command line: killed, continued, built; and what it refuses."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time

import pytest
import torch
from support.commands import here
from support.training import command, logged_steps, small_settings

from hisir_edge.bundle.lock import sole_writer
from hisir_edge.errors import InputError
from hisir_edge.learn.data.run import load_checkpoint, load_record, save_checkpoint
from hisir_edge.learn.training.reached import trained_net
from hisir_edge.learn.training.train import train


def test_a_killed_training_is_continued_from_its_checkpoint(small_boards, tmp_path):
    run = tmp_path / "run"
    options = ["train", "--data", small_boards, "--out", run, "--width", 8, "--tile", 128, "--batch", 2]
    options += ["--scale", 1, "--steps", 60, "--overlap", 32]
    train(small_settings(small_boards, 60), run, max_minutes=0.001, workers=0)
    assert load_checkpoint(run)["step"] >= 1, "the minute budget leaves a checkpoint"
    with (tmp_path / "log").open("wb") as log:
        killed = subprocess.Popen(command(*options), stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 120
        while logged_steps(run) < 20 and time.monotonic() < deadline and killed.poll() is None:
            time.sleep(0.1)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
    assert logged_steps(run) >= 20
    done = here(*options)
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(run)["step"] == 60
    assert not (run / "boards.npy").exists(), "the frames' working copy is removed at the end"
    record, net = trained_net(run)
    assert record.registered
    assert not net.training


def test_a_continued_run_says_what_it_lacks_and_what_it_does_not_know(small_boards, tmp_path):
    boards, run = tmp_path / "boards", tmp_path / "run"
    shutil.copytree(small_boards / "train", boards / "train")
    options = ["train", "--data", boards, "--out", run, "--width", 8, "--tile", 128, "--batch", 2, "--scale", 1]
    options += ["--steps", 2, "--workers", 0]
    done = here(*options)
    assert done.returncode == 0, done.stderr
    assert "not in this run" not in done.stdout
    good = sorted((boards / "train" / "good").iterdir())
    shutil.copy(good[0], good[0].with_name("new.png"))
    done = here(*options)
    assert done.returncode == 0, done.stderr
    assert "not in this run: 1 of the good pictures" in done.stdout
    good[1].unlink()
    done = here(*options)
    assert done.returncode == 2
    assert good[1].name in done.stderr
    assert done.stderr.count("hisir-edge:") == 1


def test_a_best_loss_of_other_held_out_tiles_does_not_count(small_boards, tmp_path):
    """A run that is continued by a version with another corruption: its best weights are measured anew, and kept."""
    run = tmp_path / "run"
    train(small_settings(small_boards, 4), run, workers=0)
    whole = load_checkpoint(run)
    bad = {name: value * 30 if value.dtype.is_floating_point else value for name, value in whole["average"].items()}
    # as left by a time limit between two epochs: good best weights, and an average that went astray
    save_checkpoint(run, {**whole, "average": bad, "best_loss": 1e-6, "held_out_crc": 1})  # type: ignore[dict-item]
    train(small_settings(small_boards, 4), run, workers=0)
    again = load_checkpoint(run)
    assert again["best_loss"] == pytest.approx(whole["best_loss"], rel=1e-4), "the best weights, on these tiles"
    assert all(torch.equal(again["best"][name], value) for name, value in whole["best"].items())
    assert all(torch.equal(again["average"][name], value) for name, value in bad.items())


def test_the_same_seed_gives_the_same_weights(small_boards, tmp_path):
    for name in ("a", "b"):
        train(small_settings(small_boards, 6), tmp_path / name, workers=0)
    a, b = (load_checkpoint(tmp_path / name)["average"] for name in ("a", "b"))
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": "resnet"}, "unet"),
        ({"tile_px": 100}, "multiple of 32"),
        ({"tile_px": 512}, "512x512"),
        ({"overlap_px": 8}, "overlap"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_training(small_boards, tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        train(small_settings(small_boards, 4, **changes), tmp_path / "run", workers=0)


@pytest.mark.parametrize("changes", [{"without": ("gates",)}, {"backbone": "resnet"}])
def test_a_misspelt_name_leaves_nothing_behind(small_boards, tmp_path, changes):
    with pytest.raises(InputError):
        train(small_settings(small_boards, 4, **changes), tmp_path / "run", workers=0)
    assert not (tmp_path / "run").exists()
    train(small_settings(small_boards, 2), tmp_path / "run", workers=0)


def test_boards_of_another_product_are_left_out_named_and_do_not_stop_the_build(small_boards, tmp_path):
    import cv2

    from hisir_edge.engine.build import build_bundle
    from hisir_edge.engine.options import BuildOptions
    from hisir_edge.images import image_paths
    from hisir_edge.sim.synth import render_board

    photos, run = tmp_path / "photos", tmp_path / "run"
    photos.mkdir()
    for path in [*image_paths(small_boards / "train" / "good"), *image_paths(small_boards / "test" / "good")]:
        (photos / f"{path.parent.parent.name}_{path.name}").symlink_to(path)
    names = sorted(p.name for p in photos.iterdir())
    settings = small_settings(photos, 4, scale=None)
    strangers = [render_board(4, seed, (512, 384)).frame_rgb[..., ::-1] for seed in (1, 2)]
    # one board that is learnt from and one that is held out
    from hisir_edge.learn.data.datasets import split_held_out

    learnt, held_out = split_held_out([photos / n for n in names], settings.seed)
    for odd, stranger in zip((learnt[0], held_out[0]), strangers, strict=True):
        odd.unlink()
        assert cv2.imwrite(str(odd), stranger)
    done = here("train", "--data", photos, "--out", run, "--width", 8, "--tile", 128, "--batch", 2, "--steps", 4)
    assert done.returncode == 0, done.stderr
    record = load_record(run)
    assert record.registered and record.scale == 1.0, "one odd board does not make loose objects of the others"
    assert record.dropped == (str(learnt[0]),)
    assert record.dropped_held_out == (str(held_out[0]),)
    assert f"left out: {learnt[0]}" in done.stdout
    # four steps teach a network nothing, but no board stops the build
    with pytest.raises(InputError, match="finds defects planted into it"):
        build_bundle(
            run,
            tmp_path / "bundle",
            BuildOptions(least_planted_recall=0.0, precision="fp32", false_calls_per_board=0.2),
        )


def test_other_settings_do_not_continue_a_run(small_boards, tmp_path):
    train(small_settings(small_boards, 2), tmp_path / "run", workers=0)
    with pytest.raises(InputError, match="another --out"):
        train(small_settings(small_boards, 2, width=16), tmp_path / "run", workers=0)


def test_a_folder_of_mixed_sizes_names_the_odd_one(tmp_path):
    import cv2
    import numpy as np

    for name, side in (("a", 300), ("b", 300), ("c", 310)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((side, 300, 3), np.uint8))
    with pytest.raises(InputError, match=r"c\.png of 300x310"):
        train(small_settings(tmp_path, 2), tmp_path / "run", workers=0)
    assert not (tmp_path / "run").exists()


def test_training_ends_when_the_held_out_loss_no_longer_falls(small_boards, tmp_path, monkeypatch):
    from hisir_edge.learn.training import steps

    monkeypatch.setattr(steps, "EPOCH_STEPS", 4)
    train(small_settings(small_boards, 2000, patience=2, learning_rate=1e-6), tmp_path / "run", workers=0)
    state = load_checkpoint(tmp_path / "run")
    assert state["step"] < 2000
    assert state["step"] // 4 - state["best_epoch"] >= 2


def test_a_run_is_trained_by_one_process_at_a_time(small_boards, tmp_path):
    with sole_writer(tmp_path / "run", "training"), pytest.raises(InputError, match=r"no other training into .*run"):
        train(small_settings(small_boards, 5), tmp_path / "run", workers=0)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_a_training_quietly_and_says_how_it_goes_on(small_boards, tmp_path, started):
    options = ["--data", small_boards, "--out", tmp_path / "run", "--width", 8, "--tile", 128, "--batch", 2]
    training = started(command("train", *options), signal.SIGINT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 120
    while logged_steps(tmp_path / "run") < 20 and time.monotonic() < deadline and training.poll() is None:
        time.sleep(0.1)
    os.killpg(training.pid, signal.SIGINT)
    said, _ = training.communicate(timeout=60)
    assert training.returncode == 130
    assert "Traceback" not in said and "the same command goes on" in said
