"""An engine for the emulated driver: ONNX Runtime on its memory, which is the host's."""

from __future__ import annotations

import ctypes

from support.host_device import HostEngine

from hisir_edge.errors import HisirEdgeError


class EmulatedEngine(HostEngine):
    """ONNX Runtime as a host function in the emulated stream, whose memory is the host's."""

    def __init__(self, bundle) -> None:
        super().__init__(bundle, 16)
        self.driver = ctypes.CDLL("libcuda.so.1")
        self.calls: list[object] = []

    def enqueue(self, count, tile, cue, score, misfit, stream):
        if self.spoil == "failure":
            raise HisirEdgeError(expected="the engine to run", received="no", fix="none")
        call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: self.run_at(count, tile, cue, score, misfit))
        self.calls.append(call)  # a graph calls it again
        assert self.driver.cuLaunchHostFunc(ctypes.c_void_p(stream.handle), call, None) == 0
