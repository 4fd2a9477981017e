"""Kinds of files, labels and trainings that once went wrong without a word, through the real commands."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from support.commands import here
from support.picture_kinds import WANTED, write_picture_kinds

from hisir_edge.images import read_rgb
from hisir_edge.learn.data.run import load_record
from hisir_edge.learn.training.reached import progress_of

TINY = ["--width", 8, "--tile", 128, "--batch", 2, "--scale", 1, "--workers", 0]


def _jpeg(picture: np.ndarray, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=95, **options)
    return out.getvalue()


@pytest.fixture
def kinds(small_bundle: Path, tmp_path: Path) -> Path:
    """See ``write_picture_kinds``."""
    return write_picture_kinds(small_bundle, tmp_path / "kinds")


def test_inspect_judges_what_is_whole_names_what_is_not_and_says_what_it_left_out(kinds, small_bundle, tmp_path):
    done = here("inspect", kinds, "--bundle", small_bundle, "--out", tmp_path / "out")
    lines = {Path(line.split()[1]).stem: line for line in done.stdout.splitlines()}
    assert {name: line.split()[0] for name, line in lines.items()} == WANTED
    for name, words in {
        "02_hole": "damaged", "04_cut_with_end": "damaged", "05_two_pages": "2 pages",
        "06_jpeg2000": "JPEG 2000 compression", "07_foreign": "another kind",
    }.items():  # fmt: skip
        assert words in lines[name] and f"{name}." in lines[name].split(maxsplit=3)[3]
    assert done.returncode == 2
    assert "1 in folders below it (deeper); --recursive takes them" in done.stderr
    deeper = here("inspect", kinds, "--recursive", "--bundle", small_bundle, "--out", tmp_path / "out2")
    assert "FAIL" in next(line for line in deeper.stdout.splitlines() if "11_defective" in line)
    assert "left out" not in deeper.stderr


def test_no_result_overwrites_another_whatever_the_files_are_called(small_bundle, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("0002_a.jpg", "a.jpg", "a.jpeg", "0002_0002_a.jpg"):
        shutil.copy(small_bundle / "golden.jpg", folder / name)
    done = here("inspect", folder, "--bundle", small_bundle, "--out", tmp_path / "out")
    assert done.stdout.count("PASS") == 4
    assert len(list((tmp_path / "out").glob("*.json"))) == 4


def test_a_damaged_picture_ends_training_with_its_name(small_boards, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(small_boards / "train" / "good", data)
    whole = _jpeg(read_rgb(data / "004.png"))
    (data / "004.png").write_bytes(whole[: len(whole) // 2] + bytes(600) + whole[len(whole) // 2 + 600 :])
    done = here("train", "--data", data, "--out", tmp_path / "run", *TINY, "--steps", 2)
    assert done.returncode == 2 and "004.png: damaged" in done.stderr
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize("kind", ["inverted", "white", "photo", "transparent"])
def test_evaluate_refuses_masks_that_cannot_be_meant(small_boards, small_bundle, tmp_path, kind):
    data = tmp_path / "data"
    shutil.copytree(small_boards, data)
    path = next((data / "ground_truth" / "missing").iterdir())
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    made = {
        "inverted": 255 - mask, "white": np.full_like(mask, 255), "photo": read_rgb(data / "test" / "good" / "000.png"),
        "transparent": np.dstack([np.full_like(mask, 255)] * 3 + [mask]),  # type: ignore[list-item]
    }[kind]  # fmt: skip
    Image.fromarray(made).save(path)  # type: ignore[arg-type]
    done = here("evaluate", "--bundle", small_bundle, "--data", data)
    assert done.returncode == 2 and path.name in done.stderr and done.stdout == ""


def test_orientations_are_applied_recorded_and_said(small_boards, small_run, small_bundle, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for number, path in enumerate(sorted((small_boards / "train" / "good").iterdir())):
        exif = Image.Exif()
        exif[0x0112] = 3 if number % 3 == 0 else 1
        picture = Image.open(path)
        picture = picture.transpose(Image.Transpose.ROTATE_180) if number % 3 == 0 else picture  # type: ignore[assignment]
        picture.save(data / path.name, exif=exif)
    done = here("train", "--data", data, "--out", tmp_path / "run", *TINY, "--steps", 2)
    assert done.returncode == 0, done.stderr
    record = load_record(tmp_path / "run")
    assert record.orientations == ((1, 6), (3, 4)) and record.registered
    assert not record.dropped and not record.dropped_held_out, "each lies as the others do once it is upright"
    assert "EXIF orientations differ among the pictures (6 with orientation 1, 4 with orientation 3)" in done.stderr
    raw = json.loads((tmp_path / "run" / "run.json").read_text())
    del raw["orientations"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(raw))
    done = here("build-engine", tmp_path / "run", "--out", tmp_path / "b")
    assert done.returncode == 2 and "an earlier version" in done.stderr
    turned = tmp_path / "turned"
    shutil.copytree(small_boards / "test" / "missing", turned / "test" / "missing")
    shutil.copytree(small_boards / "ground_truth" / "missing", turned / "ground_truth" / "missing")
    before = here("evaluate", "--bundle", small_bundle, "--data", turned)
    for path in (turned / "test" / "missing").iterdir():
        exif = Image.Exif()
        exif[0x0112] = 3
        Image.open(path).transpose(Image.Transpose.ROTATE_180).save(path, exif=exif)
    after = here("evaluate", "--bundle", small_bundle, "--data", turned)
    assert json.loads(after.stdout) == json.loads(before.stdout), "masks lie where a viewer shows the defect"


def test_copies_of_one_board_count_as_one(small_boards, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for number in range(24):
        shutil.copy(small_boards / "train" / "good" / "000.png", data / f"{number:02}.png")
    done = here("train", "--data", data, "--out", tmp_path / "run", *TINY, "--steps", 2)
    assert done.returncode == 0, done.stderr
    assert "24 pictures show 1 board(s)" in done.stderr and "others will be called" in done.stderr
    assert "2 of about 2,000 steps: not trained" in done.stdout + done.stderr
    assert "continue with the same command" in done.stderr
    done = here(
        "build-engine", tmp_path / "run", "--precision", "fp32", "--least-planted-recall", 0, "--out", tmp_path / "b"
    )
    if done.returncode == 0:  # two steps may find nothing at all, which the self-test refuses
        thresholds = json.loads((tmp_path / "b" / "manifest.json").read_text())["thresholds"]
        assert thresholds["held_out_boards"] == 1 and thresholds["false_calls_upper_bound_95"] >= 2.9
        assert "say next to nothing" in done.stderr
    else:
        assert "finds defects planted into it" in done.stderr


def test_a_board_photographed_twice_is_one_board_in_the_bound(small_run, tmp_path):
    """The same run, once with its held-out boards as they are and once with them said to be one board."""
    from hisir_edge.engine.build import build_bundle
    from hisir_edge.engine.options import BuildOptions

    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    raw = json.loads((run / "run.json").read_text())
    raw["same_board"] = [raw["held_out"]]
    (run / "run.json").write_text(json.dumps(raw))
    options = BuildOptions(precision="fp32", false_calls_per_board=0.2, least_planted_recall=0.5)
    made = build_bundle(run, tmp_path / "b", options).thresholds
    assert made.held_out_boards == 1
    assert made.false_calls_upper_bound_95 >= 2.9, "one board without a call excludes no less than 3"


def test_a_network_that_finds_too_little_is_no_bundle(small_run, tmp_path):
    done = here(
        "build-engine", small_run, "--precision", "int8", "--least-planted-recall", 0.99, "--out", tmp_path / "b"
    )
    assert done.returncode == 2 and not (tmp_path / "b").exists()
    assert "expected at least 99% of the planted defects to be found; got " in done.stderr
    for name in ("missing", "moved", "foreign_object", "scratch"):
        assert f"{name} " in done.stderr
    assert f"{progress_of(small_run).step} of about 2,000 steps: not trained" in done.stderr
    assert "calibration" not in done.stderr, "before any further work"


def test_verify_draws_defects_of_every_class(small_bundle, tmp_path):
    done = here("bundle", "verify", small_bundle, "--seed", 5)
    again = here("bundle", "verify", small_bundle, "--seed", 5)
    other = here("bundle", "verify", small_bundle, "--seed", 6)
    assert done.returncode == 0, done.stderr
    assert done.stdout == again.stdout != other.stdout
    assert done.stdout.count(" of ") >= 8, done.stdout
    assert here("bundle", "verify", small_bundle).stdout != here("bundle", "verify", small_bundle).stdout


def test_a_bundle_that_has_gone_blind_fails_its_draw(small_bundle, tmp_path, monkeypatch):
    """Thresholds so high that next to nothing is called: hashes and the manifest's own planted defects say nothing."""
    from dataclasses import replace

    from hisir_edge.backends import inspector_from_bundle
    from hisir_edge.bundle.load import load_bundle
    from hisir_edge.errors import BundleError
    from hisir_edge.inspection.selftest import check_draw

    loaded = load_bundle(small_bundle)
    assert check_draw(inspector_from_bundle(loaded), 1).recall > 0.4
    blind = replace(loaded, thresholds=replace(loaded.thresholds, region_peak=loaded.thresholds.region_peak * 6))
    with pytest.raises(BundleError, match=r"of a fresh draw of \d+ planted defects to be found; got \d+% \(missing"):
        check_draw(inspector_from_bundle(blind), 1)
