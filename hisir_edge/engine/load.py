"""From a bundle to an engine of its target; the one place that chooses a backend."""

from __future__ import annotations

import os

from hisir_edge.engine.bundle import Bundle
from hisir_edge.line.infer import Engine
from hisir_edge.line.infer_onnxruntime import OnnxRuntimeEngine


def available_threads() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


def engine_from_bundle(bundle: Bundle, threads: int = 0) -> Engine:
    """Load the bundle's engine; ``threads`` 0 takes every core there is."""
    return OnnxRuntimeEngine(bundle.model, bundle.recipe.tile_px, threads or available_threads())
