"""The line keeps its boards: asked for over the control socket, within a budget, killed at any instant."""

from __future__ import annotations

import json
import os
import re
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support.daemon import JOURNAL, DaemonProcess, WatchedDaemon, replay
from support.scraping import scraped
from support.sockets import free_port

from hisir_edge.archive.board_file import ArchivedBoard
from hisir_edge.archive.judge_again import JudgeAgain
from hisir_edge.bundle.load import load_bundle
from hisir_edge.errors import InputError
from hisir_edge.images import read_rgb
from hisir_edge.mes.stored import stored_file
from hisir_edge.transport.control_client import Asker

KEEP = '[archive]\nkeep = "all"\nformat = "png"\n'


@pytest.fixture
def photos(small_boards: Path, tmp_path: Path) -> list[Path]:
    """Two good boards and two defective ones, linked under numbers."""
    folder = tmp_path / "photos"
    folder.mkdir()
    found = [*sorted((small_boards / "test/good").iterdir())[:2], *sorted((small_boards / "test").glob("m*/*"))[:2]]
    for number, path in enumerate(found):
        (folder / f"{number}.png").symlink_to(path)
    return found


def holds(boards: int, status: dict) -> bool:
    return (status["archive"] or {}).get("boards", 0) >= boards


def has_verdicts(count: int, status: dict) -> bool:
    return sum(status["verdicts"].values()) == count


def test_every_board_can_be_fetched_as_it_was_inspected_and_judged_again(photos, small_bundle, tmp_path):
    port = free_port()
    more = f"{JOURNAL}{KEEP}[metrics]\nport = {port}\n"
    with WatchedDaemon(tmp_path, small_bundle, tmp_path / "photos", "software", more) as line:
        line.until(lambda status: status["state"] == "Ready")
        for number in range(4):
            line.ask("trigger", unit=f"B-{number}")
            line.wait(number + 1)
        line.until(partial(holds, 4))
        listed = line.ask("archived")
        assert [board["seq"] for board in listed["boards"]] == [1, 2, 3, 4]
        assert [board["result"] for board in listed["boards"]] == [body["result"] for body in line.bodies]
        assert line.ask("archived", after=2, most=1)["boards"] == [listed["boards"][2]]
        with Asker(line.control) as asker:
            bundle = tmp_path / "fetched"
            bundle.mkdir()
            manifest, text = stored_file(asker, {"do": "bundle_file"})
            for name in ("manifest.json", *json.loads(text)["files"]):
                (bundle / name).write_bytes(stored_file(asker, {"do": "bundle_file", "file": name})[1])
            again = JudgeAgain(load_bundle(bundle))
            assert load_bundle(bundle).manifest_sha256 == manifest["bundle_sha256"]
            for number, (photo, body) in enumerate(zip(photos, line.bodies, strict=True), 1):
                _, data = stored_file(asker, {"do": "archived_board", "seq": number, "most": 100_000})
                with ArchivedBoard(data) as board:
                    (view,) = board.facts.views
                    assert (board.facts.unit, board.facts.result) == (f"B-{number - 1}", body["result"])
                    assert np.array_equal(board.frame(view).rgb, read_rgb(photo))
                    told = json.loads(board.verdict)
                    assert told["seq"] == number and told["RecipeRevision"] == load_bundle(bundle).manifest_sha256
                    evidence = board.evidence(view)
                    assert evidence is not None
                    judged = again.judge(evidence)
                    assert judged.result.value == body["result"]
                    assert len(judged.found.regions) == len(body["defects"])
            for request in (
                {"do": "archived_board", "seq": 99}, {"do": "archived_board", "seq": 1, "epoch": "0" * 32},
                {"do": "bundle_file", "file": "../daemon.log"}, {"do": "bundle_file", "file": "line.toml"},
                {"do": "bundle_file", "product": "other"}, {"do": "bundle_file", "camera": "other"},
            ):  # fmt: skip
                with pytest.raises(InputError) as refused:
                    asker.ask(request)
                assert refused.value.code == "unknown"
        scraped(port, 'hisir_archived_boards{outcome="kept"} 4.0')
        line.drain()
    assert len(list((tmp_path / "archive").rglob("*.zip"))) == 4  # beside the journal


def test_called_boards_alone_and_none_by_default(photos, small_bundle, tmp_path):
    for table, kept in (('[archive]\nkeep = "called"\nfolder = "kept"\n', 2), ("", 0)):
        home = tmp_path / str(kept)
        home.mkdir()
        with DaemonProcess(home, small_bundle, replay(tmp_path / "photos", loop=False), JOURNAL + table) as line:
            assert line.ended() == 0, line.tail()
        found = list(home.rglob("*.zip"))
        assert len(found) == kept
        assert all("-FAIL-" in path.name and path.is_relative_to(home / "kept") for path in found)


def test_a_folder_that_cannot_be_used_is_refused_before_anything_is_opened(photos, small_bundle, tmp_path):
    (tmp_path / "taken").write_text("a file")
    table = '[archive]\nkeep = "all"\nfolder = "taken"\n'
    with DaemonProcess(tmp_path, small_bundle, replay(tmp_path / "photos"), table) as line:
        assert line.ended() == 2
        assert "expected a writable archive.folder" in line.tail()


def test_two_lines_do_not_delete_each_others_boards(photos, small_bundle, tmp_path):
    homes = [tmp_path / name for name in ("a", "b")]
    for home in homes:
        home.mkdir()
    tables = f'{JOURNAL}{KEEP}folder = "{tmp_path}/archive"\n'
    source = replay(tmp_path / "photos", "software")
    with DaemonProcess(homes[0], small_bundle, source, tables) as first:
        first.up()
        with DaemonProcess(homes[1], small_bundle, source, tables) as second:
            assert second.ended() == 2
            assert "expected an archive.folder of its own for each line" in second.tail()
        first.kill()  # who holds it no more leaves it free
        with DaemonProcess(homes[1], small_bundle, source, tables) as second:
            second.up()


def test_a_line_that_is_killed_leaves_whole_boards_alone(photos, small_bundle, tmp_path):
    """The boards of which a file is there are whole; what was half written is gone after the next start."""
    source = replay(tmp_path / "photos", rate_hz=1000)
    archive = tmp_path / "archive"
    for _ in range(3):
        with DaemonProcess(tmp_path, small_bundle, source, JOURNAL + KEEP + "budget_mb = 16\n") as line:
            line.until(partial(holds, len(list(archive.rglob("*.zip"))) + 2))
            os.kill(line.process.pid, signal.SIGKILL)
            line.process.wait()
        for path in archive.rglob("*.zip"):
            with ArchivedBoard(path) as board:
                assert path.name.startswith(f"{board.facts.seq:010d}-")
                assert board.frame(board.facts.views[0]).hw == (384, 512)
    with DaemonProcess(tmp_path, small_bundle, source, JOURNAL + KEEP) as line:
        line.up()
        assert not [path for path in archive.rglob(".*") if re.search(rf"\.(?!{line.process.pid})\d+\.tmp$", path.name)]


def test_a_full_disk_costs_archived_boards_alone(photos, small_bundle, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    with DaemonProcess(
        tmp_path, small_bundle, replay(tmp_path / "photos", "software"), f'{JOURNAL}{KEEP}folder = "full"\n'
    ) as line:
        line.up()
        epoch = line.ask("status")["epoch"]
        (full / epoch).write_text("in the way")  # a folder that cannot be made, as on a full disk
        verdicts = []
        for number in range(3):
            line.ask("trigger")
            line.until(partial(has_verdicts, number + 1))
            verdicts.append(line.ask("status")["verdicts"])
        assert verdicts[-1]["ERROR"] == 0
        line.drain()
        assert len(line.logged("board not archived")) == 3
