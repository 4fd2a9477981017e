"""How long after a verdict its OPC UA event is with a client: the same client process hears both.

    python tests/bench/opcua.py [--verdicts 400] [--rate-hz 20] [--period-ms 10]

A line without camera and network publishes verdicts; ``hisir-edge opcua`` shows them; a client of asyncua's subscribes
to the events with the publishing interval that is named, a subscriber of ZeroMQ to the verdicts themselves.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median, quantiles

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.journal_line import JournalLine
from support.opcua import Connected, OpcUaServer

from hisir_edge.mes import subscribe


async def events_at(server: OpcUaServer, count: int, period_ms: float) -> dict[int, float]:
    """By number, when its event came."""
    async with Connected(server.url) as seen:
        events = await seen.events(period_ms)
        while len(events.seen) < count:
            await asyncio.sleep(0.05)
        return dict(zip(events.numbers(), events.at, strict=True))


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verdicts", type=int, default=400)
    parser.add_argument("--rate-hz", type=float, default=20)
    parser.add_argument("--period-ms", type=float, default=10)
    options = parser.parse_args()
    heard: dict[int, float] = {}
    over = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        line = JournalLine(Path(folder) / "line", rate_hz=options.rate_hz)

        def listen() -> None:
            for verdict in subscribe(line.verdicts, masks=False, topic="brief/", stop=over.is_set):
                heard[verdict.seq] = time.time()

        with line.started(10**6, there=1), OpcUaServer(Path(folder), line.verdicts, line.control) as server:
            listener = threading.Thread(target=listen)
            listener.start()
            came = asyncio.run(events_at(server, options.verdicts, options.period_ms))
            over.set()
            listener.join()
    late = sorted(1000 * (came[seq] - heard[seq]) for seq in came if seq in heard)
    print(
        json.dumps(
            {
                "verdicts": len(late), "rate_hz": options.rate_hz, "period_ms": options.period_ms,
                "median_ms": round(median(late), 1), "p99_ms": round(quantiles(late, n=100)[-1], 1),
                "most_ms": round(late[-1], 1),
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
