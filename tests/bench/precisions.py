"""Each backbone in each precision: accuracy, size, speed; for docs/RESULTS.md.

    python tests/bench/precisions.py WORK DATA RUN ...

Builds fp32, fp16 and int8 bundles of every RUN for ONNX Runtime, and fp16 and int8 for TensorRT for RTX where that is
installed, in WORK; what is there is kept, so that the command can be stopped and repeated. Measures the ONNX Runtime
ones on DATA, then times them on the same tiles, taking turns in one process. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from hisir_edge.backends import engine_from_bundle
from hisir_edge.bundle.files import ENGINE, MODEL
from hisir_edge.bundle.load import load_bundle
from hisir_edge.learn.evaluation.evaluate import evaluate
from hisir_edge.learn.evaluation.figures import figures

PRECISIONS = ("fp32", "fp16", "int8")
ROUNDS = 7
TILES = 32


def built(work: Path, run: Path, target: str, precision: str) -> tuple[Path, float]:
    """A bundle and the seconds that its build took; built unless it is there."""
    out = work / f"{run.name}-{target}-{precision}"
    took = work / f"{out.name}.seconds"
    if not took.exists():
        start = time.monotonic()
        options = ["--target", target, "--precision", precision, "--false-calls-per-board", "0.1", "--out", str(out)]
        options += ["--least-planted-recall", "0"]  # it is measured, not deployed
        if target == "tensorrt-rtx":
            options += ["--gpu-arch", "sm86,sm89"]
        command = [sys.executable, "-m", "hisir_edge", "build-engine", str(run), *options]
        subprocess.run(command, check=True, stdout=sys.stderr)
        took.write_text(f"{time.monotonic() - start:.0f}")
    return out, float(took.read_text())


def measured(work: Path, bundle: Path, data: Path) -> dict:
    """The figures of a bundle on the data set; measured unless they are there."""
    file = work / f"{bundle.name}.json"
    if not file.exists():
        file.write_text(json.dumps(figures(evaluate(bundle, data)), indent=1))
    return json.loads(file.read_text())


def seconds_per_tile(bundles: dict[str, Path]) -> dict[str, float]:
    """Median seconds a tile of each bundle's engine, on the same tiles, in turn."""
    engines = {name: (load_bundle(path), engine_from_bundle(load_bundle(path))) for name, path in bundles.items()}
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(ROUNDS + 1):
        for name, (bundle, engine) in engines.items():
            t = bundle.recipe.tile_px
            tiles = rng.integers(0, 256, (engine.batch, 3, t, t), dtype=np.uint8)
            cues = rng.integers(0, 256, (engine.batch, 4, t, t), dtype=np.uint8)
            scores = np.empty((engine.batch, t, t), np.float32)
            misfit = np.empty((engine.batch, t // 16, t // 16), np.float32)
            start = time.perf_counter()
            for _ in range(max(1, TILES // engine.batch)):
                engine.infer(tiles, cues, scores, misfit)
            if turn:  # the first round warms up
                seconds = time.perf_counter() - start
                times[name].append(seconds / (max(1, TILES // engine.batch) * engine.batch))
    return {name: float(np.median(values)) for name, values in times.items()}


def main() -> None:
    """Build, measure, time, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    print(
        "| run | precision | pixel AUROC | AUPRO | image AUROC | ONNX, MB | ms a tile | speed-up | build, s | RTX, MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for run in options.runs:
        bundles = {p: built(options.work, run, "onnxruntime", p) for p in PRECISIONS}
        values = {p: measured(options.work, bundle, options.data) for p, (bundle, _) in bundles.items()}
        speed = seconds_per_tile({p: bundle for p, (bundle, _) in bundles.items()})
        for p, (bundle, took) in bundles.items():
            v, engine = values[p], "-"
            if p != "fp32" and importlib.util.find_spec("tensorrt_rtx"):
                engine = f"{(built(options.work, run, 'tensorrt-rtx', p)[0] / ENGINE).stat().st_size / 1e6:.1f}"
            print(
                f"| {run.name} | {p} | {v['pixel_auroc']:.4f} | {v['aupro']:.4f} | {v['image_auroc']:.4f} "
                f"| {(bundle / MODEL).stat().st_size / 1e6:.2f} | {1e3 * speed[p]:.1f} "
                f"| {speed['fp32'] / speed[p]:.2f} "
                f"| {took:.0f} | {engine} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
