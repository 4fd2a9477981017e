"""Measures one bundle on this machine: time per stage, memory, arithmetic against the machine's own peak.

Run by ``make bench`` in a process of its own, so that the memory is the line's alone:
``python tests/bench/line_speed.py BUNDLE ROUNDS`` prints one JSON object. Frames and matrix products take
turns in one process; medians are reported, because the machine may be shared.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

from hisir_edge.engine.bundle import load_bundle
from hisir_edge.engine.load import available_threads, engine_from_bundle
from hisir_edge.line.inspect import Inspector
from hisir_edge.line.publish import Recipe, message_from_judgement
from hisir_edge.records import Frame
from hisir_edge.sim.synth import render_board

MATRIX = 2048


def _resident_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _matmul_gflops(a: np.ndarray, b: np.ndarray) -> float:
    start = time.perf_counter()
    a @ b
    return 2 * MATRIX**3 / (time.perf_counter() - start) / 1e9


def main() -> None:
    bundle = load_bundle(Path(sys.argv[1]))
    rounds = int(sys.argv[2])
    frame_path = Path(sys.argv[3])
    rgb = np.load(frame_path)
    inspector = Inspector(bundle, engine_from_bundle(bundle))
    recipe = Recipe("bench", "0" * 32, bundle.manifest.product, bundle.manifest_sha256)
    rows: list[dict[str, float]] = []
    result = ""
    for number in range(rounds + 1):
        start = time.perf_counter()
        judgement = inspector.inspect(rgb)
        message = message_from_judgement(recipe, 1, Frame(rgb, "bench", 1, "board", 0), judgement)
        size = sum(map(len, message.frames()))
        total = time.perf_counter() - start
        result = judgement.result.value
        t = judgement.times
        row = {
            "end_to_end_s": total, "infer_s": t.infer_s, "register_s": t.register_s, "tile_s": t.tile_s,
            "merge_s": t.merge_s, "judge_s": t.judge_s, "encode_s": total - t.total_s, "message_bytes": size,
        }  # fmt: skip
        if number:  # the first one warms up
            rows.append(row)
    resident = _resident_mib()
    a, b = np.random.default_rng(0).random((2, MATRIX, MATRIX), np.float32)
    peaks, paired = [], []
    for _ in range(rounds):
        peaks.append(_matmul_gflops(a, b))
        start = time.perf_counter()
        inspector.inspect(rgb)
        paired.append(time.perf_counter() - start)
        peaks.append(_matmul_gflops(a, b))
    figures = {key: median(row[key] for row in rows) for key in rows[0]}
    figures |= {
        "verdict": result, "tiles": len(inspector.plan.origins_yx), "threads": available_threads(),
        "not_network_share": 1 - figures["infer_s"] / figures["end_to_end_s"], "resident_mib": resident,
        "matmul_gflops": median(peaks), "rounds": rounds, "end_to_end_fastest_s": min(r["end_to_end_s"] for r in rows),
    }  # fmt: skip
    print(json.dumps(figures))


def render(product: int, path: Path, size_wh: tuple[int, int]) -> None:
    """A good board to measure on, kept as a plain array so that no decoder is in the figures."""
    np.save(path, render_board(product, 987_654_321, size_wh).frame_rgb)


if __name__ == "__main__":
    main()
