"""The only place that imports by name: packages that a base install lacks, each for the one module that uses it."""

from __future__ import annotations

import importlib
from typing import Any

USED_BY = {
    "pycuda.driver": "hisir_edge.cuda.pycuda_device",
    "tensorrt": "hisir_edge.machine.tensorrt",
    "tensorrt_rtx": "hisir_edge.machine.tensorrt",
    "zxingcpp": "hisir_edge.inspection.barcode",
}
"""Each module that may be asked for, and the one that asks."""


def optional_module(name: str) -> Any:
    """The module of one of ``USED_BY``; ImportError or OSError where it is not installed or does not load."""
    if name not in USED_BY:
        raise ValueError(f"expected one of {', '.join(USED_BY)}; got {name}")
    return importlib.import_module(name)
