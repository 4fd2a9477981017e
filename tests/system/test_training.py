"""Training through the command line: killed, continued, built; and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hisir_edge.errors import InputError
from hisir_edge.learn.run import RunSettings, load_checkpoint, load_record
from hisir_edge.learn.train import train, trained_net


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "hisir_edge", *map(str, arguments)]


def _steps(run: Path) -> int:
    path = run / "log.csv"
    if not path.exists():
        return 0
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return int(rows[-1]["step"]) if rows else 0


def _small(data: Path, steps: int, **changes: object) -> RunSettings:
    values = {
        "data": str(data), "backbone": "unet", "width": 8, "tile_px": 128, "overlap_px": 32, "scale": 1.0,
        "register": "auto", "batch": 2, "steps": steps, "learning_rate": 2e-3, "seed": 0,
    }  # fmt: skip
    return RunSettings(**{**values, **changes})


def test_a_killed_training_is_continued_from_its_checkpoint(small_boards, tmp_path):
    run = tmp_path / "run"
    options = ["train", "--data", small_boards, "--out", run, "--width", 8, "--tile", 128, "--batch", 2]
    options += ["--scale", 1, "--steps", 80]
    train(_small(small_boards, 80), run, max_minutes=0.001, workers=0)
    assert load_checkpoint(run)["step"] >= 1, "the minute budget leaves a checkpoint"
    with (tmp_path / "log").open("wb") as log:
        killed = subprocess.Popen(command(*options), stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 120
        while _steps(run) < 40 and time.monotonic() < deadline and killed.poll() is None:
            time.sleep(0.1)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
    assert _steps(run) >= 40
    done = subprocess.run(command(*options), capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(run)["step"] == 80
    assert not (run / "boards.npy").exists(), "the frames' working copy is removed at the end"
    record, net = trained_net(run)
    assert record.registered
    assert not net.training


def test_the_same_seed_gives_the_same_weights(small_boards, tmp_path):
    import torch

    for name in ("a", "b"):
        train(_small(small_boards, 6), tmp_path / name, workers=0)
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
        train(_small(small_boards, 4, **changes), tmp_path / "run", workers=0)


def test_other_settings_do_not_continue_a_run(small_boards, tmp_path):
    train(_small(small_boards, 2), tmp_path / "run", workers=0)
    with pytest.raises(InputError, match="another --out"):
        train(_small(small_boards, 2, width=16), tmp_path / "run", workers=0)


def test_a_folder_of_mixed_sizes_names_the_odd_one(tmp_path):
    import cv2
    import numpy as np

    for name, side in (("a", 300), ("b", 300), ("c", 310)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((side, 300, 3), np.uint8))
    with pytest.raises(InputError, match=r"c\.png of 300x310"):
        train(_small(tmp_path, 2), tmp_path / "run", workers=0)
    assert not (tmp_path / "run").exists()


def test_build_and_evaluate_through_the_command_line(small_run, small_boards, tmp_path):
    bundle = tmp_path / "bundle"
    options = ["--target", "onnxruntime", "--precision", "fp32", "--false-calls-per-board", 0.2, "--out", bundle]
    done = subprocess.run(
        command("build-engine", small_run, *options), capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["precision"] == "fp32"
    assert manifest["thresholds"]["held_out_boards"] == len(load_record(small_run).held_out)
    report = tmp_path / "figures.json"
    done = subprocess.run(
        command("evaluate", "--bundle", bundle, "--data", small_boards, "--json", report),
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads(report.read_text())
    keys = {"pixel_auroc", "aupro", "image_auroc", "f1", "false_calls_per_board", "recall_by_class"}
    assert keys <= set(figures)
    assert set(figures["recall_by_class"]) == {"missing", "foreign_object", "shifted"}
    assert figures["pixel_auroc"] > 0.8, "even a minute of training must beat chance by far"
    assert figures["errors"] == []


def test_int8_judges_as_fp32_does(small_run, small_bundle, small_boards, tmp_path):
    from hisir_edge.engine.build import build_bundle
    from hisir_edge.learn.evaluate import evaluate

    build_bundle(small_run, tmp_path / "fp32", "fp32", "p3", 0.05)
    exact, quantised = evaluate(tmp_path / "fp32", small_boards), evaluate(small_bundle, small_boards)
    assert quantised["pixel_auroc"] == pytest.approx(exact["pixel_auroc"], abs=0.01)
    assert quantised["aupro"] == pytest.approx(exact["aupro"], abs=0.03)


def test_an_unbuilt_run_is_refused(tmp_path):
    done = subprocess.run(
        command("build-engine", tmp_path, "--out", tmp_path / "b"),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 2
    assert "hisir-edge train" in done.stderr
    assert not (tmp_path / "b").exists()
