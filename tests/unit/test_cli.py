"""The command line in its own process: exit codes, one-line errors, no traceback."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from hisir_edge.images import png_bytes, read_mask


def run(*arguments: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hisir_edge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = lines[-1]
    assert last.startswith("hisir-edge: expected "), done.stderr
    for word in words:
        assert word in last


def test_version_and_help():
    assert run("--version").stdout.strip().count(".") >= 2
    listed = run("--help").stdout
    for command in ("synth", "train", "build-engine", "evaluate", "inspect", "run", "watch", "demo"):
        assert command in listed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["synth", "--size", "big", "--out", "x"], ["--size", "big"]),
        (["synth", "--size", "100x100", "--out", "x"], ["256"]),
        (["synth", "--classes", "gremlins", "--out", "x"], ["gremlins"]),
        (["train", "--data", "/nowhere", "--out", "x"], ["/nowhere"]),
        (["build-engine", "/nowhere", "--out", "x"], ["/nowhere", "hisir-edge train"]),
        (["evaluate", "--bundle", "/nowhere", "--data", "/nowhere"], ["/nowhere", "bundle"]),
        (["inspect", "/nowhere.png", "--bundle", "/nowhere", "--out", "x"], ["/nowhere"]),
        (["run", "--config", "/nowhere.toml"], ["/nowhere.toml"]),
        (["watch", "nonsense"], ["nonsense"]),
        (["demo", "--bundle", "/nowhere"], ["/nowhere"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, words, tmp_path):
    command = [sys.executable, "-m", "hisir_edge", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    one_line(done, *words)
    assert list(tmp_path.iterdir()) == [], "bad input leaves nothing behind"


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--data", ".", "--out", "afile"],
        ["synth", "--size", "300x300", "--good", "1", "--defective", "0", "--out", "afile"],
        ["inspect", "afile", "--bundle", "afile", "--out", "afile"],
    ],
)
def test_a_file_where_a_folder_should_be(arguments, tmp_path):
    (tmp_path / "afile").write_text("here")
    command = [sys.executable, "-m", "hisir_edge", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    one_line(done, "afile")
    assert (tmp_path / "afile").read_text() == "here"


def test_inspect_exit_codes_and_files(small_bundle, small_boards, tmp_path):
    missing = sorted((small_boards / "test" / "missing").iterdir())[0]
    done = run("inspect", missing, "--bundle", small_bundle, "--out", tmp_path / "fail")
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("FAIL")
    body = json.loads((tmp_path / "fail" / f"{missing.stem}.json").read_text())
    mask = read_mask(tmp_path / "fail" / f"{missing.stem}_mask.png")
    assert body["regions_total"] >= 1
    assert mask.shape == (384, 512)
    overlay = cv2.imread(str(tmp_path / "fail" / f"{missing.stem}_overlay.jpg"))
    assert overlay.shape == (384, 512, 3)

    golden = small_bundle / "golden.jpg"  # the mean of good boards is a good board
    done = run("inspect", golden, "--bundle", small_bundle, "--out", tmp_path / "pass")
    assert done.returncode == 0, done.stdout + done.stderr

    (tmp_path / "cut.png").write_bytes(missing.read_bytes()[:5000])
    done = run("inspect", golden, tmp_path / "cut.png", missing, "--bundle", small_bundle, "--out", tmp_path / "error")
    assert done.returncode == 2
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["PASS", "ERROR", "FAIL"]
    assert "cut short" in done.stdout


def test_a_run_is_no_bundle_and_a_bundle_is_no_run(small_run, small_bundle, tmp_path):
    done = run("inspect", small_bundle / "golden.jpg", "--bundle", small_run, "--out", tmp_path / "seen")
    one_line(done, f"hisir-edge build-engine {small_run}")
    done = run("build-engine", small_bundle, "--out", tmp_path / "b")
    one_line(done, "a bundle; name the run")
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_results_are_not_written_among_the_boards(small_bundle, small_boards):
    good = small_boards / "test" / "good"
    before = sorted(good.iterdir())
    one = before[0]
    for what, out in ((good, good), (one, good), (one, good / "." / ".." / "good")):
        one_line(run("inspect", what, "--bundle", small_bundle, "--out", out), "--out")
    learnt, truth = small_boards / "train" / "good", small_boards / "ground_truth" / "missing"
    for page in (small_boards, good, small_boards / "test" / "page", learnt, truth):
        one_line(run("evaluate", "--data", small_boards, "--bundle", small_bundle, "--report", page), "--report")
    assert sorted(good.iterdir()) == before
    beside = small_boards / "seen"  # no pictures are read from there
    assert run("inspect", one, "--bundle", small_bundle, "--out", beside).returncode in (0, 1)
    assert len(list(beside.iterdir())) == 3
    shutil.rmtree(beside)


def test_figures_of_pictures_that_nobody_could_judge_are_no_success(small_bundle, tmp_path):
    for name, kind in (("test/good", "a"), ("test/bad", "b"), ("ground_truth/bad", "b_mask")):
        (tmp_path / name).mkdir(parents=True)
        picture = np.full((100, 100) if "truth" in name else (100, 100, 3), 200, np.uint8)
        (tmp_path / name / f"{kind}.png").write_bytes(png_bytes(picture))
    done = run("evaluate", "--data", tmp_path, "--bundle", small_bundle)
    assert done.returncode == 2
    assert json.loads(done.stdout)["images"] == 2
    assert "none in 2" in done.stderr
    assert done.stderr.count("hisir-edge:") == 1


def test_a_run_whose_pictures_are_gone_is_told_before_the_work(small_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(small_run, copy)
    record = json.loads((copy / "run.json").read_text())
    record["held_out"][-1] = str(tmp_path / "moved.png")
    (copy / "run.json").write_text(json.dumps(record))
    one_line(run("build-engine", copy, "--out", tmp_path / "b"), "moved.png")
    assert not (tmp_path / "b").exists()


def test_images_of_one_name_do_not_overwrite_each_other(small_bundle, tmp_path):
    picture = cv2.imread(str(small_bundle / "golden.jpg"))
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "same.png"), picture)
    run("inspect", tmp_path / "a", tmp_path / "b", "--bundle", small_bundle, "--out", tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.json"))) == 2


def test_synth_is_reproducible_and_in_the_right_folders(tmp_path):
    common = ["synth", "--product", 4, "--seed", 9, "--good", 2, "--defective", 2, "--size", "400x300"]
    for name in ("a", "b"):
        done = run(*common, "--classes", "missing,scratch", "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
    files = sorted(str(p.relative_to(tmp_path / "a")) for p in (tmp_path / "a").rglob("*.png"))
    assert sum(f.startswith("train/good/") for f in files) == 2
    assert {Path(f).parts[1] for f in files if f.startswith("test/")} == {"good", "missing", "scratch"}
    assert sum(f.startswith("ground_truth/") for f in files) == 2
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    done = run(*common, "--out", tmp_path / "a")
    one_line(done, "new or empty" if "new or empty" in done.stderr else "folder")


def test_a_frame_of_another_size_is_an_error_verdict(small_bundle, tmp_path):
    (tmp_path / "odd.png").write_bytes(png_bytes(np.zeros((100, 100, 3), np.uint8)))
    done = run("inspect", tmp_path / "odd.png", "--bundle", small_bundle, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "512x384" in done.stdout
    assert "100x100" in done.stdout
