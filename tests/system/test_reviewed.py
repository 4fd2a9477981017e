"""What people said of a line's calls goes into a training, a gate asks for it, and the bundle is activated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.building import one_line
from support.commands import here
from support.daemon import JOURNAL, WatchedDaemon
from support.page import good_and_bad

from hisir_edge.bundle.load import load_bundle, manifest_from_folder
from hisir_edge.learn.data.run import load_record
from hisir_edge.learn.review.boards import load_reviewed, picture_of
from hisir_edge.mes.stored import stored_file
from hisir_edge.mes.verdict import verdict_from_frames
from hisir_edge.transport.control_client import Asker
from hisir_edge.view.history import History
from hisir_edge.view.teach.reviewed import draw_missed, reviewed_of

TABLES = f'{JOURNAL}[archive]\nkeep = "all"\nformat = "png"\n[line]\nname = "smt-3"\n'
BUILD = ("--product", "p3", "--false-calls-per-board", 0.2, "--least-planted-recall", 0)


@pytest.fixture
def photos(small_boards: Path, tmp_path: Path) -> Path:
    """Two good boards and two that are called."""
    good_and_bad(small_boards, tmp_path)
    return tmp_path / "photos"


def reviewed_boards(line: WatchedDaemon, history: History, out: Path) -> Path:
    """The export, as the page makes it."""
    with Asker(line.control) as asker:

        def fetch(of: str, epoch: str, seq: int) -> bytes:
            return stored_file(asker, {"do": "archived_board", "epoch": epoch, "seq": seq})[1]

        file, _ = reviewed_of(history, "smt-3", "p3", 0.0, fetch)
    out.write_bytes(file.read())
    file.close()
    return out


def test_a_false_call_goes_and_a_confirmed_defect_stays(photos, small_run, small_bundle, tmp_path):
    with WatchedDaemon(tmp_path, small_bundle, photos, "software", TABLES) as line:
        line.up()
        for number in range(4):
            line.ask("trigger", unit=f"B-{number}")
            line.wait(number + 1)
        assert [body["result"] for body in line.bodies] == ["PASS", "PASS", "FAIL", "FAIL"]
        line.until(lambda status: status["archive"]["boards"] == 4)
        history = History(tmp_path / "state")
        with Asker(line.control) as asker:
            _, frames = asker.ask({"do": "replay"}, 20)
        for first in range(0, len(frames), 3):
            history.add(verdict_from_frames(frames[first : first + 3]))
        epoch = line.bodies[0]["epoch"]
        history.decide("smt-3", epoch, 3, 0, "DefectRejected", "", "eva")
        history.decide("smt-3", epoch, 4, 0, "DefectConfirmed", "", "eva")
        export = reviewed_boards(line, history, tmp_path / "reviewed.zip")
        new, bundle = tmp_path / "new", tmp_path / "new-bundle"
        go_on = ("train", "--of", small_run, "--add-reviewed", export, "--out", new, "--learning-rate", 0.002)
        done = here(*go_on, "--steps", 300)
        assert done.returncode == 0, done.stderr
        assert "2 reviewed board(s): 1 false call, 1 confirmed" in done.stderr
        record, base = load_record(new), load_record(small_run)
        assert record.train == base.train and record.added == base.added + 1
        assert record.held_out[-1] == str(picture_of(new, load_reviewed(new)[0]))
        refused = here(*go_on, "--steps", 310)
        assert refused.returncode == 2 and "steps" in one_line(refused)
        new = new.rename(tmp_path / "moved")
        built = here("build-engine", new, "--out", bundle, *BUILD)
        assert built.returncode == 0, built.stderr
        assert "1 of 1 false calls gone, 1 of 1 confirmed defects and escapes found" in built.stderr
        reviewed = manifest_from_folder(bundle).reviewed
        assert reviewed is not None and not reviewed.not_so

        at = ("--endpoint", line.control, "--who", "eva", "--why", "a label that is good")
        added = here("revision", "add", bundle, *at)
        assert added.returncode == 0, added.stderr
        used = here("revision", "activate", 1, *at)
        assert used.returncode == 0 and "revision 1" in used.stdout, used.stderr
        listed = here("revision", "list", "--endpoint", line.control).stdout
        assert "eva: a label that is good" in listed and "reviewed gone 1" in listed
        for number in range(4, 8):
            line.ask("trigger", unit=f"B-{number}")
            line.wait(number + 1)
        assert [body["result"] for body in line.bodies[4:]] == ["PASS", "PASS", "PASS", "FAIL"]
        assert line.bodies[7]["bundle_sha256"] == load_bundle(tmp_path / "journal.revisions/000001").manifest_sha256
        back = here("revision", "take-back", *at)
        assert back.returncode == 0 and "the configured bundle" in back.stdout, back.stderr
        wrong = here("revision", "activate", 7, *at)
        assert wrong.returncode == 2 and "the number of a revision" in one_line(wrong)

        # a place that is good, drawn as an escape: no network finds it, and the gate says so
        drawn: dict[str, Any] | None = history.board("smt-3", epoch, 1)
        assert drawn is not None
        draw_missed(history, drawn, "replay", [[40, 40], [60, 40], [60, 60], [40, 60]], "eva")
        export = reviewed_boards(line, history, tmp_path / "more.zip")
        history.close()
        more = tmp_path / "more"
        done = here("train", "--of", new, "--add-reviewed", export, "--out", more, "--steps", 1)
        assert done.returncode == 0, done.stderr
        assert len(load_reviewed(more)) == 3 and load_record(more).added == load_record(new).added
        refused = here("build-engine", more, "--out", tmp_path / "refused", *BUILD)
        assert refused.returncode == 2 and "escape at 40, 40: not found" in one_line(refused)
        assert not (tmp_path / "refused").exists()
        despite = here("build-engine", more, "--out", tmp_path / "despite", *BUILD, "--despite-reviewed")
        assert despite.returncode == 0, despite.stderr
        found = manifest_from_folder(tmp_path / "despite").reviewed
        assert found is not None and found.not_so == ("B-0: escape at 40, 40: not found",)
        assert "escape at 40, 40: not found" in here("bundle", "show", tmp_path / "despite").stdout
