"""``hisir-edge`` on the emulated driver, with ONNX Runtime for an engine: python tests/gpu/emulated_line.py run ..."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from test_gpu import EmulatedEngine  # noqa: E402

import hisir_edge.line.products as products  # noqa: E402
from hisir_edge.cli import main  # noqa: E402
from hisir_edge.cuda.device import first_device  # noqa: E402
from hisir_edge.cuda.line import CudaInspector  # noqa: E402

products.inspector_from_bundle = lambda bundle, threads=0: CudaInspector(
    bundle, first_device(), lambda: EmulatedEngine(bundle)
)
main()
