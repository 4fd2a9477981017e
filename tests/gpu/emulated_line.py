"""``hisir-edge`` on the emulated driver, with ONNX Runtime for an engine: python tests/gpu/emulated_line.py run ..."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from emulated_engine import EmulatedEngine

from hisir_edge.bench import measure as bench
from hisir_edge.cli.main import main
from hisir_edge.cuda.inspector import CudaInspector
from hisir_edge.cuda.pycuda_device import first_device
from hisir_edge.line import products


def inspector_from_bundle(bundle, threads=0):
    """In place of the one that asks for TensorRT."""
    return CudaInspector(bundle, first_device(), lambda: EmulatedEngine(bundle))


products.inspector_from_bundle = bench.inspector_from_bundle = inspector_from_bundle
main()
