"""Three lines, five subscribers, keys, a network between them that is cut, and both sides killed -9 at random.

The first line's journal lies on a small disk that fills twice; the clocks of all are set four times, by years.

At the end every subscriber has every verdict of every line once, bit-equal to the line's journal. The short run is for
the default suite; all of it: HISIR_AUDIT=20000,50 pytest tests/system/test_audit.py (make audit).
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hisir_edge.line.journal.reading import read_journal
from hisir_edge.transport.curve_keys import write_keys

TESTS = Path(__file__).parents[1]
LINES, SUBSCRIBERS = 3, 5
VERDICTS, KILLS = (int(n) for n in os.environ.get("HISIR_AUDIT", "450,4").split(","))
CUTS = max(KILLS // 10, 1)
CUT_S = 3.0
MASK_BYTES = int(os.environ.get("HISIR_AUDIT_MASK_BYTES", "2000"))
DISK_MB = max(24, VERDICTS // LINES * (MASK_BYTES + 4000) // 500_000)
FULL_S = 2.0
CLOCKS_S = (365 * 86_400, -25 * 365 * 86_400, 86_400 * 40, 0)
ADDRESS = {"lines": "10.203.0.1", "mes": "10.203.0.2"}


def ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True, timeout=20)


@pytest.fixture
def network():
    """Two hosts with a cable between them: network namespaces of this test's own."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("no network namespaces: needs root and iproute2")
    names = {side: f"hisir-{side}-{os.getpid()}" for side in ADDRESS}
    try:
        try:
            for name in names.values():
                ip("netns", "add", name)
            ip(
                "link", "add", "cable", "netns", names["lines"], "type", "veth", "peer", "name", "cable", "netns",
                names["mes"],
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        for side, name in names.items():
            ip("-n", name, "addr", "add", f"{ADDRESS[side]}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names.values():
            ip("netns", "delete", name, check=False)


class Fleet:
    """Processes by name, each in its network, started again where it was killed."""

    def __init__(self, folder: Path, network: dict[str, str]):
        self.folder, self.network = folder, network
        self.commands: dict[str, list[str]] = {}
        self.running: dict[str, subprocess.Popen] = {}
        self.log = (folder / "log").open("ab")

    def start(self, name: str) -> None:
        side = "lines" if name.startswith("line") else "mes"
        command = ["ip", "netns", "exec", self.network[side], sys.executable, *self.commands[name]]
        environment = {**os.environ, "PYTHONPATH": str(TESTS)}
        self.running[name] = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=environment)

    def kill(self, name: str) -> None:
        """``ip netns exec`` becomes the process itself, so that this is the one."""
        self.running[name].kill()
        self.running[name].wait()

    def check(self) -> None:
        for name, process in self.running.items():
            assert process.poll() is None, f"{name} ended: {(self.folder / 'log').read_text()[-2000:]}"

    def end(self) -> None:
        for name in self.running:
            self.kill(name)
        self.log.close()


def stored(path: Path) -> int:
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db,
    ):
        return int(db.execute("SELECT count(*) FROM verdict").fetchone()[0])
    return 0


def disturbed(number: int, disk: Path, clock: Path) -> None:
    """What happens to the lines' machine before a kill: its disk fills twice, its clock is set four times."""
    if number in (KILLS // 3, 2 * KILLS // 3):
        filled(disk)
    if number * len(CLOCKS_S) % KILLS < len(CLOCKS_S):
        clock.write_text(str(CLOCKS_S[number * len(CLOCKS_S) // KILLS]))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own for the first line's journal."""
    folder = tmp_path / "journal-0"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "none", str(folder)]
    if subprocess.run(command, capture_output=True, timeout=20, check=False).returncode:
        pytest.skip("no right to mount a small file system here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=20)


def filled(folder: Path) -> None:
    """Fill a disk for a while."""
    filling = folder / "filling"
    with contextlib.suppress(OSError), filling.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    time.sleep(FULL_S)
    filling.unlink()


@pytest.mark.timeout(3600)
def test_every_subscriber_has_every_verdict_once_and_bit_equal(network, small_disk, tmp_path):
    rng, keys, each = random.Random(20_000), tmp_path / "keys", VERDICTS // LINES
    names = [f"mes-{n}" for n in range(SUBSCRIBERS)]
    write_keys(keys, ("line", *names))
    (keys / "clients").mkdir()
    for name in names:
        shutil.copy(keys / f"{name}.key", keys / "clients")
    fleet = Fleet(tmp_path, network)
    ports = [(20_001 + 2 * n, 20_002 + 2 * n) for n in range(LINES)]
    for n, (verdicts, control) in enumerate(ports):
        where = [f"tcp://{ADDRESS['lines']}:{port}" for port in (verdicts, control)]
        fleet.commands[f"line-{n}"] = [
            str(TESTS / "support" / "line_process.py"), str(tmp_path / f"journal-{n}"), *where, "--line", f"l{n}",
            "--count", str(each), "--rate-hz", str(each / (2.5 * (KILLS + 2))), "--mask-bytes", str(MASK_BYTES),
            "--keys", str(keys), "--clock", str(tmp_path / "clock"),
        ]  # fmt: skip
    endpoints = [f"tcp://{ADDRESS['lines']}:{verdicts}" for verdicts, _ in ports]
    for name in names:
        fleet.commands[name] = [
            str(TESTS / "support" / "subscriber_process.py"), str(tmp_path), name, str(keys), *endpoints,
        ]  # fmt: skip
    files = {(name, n): tmp_path / f"{name}-{n}.sqlite" for name in names for n in range(LINES)}
    kills = ["line"] * (KILLS // 2) + ["mes"] * (KILLS - KILLS // 2)
    rng.shuffle(kills)
    began = time.monotonic()
    try:
        for name in fleet.commands:
            fleet.start(name)
        while not stored(small_disk / "journal.sqlite"):
            fleet.check()
            time.sleep(0.05)
        for number, kind in enumerate(kills):
            time.sleep(rng.uniform(0.5, 2.0))
            fleet.check()
            disturbed(number, small_disk, tmp_path / "clock")
            victim = rng.choice([name for name in fleet.commands if name.startswith(kind)])
            fleet.kill(victim)
            if number % (KILLS // CUTS) == 1:
                ip("-n", network["mes"], "link", "set", "cable", "down")
                time.sleep(CUT_S)
                ip("-n", network["mes"], "link", "set", "cable", "up")
            fleet.start(victim)
        end = time.monotonic() + 60 + VERDICTS / 50
        while min(stored(path) for path in files.values()) < each:
            fleet.check()
            assert time.monotonic() < end, {path.name: stored(path) for path in files.values()}
            time.sleep(0.2)
        took_s = time.monotonic() - began
    finally:
        fleet.end()
    for n in range(LINES):
        epoch, entries, unanswered = read_journal(tmp_path / f"journal-{n}")
        assert ([e.seq for e in entries], unanswered) == (list(range(1, each + 1)), []), "none missing, none deleted"
        expected = [(epoch, e.seq, e.body, e.mask) for e in entries]
        for name in names:
            with contextlib.closing(sqlite3.connect(files[name, n])) as db:
                rows = db.execute("SELECT epoch, seq, body, mask FROM verdict ORDER BY seq").fetchall()
            assert [(e, s, b.encode(), m) for e, s, b, m in rows] == expected, f"{name} of line {n}"
    print(f"{VERDICTS} verdicts to {SUBSCRIBERS} subscribers, {KILLS} kills, {CUTS} cuts: {took_s:.0f} s")
