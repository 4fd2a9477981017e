"""What each part is worth: the network trained without it, for the same steps or time, on the same boards.

    python tests/bench/ablation.py DATA WORK --steps 1500 [--backbone unet] [--seed 0] [--without-registration]
    python tests/bench/ablation.py DATA WORK --minutes 20

Trains and measures the whole network, merged in every way from the same tile results, then each variant, in
WORK; what is finished there is kept, so that the command can be stopped and repeated. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from hisir_edge.arrays import F32, U8
from hisir_edge.backends import engine_from_bundle
from hisir_edge.bundle.load import load_bundle
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.engine import Engine
from hisir_edge.learn.evaluation.evaluate import evaluate_inspector
from hisir_edge.learn.evaluation.figures import figures
from hisir_edge.learn.evaluation.merge_baselines import MERGES, merge_from_name

COLUMNS = ("pixel_auroc", "aupro", "image_auroc", "recall_from_6px_at_0.1_false_regions", "false_calls_per_board")


class Remembering:
    """An engine that is asked once for each batch of the data set and then repeats itself after ``rewind``."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.batch, self.callers = engine, engine.batch, 1
        self.known: list[tuple[F32, F32]] = []
        self.next = 0

    def rewind(self) -> None:
        """The data set begins again."""
        self.next = 0

    def infer(self, tiles: U8, cues: U8, scores: F32, misfit: F32) -> None:
        """See ``Engine.infer``."""
        if self.next == len(self.known):
            self.engine.infer(tiles, cues, scores, misfit)
            self.known.append((scores.copy(), misfit.copy()))
        scores[:], misfit[:] = self.known[self.next]
        self.next += 1


def hisir_edge(*arguments: object) -> None:
    """Run a command of the product; its progress goes to standard error."""
    subprocess.run([sys.executable, "-m", "hisir_edge", *map(str, arguments)], check=True, stdout=sys.stderr)


def measured(work: Path, name: str, data: Path, training: list[object], merges: tuple[str, ...]) -> dict[str, dict]:
    """Figures of one variant by merge; trained, built and measured unless that is done."""
    run, bundle = work / f"run-{name}", work / f"bundle-{name}"
    files = {merge: work / f"{name}-{merge}.json" for merge in merges}
    if not all(file.exists() for file in files.values()):
        if not (bundle / "manifest.json").exists():
            hisir_edge("train", "--data", data, "--out", run, *training)
            options = ["--precision", "fp32", "--false-calls-per-board", 0.1, "--least-planted-recall", 0]
            hisir_edge("build-engine", run, *options, "--out", bundle)
        loaded = load_bundle(bundle)
        engine = Remembering(engine_from_bundle(loaded))
        for merge, file in files.items():
            engine.rewind()
            inspector = CpuInspector(loaded, engine, merge_from_name(merge))
            file.write_text(json.dumps(figures(evaluate_inspector(inspector, data)), indent=1))
    return {merge: json.loads(file.read_text()) for merge, file in files.items()}


def main() -> None:
    """Measure every variant and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument(
        "--minutes", type=float, help="training time of each variant, on a machine that does nothing else"
    )
    length.add_argument("--steps", type=int, help="training steps of each variant")
    parser.add_argument("--backbone", default="unet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without-registration", action="store_true", help="also train without it (boards only)")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    base = ["--backbone", options.backbone, "--seed", options.seed, "--steps", options.steps or 10**6]
    if options.minutes is not None:
        base += ["--max-minutes", options.minutes]
    rows = {}
    for merge, figures_ in measured(options.work, "whole", options.data, base, tuple(MERGES)).items():
        rows["whole network" if merge == "rops" else f"merged by {merge} instead of ROPS"] = figures_
    for part in ("cue", "gate"):
        training = [*base, "--without", part]
        rows[f"without {part}"] = measured(options.work, f"no-{part}", options.data, training, ("rops",))["rops"]
    if options.without_registration:
        training = [*base, "--register", "off", "--scale", 1]
        rows["without registration"] = measured(options.work, "no-registration", options.data, training, ("rops",))[
            "rops"
        ]
    print(f"| variant | {' | '.join(COLUMNS)} |\n|---|" + "---|" * len(COLUMNS))
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join("-" if values[c] is None else f"{values[c]:.4f}" for c in COLUMNS) + " |")


if __name__ == "__main__":
    main()
