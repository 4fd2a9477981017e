"""Boards that a line passed become good boards on somebody's word: fetched from its archive, looked at, counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.building import one_line
from support.commands import here
from support.daemon import JOURNAL, WatchedDaemon
from support.small import writable_copy

from hisir_edge.bundle.load import manifest_from_folder
from hisir_edge.images import read_rgb
from hisir_edge.view.shift.listed import load_list

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
        sheet, listing, out = tmp_path / "look.jpg", tmp_path / "look.json", tmp_path / "shift-12"
        keep = ("boards", *at, "--good", listing, "--out", out, "--who", "eva")

        looked = here("boards", *at, "--look", sheet, "--most", 2)
        assert (looked.returncode, read_rgb(sheet).shape) == (0, (280, 2 * 512, 3)), looked.stderr
        looked = here("boards", *at, "--look", sheet)
        assert looked.returncode == 0, looked.stderr
        assert "3 of 3 boards of p3 that passed, camera replay" in looked.stdout and str(listing) in looked.stdout
        assert read_rgb(sheet).shape == (280, 3 * 512, 3)

        nobody = here(*keep[:-1], " ")
        assert nobody.returncode == 2 and "--who" in one_line(nobody) and not out.exists()
        done = here(*keep, "--without", "2")
        assert done.returncode == 0, done.stderr
        assert "2 good board(s)" in done.stdout and "word of eva; 2 in all" in done.stdout
        for path, photo in zip(sorted(out.glob("*.png")), (photos / "0.png", photos / "2.png"), strict=True):
            assert np.array_equal(read_rgb(path), read_rgb(photo)), "as the camera gave it"
        assert [(one.seq, one.unit, one.good_says) for one in load_list(out / "boards.json").boards] == [
            (1, "B/0", "eva"), (3, "B/2", "eva")
        ]  # fmt: skip

        # somebody confirms a defect on a board that passed: it is good no more, also where it was counted before
        epoch = line.bodies[0]["epoch"]
        line.ask("verify", epoch=epoch, seq=1, verification="DefectConfirmed", operator="eva")
        again = here(*keep)
        assert again.returncode == 0 and "2 good board(s)" in again.stdout, again.stderr
        assert "not good: 1, a defect was confirmed" in again.stdout
        assert [one.seq for one in load_list(out / "boards.json").boards] == [2, 3]
        assert [path.name[9:19] for path in sorted(out.glob("*.png"))] == ["0000000002", "0000000003"]
        line.ask("verify", epoch=epoch, seq=1, verification="NotVerifiedYet", operator="eva")
        assert "3 in all" in here(*keep).stdout
        line.ask("verify", epoch=epoch, seq=1, verification="DefectAccepted", operator="eva")
        only = here(*keep, "--without", "2")
        assert "not good: 1" in only.stdout and "1 in all" in only.stdout, "those from before are looked at, too"
        assert len(list(out.glob("*.png"))) == 1
        assert "2 in all" in here(*keep).stdout

        # a file of the archive that is another board's than its name says
        archive = (
            tmp_path / "archive" / epoch if (tmp_path / "archive").is_dir() else tmp_path / "journal.archive" / epoch
        )
        (bad,) = [path for path in archive.glob("*.zip") if "FAIL" in path.name]
        good = next(path for path in archive.glob("*.zip") if path.name.startswith(f"{2:010d}") or "B_1" in path.name)
        kept = good.read_bytes()
        good.write_bytes(bad.read_bytes())
        wrong = here(*keep)
        assert wrong.returncode == 2 and "that passed, as its file's name says" in one_line(wrong)
        looked = here("boards", *at, "--look", tmp_path / "again.jpg")
        assert looked.returncode == 0 and "1 of 1 boards" in looked.stdout, looked.stdout + looked.stderr
        good.write_bytes(kept.replace(b"IHDR", b"IHDX"))  # a damaged one does not stand in the others' way
        looked = here("boards", *at, "--look", tmp_path / "once-more.jpg")
        assert looked.returncode == 0 and "1 left out: not archived any more, or damaged" in looked.stdout
        good.write_bytes(kept)

        notes, empty = tmp_path / "notes.json", tmp_path / "empty.json"
        notes.write_text("mine")
        empty.write_text(json.dumps({**json.loads(listing.read_text()), "boards": [{"picture": "../../a.png"}]}))
        (tmp_path / "other").mkdir()
        (tmp_path / "other/notes.txt").write_text("mine")
        for options, words in (
            (("--look", sheet, "--since", "2100-01-01"), "none of these"),
            (("--look", sheet, "--product", "other"), "none of these"),
            (("--look", sheet, "--camera", "other"), "none of these"),
            (("--look", sheet, "--since", "soon"), "--since as a time"),
            (("--look", tmp_path / "notes.jpg"), "a list that hisir-edge boards --look wrote"),
            (("--look", "/"), "--look NAME.jpg"),
            (("--good", listing), "look first"),
            ((*keep[3:], "--without", "1,x"), "--without as numbers"),
            ((*keep[3:], "--without", "99"), "--without numbers of boards in"),
            ((*keep[3:], "--without", "9" * 5000), "--without as numbers"),
            (("--good", notes, "--out", out, "--who", "eva"), "a list that hisir-edge boards --look wrote"),
            (("--good", empty, "--out", out, "--who", "eva"), "a list that hisir-edge boards --look wrote"),
            (("--good", listing, "--out", tmp_path / "other", "--who", "eva"), "with other files"),
            (("--good", listing, "--out", notes, "--who", "eva"), "a folder to write to"),
        ):
            wrong = here("boards", *at, *options)
            assert wrong.returncode == 2 and words in one_line(wrong), options
        assert notes.read_text() == "mine"
        listed = json.loads((out / "boards.json").read_text())
        (out / "boards.json").write_text(json.dumps({**listed, "camera": "other"}))
        wrong = here(*keep)
        assert wrong.returncode == 2 and "camera other" in one_line(wrong)
    run = writable_copy(small_run, tmp_path / "run")  # which keeps what is added
    built = here(
        "build-engine", run, "--good", out, "--out", tmp_path / "bundle", "--product", "p3",
        "--false-calls-per-board", 0.2, "--least-planted-recall", 0,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    before = manifest_from_folder(small_bundle).thresholds.held_out_boards
    assert manifest_from_folder(tmp_path / "bundle").thresholds.held_out_boards == before + 2
    min(out.glob("*.png")).unlink()  # taken out: it counts no more
    again = here("build-engine", run, "--thresholds-only", "--out", tmp_path / "bundle")
    assert again.returncode == 0, again.stderr
    assert "taken out again count no more" in again.stderr
    assert manifest_from_folder(tmp_path / "bundle").thresholds.held_out_boards == before + 1


def test_a_line_without_an_archive_says_so(photos, small_bundle, tmp_path):
    with WatchedDaemon(tmp_path, small_bundle, photos, "software", JOURNAL) as line:
        line.up()
        done = here("boards", "--endpoint", line.control, "--look", tmp_path / "a.jpg")
        assert done.returncode == 2 and "archive" in one_line(done)
        assert here("boards", "--endpoint", line.control).returncode == 2
