"""Training through the command line: killed, continued, built; and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.commands import here

from hisir_edge.bundle.lock import sole_writer
from hisir_edge.errors import InputError
from hisir_edge.learn.data.run import RunSettings, load_checkpoint, load_record, save_checkpoint
from hisir_edge.learn.training.reached import trained_net
from hisir_edge.learn.training.train import train


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
        "register": "auto", "batch": 2, "steps": steps, "learning_rate": 2e-3, "seed": 0, "patience": 30,
    }  # fmt: skip
    return RunSettings(**{**values, **changes})


def test_a_killed_training_is_continued_from_its_checkpoint(small_boards, tmp_path):
    run = tmp_path / "run"
    options = ["train", "--data", small_boards, "--out", run, "--width", 8, "--tile", 128, "--batch", 2]
    options += ["--scale", 1, "--steps", 160]
    train(_small(small_boards, 160), run, max_minutes=0.001, workers=0)
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
    assert load_checkpoint(run)["step"] == 160
    assert not (run / "boards.npy").exists(), "the frames' working copy is removed at the end"
    record, net = trained_net(run)
    assert record.registered
    assert not net.training


def test_a_continued_run_says_what_it_lacks_and_what_it_does_not_know(small_boards, tmp_path):
    boards, run = tmp_path / "boards", tmp_path / "run"
    shutil.copytree(small_boards / "train", boards / "train")
    options = ["train", "--data", boards, "--out", run, "--width", 8, "--tile", 128, "--batch", 2, "--scale", 1]
    options += ["--steps", 2, "--workers", 0]
    done = subprocess.run(command(*options), capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "not in this run" not in done.stdout
    good = sorted((boards / "train" / "good").iterdir())
    shutil.copy(good[0], good[0].with_name("new.png"))
    done = subprocess.run(command(*options), capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "not in this run: 1 of the good pictures" in done.stdout
    good[1].unlink()
    done = subprocess.run(command(*options), capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 2
    assert good[1].name in done.stderr
    assert done.stderr.count("hisir-edge:") == 1


def test_a_best_loss_of_other_held_out_tiles_does_not_count(small_boards, tmp_path):
    """A run that is continued by a version with another corruption: its best weights are measured anew, and kept."""
    run = tmp_path / "run"
    train(_small(small_boards, 4), run, workers=0)
    whole = load_checkpoint(run)
    bad = {name: value * 30 if value.dtype.is_floating_point else value for name, value in whole["average"].items()}
    # as left by a time limit between two epochs: good best weights, and an average that went astray
    save_checkpoint(run, {**whole, "average": bad, "best_loss": 1e-6, "held_out_crc": 1})
    train(_small(small_boards, 4), run, workers=0)
    again = load_checkpoint(run)
    assert again["best_loss"] == pytest.approx(whole["best_loss"], rel=1e-4), "the best weights, on these tiles"
    assert all(torch.equal(again["best"][name], value) for name, value in whole["best"].items())
    assert all(torch.equal(again["average"][name], value) for name, value in bad.items())


def test_the_same_seed_gives_the_same_weights(small_boards, tmp_path):
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


@pytest.mark.parametrize("changes", [{"without": ("gates",)}, {"backbone": "resnet"}])
def test_a_misspelt_name_leaves_nothing_behind(small_boards, tmp_path, changes):
    with pytest.raises(InputError):
        train(_small(small_boards, 4, **changes), tmp_path / "run", workers=0)
    assert not (tmp_path / "run").exists()
    train(_small(small_boards, 2), tmp_path / "run", workers=0)


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
    settings = _small(photos, 4, scale=None)
    strangers = [render_board(4, seed, (512, 384)).frame_rgb[..., ::-1] for seed in (1, 2)]
    # one board that is learnt from and one that is held out
    from hisir_edge.learn.data.datasets import split_held_out

    learnt, held_out = split_held_out([photos / n for n in names], settings.seed)
    for odd, stranger in zip((learnt[0], held_out[0]), strangers, strict=True):
        odd.unlink()
        assert cv2.imwrite(str(odd), stranger)
    done = subprocess.run(
        command("train", "--data", photos, "--out", run, "--width", 8, "--tile", 128, "--batch", 2, "--steps", 4),
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
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
    options += ["--least-planted-recall", 0.5]
    done = subprocess.run(
        command("build-engine", small_run, *options), capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["precision"] == "fp32"
    assert manifest["thresholds"]["held_out_boards"] == len(load_record(small_run).held_out)
    report, page_folder = tmp_path / "figures.json", tmp_path / "page"
    done = subprocess.run(
        command("evaluate", "--bundle", bundle, "--data", small_boards, "--json", report, "--report", page_folder),
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads(report.read_text())
    keys = {"pixel_auroc", "aupro", "image_auroc", "f1", "false_calls_per_board", "recall_by_class"}
    assert keys <= set(figures)
    assert set(figures["recall_by_class"]) == {"missing", "foreign_object", "shifted"}
    assert figures["pixel_auroc"] > 0.8, "even a minute of training must beat chance by far"
    assert figures["errors"] == []
    assert set(figures["by_class"]) == {"missing", "foreign_object", "shifted"}
    page = (page_folder / "index.html").read_text()
    pictures = {p.name for p in page_folder.glob("*.jpg")}
    assert len(pictures) == 4 + 6, "a strip for each good board and each defective one"
    assert all(name in page for name in pictures)
    assert page.count("data:image/svg+xml") == 3


def test_two_processes_under_torchrun_train_one_network(small_boards, tmp_path):
    """CPU processes over gloo stand for GPUs over nccl: the same code apart from the device."""
    run = tmp_path / "run"
    options = ["train", "--data", small_boards, "--out", run, "--width", 8, "--tile", 128, "--batch", 2, "--scale", 1]
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--standalone",
        "-m",
        "hisir_edge",
    ]
    for steps, seen in ((24, 24), (24, 24)):  # the second call finds it finished
        done = subprocess.run(
            [*launcher, *map(str, options), "--steps", str(steps)],
            capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("trained on") == 1, "one process speaks"
        assert load_checkpoint(run)["step"] == seen
    alone = tmp_path / "alone"
    train(_small(small_boards, 24), alone, workers=0)
    import torch

    a, b = load_checkpoint(run)["net"], load_checkpoint(alone)["net"]
    assert not all(torch.equal(a[k], b[k]) for k in a), "two processes see more tiles than one"


def test_a_refusal_under_torchrun_is_one_line(tmp_path):
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--standalone",
        "-m",
        "hisir_edge",
    ]
    done = subprocess.run(
        [*launcher, "train", "--data", "/nowhere", "--out", str(tmp_path / "r")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "hisir-edge: expected a folder" in done.stderr
    assert not (tmp_path / "r").exists()


def test_training_ends_when_the_held_out_loss_no_longer_falls(small_boards, tmp_path, monkeypatch):
    from hisir_edge.learn.training import train as training

    monkeypatch.setattr(training, "EPOCH_STEPS", 4)
    train(_small(small_boards, 2000, patience=2, learning_rate=1e-6), tmp_path / "run", workers=0)
    state = load_checkpoint(tmp_path / "run")
    assert state["step"] < 2000
    assert state["step"] // 4 - state["best_epoch"] >= 2


def test_zones_ignore_and_sharpen(small_run, small_boards, tmp_path):
    from hisir_edge.backends import engine_from_bundle
    from hisir_edge.bundle.load import load_bundle
    from hisir_edge.engine.build import build_bundle
    from hisir_edge.engine.options import BuildOptions
    from hisir_edge.engine.zones import zones_from_json
    from hisir_edge.images import read_mask, read_rgb
    from hisir_edge.inspection.cpu.inspector import CpuInspector
    from hisir_edge.inspection.rops import Rops

    image = sorted((small_boards / "test" / "missing").iterdir())[0]
    truth = read_mask(small_boards / "ground_truth" / "missing" / f"{image.stem}_mask.png")
    import numpy as np

    ys, xs = np.nonzero(truth)
    x0, x1, y0, y1 = int(xs.min()) - 8, int(xs.max()) + 8, int(ys.min()) - 8, int(ys.max()) + 8
    zone = {"name": "socket", "polygon": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]], "sensitivity": 0}
    peaks = {}
    for sensitivity in (0, 1, 2):
        file = tmp_path / "zones.json"
        file.write_text(json.dumps([{**zone, "sensitivity": sensitivity}]))
        out = tmp_path / f"b{sensitivity}"
        build_bundle(
            small_run, out, BuildOptions(least_planted_recall=0.5, precision="fp32", zones=zones_from_json(file))
        )
        bundle = load_bundle(out)
        assert bundle.zones[0].name == "socket"
        _, scores = CpuInspector(bundle, engine_from_bundle(bundle), Rops).inspect_with_map(read_rgb(image))
        peaks[sensitivity] = float(scores[truth].max())
    assert peaks[0] == 0
    assert peaks[1] > 1
    assert peaks[2] == pytest.approx(2 * peaks[1], rel=1e-4)


def test_an_ignored_zone_does_not_set_the_threshold(small_run, small_bundle, tmp_path):
    from hisir_edge.backends import engine_from_bundle
    from hisir_edge.bundle.load import load_bundle
    from hisir_edge.bundle.thresholds import Zone
    from hisir_edge.engine.derive import derived_from_maps
    from hisir_edge.engine.maps import maps_from_inspector
    from hisir_edge.inspection.cpu.inspector import CpuInspector
    from hisir_edge.inspection.rops import Rops

    bundle = load_bundle(small_bundle)
    inspector = CpuInspector(bundle, engine_from_bundle(bundle), Rops)
    maps = maps_from_inspector(inspector, load_record(small_run), tmp_path / "maps")
    square = ((-1.0, -1.0), (600.0, -1.0), (600.0, 600.0), (-1.0, 600.0))
    made = {
        s: derived_from_maps(replace(bundle, zones=(Zone("all", square, s),)), maps, 0.2)[0] for s in (0, 0.5, 1, 50)
    }
    level = {s: d.thresholds.pixel * d.thresholds.region_peak for s, d in made.items()}
    assert level[0] < level[0.5] < level[1] == level[50]
    assert made[50].upper_bound > made[1].upper_bound


def test_a_board_that_is_ignored_whole_is_no_bundle(small_run, tmp_path):
    from hisir_edge.bundle.manifest import ZoneModel
    from hisir_edge.engine.build import build_bundle
    from hisir_edge.engine.options import BuildOptions

    square = ((-1.0, -1.0), (600.0, -1.0), (600.0, 600.0), (-1.0, 600.0))
    left, right = ((0.0, 0.0), (200.0, 0.0), (200.0, 380.0)), ((300.0, 0.0), (500.0, 0.0), (500.0, 380.0))
    outlines = tuple(
        ZoneModel(name=name, polygon=polygon, sensitivity=0, outside=True)
        for name, polygon in (("left", left), ("right", right))
    )
    for zones in ((ZoneModel(name="all", polygon=square, sensitivity=0),), outlines):
        with pytest.raises(InputError, match="zones that ignore all of it"):
            build_bundle(
                small_run, tmp_path / "b", BuildOptions(least_planted_recall=0.5, precision="fp32", zones=zones)
            )
        assert not (tmp_path / "b").exists()


def test_a_zone_outside_the_picture_is_refused(small_run, tmp_path):
    from hisir_edge.bundle.manifest import ZoneModel
    from hisir_edge.engine.build import build_bundle
    from hisir_edge.engine.options import BuildOptions

    zone = ZoneModel(name="far", polygon=((900.0, 900.0), (990.0, 900.0), (990.0, 990.0)), sensitivity=0)
    with pytest.raises(InputError, match="far, which covers none"):
        build_bundle(small_run, tmp_path / "b", BuildOptions(least_planted_recall=0.5, precision="fp32", zones=(zone,)))


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "20"])
def test_a_rate_that_is_none_is_one_line(small_run, tmp_path, rate):
    done = here("build-engine", small_run, "--false-calls-per-board", rate, "--out", tmp_path / "b")
    assert done.returncode == 2
    assert "false-call rate above 0" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


def test_a_shift_that_hides_the_board_counts_against_it_and_is_reported(small_bundle, small_boards, tmp_path):
    figures, page = tmp_path / "figures.json", tmp_path / "page"
    options = ["--bundle", small_bundle, "--data", small_boards, "--shift", "fixture=60", "--json", figures]
    done = subprocess.run(
        command("evaluate", *options, "--report", page), capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(figures.read_text())
    assert len(seen["errors"]) == seen["images"]
    assert seen["false_calls_per_board"] == 1.0
    assert seen["recall"] == 0.0
    assert f"{seen['images']} of {seen['images']} pictures could not be judged" in done.stderr
    assert "fixture=60" in (page / "index.html").read_text()
    refused = here("evaluate", *options[:4], "--shift", "standard", "--report", page)
    assert refused.returncode == 2
    assert "standard" in refused.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "zones.json"),
        ('[{"name": "a", "polygon": [[0, 0], [1, 1]], "sensitivity": 1}]', "polygon"),
        ('[{"name": "a", "polygon": [[0, 0], [1, 1], [2, 0]], "sensitivity": -1}]', "sensitivity"),
        ("not json", "zones.json"),
    ],
)
def test_bad_zones_are_one_line(small_run, tmp_path, text, words):
    file = tmp_path / "zones.json"
    file.write_text(text)
    done = here("build-engine", small_run, "--zones", file, "--out", tmp_path / "b")
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_int8_judges_as_fp32_does(small_run, small_bundle, small_boards, tmp_path):
    from hisir_edge.engine.build import build_bundle
    from hisir_edge.engine.options import BuildOptions
    from hisir_edge.learn.evaluation.evaluate import evaluate
    from hisir_edge.learn.evaluation.figures import figures

    build_bundle(small_run, tmp_path / "fp32", BuildOptions(least_planted_recall=0.5, precision="fp32"))
    exact, quantised = (figures(evaluate(b, small_boards)) for b in (tmp_path / "fp32", small_bundle))
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


def test_a_run_is_trained_by_one_process_at_a_time(small_boards, tmp_path):
    with sole_writer(tmp_path / "run", "training"), pytest.raises(InputError, match=r"no other training into .*run"):
        train(_small(small_boards, 5), tmp_path / "run", workers=0)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_a_training_quietly_and_says_how_it_goes_on(small_boards, tmp_path, started):
    options = ["--data", small_boards, "--out", tmp_path / "run", "--width", 8, "--tile", 128, "--batch", 2]
    training = started(command("train", *options), signal.SIGINT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 120
    while _steps(tmp_path / "run") < 20 and time.monotonic() < deadline and training.poll() is None:
        time.sleep(0.1)
    os.killpg(training.pid, signal.SIGINT)
    said, _ = training.communicate(timeout=60)
    assert training.returncode == 130
    assert "Traceback" not in said and "the same command goes on" in said
