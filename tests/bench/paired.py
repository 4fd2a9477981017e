"""Two checkouts' ``hisir-edge bench``, taking turns: whether a change made the line slower.

    python tests/bench/paired.py BEFORE AFTER [--bundle engines/demo] [--turns 5] [--rounds 3] [--json FILE]

BEFORE and AFTER are folders of checkouts. Each turn measures both, in the order AB, BA, AB, ...; the figures are the
medians of each, and the median of the turns' ratios. Exit code 1 where a ratio is above ``--limit`` (1.03).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

FIGURES = ("latency_p50_s", "s_per_megapixel", "register_s", "tile_s", "infer_s", "merge_s", "judge_s", "encode_s")
DECISIVE = ("latency_p50_s", "s_per_megapixel")
"""Figures that are compared with the limit; the stages, of some milliseconds, are shown."""


def measured(checkout: Path, bundle: Path, rounds: int) -> dict[str, float]:
    """One ``bench`` of a checkout."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "bench.json"
        command = [sys.executable, "-m", "hisir_edge", "bench", "--bundle", bundle, "--rounds", rounds, "--json", out]
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        subprocess.run([str(c) for c in command], check=True, capture_output=True, env=environment, cwd=folder)
        found: dict[str, float] = json.loads(out.read_text())
    return found


def main() -> None:
    """Measure, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkouts", type=Path, nargs=2)
    parser.add_argument("--bundle", type=Path, default=Path("engines/demo"))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=1.03)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    bundle = options.bundle.resolve()
    pairs: list[tuple[dict[str, float], dict[str, float]]] = []
    for turn in range(options.turns):
        order = (0, 1) if turn % 2 == 0 else (1, 0)
        both = {n: measured(options.checkouts[n].resolve(), bundle, options.rounds) for n in order}
        pairs.append((both[0], both[1]))
        print(f"turn {turn + 1}: {both[0]['latency_p50_s']:.3f} s, {both[1]['latency_p50_s']:.3f} s", file=sys.stderr)
    rows = {}
    for name in FIGURES:
        before, after = (statistics.median(pair[n][name] for pair in pairs) for n in (0, 1))
        ratio = statistics.median(b[name] / a[name] for a, b in pairs if a[name])
        rows[name] = {"before": before, "after": after, "ratio": ratio}
        print(f"{name:18s} {before:.4f} {after:.4f} {ratio:.3f}")
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1))
    sys.exit(any(rows[name]["ratio"] > options.limit for name in DECISIVE))


if __name__ == "__main__":
    main()
