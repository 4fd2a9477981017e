"""A bundle's compiled engine on the first GPU of this machine."""

from __future__ import annotations

from typing import Any

from hisir_edge.bundle.load import Bundle
from hisir_edge.cuda.inspector import CudaInspector


def inspector_on_gpu(bundle: Bundle, trt: Any, plan: bytes, look: bytes | None = None) -> CudaInspector:
    """A bundle's compiled engine, and its first look, on the first GPU; InputError or BundleError where that fails."""
    from hisir_edge.cuda.pycuda_device import first_device
    from hisir_edge.cuda.tensorrt_engine import TensorRtEngine, TensorRtLook

    carries_runtime = bool(bundle.manifest.engine and bundle.manifest.engine.version_compatible)
    tile_px = bundle.recipe.tile_px
    return CudaInspector(
        bundle, first_device(), lambda: TensorRtEngine(trt, plan, tile_px, carries_runtime),
        None if look is None else lambda: TensorRtLook(trt, look, tile_px, carries_runtime),
    )  # fmt: skip
