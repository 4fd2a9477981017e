"""The command line in its own process: exit codes, one-line errors, no traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.commands import here
from support.messages import facts

import hisir_edge
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
        (["train", "--data", "/nowhere", "--out", "x"], ["got /nowhere (there is nothing of this name)"]),
        (["build-engine", "/nowhere", "--out", "x"], ["/nowhere", "hisir-edge train"]),
        (["evaluate", "--bundle", "/nowhere", "--data", "/nowhere"], ["/nowhere", "bundle"]),
        (["inspect", "/nowhere.png", "--bundle", "/nowhere", "--out", "x"], ["/nowhere"]),
        (["run", "--config", "/nowhere.toml"], ["/nowhere.toml"]),
        (["watch", "nonsense"], ["nonsense"]),
        (["watch", "tcp://127.0.0.1:99999"], ["1 to 65535", "99999"]),
        (["evaluate", "--bundle", "/nowhere", "--data", "/nowhere", "--json", "no/f.json"], ["no/f.json", "exists"]),
        (["demo", "--bundle", "/nowhere"], ["/nowhere"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one_line(here(*arguments), *words)
    assert list(tmp_path.iterdir()) == [], "bad input leaves nothing behind"


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--data", ".", "--out", "afile"],
        ["synth", "--size", "300x300", "--good", "1", "--defective", "0", "--out", "afile"],
        ["inspect", "afile", "--bundle", "afile", "--out", "afile"],
    ],
)
def test_a_file_where_a_folder_should_be(arguments, tmp_path, monkeypatch):
    (tmp_path / "afile").write_text("here")
    monkeypatch.chdir(tmp_path)
    one_line(here(*arguments), "afile")
    assert (tmp_path / "afile").read_text() == "here"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "--dta", "x"), ("No such option: --dta", "see hisir-edge train --help")),
        (("trian",), ("No such command 'trian'", "'train'", "see hisir-edge --help")),
        (("bundle", "verfy"), ("No such command 'verfy'", "see hisir-edge bundle --help")),
        (("train", "--out", "x", "--steps", "many"), ("--steps", "see hisir-edge train --help")),
        (("evaluate",), ("Missing option", "see hisir-edge evaluate --help")),
    ],
)
def test_what_is_no_command_is_one_line_that_names_the_help(arguments, words):
    done = here(*arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("hisir-edge: ")
    for word in words:
        assert word in done.stderr


def test_a_command_without_arguments_shows_its_help_and_nothing_else():
    for arguments in ((), ("bundle",)):
        done = here(*arguments)
        assert done.returncode == 2
        assert (done.stdout + done.stderr).count("Usage") == 1 and not done.stderr.startswith("\n")


def test_a_file_that_ends_too_early_is_no_end_of_a_dialogue(monkeypatch):
    def ends_too_early(*_):
        raise EOFError("No data left in file")

    monkeypatch.setattr("hisir_edge.cli.doctor.examine", ends_too_early)
    done = here("check")
    assert done.returncode == 2
    assert done.stderr.strip().startswith("hisir-edge: unexpected EOFError: No data left in file")

    def told_to_end(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("hisir_edge.cli.doctor.examine", told_to_end)
    assert here("check").returncode == 130


def test_inspect_exit_codes_and_files(small_bundle, small_boards, tmp_path):
    missing = min((small_boards / "test" / "missing").iterdir())
    done = run("inspect", missing, "--bundle", small_bundle, "--out", tmp_path / "fail")
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("FAIL")
    body = json.loads((tmp_path / "fail" / f"{missing.stem}.json").read_text())
    mask = read_mask(tmp_path / "fail" / f"{missing.stem}_mask.png")
    assert facts(body)["defects"]
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
    done = here("inspect", small_bundle / "golden.jpg", "--bundle", small_run, "--out", tmp_path / "seen")
    one_line(done, f"hisir-edge build-engine {small_run}")
    done = here("build-engine", small_bundle, "--out", tmp_path / "b")
    one_line(done, "a bundle; name the run")
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_results_are_not_written_among_the_boards(small_bundle, small_boards):
    good = small_boards / "test" / "good"
    before = sorted(good.iterdir())
    one = before[0]
    for what, out in ((good, good), (one, good), (one, good / "." / ".." / "good")):
        one_line(here("inspect", what, "--bundle", small_bundle, "--out", out), "--out")
    learnt, truth = small_boards / "train" / "good", small_boards / "ground_truth" / "missing"
    for page in (small_boards, good, small_boards / "test" / "page", learnt, truth):
        one_line(here("evaluate", "--data", small_boards, "--bundle", small_bundle, "--report", page), "--report")
    assert sorted(good.iterdir()) == before
    beside = small_boards / "seen"  # no pictures are read from there
    assert run("inspect", one, "--bundle", small_bundle, "--out", beside).returncode in (0, 1)
    assert len(list(beside.iterdir())) == 3
    shutil.rmtree(beside)


def test_figures_of_pictures_that_nobody_could_judge_are_no_success(small_bundle, tmp_path):
    for name, kind in (("test/good", "a"), ("test/bad", "b"), ("ground_truth/bad", "b_mask")):
        (tmp_path / name).mkdir(parents=True)
        picture = np.full((100, 100) if "truth" in name else (100, 100, 3), 200, np.uint8)
        picture[10:] = 0 if "truth" in name else 200
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
    one_line(here("build-engine", copy, "--out", tmp_path / "b"), "moved.png")
    assert not (tmp_path / "b").exists()


def test_images_of_one_name_do_not_overwrite_each_other(small_bundle, tmp_path):
    picture = cv2.imread(str(small_bundle / "golden.jpg"))
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "same.png"), picture)  # type: ignore[arg-type]
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
    assert "of the threshold" not in done.stdout
    assert f"1 picture: 0 PASS, 0 FAIL, 1 ERROR; verdicts, masks and overlays in {tmp_path / 'out'}" in done.stderr


def test_what_was_inspected_says_how_near_it_came_and_is_counted(small_bundle, small_boards, tmp_path):
    test = small_boards / "test"
    done = run("inspect", test / "good", test / "missing", "--bundle", small_bundle, "--out", tmp_path / "out")
    near = [float(share) for share in re.findall(r"highest ([\d.]+) of the threshold$", done.stdout, re.MULTILINE)]
    results = [line.split()[0] for line in done.stdout.splitlines()]
    assert len(near) == len(results) > 2
    assert all((share >= 1) == (result == "FAIL") for share, result in zip(near, results, strict=True))
    assert f"{len(near)} pictures: {results.count('PASS')} PASS, {results.count('FAIL')} FAIL, 0 ERROR" in done.stderr
    assert done.returncode == 1


def test_silence_on_the_line_is_no_success():
    done = run("watch", "tcp://127.0.0.1:1", "--timeout-s", 0.3)
    assert done.returncode == 1
    assert done.stdout == "" and "0 verdicts came before 0.3 s of silence" in done.stderr


def test_pictures_that_cannot_be_judged_count_and_do_not_end_an_evaluation(small_bundle, small_boards, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(small_boards / "test", data / "test")
    shutil.copytree(small_boards / "ground_truth", data / "ground_truth")
    cut, small, *_ = sorted((data / "test" / "missing").iterdir())
    cut.write_bytes(cut.read_bytes()[:-200])
    small.write_bytes(png_bytes(np.full((300, 400, 3), 90, np.uint8)))
    grey = data / "test" / "good" / "grey.png"
    grey.write_bytes(png_bytes(np.full((384, 512), 90, np.uint8)))
    done = run("evaluate", "--bundle", small_bundle, "--data", data, "--report", tmp_path / "page")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert len(figures["errors"]) == 3
    for name in (cut.name, small.name, grey.name):
        assert any(name in said for said in figures["errors"])
    assert figures["recall_by_class"]["missing"] == 0
    assert figures["images"] == 11 and figures["good_boards_failed"] >= 1
    assert next((tmp_path / "page").glob("*.html")).read_text().count("ERROR") >= 3


def test_a_data_set_that_cannot_be_drawn_leaves_the_folder_free(tmp_path):
    done = run("synth", "--size", "512x384", "--out", tmp_path / "s", "--good", 1, "--defective", 30)
    one_line(done, "room for a visible")
    assert not [p for p in (tmp_path / "s").iterdir() if p.is_dir()]
    assert (
        run(
            "synth", "--size", "512x384", "--out", tmp_path / "s", "--good", 1, "--defective", 1, "--classes", "missing"
        ).returncode
        == 0
    )


def test_a_bundle_that_fails_its_self_test_inspects_nothing(small_bundle, small_boards, tmp_path):
    from hisir_edge.bundle.integrity import seal_of

    blind = Path(shutil.copytree(small_bundle, tmp_path / "b"))
    raw = json.loads((blind / "manifest.json").read_text())
    raw["thresholds"]["region_peak"] = 1000.0
    (blind / "manifest.json").write_text(json.dumps({**raw, "seal_sha256": seal_of(raw)}))
    done = run("inspect", small_boards / "test" / "missing", "--bundle", blind, "--out", tmp_path / "out")
    one_line(done, "self-test", "planted defects to FAIL")
    assert "PASS" not in done.stdout


def test_nothing_is_reported_to_the_maker_of_the_runtime(small_bundle, small_boards, tmp_path):
    """ONNX Runtime keeps what it would send below the home and temporary folders."""
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    picture = next((small_boards / "test" / "good").iterdir())
    command = [
        sys.executable,
        "-m",
        "hisir_edge",
        "inspect",
        picture,
        "--bundle",
        small_bundle,
        "--out",
        tmp_path / "o",
    ]
    where = {"HOME": str(home), "TMPDIR": str(temporary), "XDG_CACHE_HOME": str(home / "cache")}
    subprocess.run(list(map(str, command)), check=False, timeout=120, env={**os.environ, **where}, capture_output=True)
    assert (tmp_path / "o").is_dir()
    assert not list(temporary.iterdir()) and not list(home.rglob("*.db")) and not list(home.rglob("deviceid"))


def test_the_client_of_the_mes_needs_pyzmq_alone(tmp_path):
    package = Path(hisir_edge.__file__).parent
    for name in ("mes", "transport"):
        shutil.copytree(package / name, tmp_path / "hisir_edge" / name)
    (tmp_path / "hisir_edge" / "__init__.py").touch()  # or else the installed package is found first
    shutil.copy(package / "errors.py", tmp_path / "hisir_edge")
    code = (
        "import sys, hisir_edge.mes.client as s; assert s.__file__.startswith(sys.argv[1]), s.__file__\n"
        "print([m for m in ('numpy', 'cv2', 'onnxruntime', 'pydantic', 'rich') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False,
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.strip() == "[]", done.stderr


def test_commands_work_with_standard_error_closed(small_bundle):
    command = f"{sys.executable} -m hisir_edge bundle show {small_bundle} 2>&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and "product" in done.stdout
