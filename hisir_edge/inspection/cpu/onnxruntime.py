"""ONNX Runtime on the CPU: the embedded default."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort

from hisir_edge.arrays import F32, U8
from hisir_edge.errors import BundleError, InspectionError
from hisir_edge.machine.cpu import int8_instructions

LEAST_ONNXRUNTIME = "1.21"
"""The int8 graph needs DepthToSpace of uint8, which came with it."""
PIXELS_PER_CALL = 2**18
"""Four tiles of 256 px: with one thread a call, more are slower (caches) and hold more memory, fewer cost calls."""


def session_options(threads: int) -> ort.SessionOptions:
    """Session options of every network: only errors in the log, and int8 sums that are the same on each processor."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not int8_instructions():
        # sums of eight-bit products would saturate: not the map that the gate saw. With VNNI nothing saturates, and
        # the exact way of the other processors takes 1.3 to 1.8 times as long
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


class OnnxRuntimeEngine:
    """Runs a bundle's ONNX file; buffers are bound, not copied.

    Threads each run calls of their own rather than share one: threads that share a network wait for each other at
    every operator, which costs a fifth of the time on two cores. Where a frame has fewer calls than there are
    threads, they share them.
    """

    def __init__(self, model: Path | bytes, tile_px: int, threads: int, tiles_per_frame: int = 1) -> None:
        """``model``: an ONNX file, or its content."""
        self.batch = max(1, min(PIXELS_PER_CALL // tile_px**2, -(-tiles_per_frame // threads)))
        self.callers = min(threads, -(-tiles_per_frame // self.batch))
        options = session_options(threads // self.callers)
        source = model if isinstance(model, bytes) else str(model)
        try:
            self.session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises many types, all of them "this file does not load"
            name, said = "its bytes" if isinstance(model, bytes) else str(model), str(error).splitlines()[0][:160]
            if "NOT_IMPLEMENTED" in said or "Unsupported model IR version" in said or "opset" in said.lower():
                raise BundleError(
                    expected=f"ONNX Runtime {LEAST_ONNXRUNTIME} or later for {name}",
                    received=f"{ort.__version__}: {said}",
                    fix="pip install -U onnxruntime",
                ) from error
            raise BundleError(
                expected=f"a model that ONNX Runtime {ort.__version__} can load",
                received=f"{name}: {said}",
                fix="rebuild the bundle with hisir-edge build-engine",
            ) from error

    def infer(self, tiles: U8, cues: U8, scores: F32, misfit: F32) -> None:
        """See ``Engine.infer``; all four arrays C-contiguous."""
        binding = self.session.io_binding()
        for name, array in (("tile", tiles), ("cue", cues)):
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for name, result in (("score", scores), ("misfit", misfit)):
            binding.bind_output(name, "cpu", 0, np.float32, result.shape, result.ctypes.data)
        try:
            self.session.run_with_iobinding(binding)
        except Exception as error:  # see above; whatever it is, the scores are void
            raise InspectionError(
                expected="the engine to run",
                received=str(error).splitlines()[0][:160],
                fix="verify or rebuild the bundle",
            ) from error
