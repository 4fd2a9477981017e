"""How long a large journal takes to start, and whether readers hold triggers back.

    PYTHONPATH=tests python tests/bench/journal_start.py WORK [--verdicts 1000000] [--mask-bytes 1000]

`cold`: the file's pages are dropped from memory before (posix_fadvise). `trigger`: from a request of the control socket
to its answer, on a connection of its own, while four others ask for snapshots of single units and replays without end.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles

from support.messages import sample_message

from hisir_edge.config.kept import JournalTable
from hisir_edge.line.journal.records import Entry
from hisir_edge.line.journal.schema import FILE
from hisir_edge.line.journal.store import Journal

TABLE = JournalTable(budget_mb=100_000)
ROUNDS = 3

SERVE = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from types import SimpleNamespace
    from hisir_edge.config.sockets import ControlTable, SecurityTable
    from hisir_edge.config.kept import JournalTable
    from hisir_edge.line.journal.records import AcceptedTrigger
    from hisir_edge.line.journal.store import Journal
    from hisir_edge.line.sockets.commands import commands
    from hisir_edge.line.sockets.context import Wire
    from hisir_edge.line.daemon import SWITCH_S
    from hisir_edge.line.sockets.control import Command, ControlSocket
    sys.setswitchinterval(SWITCH_S)
    with Journal(Path(sys.argv[1]), JournalTable(budget_mb=100_000)) as journal, Wire(SecurityTable()) as wire:
        line = SimpleNamespace(epoch=journal.epoch, state=SimpleNamespace(status=lambda epoch, hermes: {}))
        known = commands(line, SimpleNamespace(state=""), journal, wire, None, lambda topic, body: None)

        def trigger(request, client):
            seq = journal.last_seq + 1
            journal.accept(AcceptedTrigger(seq, "u", "c", "p", time.time_ns()), told=False)
            return {"seq": seq}

        known["trigger"] = Command("control", trigger)
        with ControlSocket(ControlTable(endpoint=sys.argv[2]), wire, known):
            print("up", flush=True)
            sys.stdin.readline()
    """
)
ASK = textwrap.dedent(
    """
    import random, sys
    from hisir_edge.errors import InputError
    from hisir_edge.transport.control_client import Asker
    rng = random.Random(int(sys.argv[2]))
    with Asker(sys.argv[1]) as asker:
        while True:
            seq = rng.randrange(1, int(sys.argv[3]))
            for request in ({"do": "snapshot", "unit": f"unit-{seq}"}, {"do": "replay", "after": seq}):
                try:
                    asker.ask(request, 60)
                except InputError:
                    pass
    """
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--verdicts", type=int, default=1_000_000)
    parser.add_argument("--mask-bytes", type=int, default=1000)
    options = parser.parse_args()
    folder = options.work / "journal"
    shutil.rmtree(folder, ignore_errors=True)
    written(folder, options.verdicts, options.mask_bytes)
    path = folder / FILE
    print(f"{options.verdicts} verdicts, {path.stat().st_size / 1e9:.2f} GB, median of {ROUNDS}")
    print(f"read through, cold                  {timed(path, lambda: read(path)):.2f} s")
    print(f"start after a clean stop, cold      {timed(path, lambda: started(folder)):.2f} s")

    def killed() -> float:
        (folder / "lock").write_bytes(b"")  # as a kill leaves it: nothing says that it was closed
        return started(folder)

    print(f"start after a kill, cold            {timed(path, killed):.2f} s")
    print(f"the same, in memory                 {median(killed() for _ in range(ROUNDS)):.2f} s")
    triggers(folder, options.work, options.verdicts)


def written(folder: Path, count: int, mask_bytes: int) -> None:
    body, mask = sample_message(1).frames()[1], os.urandom(max(mask_bytes, 1))[:mask_bytes]
    with Journal(folder, TABLE) as journal:
        for first in range(1, count + 1, 5000):
            entries = [
                Entry(seq=n, topic="verdict/l/PASS", body=body, mask=mask, source="c", unit=f"unit-{n}")
                for n in range(first, min(first + 5000, count + 1))
            ]
            journal.record(entries)
            journal.last_seq = entries[-1].seq


def read(path: Path) -> float:
    began, block = time.perf_counter(), bytearray(4 << 20)
    with path.open("rb", buffering=0) as file:
        while file.readinto(block):
            pass
    return time.perf_counter() - began


def started(folder: Path) -> float:
    began = time.perf_counter()
    with Journal(folder, TABLE):
        return time.perf_counter() - began


def timed(path: Path, what: Callable[[], float]) -> float:
    took_s = []
    for _ in range(ROUNDS):
        dropped(path)
        took_s.append(what())
    return median(took_s)


def dropped(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def triggers(folder: Path, work: Path, count: int) -> None:
    from hisir_edge.transport.control_client import Asker

    endpoint = f"ipc://{work}/control"
    line = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(folder), endpoint], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    readers = []
    try:
        assert line.stdout is not None
        assert line.stdout.readline() == b"up\n"
        for name in ("alone", "with four readers, cold"):
            if name != "alone":
                dropped(folder / FILE)
                readers = [
                    subprocess.Popen([sys.executable, "-c", ASK, endpoint, str(n), str(count)]) for n in range(4)
                ]
                time.sleep(3)
            took_ms = []
            with Asker(endpoint) as asker:
                for _ in range(500):
                    began = time.perf_counter()
                    asker.ask({"do": "trigger"}, 60)
                    took_ms.append((time.perf_counter() - began) * 1e3)
                    time.sleep(0.01)
            p99 = quantiles(took_ms, n=100)[98]
            print(f"trigger, {name:27s} {median(took_ms):.2f} ms, p99 {p99:.1f}, most {max(took_ms):.1f}")
    finally:
        for one in readers:
            one.kill()
            one.wait()
        line.kill()
        line.communicate()


if __name__ == "__main__":
    main()
