"""How many verdicts a second `hisir-edge forward --to cfx` brings into a durable queue of RabbitMQ, settled.

    python tests/bench/cfx.py [--verdicts 10000] [--runs 3] [--window 60]

A line without camera and network has them in its journal; broker, line and forwarder share the machine. Each verdict is
three messages (WorkStarted, UnitsInspected, WorkCompleted), each accepted by the broker before the cursor moves on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.journal_line import JournalLine
from support.paths import environment
from support.rabbitmq import Broker


def made(broker: Broker, name: str) -> str:
    """A durable queue."""
    from proton.utils import BlockingConnection

    from hisir_edge.mes.cfx.endpoint import Durable

    connection = BlockingConnection(broker.address, timeout=20, allowed_mechs="PLAIN")
    connection.create_receiver(f"/queue/{name}", credit=0, options=Durable())
    connection.close()
    return f"/amq/queue/{name}"


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verdicts", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--window", type=int, default=60, help="messages on their way at a time")
    options = parser.parse_args()
    rates = []
    with tempfile.TemporaryDirectory() as folder:
        line = JournalLine(Path(folder) / "line")
        with Broker(Path(folder) / "rabbitmq").started() as broker, line.started(options.verdicts):
            for run in range(options.runs):
                target = f"{broker.address}{made(broker, f'bench-{run}')}?handle=bench&window={options.window}"
                command = [
                    sys.executable, "-m", "hisir_edge", "forward", line.verdicts, "--to", "cfx", "--target", target,
                    "--state", str(Path(folder) / f"state-{run}"),
                    "--from-beginning", "--name", f"bench-{run}", "--count", str(options.verdicts),
                ]  # fmt: skip
                began = time.perf_counter()
                subprocess.run(command, check=True, env=environment(), stdout=subprocess.DEVNULL)
                rates.append(options.verdicts / (time.perf_counter() - began))
    found = {"verdicts": options.verdicts, "window": options.window, "verdicts_per_s": round(median(rates))}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
