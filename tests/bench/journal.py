"""How many verdicts a second are journaled and published, with masks of 20 kB, beside what the disk can do.

    python tests/bench/journal.py WORK [--seconds 5]

A subscriber in a process of its own counts what it gets. `latency`: from handing a verdict over to its publication.

"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import quantiles

from hisir_edge.config import JournalTable, PublishTable
from hisir_edge.line.journal import Accepted, Journal
from hisir_edge.line.outbox import Outbox
from hisir_edge.line.publish import Message, Publisher

MASK = os.urandom(20_000)
COUNT = """
import sys, time
from hisir_edge.mes import subscribe
count, first = 0, None
for verdict in subscribe(sys.argv[1], stop=lambda: False):
    count += 1
    if verdict.reason == "last":
        print(count, flush=True)
        break
"""


def message(seq: int, reason: str = "") -> Message:
    """About as large as a FAIL of two regions."""
    region = {"x": 1, "y": 2, "w": 3, "h": 4, "area_px": 12, "peak": 2.0, "contour": [[n, n] for n in range(30)]}
    body = {
        "line": "bench",
        "seq": seq,
        "result": "FAIL",
        "reason": reason,
        "regions": [region, region],
        "time": "",
        "epoch": "e",
    }
    return Message("verdict/bench/FAIL", body, MASK)


def fsyncs_a_second(folder: Path) -> float:
    """4 KiB written and synchronised, one after the other."""
    fd, n, start = os.open(folder / "probe", os.O_CREAT | os.O_WRONLY), 0, time.perf_counter()
    while time.perf_counter() < start + 1:
        os.write(fd, b"x" * 4096)
        os.fdatasync(fd)
        n += 1
    os.close(fd)
    (folder / "probe").unlink()
    return n / (time.perf_counter() - start)


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    print(f"disk: {fsyncs_a_second(work):.0f} fdatasync a second")
    for synchronous in ("NORMAL", "FULL"):
        for triggers in (False, True):
            rate, seen = throughput(work, synchronous, triggers, options.seconds)
            what = "trigger and verdict" if triggers else "verdict"
            print(f"{synchronous}, {what}: {rate:.0f} a second; the subscriber got {seen}")
        median_ms, p99_ms = latency(work, synchronous)
        print(f"{synchronous}, at 100 a second: latency median {median_ms:.2f} ms, p99 {p99_ms:.2f} ms")
    return 0


def throughput(work: Path, synchronous: str, triggers: bool, seconds: float) -> tuple[float, int]:
    """(verdicts a second, how many a subscriber of another process got)."""
    folder = work / f"{synchronous}-{triggers}-{time.time_ns()}"
    table = PublishTable(endpoint=f"ipc://{work}/bench", send_high_water_mark=1_000_000)
    with Journal(folder, JournalTable(synchronous=synchronous)) as journal, Publisher(table) as publisher:
        other = subprocess.Popen([sys.executable, "-c", COUNT, table.endpoint], stdout=subprocess.PIPE, text=True)
        while publisher.count_subscribers(100) < 1:
            pass
        outbox, seq, start = Outbox(journal, publisher.send), 0, time.perf_counter()
        while time.perf_counter() < start + seconds:
            seq += 1
            if triggers:
                journal.accept(Accepted(seq, "u", "s", "p", 0), told=True)
            outbox.put(message(seq), seq, lambda m: None)
        outbox.flush()
        took = time.perf_counter() - start
        outbox.put(message(seq + 1, "last"), seq + 1, lambda m: None)
        outbox.close()
        assert other.stdout is not None
        seen = int(other.stdout.readline())
        other.wait()
    return seq / took, seen - 1


def latency(work: Path, synchronous: str) -> tuple[float, float]:
    """(median, p99) ms."""
    times: list[float] = []
    folder = work / f"latency-{synchronous}-{time.time_ns()}"
    endpoint = PublishTable(endpoint=f"ipc://{work}/latency")
    with Journal(folder, JournalTable(synchronous=synchronous)) as journal, Publisher(endpoint) as publisher:
        outbox = Outbox(journal, publisher.send)
        for seq in range(1, 501):
            start = time.perf_counter()
            outbox.put(message(seq), seq, lambda m, start=start: times.append(time.perf_counter() - start))
            time.sleep(0.01)
        outbox.close()
    return quantiles(times, n=100)[49] * 1e3, quantiles(times, n=100)[98] * 1e3


if __name__ == "__main__":
    sys.exit(main())
