"""The only place that imports by name: packages that a base install lacks, and the parts that ``registry.py`` lists."""

from __future__ import annotations

import importlib
from typing import Any

USED_BY = {
    "pycuda.driver": "hisir_edge.cuda.pycuda_device",
    "tensorrt": "hisir_edge.machine.tensorrt",
    "tensorrt_rtx": "hisir_edge.machine.tensorrt",
    "zxingcpp": "hisir_edge.line.barcode",
}
"""Each optional package that may be asked for, and the module that asks."""
REGISTRIES = {
    "CAMERAS": ("hisir_edge.config.sources", "hisir_edge.camera.factory"),
    "BACKBONES": ("hisir_edge.net.backbones",),
    "SINKS": ("hisir_edge.mes.sinks",),
    "TARGETS": ("hisir_edge.backends", "hisir_edge.engine.compiler"),
}
"""Each table of ``registry.py``, and the modules that load its parts."""


def optional_module(name: str) -> Any:
    """The module of one of ``USED_BY``; ImportError or OSError where it is not installed or does not load."""
    if name not in USED_BY:
        raise ValueError(f"expected one of {', '.join(USED_BY)}; got {name}")
    return importlib.import_module(name)


def part(where: str) -> Any:
    """A part of ``registry.py`` as it stands there: ``package.module:attribute``."""
    module, _, attribute = where.partition(":")
    return getattr(importlib.import_module(module), attribute)
