"""kill -9 of the whole daemon at random instants: every trigger has exactly one verdict, published as it is written.

HISIR_KILLS=300 for more of them; `make soak` has faults of every other kind.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

from helpers import facts, free_port

from hisir_edge.errors import InputError
from hisir_edge.line.journal.reading import read_journal
from hisir_edge.mes import subscribe
from hisir_edge.transport.control_client import ask

KILLS = int(os.environ.get("HISIR_KILLS", "12"))


def test_kill_at_any_instant_and_every_trigger_has_one_verdict(small_bundle, small_boards, tmp_path):
    rng, told, published, over = random.Random(5), {}, {}, threading.Event()
    verdicts, control = f"ipc://{tmp_path}/verdicts", f"tcp://127.0.0.1:{free_port()}"

    def listen():
        for verdict in subscribe(verdicts, stop=over.is_set):
            key = verdict.epoch, verdict.seq
            assert key not in published, "published twice"
            published[key] = verdict.body

    def start(trigger: str) -> subprocess.Popen:
        config = tmp_path / "line.toml"
        config.write_text(
            f'[bundle]\npath = "{small_bundle}"\n[journal]\nfolder = "journal"\n'
            f'[source]\ntype = "replay"\nfolder = "{small_boards}/test/missing"\nloop = true\nrate_hz = 40\n'
            f'trigger = "{trigger}"\n[control]\nendpoint = "{control}"\n[publish]\nendpoint = "{verdicts}"\n'
        )
        with (tmp_path / "daemon.log").open("ab") as log:
            command = [sys.executable, "-m", "hisir_edge", "run", "--config", str(config)]
            return subprocess.Popen(command, stdout=log, stderr=log)

    def ask_until(end: float) -> None:
        """Trigger as quickly as the line takes boards; what was accepted is remembered."""
        while time.monotonic() < end:
            unit = f"B-{len(told)}-{rng.random():.6f}"
            try:
                accepted = ask(control, {"do": "trigger", "unit": unit}, 0.5)
                told[accepted["epoch"], accepted["seq"]] = unit
            except InputError:
                pass

    def status() -> dict:
        try:
            return ask(control, {"do": "status"}, 0.2)
        except InputError:
            return {}

    def until_up(daemon: subprocess.Popen) -> None:
        while status().get("state") not in ("Ready", "SingleExecution", "ContinuousExecution"):
            assert daemon.poll() is None, (tmp_path / "daemon.log").read_text()[-3000:]

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        for n in range(KILLS):
            daemon = start("software" if n % 2 else "free-run")
            if n % 4 != 3:  # else at some instant of its start
                until_up(daemon)
            moment = time.monotonic() + rng.uniform(0.05, 1.5)
            if n % 2:
                ask_until(moment)
            else:
                threading.Event().wait(max(moment - time.monotonic(), 0))
            daemon.kill()
            daemon.wait()
        daemon = start("software")
        until_up(daemon)
        ask(control, {"do": "drain"}, 5)
        assert daemon.wait(60) == 0, (tmp_path / "daemon.log").read_text()[-3000:]
    finally:
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait()
        over.set()
        listener.join()
    _audit(tmp_path / "journal", told, published)
    assert told, "some triggers were accepted"


def _audit(journal: Path, told: dict, published: dict) -> None:
    epoch, entries, open_ones = read_journal(journal)
    assert open_ones == []
    raw = {e.seq: json.loads(e.body) for e in entries}
    bodies = {seq: facts(body) for seq, body in raw.items()}
    assert list(bodies) == list(range(1, len(bodies) + 1)), "no number twice, none left out"
    for (of_epoch, seq), unit in told.items():
        assert of_epoch == epoch
        assert bodies[seq]["unit"] == unit
    for (of_epoch, seq), body in published.items():
        assert of_epoch == epoch
        assert body == raw[seq], "published as it is written"
    killed = [b for b in bodies.values() if "daemon ended before" in b["reason"]]
    assert all(b["result"] == "ERROR" for b in killed)
    print(f"{len(bodies)} triggers, {len(told)} told, {len(published)} seen live, {len(killed)} ended by kill")
