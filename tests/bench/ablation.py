"""What each part is worth: the network trained without it, for the same time, on the same boards.

    python tests/bench/ablation.py DATA WORK --minutes 20 [--backbone unet] [--seed 0] [--without-registration]

Trains and measures the whole network, then each variant, in WORK; what is finished there is kept, so
that the command can be stopped and repeated. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

COLUMNS = ("pixel_auroc", "aupro", "image_auroc", "recall_from_6px_at_0.1_false_regions", "false_calls_per_board")


def hisir_edge(*arguments: object) -> None:
    """Run a command of the product; its progress goes to standard error."""
    subprocess.run([sys.executable, "-m", "hisir_edge", *map(str, arguments)], check=True, stdout=sys.stderr)


def measured(work: Path, name: str, data: Path, train: list[object], evaluate: list[object], of: str = "") -> dict:
    """Figures of one variant: trained unless ``of`` names the run whose bundle it shares."""
    file = work / f"{name}.json"
    if not file.exists():
        bundle = work / f"bundle-{of or name}"
        if not (bundle / "manifest.json").exists():
            hisir_edge("train", "--data", data, "--out", work / f"run-{of or name}", *train)
            options = ["--precision", "fp32", "--false-calls-per-board", 0.1]
            hisir_edge("build-engine", work / f"run-{of or name}", *options, "--out", bundle)
        hisir_edge("evaluate", "--bundle", bundle, "--data", data, "--json", file, *evaluate)
    return json.loads(file.read_text())


def main() -> None:
    """Measure every variant and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--backbone", default="unet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without-registration", action="store_true", help="also train without it (boards only)")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    base = ["--backbone", options.backbone, "--seed", options.seed, "--max-minutes", options.minutes]
    base += ["--steps", 10**6]
    rows = {"whole network": measured(options.work, "whole", options.data, base, [])}
    for merge in ("mean", "max", "centre"):
        name = f"merged by {merge} instead of ROPS"
        rows[name] = measured(options.work, f"merge-{merge}", options.data, base, ["--merge", merge], of="whole")
    for part in ("cue", "gate"):
        rows[f"without {part}"] = measured(options.work, f"no-{part}", options.data, [*base, "--without", part], [])
    if options.without_registration:
        unregistered = [*base, "--register", "off", "--scale", 1]
        rows["without registration"] = measured(options.work, "no-registration", options.data, unregistered, [])
    print(f"| variant | {' | '.join(COLUMNS)} |\n|---|" + "---|" * len(COLUMNS))
    for name, figures in rows.items():
        print(f"| {name} | " + " | ".join("-" if figures[c] is None else f"{figures[c]:.4f}" for c in COLUMNS) + " |")


if __name__ == "__main__":
    main()
