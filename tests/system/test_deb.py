"""The Debian package on an empty Debian with a systemd of its own: installed, upgraded while a line runs, removed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.debian_root import DebianRoot, booted, made, why_not

from hisir_edge.line.journal.reading import read_journal

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "how-to" / "install-deb.md"
MOST_S = 180.0

pytestmark = [pytest.mark.skipif(bool(why_not()), reason=why_not()), pytest.mark.timeout(900)]


@pytest.fixture
def packages(tmp_path) -> dict[str, Path]:
    """The package, and one of the version before, which has a file more."""
    folder = tmp_path / "deb"
    stage = folder / "stage"

    def make(version: str) -> Path:
        command = [sys.executable, "requirements/wheelhouse/make_deb.py", "--version", version, "--stage", str(stage),
                   "--out", str(folder)]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        return folder / f"hisir-edge_{version}_amd64.deb"

    now = make("0.2.0+py3.11")
    (stage / "opt/hisir-edge/lib/python3.11/site-packages/hisir_edge/of_before.py").write_text("")
    return {"now": now, "before": make("0.2.0~rc1+py3.11")}


def lines_of_the_document() -> list[str]:
    """What a technician types."""
    (block,) = re.findall(r"```console\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    return block.strip().splitlines()


def journal(debian: DebianRoot) -> tuple[str, list[int], list[dict]]:
    epoch, entries, left = read_journal(debian.folder / "var/lib/hisir-edge/smt-3/journal")
    assert left == [] or max(left) > max(entry.seq for entry in entries), "each accepted board has its verdict"
    return epoch, [entry.seq for entry in entries], [json.loads(entry.body) for entry in entries]


def from_an_empty_debian_to_a_running_line_as_the_document_says(debian, packages, small_bundle, small_boards):
    home = debian.folder / "root"
    shutil.copyfile(packages["before"], home / "hisir-edge.deb")
    shutil.copytree(small_bundle, home / "psu")
    boards = debian.folder / "var/lib/boards"
    shutil.copytree(small_boards / "test" / "good", boards)
    example = (ROOT / "systemd/deb/line.toml").read_text()
    (home / "line.toml").write_text(example.replace("/var/lib/hisir-edge/boards", "/var/lib/boards"))
    commands, start = lines_of_the_document(), time.monotonic()
    assert len(commands) == 6
    for command in commands[:-1]:
        debian.run(command)
    status = debian.until(commands[-1], "ContinuousExecution")
    took_s = time.monotonic() - start
    assert took_s < MOST_S
    print(f"a running line after {took_s:.0f} s")
    assert "p3" in status
    assert debian.run("systemctl is-enabled hisir-edge@smt-3").strip() == "enabled"
    assert "hisir-edge" in debian.run("stat -c %U /proc/$(systemctl show -P MainPID hisir-edge@smt-3)")
    debian.until("hisir-edge watch tcp://127.0.0.1:5556 --count 3", "PASS")
    assert "onnxruntime" in debian.run("hisir-edge check")
    assert debian.run("dpkg -V hisir-edge") == "", "nothing is as it was not packed"


def an_upgrade_goes_on_with_the_line_that_runs(debian, packages):
    view = debian.folder / "etc/hisir-edge/view.env"
    view.write_text('VIEW_OPTIONS="--connect tcp://127.0.0.1:5556 --listen 127.0.0.1:8099"\n')
    debian.run("systemctl start hisir-edge-view")
    connect = debian.folder / "etc/hisir-edge/plc.connect"
    connect.write_text('CONNECT="plc tcp://127.0.0.1:5556 --listen 127.0.0.1:5020"\n')
    debian.run("systemctl start hisir-edge-connect@plc && systemctl reload hisir-edge@smt-3")
    debian.until("journalctl --no-pager -u hisir-edge@smt-3", "reloaded")
    before = journal(debian)
    pid = debian.run("systemctl show -P MainPID hisir-edge@smt-3")
    shutil.copyfile(packages["now"], debian.folder / "root/newer.deb")
    debian.run("apt-get install -y ./newer.deb")
    debian.until("hisir-edge status --config /etc/hisir-edge/smt-3.toml", "ContinuousExecution")
    for unit in ("hisir-edge-view", "hisir-edge-connect@plc"):
        debian.until(f"systemctl show -P ActiveState -P NRestarts {unit} | tr '\\n' ' '", "0 active")
    assert debian.run("systemctl show -P MainPID hisir-edge@smt-3") != pid
    assert "--listen" in view.read_text(), "settings stay"
    assert not (debian.folder / "opt/hisir-edge/lib/python3.11/site-packages/hisir_edge/of_before.py").exists()
    debian.until("hisir-edge watch tcp://127.0.0.1:5556 --count 2", "PASS")
    epoch, seqs, bodies = journal(debian)
    assert epoch == before[0] and seqs == list(range(1, len(seqs) + 1)) and len(seqs) > len(before[1])
    assert {body["InspectedUnits"][0]["OverallResult"] for body in bodies} == {"Passed"}, "none was cut off"


def removed_and_purged_it_leaves_the_records(debian):
    debian.run("apt-get remove -y hisir-edge")
    assert "inactive" in debian.run("systemctl is-active hisir-edge@smt-3", fails=True)
    assert not (debian.folder / "opt/hisir-edge").exists(), "no file that it made itself stays"
    assert (debian.folder / "etc/hisir-edge/view.env").exists()
    _, seqs, _ = journal(debian)
    said = debian.run("apt-get purge -y hisir-edge")
    assert "stay in /var/lib/hisir-edge" in said
    assert journal(debian)[1] == seqs
    assert (debian.folder / "var/lib/hisir-edge/bundles/psu/manifest.json").exists()
    assert not (debian.folder / "etc/hisir-edge/view.env").exists()
    found = debian.run("find / -xdev -name '*hisir*' -not -path '/root/*' -not -path '/proc/*'").split()
    kept = (
        "/var/lib/hisir-edge",
        "/etc/hisir-edge",
        "/etc/systemd/system/multi-user.target.wants",
        "/run/",
        "/var/log",
    )
    assert [one for one in found if not one.startswith(kept)] == []


def what_was_installed_otherwise_is_not_mixed_with_it(debian):
    debian.run("mkdir -p /opt/hisir-edge && touch /opt/hisir-edge/pyvenv.cfg")
    said = debian.run("apt-get install -y ./newer.deb", fails=True)
    assert "move it away" in said
    assert [path.name for path in (debian.folder / "opt/hisir-edge").iterdir()] == ["pyvenv.cfg"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("buildah") is None, reason="no buildah here")
def test_the_container_file_makes_an_image_that_inspects(packages, small_bundle, small_boards, tmp_path):
    """Built and run by buildah, without an engine; the base image is a Debian of our own."""
    base, boards = made(tmp_path / "base"), tmp_path / "home"
    context = tmp_path / "context"
    context.mkdir()
    shutil.copy(packages["now"], context)
    shutil.copytree(small_bundle, boards / "psu")
    shutil.copytree(small_boards / "test" / "good", boards / "boards")
    for path in (boards, *boards.rglob("*")):
        os.chown(path, 990, 990)
    example = (ROOT / "systemd/deb/line.toml").read_text().replace("/var/lib/hisir-edge/bundles", "/var/lib/hisir-edge")
    line = tmp_path / "line.toml"
    line.write_text(example.replace("loop = true", "loop = false").replace("rate_hz = 1.0", "rate_hz = 0.0"))

    def buildah(*arguments: object) -> str:
        command = ["buildah", "--root", tmp_path / "store", "--runroot", tmp_path / "run", "--storage-driver", "vfs"]
        done = subprocess.run(
            [str(one) for one in (*command, *arguments)], capture_output=True, text=True, timeout=600, check=False,
            env=os.environ | {"BUILDAH_ISOLATION": "chroot"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout + done.stderr

    try:
        tar = tmp_path / "base.tar"
        subprocess.run(["tar", "-C", base, "-cf", tar, "."], check=True)
        empty = buildah("from", "scratch").split()[-1]
        buildah("add", "-q", empty, tar, "/")
        buildah("commit", "-q", empty, "localhost/debian:12-slim")
        buildah("bud", "--network", "host", "--build-arg", "BASE=localhost/debian:12-slim", "-t", "hisir-edge", "-f",
                ROOT / "systemd/container/Containerfile", context)  # fmt: skip
        one = buildah("from", "localhost/hisir-edge").split()[-1]
        assert "uid=990(hisir-edge)" in buildah("run", one, "--", "id")
        said = buildah("run", "-v", f"{boards}:/var/lib/hisir-edge", "-v", f"{line}:/etc/hisir-edge/line.toml:ro", one,
                       "--", "hisir-edge", "run", "--config", "/etc/hisir-edge/line.toml")  # fmt: skip
        assert '"PASS": 4' in said
        assert len(read_journal(boards / "journal")[1]) == 4
    finally:
        shutil.rmtree(base, ignore_errors=True)


def test_installed_upgraded_while_a_line_runs_and_removed(packages, small_bundle, small_boards, tmp_path):
    folder = made(tmp_path / "root")
    try:
        with booted(folder) as debian:
            debian.run("apt-get update -qq")
            from_an_empty_debian_to_a_running_line_as_the_document_says(debian, packages, small_bundle, small_boards)
            an_upgrade_goes_on_with_the_line_that_runs(debian, packages)
            removed_and_purged_it_leaves_the_records(debian)
            what_was_installed_otherwise_is_not_mixed_with_it(debian)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
