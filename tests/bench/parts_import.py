"""How long ``hisir-edge parts import`` takes with 2,000 parts on a 4096x3000 golden image: medians.

python tests/bench/parts_import.py [--parts 2000] [--runs 5]
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

from support.placement_files import CadPart, altium_csv

from hisir_edge.engine.parts.importing import Wanted, imported
from hisir_edge.engine.parts.place import csv_of_components, overlay

BUNDLE = Path("engines/demo")


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    columns = 50
    parts = [
        CadPart(f"R{n}", 4 + 4 * (n % columns), 3 + 3.6 * (n // columns), 90 * (n % 4), 1.6, 0.8)
        for n in range(options.parts)
    ]
    at = tuple(f"{p.name}={20 * p.x:.0f},{3000 - 20 * p.y:.0f}" for p in (parts[0], parts[columns - 1], parts[-1]))
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "board.csv", Path(folder) / "parts.csv"
        file.write_text(altium_csv(parts))
        inside, drawn, whole = [], [], []
        for _ in range(options.runs):
            began = time.perf_counter()
            found = imported(file, BUNDLE, Wanted(at=at))
            csv_of_components(found.placed.components)
            inside.append(time.perf_counter() - began)
            began = time.perf_counter()
            overlay(found.picture, found.placed, found.points_px)
            drawn.append(time.perf_counter() - began)
            command = [
                sys.executable,
                "-m",
                "hisir_edge",
                "parts",
                "import",
                str(file),
                "--on",
                str(BUNDLE),
                "--out",
                str(out),
            ]
            began = time.perf_counter()
            subprocess.run([*command, *(f"--at={one}" for one in at)], check=True, stdout=subprocess.DEVNULL)
            whole.append(time.perf_counter() - began)
    times = {"import_s": inside, "overlay_s": drawn, "command_s": whole}
    print(json.dumps({"parts": options.parts, **{name: round(median(values), 3) for name, values in times.items()}}))


if __name__ == "__main__":
    main()
