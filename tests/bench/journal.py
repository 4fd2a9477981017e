"""How many verdicts a second are journaled and published, and given again, with masks of 20 kB; what a mask takes.

    PYTHONPATH=tests python tests/bench/journal.py WORK [--seconds 5] [--boards FOLDER]

A subscriber in a process of its own counts what it gets. `latency`: from handing a verdict over to its publication.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median, quantiles

from support.messages import sample_message

from hisir_edge.config.kept import JournalTable
from hisir_edge.config.sockets import PublishTable, SecurityTable
from hisir_edge.images import mask_png_bytes, mask_rle_bytes, read_mask
from hisir_edge.line.journal.outbox import Outbox
from hisir_edge.line.journal.records import AcceptedTrigger, Entry
from hisir_edge.line.journal.store import Journal
from hisir_edge.line.sockets.context import Wire
from hisir_edge.line.sockets.message import VerdictMessage
from hisir_edge.line.sockets.publish import Publisher
from hisir_edge.mes import Cursor, subscribe
from hisir_edge.transport.control_client import Asker

MASK = os.urandom(20_000)
COUNT = """
import sys
from hisir_edge.mes import subscribe
count = 0
for verdict in subscribe(sys.argv[1]):
    count += 1
    if verdict.unit == "last":
        print(count, flush=True)
        break
"""


def message(seq: int, epoch: str = "0" * 32, unit: str = "") -> VerdictMessage:
    """A FAIL with a mask of 20 kB."""
    return replace(sample_message(seq, epoch, True, unit), mask_png=MASK)


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
    parser.add_argument("--boards", type=Path, help="a folder of ground-truth masks (PNG), for their sizes")
    options = parser.parse_args()
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    print(f"disk: {fsyncs_a_second(work):.0f} fdatasync a second")
    for synchronous in ("NORMAL", "FULL"):
        for triggers in (False, True):
            rate, seen = throughput(work, synchronous, triggers, options.seconds)
            what = "trigger and verdict" if triggers else "verdict"
            print(f"{synchronous}, {what}: {rate:.0f} a second; the subscriber got {seen}", flush=True)
        median_ms, p99_ms = latency(work, synchronous)
        print(f"{synchronous}, at 100 a second: latency median {median_ms:.2f} ms, p99 {p99_ms:.2f} ms", flush=True)
    for line in replayed(work):
        print(line, flush=True)
    if options.boards:
        for line in masks(options.boards):
            print(line)
    return 0


def throughput(work: Path, synchronous: str, triggers: bool, seconds: float) -> tuple[float, int]:
    """(verdicts a second, how many a subscriber of another process got)."""
    folder = work / f"{synchronous}-{triggers}-{time.time_ns()}"
    table = PublishTable(endpoint=f"ipc://{work}/bench", send_high_water_mark=1_000_000)
    with (
        Journal(folder, JournalTable(synchronous=synchronous)) as journal,  # type: ignore[arg-type]
        Wire(SecurityTable()) as wire,
        Publisher(table, wire) as publisher,
    ):
        other = subprocess.Popen([sys.executable, "-c", COUNT, table.endpoint], stdout=subprocess.PIPE, text=True)
        while publisher.count_subscribers(100) < 1:
            pass
        sample = message(1)
        outbox, seq, start = Outbox(journal, publisher.send), 0, time.perf_counter()
        while time.perf_counter() < start + seconds:
            seq += 1
            if triggers:
                journal.accept(AcceptedTrigger(seq, "u", "s", "p", 0), told=True)
            outbox.put(replace(sample, body={**sample.body, "seq": seq}), seq, lambda m: None)
        outbox.flush()
        took = time.perf_counter() - start
        outbox.put(message(seq + 1, unit="last"), seq + 1, lambda m: None)
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
    with (
        Journal(folder, JournalTable(synchronous=synchronous)) as journal,  # type: ignore[arg-type]
        Wire(SecurityTable()) as wire,
        Publisher(endpoint, wire) as publisher,
    ):
        outbox = Outbox(journal, publisher.send)
        for seq in range(1, 501):
            start = time.perf_counter()
            outbox.put(message(seq), seq, lambda m, start=start: times.append(time.perf_counter() - start))  # type: ignore[misc]
            time.sleep(0.01)
        outbox.close()
    return quantiles(times, n=100)[49] * 1e3, quantiles(times, n=100)[98] * 1e3


class Nowhere:
    """A cursor that is kept nowhere."""

    def load(self) -> Cursor | None:
        return None

    def save(self, cursor: Cursor) -> None:
        pass

    def close(self) -> None:
        pass


def replayed(work: Path, count: int = 20_000) -> list[str]:
    """Verdicts a second out of a line's journal, over loopback: as the socket gives them, and through the client."""
    folder, tests = work / f"replay-{time.time_ns()}", Path(__file__).parents[1]
    with Journal(folder, JournalTable(synchronous="NORMAL")) as journal:
        for start in range(1, count, 500):
            journal.record([_entry(message(seq, journal.epoch), seq) for seq in range(start, start + 500)])
    ends = [f"tcp://127.0.0.1:{port}" for port in (25561, 25562)]
    out = []
    command = [sys.executable, tests / "support" / "line_process.py", folder, *ends]
    line = subprocess.Popen([str(c) for c in command], env={**os.environ, "PYTHONPATH": str(tests)})
    try:
        for masks_too in (True, False):
            rates = []
            for _ in range(3):
                after, began = 0, time.perf_counter()
                with Asker(ends[1]) as asker:
                    while after < count:
                        head, frames = asker.ask({"do": "replay", "after": after, "masks": masks_too}, 30)
                        after += len(frames) // 3
                        assert head["count"] * 3 == len(frames)
                rates.append(count / (time.perf_counter() - began))
            kind = "with masks of 20 kB" if masks_too else "JSON alone"
            out.append(f"replay, {kind}: {median(rates):.0f} messages a second")
        for masks_too in (True, False):
            began = time.perf_counter()
            stream = subscribe(ends[0], "bench", masks=masks_too, since="beginning", cursor=Nowhere(), control=ends[1])
            for verdict in stream:
                if verdict.seq == count:
                    break
            stream.close()
            kind = "with masks of 20 kB" if masks_too else "JSON alone"
            out.append(f"replay through subscribe(), {kind}: {count / (time.perf_counter() - began):.0f} a second")
    finally:
        line.kill()
        line.wait()
    return out


def _entry(one: VerdictMessage, seq: int) -> Entry:
    topic, body, mask = one.frames()
    return Entry(seq=seq, topic=topic.decode(), body=body, mask=mask, source=one.camera, unit=one.unit)


def masks(folder: Path) -> list[str]:
    """Bytes and ms of each mask as PNG and as run lengths."""
    out = []
    for path in sorted(folder.rglob("*.png"))[:12]:
        mask = read_mask(path)
        sizes, times = [], []
        for encode in (mask_png_bytes, mask_rle_bytes):
            spent = []
            for _ in range(5):
                began = time.perf_counter()
                data = encode(mask)
                spent.append(time.perf_counter() - began)
            sizes.append(len(data))
            times.append(median(spent) * 1e3)
        h, w = mask.shape
        out.append(
            f"{path.name} {w}x{h}, {mask.mean():.4%} set: PNG {sizes[0]} bytes, {times[0]:.1f} ms; "
            f"run lengths {sizes[1]} bytes, {times[1]:.1f} ms"
        )
    return out


if __name__ == "__main__":
    sys.exit(main())
