"""The real daemon in its own process, real sockets, real pictures: one verdict for every frame, whatever it is."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from importlib import resources
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest
from support.daemon import DaemonProcess
from support.messages import facts
from support.picture_kinds import WANTED, write_picture_kinds
from support.sockets import free_port

from hisir_edge.images import read_mask
from hisir_edge.mes import Verdict, subscribe

SCHEMA = json.loads((resources.files("hisir_edge.mes") / "verdict.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())


def started(folder: Path, bundle: Path, source: str, more: str = "", wait: int = 1) -> DaemonProcess:
    return DaemonProcess(folder, bundle, f"[source]\n{source}\n", more, subscribers=wait, tcp=True)


def check(verdicts: list[Verdict]) -> None:
    """Every message valid, numbers without gap or repetition, mask as large as the frame."""
    assert [v.seq for v in verdicts] == list(range(1, len(verdicts) + 1))
    assert len({v.epoch for v in verdicts}) == 1
    for v in verdicts:
        VALIDATOR.validate(v.body)
        assert v.topic == f"verdict/{v.line}/{v.result}"
        if v.result == "ERROR":
            assert v.mask == b""
            continue
        assert bool(v.mask) == (v.result == "FAIL"), "nothing is sent where nothing is marked"
        if v.mask:
            mask = cv2.imdecode(np.frombuffer(v.mask, np.uint8), cv2.IMREAD_UNCHANGED)
            assert mask.shape == v.frame_wh[::-1]
            assert mask.any()


@pytest.fixture
def mixed(small_boards: Path, small_bundle: Path, tmp_path: Path) -> Path:
    """Good and defective boards, with six kinds of unusable files between them."""
    folder = tmp_path / "boards"
    folder.mkdir()
    good = sorted((small_boards / "test" / "good").iterdir())
    missing = sorted((small_boards / "test" / "missing").iterdir())
    shutil.copy(small_bundle / "golden.jpg", folder / "01_golden.jpg")
    (folder / "02_cut.png").write_bytes(good[0].read_bytes()[:9000])
    shutil.copy(missing[0], folder / "03_missing.png")
    (folder / "04_empty.png").write_bytes(b"")
    picture = cv2.imread(str(good[0]))
    cv2.imwrite(str(folder / "05_grey.png"), picture[..., 0])
    cv2.imwrite(str(folder / "06_deep.png"), picture.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "07_small.png"), picture[:300])
    cv2.imwrite(str(folder / "08_other.png"), np.full_like(picture, 128))
    shutil.copy(missing[1], folder / "09_missing.png")
    shutil.copy(small_bundle / "golden.jpg", folder / "10_golden.jpg")
    return folder


def test_every_frame_ends_in_one_verdict_and_nothing_stops_the_line(mixed, small_bundle, small_boards, tmp_path):
    output = '[output]\noverlay_folder = "pictures"\noverlay_of = "fail"\n'
    with started(tmp_path, small_bundle, f'type = "replay"\nfolder = "{mixed}"', output) as daemon:
        verdicts = daemon.verdicts(10)
        assert daemon.process.wait(20) == 0
    check(verdicts)
    results = [v.result for v in verdicts]
    assert results == ["PASS", "ERROR", "FAIL", "ERROR", "ERROR", "PASS", "ERROR", "ERROR", "FAIL", "PASS"]
    reasons = {v.unit: v.reason for v in verdicts}
    for unit, words in {
        "02_cut": "cut short", "04_empty": "an empty file", "05_grey": "frames in colour, for which",
        "07_small": "512x300", "08_other": "anchors",
    }.items():  # fmt: skip
        assert words in reasons[unit]
        assert reasons[unit].startswith("expected ")
    truth = read_mask(next(iter(sorted((small_boards / "ground_truth" / "missing").iterdir()))))
    mask = cv2.imdecode(np.frombuffer(verdicts[2].mask, np.uint8), cv2.IMREAD_UNCHANGED) > 0
    assert (mask & truth).any()
    pictures = sorted(p.name for p in (tmp_path / "pictures").iterdir())
    assert min(name.split("_", 1)[1] for name in pictures) == "000003_03_missing_FAIL.jpg"
    assert not any("PASS" in p for p in pictures)
    assert "Traceback" not in daemon.log.read_text()


def test_a_subscriber_can_ask_for_failures_only(mixed, small_bundle, tmp_path):
    with started(tmp_path, small_bundle, f'type = "replay"\nfolder = "{mixed}"') as daemon:
        verdicts = daemon.verdicts(2, "verdict/line-1/FAIL")
        assert daemon.process.wait(20) == 0
    assert [v.unit for v in verdicts] == ["03_missing", "09_missing"]


def test_sigterm_ends_the_loop_after_the_board_in_hand(mixed, small_bundle, tmp_path):
    with started(tmp_path, small_bundle, f'type = "replay"\nfolder = "{mixed}"\nloop = true') as daemon:
        stream = subscribe(daemon.endpoint, timeout_s=30)
        got = []
        for verdict in stream:
            got.append(verdict)
            if len(got) == 23:
                daemon.process.send_signal(signal.SIGTERM)
            if daemon.process.poll() is not None:
                break
            if len(got) > 23:
                break
        code = daemon.process.wait(20)
        stream.close()
    assert code == 0, daemon.log.read_text()
    check(got)
    stopped = json.loads(daemon.log.read_text().splitlines()[-1])
    assert stopped["event"] == "stopped"
    assert stopped["PASS"] + stopped["FAIL"] + stopped["ERROR"] >= 23


def test_replay_keeps_its_rate(mixed, small_bundle, tmp_path):
    with started(tmp_path, small_bundle, f'type = "replay"\nfolder = "{mixed}"\nrate_hz = 4.0') as daemon:
        verdicts = daemon.verdicts(10)
        daemon.process.wait(20)
    grabbed = [np.datetime64(facts(v.body)["grabbed_at"].split("+")[0]) for v in verdicts]
    # what waited while the daemon started is caught up with, and so is a late one: a second of it
    assert (grabbed[9] - grabbed[0]) / np.timedelta64(1, "s") >= 9 / 4 - 1.1


@pytest.mark.parametrize(
    ("source", "bundle", "words"),
    [
        ('type = "replay"\nfolder = "{empty}"', None, "images"),
        ('type = "replay"\nfolder = "/nowhere"', None, "source.folder"),
        ('type = "genicam"\ncti = "/nowhere.cti"', None, "/nowhere.cti"),
        ('type = "replay"\nfolder = "{empty}"', "/nowhere", "bundle"),
    ],
)
def test_what_cannot_start_says_why_in_one_line(source, bundle, words, small_bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    with started(tmp_path, bundle or small_bundle, source.format(empty=tmp_path / "empty"), wait=0) as daemon:
        assert daemon.process.wait(60) == 2
    lines = daemon.log.read_text().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("hisir-edge: expected ")
    assert words in lines[0]


def test_a_port_in_use_is_one_line(mixed, small_bundle, tmp_path):
    daemon = started(tmp_path, small_bundle, f'type = "replay"\nfolder = "{mixed}"', wait=0)
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(daemon.endpoint.rsplit(":", 1)[1])))
        other.listen()
        with daemon:
            assert daemon.process.wait(60) == 2
    line = daemon.log.read_text().strip()
    assert "\n" not in line
    assert "publish.endpoint" in line
    assert "in use" in line


def test_watch_prints_verdicts_and_keeps_masks(mixed, small_bundle, tmp_path):
    with started(tmp_path, small_bundle, f'type = "replay"\nfolder = "{mixed}"') as daemon:
        command = [sys.executable, "-m", "hisir_edge", "watch", daemon.endpoint, "--count", "10", "--timeout-s", "60"]
        done = subprocess.run(
            [*command, "--masks", str(tmp_path / "masks")], capture_output=True, text=True, timeout=90, check=False
        )
        daemon.process.wait(20)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 10
    assert "FAIL   03_missing" in lines[2]
    assert "worst at x=" in lines[2]
    assert len(list((tmp_path / "masks").glob("*.png"))) == 2, "of the defective ones"


def test_watch_without_a_daemon_says_so(tmp_path):
    command = [sys.executable, "-m", "hisir_edge", "watch", f"tcp://127.0.0.1:{free_port()}", "--count", "1"]
    done = subprocess.run([*command, "--timeout-s", "1"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "0 of 1" in done.stderr


def test_a_killed_daemon_goes_on_in_its_epoch(mixed, small_bundle, tmp_path):
    """For a subscriber that stays: numbers go on where they ended, what it missed is counted, nothing comes twice."""
    daemon = started(tmp_path, small_bundle, f'type = "replay"\nfolder = "{mixed}"\nloop = true')
    stream = subscribe(daemon.endpoint, timeout_s=60)
    lives: list[list[Verdict]] = [[], []]
    try:
        for life in lives:
            with daemon:
                for verdict in stream:
                    life.append(verdict)
                    new = [v for v in life if "daemon ended before" not in v.reason]
                    if len(new) == 5:
                        daemon.process.kill()
                        break
    finally:
        stream.close()
    got = lives[0] + lives[1]
    assert len(lives[1]) >= 5
    assert len({v.epoch for v in got}) == 1
    numbers = [v.seq for v in got]
    assert numbers[0] == 1
    for before, verdict in zip(numbers, got[1:], strict=False):
        assert verdict.seq == before + 1 + verdict.missed


def test_no_training_package_is_loaded_on_the_line():
    code = (
        "import sys, hisir_edge.cli.main, hisir_edge.line.daemon, hisir_edge.camera.process_host,"
        " hisir_edge.camera.replay, hisir_edge.line.offline, hisir_edge.cli.receiving.watch, hisir_edge.cli.demo\n"
        "print([m for m in ('torch', 'onnx', 'sklearn', 'scipy', 'harvesters') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_a_camera_set_to_another_size_than_the_bundle_is_refused_before_it_opens(small_bundle, tmp_path):
    (tmp_path / "line.toml").write_text(
        f'[bundle]\npath = "{small_bundle}"\n[source]\ntype = "genicam"\ncti = "none.cti"\nwidth = 640\n'
    )
    command = [sys.executable, "-m", "hisir_edge", "run", "--config", str(tmp_path / "line.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "source.width and source.height of 512x384" in done.stderr and "got 640x384" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_replay_source_gives_each_such_file_its_verdict_and_goes_on(small_bundle, tmp_path):
    kinds = write_picture_kinds(small_bundle, tmp_path / "kinds")
    with started(tmp_path, small_bundle, f'type = "replay"\nfolder = "{kinds}"') as daemon:
        verdicts = daemon.verdicts(len(WANTED))
        assert daemon.process.wait(20) == 0
        log = daemon.log.read_text()
    check(verdicts)
    assert {v.unit: v.result for v in verdicts} == WANTED
    assert "pictures left out" in log and "source.recursive = true" in log
    assert '"trailing_bytes": 3200' in log and "Corrupt JPEG data" not in log.replace("damaged (Corrupt JPEG data", "")
