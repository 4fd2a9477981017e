"""What other methods reach on the same boards, for docs/RESULTS.md.

    python tests/bench/peers.py BUNDLE DATA              a golden-image difference
    python tests/bench/peers.py BUNDLE DATA DRAEM.onnx   what draem_train.py made

The network's place is taken by the other method, everything else is the line's own path: registration,
light, tiles, merging. Ranking figures only, since the bundle's thresholds are not those of the other method.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from hisir_edge.backends import onnxruntime_engine
from hisir_edge.bundle.load import load_bundle
from hisir_edge.engine.acceptance.difference import GoldenDifference
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.engine import Engine
from hisir_edge.inspection.rops import Rops
from hisir_edge.learn.evaluation.evaluate import evaluate_inspector
from hisir_edge.learn.evaluation.figures import figures
from hisir_edge.machine.cpu import available_threads


def main() -> None:
    """Print the figures of DATA, cut and registered as BUNDLE says."""
    bundle = load_bundle(Path(sys.argv[1]))
    # the noise of our network is not that of the other method: one gain everywhere
    bundle = replace(bundle, noise=np.zeros_like(bundle.noise), zones=bundle.zones[:1] if bundle.area else ())
    engine: Engine = GoldenDifference()
    if len(sys.argv) > 3:
        engine = onnxruntime_engine(Path(sys.argv[3]), bundle.recipe, available_threads())
    inspector = CpuInspector(bundle, engine, Rops)
    measured = figures(evaluate_inspector(inspector, Path(sys.argv[2])))
    kept = ("images", "pixel_auroc", "aupro", "image_auroc", "by_class")
    json.dump({name: measured[name] for name in kept}, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
