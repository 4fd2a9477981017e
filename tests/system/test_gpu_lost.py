"""A GPU that is lost: the boards in hand are ERROR, the daemon ends, and its next life goes on where it was."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.messages import facts
from support.paths import environment

from hisir_edge.line.journal.reading import read_journal

SCRIPT = Path(__file__).parents[1] / "support" / "gpu_line_process.py"


@pytest.mark.parametrize("slots", [1, 3])
def test_a_lost_gpu_ends_the_daemon_with_every_board_told(small_bundle, small_boards, kernels, tmp_path, slots):
    config, omen, log = tmp_path / "line.toml", tmp_path / "omen", tmp_path / "log"
    config.write_text(
        f'[bundle]\npath = "{small_bundle}"\n[journal]\nfolder = "journal"\n[infer]\nslots = {slots}\n'
        f'[source]\ntype = "replay"\nfolder = "{small_boards}/test/missing"\nloop = true\nrate_hz = 20\n'
        f'[publish]\nendpoint = "ipc://{tmp_path}/v"\n'
    )

    def results() -> list[str]:
        try:
            _, entries, left = read_journal(tmp_path / "journal")
        except sqlite3.OperationalError:  # it is being made just now
            return []
        assert [e.seq for e in entries] == list(range(1, len(entries) + 1))
        assert left == [] or daemon.poll() is None
        return [facts(json.loads(e.body))["result"] for e in entries]

    def start() -> subprocess.Popen:
        command = [sys.executable, str(SCRIPT), kernels._name, str(omen), "run", "--config", str(config)]
        with log.open("ab") as to:
            return subprocess.Popen(command, stdout=to, stderr=to, env=environment())

    def until_judged(count: int) -> None:
        end = time.monotonic() + 60
        while len(results()) < count if (tmp_path / "journal").exists() else True:
            assert daemon.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.05)

    daemon = start()
    try:
        until_judged(4)
        omen.touch()
        assert daemon.wait(60) == 2, log.read_text()
        last = log.read_text().splitlines()[-1]
        assert last.startswith("hisir-edge: expected a GPU") and "lost to this process" in last
        found = results()
        assert found[:4] == ["FAIL"] * 4
        # a board in another slot may have left the GPU before it was lost; what entered afterwards has not
        assert set(found[found.index("ERROR") + slots :]) <= {"ERROR"}, "nothing that was accepted after it is judged"
        omen.unlink()
        daemon = start()
        until_judged(len(found) + 3)
        assert results()[len(found) + 1] == "FAIL"
    finally:
        daemon.kill()
        daemon.wait()
