"""From a trigger to the frame in the line's memory, of two checkouts that take turns.

    python tests/bench/trigger.py BEFORE AFTER --cti TLSimu.cti [--turns 6] [--triggers 40]

The camera is the GenTL producer TLSimu (of the genicam 1.4.0 wheel) at 4096x3000, Mono8 and BayerRG8: a frame for each
request. Figures are medians of each checkout, and the median of the turns' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

MEASURE = """
import json, sys, time
from hisir_edge.camera.process_host import GenicamCamera
from hisir_edge.config.sources import GenicamSource
from hisir_edge.records import Frame
cti, pixel_format, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
table = {"type": "genicam", "cti": cti, "pixel_format": pixel_format, "width": 4096, "height": 3000,
         "trigger": "software"}
which = {"serial": "SN_InterfaceA_0"} if "serial" in GenicamSource.model_fields else {"device": 0}
times = []
with GenicamCamera(GenicamSource.model_validate(table | which)) as source:
    for number in range(count + 5):
        start = time.perf_counter()
        source.trigger()
        while not isinstance(source.next(5.0), Frame):
            pass
        times.append(time.perf_counter() - start)
print(json.dumps(times[5:]))
"""


def measured(checkout: Path, cti: Path, pixel_format: str, triggers: int) -> float:
    """Median seconds of one turn of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "LD_LIBRARY_PATH": str(cti.parent)}
    command = [sys.executable, "-c", MEASURE, str(cti), pixel_format, str(triggers)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=checkout)
    return statistics.median(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkouts", type=Path, nargs=2)
    parser.add_argument("--cti", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--triggers", type=int, default=40)
    options = parser.parse_args()
    before, after = (one.resolve() for one in options.checkouts)
    for pixel_format in ("Mono8", "BayerRG8"):
        rows = []
        for turn in range(options.turns):
            order = [before, after] if turn % 2 == 0 else [after, before]
            found = {one: measured(one, options.cti.resolve(), pixel_format, options.triggers) for one in order}
            rows.append((found[before], found[after]))
        figures = {
            "pixel_format": pixel_format, "before_ms": round(1e3 * statistics.median(b for b, _ in rows), 2),
            "after_ms": round(1e3 * statistics.median(a for _, a in rows), 2),
            "ratio": round(statistics.median(a / b for b, a in rows), 3),
        }  # fmt: skip
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
