"""What int8 is calibrated on: lists, copies, pictures that cannot be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.building import refused

from hisir_edge.bundle.files import CALIBRATION
from hisir_edge.engine.build import build_bundle
from hisir_edge.engine.calibration.tiles import images_from_list
from hisir_edge.engine.options import BuildOptions
from hisir_edge.learn.data.run import load_record


def test_calibration_boards_are_not_held_out_ones(small_run, tmp_path):
    listing = tmp_path / "list.txt"
    held_out = json.loads((small_run / "run.json").read_text())["held_out"][0]
    listing.write_text(f"{held_out}\n")
    said = refused(small_run, tmp_path / "out", BuildOptions(least_planted_recall=0.5, calib=listing))
    assert "does not hold out" in said and Path(held_out).name in said
    said = refused(small_run, tmp_path / "out", BuildOptions(least_planted_recall=0.5, calib=listing, precision="fp16"))
    assert "--calib only with --precision int8" in said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"no picture", "another kind"),
        ("grey", "one colour all over"),
        ("small", "100x100"),
        ("noise", "expected"),
        (None, "No such file"),
    ],
)
def test_a_bad_calibration_image_aborts_with_its_name(small_run, tmp_path, content, words):
    import cv2

    bad = tmp_path / "bad.png"
    if isinstance(content, bytes):
        bad.write_bytes(content)
    elif content is not None:
        rng = np.random.default_rng(0)
        pictures = {
            "grey": np.full((384, 512, 3), 90, np.uint8),
            "small": rng.integers(0, 256, (100, 100, 3), dtype=np.uint8),
            "noise": rng.integers(0, 256, (384, 512, 3), dtype=np.uint8),
        }
        cv2.imwrite(str(bad), pictures[content])
    good = load_record(small_run).train[0]
    listing = tmp_path / "list.txt"
    listing.write_text(f"# calibration\n{good}\nbad.png  # the odd one\n")
    said = refused(small_run, tmp_path / "out", BuildOptions(least_planted_recall=0.5, calib=listing))
    assert "bad.png" in said and "calibration image" in said and words in said


def test_an_empty_calibration_list_is_refused(small_run, tmp_path):
    listing = tmp_path / "list.txt"
    listing.write_text("# nothing\n\n")
    assert "got none" in refused(small_run, tmp_path / "out", BuildOptions(least_planted_recall=0.5, calib=listing))
    assert "none.txt" in refused(
        small_run, tmp_path / "out", BuildOptions(least_planted_recall=0.5, calib=tmp_path / "none.txt")
    )


def test_a_calibration_list_is_what_is_used(small_run, tmp_path):
    two = load_record(small_run).train[:2]
    listing = tmp_path / "list.txt"
    listing.write_text("".join(f"{path}\n" for path in two))
    build_bundle(
        small_run, tmp_path / "b", BuildOptions(least_planted_recall=0.5, calib=listing, false_calls_per_board=0.2)
    )
    whole = json.loads((tmp_path / "b" / CALIBRATION).read_text())
    assert [image["path"] for image in whole["images"]] == [str(Path(path).resolve()) for path in two]


def test_a_copy_of_a_held_out_board_calibrates_nothing(small_run, tmp_path):
    record = load_record(small_run)
    shutil.copy(record.held_out[0], tmp_path / "another name.png")
    listing = tmp_path / "list.txt"
    listing.write_text("another name.png\n")
    said = refused(small_run, tmp_path / "out", BuildOptions(least_planted_recall=0.5, calib=listing))
    assert "another name.png" in said and "hold out" in said


def test_names_in_a_calibration_list(tmp_path):
    for name in ("board #3.png", "a.png", "b.png"):
        (tmp_path / name).touch()
    listing = tmp_path / "list.txt"
    listing.write_text("a.png\nboard #3.png\n# b.png\nb.png   # the last lot\n", encoding="utf-8-sig")
    assert [Path(p).name for p in images_from_list(listing)] == ["a.png", "board #3.png", "b.png"]
