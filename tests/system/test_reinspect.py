"""Archived boards under another bundle: the same table whoever inspects, whatever dies, and what was lost is told."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from support.daemon import JOURNAL, DaemonProcess
from typer.testing import CliRunner

from hisir_edge.archive.folder import OURS
from hisir_edge.bundle.load import load_bundle
from hisir_edge.bundle.manifest import ZoneModel
from hisir_edge.bundle.revised import RevisionModel
from hisir_edge.cli.main import app
from hisir_edge.config.kept import JournalTable
from hisir_edge.errors import BundleError
from hisir_edge.learn.data.run import load_record, pictures_of
from hisir_edge.line.journal.reading import read_journal
from hisir_edge.line.journal.records import Decision
from hisir_edge.line.journal.store import Journal
from hisir_edge.reinspect.boards import boards_in
from hisir_edge.reinspect.row import Inspection
from hisir_edge.revisions.change import Change
from hisir_edge.revisions.make import revision_of_change

SOURCE = '[source]\ntype = "replay"\nfolder = "{}"\nrecursive = true\nloop = {}\n'
KEPT = '[archive]\nkeep = "all"\nfolder = "archive"\nformat = "png"\n'


@pytest.fixture(scope="module")
def archive(small_bundle, small_boards, tmp_path_factory) -> Path:
    """Of a real line: ten boards, with its journal beside; a defect is confirmed."""
    folder = tmp_path_factory.mktemp("line")
    photos = folder / "photos"
    shutil.copytree(small_boards / "test", photos)
    source = SOURCE.format(photos, "false").replace("[source]", '[source]\ntrigger = "software"')
    with DaemonProcess(folder, small_bundle, source, KEPT + JOURNAL) as daemon:
        daemon.up()
        epoch = daemon.ask("status")["epoch"]
        for n in range(1, 11):
            daemon.ask("trigger")
            _until_judged(daemon, n)
        _, called = _first_called(daemon)
        daemon.ask("verify", epoch=epoch, seq=called, defect=1, verification="DefectConfirmed", operator="o")
        daemon.drain()
    return folder


def _until_judged(daemon: DaemonProcess, count: int) -> None:
    end = time.monotonic() + 60
    while len(read_journal(daemon.journal)[1]) < count:
        assert time.monotonic() < end, daemon.tail()
        time.sleep(0.02)


def _first_called(daemon: DaemonProcess) -> tuple[str, int]:
    epoch, entries, _ = read_journal(daemon.journal)
    return epoch, next(entry.seq for entry in entries if entry.topic.endswith("FAIL"))


def run(archive: Path, bundle: Path, out: Path, *more: object):
    arguments = ["reinspect", archive / "archive", "--bundle", bundle, "--out", out, "--json", *more]
    found = CliRunner().invoke(app, [str(one) for one in arguments])
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    return found


def rows(out: Path) -> list[dict]:
    return pq.read_table(out / "boards.parquet").to_pylist()


def test_the_same_bundle_says_the_same_with_one_worker_or_two(archive, small_bundle, tmp_path):
    one = run(archive, small_bundle, tmp_path / "one", "--workers", 1, "--journal", archive / "journal")
    figures = json.loads(one.stdout)
    assert one.exit_code == 0, one.output
    assert figures["boards"] == 10 and set(figures["changes"]) == {"FAIL -> FAIL", "PASS -> PASS"}
    assert (figures["confirmed_known"], figures["confirmed_lost"], figures["errors"]) == (1, [], 0)
    run(archive, small_bundle, tmp_path / "two", "--workers", 2)
    assert (tmp_path / "one/boards.parquet").read_bytes() == (tmp_path / "two/boards.parquet").read_bytes()
    for row in rows(tmp_path / "one"):
        assert row["old_result"] == row["new_result"] and row["old_score"] == pytest.approx(row["new_score"], rel=1e-3)
        assert row["lost"] == row["fresh"] == [] and row["line"] == "line-1" and row["product"] == "p3"
    assert pq.read_table(tmp_path / "one/timings.parquet").num_rows == 10
    page = (tmp_path / "one/index.html").read_text()
    assert "0 of\n1 confirmed defects" in page.replace("0 of 1", "0 of\n1") and "line-1" in page


def test_what_is_done_is_not_done_again_and_another_bundle_is_another_folder(archive, small_bundle, tmp_path):
    out = tmp_path / "out"
    run(archive, small_bundle, out)
    whole = (out / "boards.parquet").read_bytes()
    (out / "boards.parquet").unlink()
    stamps = {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    run(archive, small_bundle, out)
    assert (out / "boards.parquet").read_bytes() == whole
    assert {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()} == stamps
    other = ["reinspect", str(archive / "archive"), "--bundle", str(small_bundle), "--out", str(out), "--camera", "x"]
    refused = CliRunner().invoke(app, other)
    assert "of the same bundle and camera" in str(refused.exception)


def test_a_damaged_board_is_an_error_of_its_own(archive, small_bundle, tmp_path):
    shutil.copytree(archive / "archive", tmp_path / "archive")
    first, second, *_ = boards_in([str(tmp_path / "archive")])
    for board, data in ((first, b"PK"), (second, (tmp_path / "archive" / second.name).read_bytes()[:3000])):
        (tmp_path / "archive" / board.name).write_bytes(data)
    run(tmp_path, small_bundle, tmp_path / "out")
    found = rows(tmp_path / "out")
    assert [row["new_result"] == "ERROR" for row in found] == [True, True] + [False] * 8
    assert all("as the line wrote it" in row["reason"] for row in found[:2])


def test_a_confirmed_defect_of_a_board_that_is_damaged_is_lost(archive, small_bundle, tmp_path):
    shutil.copytree(archive / "archive", tmp_path / "archive")
    called = next(board for board in boards_in([str(tmp_path / "archive")]) if board.result == "FAIL")
    (tmp_path / "archive" / called.name).write_bytes(b"PK")
    found = run(tmp_path, small_bundle, tmp_path / "out", "--journal", archive / "journal")
    figures = json.loads(found.stdout)
    assert found.exit_code == 1 and len(figures["confirmed_lost"]) == figures["confirmed_known"] == 1
    assert (tmp_path / "out/index.html").exists()


def test_boards_that_come_later_are_inspected_and_a_moment_is_no_verdict(archive, small_bundle, tmp_path):
    shutil.copytree(archive / "archive", tmp_path / "archive")
    first, second, *_ = boards_in([str(tmp_path / "archive")])
    away = tmp_path / "away"
    (tmp_path / "archive" / first.name).rename(away)
    (tmp_path / "archive" / first.name).symlink_to(tmp_path / "nowhere")
    hidden = tmp_path / "hidden"
    (tmp_path / "archive" / second.name).rename(hidden)
    run(tmp_path, small_bundle, tmp_path / "out")
    assert [row["new_result"] == "ERROR" for row in rows(tmp_path / "out")] == [True] + [False] * 8
    (tmp_path / "archive" / first.name).unlink()
    away.rename(tmp_path / "archive" / first.name)
    hidden.rename(tmp_path / "archive" / second.name)
    run(tmp_path, small_bundle, tmp_path / "out")
    assert [row["new_result"] == "ERROR" for row in rows(tmp_path / "out")] == [False] * 10


def test_another_bundle_that_lies_there_meanwhile_is_refused(small_bundle, tmp_path):
    with pytest.raises(BundleError, match="another one"):
        Inspection(small_bundle, seal="0" * 64)


def test_processes_that_die_cost_no_board(archive, small_bundle, tmp_path):
    """Workers and the command itself are killed at random; the same command goes on."""
    (epoch,) = [path for path in (archive / "archive").iterdir() if path.is_dir()]
    many = tmp_path / "archive" / epoch.name
    many.mkdir(parents=True)
    boards = sorted(path for path in epoch.iterdir() if OURS.fullmatch(path.name))
    for copy in range(20):
        for n, path in enumerate(boards):
            (many / f"{copy * 100 + n:010d}{path.name[10:]}").symlink_to(path)
    run(tmp_path, small_bundle, tmp_path / "quiet", "--workers", 2)
    command = [sys.executable, "-m", "hisir_edge", "reinspect", tmp_path / "archive", "--bundle", small_bundle, "--out",
               tmp_path / "out", "--workers", "2"]  # fmt: skip
    rng, kills = random.Random(3), 0
    for life in range(3):
        with (tmp_path / "log").open("ab") as log:
            process = psutil.Popen([str(one) for one in command], stderr=log, stdout=log)
        end = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < end and kills < 3 * (life + 1):
            with contextlib.suppress(psutil.Error):
                busy = [one for one in process.children() if one.cpu_times().user > 1]
                if busy:
                    rng.choice(busy).send_signal(signal.SIGKILL)
                    kills += 1
            time.sleep(rng.uniform(0.05, 0.4))
        if life < 2 and process.poll() is None:
            process.kill()
        process.wait(120)
    assert kills >= 3, (tmp_path / "log").read_text()[-2000:]
    assert process.returncode == 0, (tmp_path / "log").read_text()[-2000:]
    assert (tmp_path / "out/boards.parquet").read_bytes() == (tmp_path / "quiet/boards.parquet").read_bytes()


def _rows_now(archive: Path, bundle: Path, out: Path) -> list[dict]:
    run(archive, bundle, out)
    return rows(out)


def _around(boxes: list[list[float]]) -> tuple[float, float, float, float]:
    """A little beyond all of them."""
    lefts, tops = [box[0] for box in boxes], [box[1] for box in boxes]
    rights, bottoms = [box[0] + box[2] for box in boxes], [box[1] + box[3] for box in boxes]
    return min(lefts) - 20, min(tops) - 20, max(rights) + 20, max(bottoms) + 20


def test_a_confirmed_defect_that_is_lost_is_told(archive, small_bundle, tmp_path):
    blind = tmp_path / "blind"
    blind.mkdir()
    called = next(row for row in _rows_now(archive, small_bundle, tmp_path / "now") if row["old_result"] == "FAIL")
    x0, y0, x1, y1 = _around(json.loads(called["new_boxes"]))
    zone = ZoneModel(name="blind", polygon=((x0, y0), (x1, y0), (x1, y1), (x0, y1)), sensitivity=0.0)
    record = RevisionModel(number=1, camera="replay", of_sha256="0" * 64, at="2026-01-02T03:04:05Z", who="t", why="t")
    revision_of_change(load_bundle(small_bundle), Change(zones=(zone,)), record, blind, 1)
    found = run(archive, blind, tmp_path / "out", "--journal", archive / "journal")
    figures = json.loads(found.stdout)
    assert found.exit_code == 1 and figures["calls_gone"] >= 1 and len(figures["confirmed_lost"]) == 1
    assert list((tmp_path / "out/pictures").glob("*.jpg"))
    assert "do not activate it" in (tmp_path / "out/index.html").read_text()


@pytest.mark.parametrize(
    ("archives", "words"),
    [("nothing", "an archive"), ("empty", "without a board"), ("gopher://a/b", "archive's address")],
)
def test_what_is_no_archive_is_told(small_bundle, tmp_path, archives, words):
    (tmp_path / "empty").mkdir()
    where = archives if "://" in archives else tmp_path / archives
    found = CliRunner().invoke(
        app, ["reinspect", str(where), "--bundle", str(small_bundle), "--out", str(tmp_path / "out")]
    )
    assert words in str(found.exception)


def test_an_archive_on_other_storage(archive, small_bundle, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    boards = boards_in([str(archive / "archive")])
    for board in boards:
        store.pipe(f"/bucket/archive/{board.name}", (archive / "archive" / board.name).read_bytes())
    found = boards_in(["memory://bucket/archive"])
    assert [(one.epoch, one.seq) for one in found] == [(one.epoch, one.seq) for one in boards]
    from hisir_edge.reinspect.boards import content_of

    assert content_of(found[0]) == (archive / "archive" / boards[0].name).read_bytes()


def trained(tmp_path: Path, *more: object):
    settings = ("--steps", 2, "--width", 8, "--tile", 128, "--batch", 2, "--scale", 1, "--workers", 0)
    arguments = ["train", "--out", tmp_path / "run", *settings, *more]
    found = CliRunner().invoke(app, [str(one) for one in arguments])
    return found, load_record(tmp_path / "run") if found.exception is None else None


def test_a_network_is_trained_on_what_lines_passed(archive, small_boards, tmp_path):
    """Two folders and an archive; a board that passed, and of which a defect was confirmed later, is not learnt."""
    journal = shutil.copytree(archive / "journal", tmp_path / "journal")
    epoch, entries, _ = read_journal(journal)
    passed = [entry.seq for entry in entries if entry.topic.endswith("PASS")]
    with Journal(journal, JournalTable()) as opened:
        opened.decide(
            Decision(
                seq=passed[0], defect=0, verification="DefectConfirmed", detail="", operator="o", client="", at_ns=1
            )
        )
    good = sorted((small_boards / "train" / "good").iterdir())
    for name, pictures in (("one", good[:4]), ("two", good[4:8])):
        (tmp_path / name).mkdir()
        for picture in pictures:
            shutil.copy(picture, tmp_path / name)
    folders = ("--data", tmp_path / "one", "--data", tmp_path / "two", "--data", archive / "archive")
    found, record = trained(tmp_path, *folders, "--journal", journal)
    assert record is not None, found.output
    learnt = {Path(path) for path in pictures_of(record)}
    taken = {path.name for path in learnt if path.parent == tmp_path / "run.boards"}
    assert taken == {f"{epoch[:8]}-{seq:010d}.png" for seq in passed[1:]}
    assert {path.name for path in learnt if path.parent in (tmp_path / "one", tmp_path / "two")} == {
        picture.name for picture in good[:8]
    }
    assert f"{len(passed) - 1} archived boards of" in found.output

    assert "1 left out: with a confirmed defect" in found.output

    # continued it takes what is there; asked for otherwise it says so
    again, _ = trained(tmp_path, *folders, "--journal", journal, "--steps", 4)
    assert "the settings that" in str(again.exception)
    again, _ = trained(tmp_path, *folders, "--journal", journal, "--archived", 2)
    assert "repeat the first command" in str(again.exception)
    # a new run asks the journals anew: a defect that may stay is one in the picture all the same
    shutil.rmtree(tmp_path / "run")
    with Journal(journal, JournalTable()) as opened:
        opened.decide(
            Decision(
                seq=passed[1], defect=0, verification="DefectAccepted", detail="", operator="o", client="", at_ns=2
            )
        )
    again, record = trained(tmp_path, *folders, "--journal", journal)
    assert record is not None, again.output
    assert {path.name for path in (tmp_path / "run.boards").glob("*.png")} == {
        f"{epoch[:8]}-{seq:010d}.png" for seq in passed[2:]
    }


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), "confirmed a defect"), (("--journal", "none", "--product", "other"), "of the product p3"),
        (("--journal", "nowhere"), "journal folder"), (("--journal", "none", "--camera", "other"), "with replay"),
        (("--journal", "another"), "an epoch that none of the journals has"),
        (("--journal", "none", "--journal", "another"), "none alone"),
    ],
)  # fmt: skip
def test_archives_that_cannot_be_learnt_from_are_told(archive, tmp_path, monkeypatch, more, words):
    monkeypatch.chdir(tmp_path)
    with Journal(tmp_path / "another", JournalTable()):
        pass
    found, _ = trained(tmp_path, "--data", archive / "archive", *more)
    assert words in str(found.exception)
    assert not (tmp_path / "run").exists()


def test_what_a_failed_attempt_left_is_not_learnt(archive, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(archive / "archive", other)
    (epoch,) = [path for path in other.iterdir() if path.is_dir()]
    for path in epoch.iterdir():
        with zipfile.ZipFile(path) as file:
            members = {name: file.read(name) for name in file.namelist()}
        members["board.json"] = members["board.json"].replace(b'"product":"p3"', b'"product":"p4"')
        with zipfile.ZipFile(path, "w") as file:
            for name, data in members.items():
                file.writestr(name, data)
    both = ("--data", archive / "archive", "--data", other, "--journal", "none")
    found, _ = trained(tmp_path, *both)
    assert "p3 and p4" in str(found.exception)
    found, record = trained(tmp_path, *both, "--product", "p4")
    assert record is not None, found.output
    listed = json.loads((tmp_path / "run.boards" / "boards.json").read_text())["pictures"]
    assert {path.name for path in (tmp_path / "run.boards").glob("*.png")} == set(listed)
    assert all(key.startswith(str(other)) for key in listed.values())
