"""The network by ONNX Runtime's CUDA provider, where that package is there: as the CPU's, and how quick.

    python tests/gpu/onnxruntime_cuda.py PREPARED [--json FILE] [--provider CUDAExecutionProvider]

Tiles and cues are those of the prepared bundle's own board. For each precision: tiles a second of calls with 64 tiles
that lie in the host's memory, and how far scores are from the CPU's.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime as ort

from hisir_edge.bundle.load import Bundle, load_bundle
from hisir_edge.geometry.tile import plan_from_size, scaled_hw, tiles_from_planes
from hisir_edge.inspection.cpu.onnxruntime import session_options

TILES, CHECKED, CALLS = 64, 8, 9
NETWORKS = {"fp32": "cpu/model.onnx", "fp16": "onnx/fp16.onnx", "int8": "onnx/int8.onnx"}


def tiles_of(bundle: Bundle, count: int) -> dict[str, np.ndarray]:
    """``count`` tiles of the golden image, (count, 3, t, t), with their cues, (count, 4, t, t), both uint8."""
    recipe = bundle.recipe
    plan = plan_from_size(scaled_hw(recipe.frame_hw, recipe.scale), recipe.tile_px, recipe.overlap_px)
    numbers = [number % len(plan.origins_yx) for number in range(count)]
    cues = np.empty((count, 4, recipe.tile_px, recipe.tile_px), np.uint8)
    tiles_from_planes(plan, bundle.memory, np.array(numbers), cues)
    return {"tile": np.ascontiguousarray(cues[:, :3]), "cue": cues}


def measured(model: Path, given: dict[str, np.ndarray], provider: str) -> dict[str, Any]:
    """Of one precision; what the provider refuses is told in its words."""
    if not model.is_file():
        return {"not_measured": "this network was not prepared"}
    try:
        session = ort.InferenceSession(str(model), session_options(0), providers=[provider])
    except Exception as error:
        return {"failed": str(error).splitlines()[0][:300]}
    if session.get_providers()[0] != provider:
        return {"not_measured": f"ONNX Runtime took {session.get_providers()[0]} instead"}
    few = {name: array[:CHECKED] for name, array in given.items()}
    on_cpu = ort.InferenceSession(str(model), session_options(0), providers=["CPUExecutionProvider"])
    expected, seen = (one.run(["score"], few)[0] for one in (on_cpu, session))
    session.run(None, given)
    seconds = []
    for _ in range(CALLS):
        start = time.perf_counter()
        session.run(None, given)
        seconds.append(time.perf_counter() - start)
    return {
        "tiles_per_s": TILES / median(seconds), "most_off": float(np.abs(seen - expected).max()),
        "scores_to": float(np.abs(expected).max()),
    }  # fmt: skip


def main() -> None:
    """One JSON; ``not_measured`` where this ONNX Runtime has no such provider."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--provider", default="CUDAExecutionProvider")
    options = parser.parse_args()
    there = ort.get_available_providers()
    if options.provider in there:
        given = tiles_of(load_bundle(options.prepared / "cpu"), TILES)
        found: dict[str, Any] = {
            name: measured(options.prepared / place, given, options.provider) for name, place in NETWORKS.items()
        }
        found["onnxruntime"] = ort.__version__
    else:
        found = {"not_measured": f"onnxruntime {ort.__version__} here has {', '.join(there)}, not {options.provider}"}
    text = json.dumps(found, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text)


if __name__ == "__main__":
    main()
