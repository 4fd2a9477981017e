"""Seconds a megapixel at several frame sizes, taking turns in one process, for docs/RESULTS.md.

    PYTHONPATH=tests python tests/bench/sizes.py engines/demo [--sizes 2048x2048 4096x3000 8192x6144] [--rounds 9]

Each size has its own line, two frames in flight, frame to encoded message. A turn inspects about as many pixels at each
size, so that all see the same minute of a shared machine. Memory is not looked at: `hisir-edge bench` does that.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from hisir_edge.backends import inspector_from_bundle
from hisir_edge.bench.measure import _in_a_row, _Work, bundle_of_size
from hisir_edge.bundle.load import load_bundle
from hisir_edge.cli.console import size_from_text
from hisir_edge.inspection.board import in_flight
from hisir_edge.inspection.selftest import picture_of
from hisir_edge.line.pipeline import Pipeline
from hisir_edge.line.sockets.message import Provenance
from hisir_edge.machine.heap import return_freed_memory

PIXELS_A_TURN = 5e7


def main() -> None:
    """Measure in turns and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--sizes", nargs="+", default=["2048x2048", "4096x3000", "8192x6144"])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    return_freed_memory()
    bundle = load_bundle(options.bundle)
    picture, recipe = (
        picture_of(bundle),
        Provenance(line="bench", epoch="0" * 32, product="bench", bundle_sha256="0" * 64),
    )
    lines = []
    for text in options.sizes:
        w, h = size_from_text(text)
        frame = np.asarray(cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA), np.uint8)
        inspector, work = inspector_from_bundle(bundle_of_size(bundle, (h, w))), _Work(recipe, frame)
        pipeline = Pipeline(in_flight(inspector, 2), lambda one, _, work=work: work.verdict(one), lambda _: None)  # type: ignore[misc]
        lines.append((text, h * w / 1e6, pipeline, inspector, max(2, round(PIXELS_A_TURN / (h * w)))))
    for _, _, pipeline, _, _ in lines:
        pipeline.__enter__()
        _in_a_row(pipeline, 1)
    rows = [[_in_a_row(pipeline, frames) / mp for _, mp, pipeline, _, frames in lines] for _ in range(options.rounds)]
    for _, _, pipeline, inspector, _ in lines:
        pipeline.__exit__(None, None, None)
        inspector.close()
    medians = [median(column) for column in zip(*rows, strict=True)]
    for (text, _, _, inspector, frames), seen in zip(lines, medians, strict=True):
        tiles_a_mp = len(inspector.numbers) / (inspector.plan.frame_hw[0] * inspector.plan.frame_hw[1] / 1e6)
        print(f"{text}: {seen:.4f} s a megapixel, {1e3 * seen / tiles_a_mp:.2f} ms a tile, {frames} frames a turn")
    apart, in_a_turn = max(medians) / min(medians) - 1, median(max(row) / min(row) - 1 for row in rows)
    print(f"least to most: {100 * apart:.1f} % of the medians, {100 * in_a_turn:.1f} % in a turn")


if __name__ == "__main__":
    main()
