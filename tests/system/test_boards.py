"""Boards that a line passed become good boards on somebody's word: fetched from its archive, looked at, counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.building import one_line
from support.commands import here
from support.daemon import JOURNAL, WatchedDaemon

from hisir_edge.bundle.load import manifest_from_folder
from hisir_edge.images import read_rgb

TABLES = f'{JOURNAL}[archive]\nkeep = "all"\nformat = "png"\n[line]\nname = "smt-3"\n'


@pytest.fixture
def photos(small_boards: Path, tmp_path: Path) -> Path:
    """Three good boards and one that is called, each once."""
    folder = tmp_path / "photos"
    folder.mkdir()
    good, bad = (sorted((small_boards / "test" / kind).glob("*.png")) for kind in ("good", "missing"))
    for number, path in enumerate([*good[:3], bad[0]]):
        (folder / f"{number}.png").symlink_to(path)
    return folder


def test_boards_are_looked_at_and_then_counted(photos, small_run, small_bundle, tmp_path):
    with WatchedDaemon(tmp_path, small_bundle, photos, "software", TABLES) as line:
        line.up()
        for number in range(4):
            line.ask("trigger", unit=f"B/{number}")
            line.wait(number + 1)
        assert [body["result"] for body in line.bodies] == ["PASS", "PASS", "PASS", "FAIL"]
        line.until(lambda status: status["archive"]["boards"] == 4)
        at = ("--endpoint", line.control)
        sheet, out = tmp_path / "look.jpg", tmp_path / "shift-12"

        looked = here("boards", *at, "--look", sheet)
        assert looked.returncode == 0, looked.stderr
        assert "3 board(s) passed, 1 to 3" in looked.stdout and "--upto 3" in looked.stdout
        h, w = read_rgb(sheet).shape[:2]
        assert (h, w) == (280, 3 * 512)
        assert (here("boards", *at, "--look", sheet, "--most", 2).returncode, read_rgb(sheet).shape[1]) == (0, 2 * 512)

        refused = here("boards", *at, "--out", out, "--upto", 3)
        assert refused.returncode == 2 and "--who" in one_line(refused) and not out.exists()
        done = here("boards", *at, "--out", out, "--who", "eva", "--upto", 3, "--without", "2")
        assert done.returncode == 0, done.stderr
        assert "2 good board(s)" in done.stdout and "word of eva" in done.stdout
        pictures = sorted(out.glob("*.png"))
        for path, photo in zip(pictures, (photos / "0.png", photos / "2.png"), strict=True):
            assert np.array_equal(read_rgb(path), read_rgb(photo)), "as the camera gave it"
        listed = json.loads((out / "boards.json").read_text())
        assert [(one["seq"], one["unit"], one["good_says"]) for one in listed] == [(1, "B/0", "eva"), (3, "B/2", "eva")]

        # somebody confirms a defect on a board that passed: it is good no more
        line.ask("verify", epoch=line.bodies[0]["epoch"], seq=1, verification="DefectConfirmed", operator="eva")
        again = here("boards", *at, "--out", out, "--who", "eva")
        assert again.returncode == 0 and "2 good board(s)" in again.stdout, again.stderr
        listed = json.loads((out / "boards.json").read_text())
        assert sorted(one["seq"] for one in listed) == [2, 3] and "1 of earlier ones taken out" in again.stdout
        assert len(list(out.glob("*.png"))) == 2
        for options, words in (
            (("--since", "2100-01-01"), "none of these"), (("--product", "other"), "none of these"),
            (("--camera", "other"), "none of these"), (("--since", "soon"), "--since as a time"),
            (("--without", "1,x"), "--without as numbers"), (("--epoch", "f" * 32), "none of these"),
        ):  # fmt: skip
            wrong = here("boards", *at, "--look", sheet, *options)
            assert wrong.returncode == 2 and words in one_line(wrong), options
        (tmp_path / "other").mkdir()
        (tmp_path / "other/notes.txt").write_text("mine")
        wrong = here("boards", *at, "--out", tmp_path / "other", "--who", "eva")
        assert wrong.returncode == 2 and "with other files" in one_line(wrong)
    built = here(
        "build-engine", small_run, "--good", out, "--out", tmp_path / "bundle", "--product", "p3",
        "--false-calls-per-board", 0.2, "--least-planted-recall", 0,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    before = manifest_from_folder(small_bundle).thresholds.held_out_boards
    assert manifest_from_folder(tmp_path / "bundle").thresholds.held_out_boards == before + 2


def test_a_line_without_an_archive_says_so(photos, small_bundle, tmp_path):
    with WatchedDaemon(tmp_path, small_bundle, photos, "software", JOURNAL) as line:
        line.up()
        done = here("boards", "--endpoint", line.control, "--look", tmp_path / "a.jpg")
        assert done.returncode == 2 and "archive" in one_line(done)
        assert here("boards", "--endpoint", line.control).returncode == 2
