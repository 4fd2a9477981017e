"""kill -9 of the whole daemon at random instants: every trigger has exactly one verdict, published as it is written.

`make test-slow` kills it more often; `make soak` has faults of every other kind.
"""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from support.daemon import JOURNAL, DaemonProcess, replay
from support.messages import facts

from hisir_edge.errors import InputError
from hisir_edge.line.journal.reading import read_journal
from hisir_edge.mes import subscribe


@pytest.mark.parametrize("kills", [8, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_kill_at_any_instant_and_every_trigger_has_one_verdict(small_bundle, small_boards, tmp_path, kills):
    rng, told, published, over = random.Random(5), {}, {}, threading.Event()

    def made(trigger: str) -> DaemonProcess:
        return DaemonProcess(
            tmp_path, small_bundle, replay(small_boards / "test" / "missing", trigger, rate_hz=40), JOURNAL
        )

    def listen() -> None:
        for verdict in subscribe(f"ipc://{tmp_path}/verdicts", stop=over.is_set):
            key = verdict.epoch, verdict.seq
            assert key not in published, "published twice"
            published[key] = verdict.body

    def trigger_until(daemon: DaemonProcess, end: float) -> None:
        """Trigger as quickly as the line takes boards; remember what was accepted."""
        while time.monotonic() < end:
            unit = f"B-{len(told)}-{rng.random():.6f}"
            with suppress(InputError):
                accepted = daemon.ask("trigger", 0.5, unit=unit)
                told[accepted["epoch"], accepted["seq"]] = unit

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        for n in range(kills):
            with made("software" if n % 2 else "free-run") as daemon:
                if n % 4 != 3:  # else at some instant of its start
                    daemon.up()
                moment = time.monotonic() + rng.uniform(0.05, 1.5)
                if n % 2:
                    trigger_until(daemon, moment)
                else:
                    threading.Event().wait(max(moment - time.monotonic(), 0))
        with made("software") as daemon:
            daemon.up()
            daemon.drain()
    finally:
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
