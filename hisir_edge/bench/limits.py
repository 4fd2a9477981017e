"""Limits of the machine, for ``hisir-edge bench``: a matrix product and a copy, where the network runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from hisir_edge.cuda.inspector import CudaInspector
from hisir_edge.inspection.board import BoardInspector
from hisir_edge.machine.gpus import gpus

MATRIX, GPU_MATRIX = 2048, 8192
COPY_BYTES, GPU_COPY_BYTES = 1 << 27, 1 << 28


class CpuLimits:
    """NumPy's float32 matrix product on every core, and a copy by one thread."""

    def __init__(self) -> None:
        self.a, self.b = np.random.default_rng(0).random((2, MATRIX, MATRIX), np.float32)
        self.source, self.target = np.ones((2, COPY_BYTES), np.uint8)

    def measured(self) -> dict[str, float]:
        """``matmul_gflops`` and ``copy_gb_per_s``: bytes read and written."""
        start = time.perf_counter()
        self.a @ self.b
        multiplied = time.perf_counter()
        np.copyto(self.target, self.source)
        copied = time.perf_counter()
        return {
            "matmul_gflops": 2 * MATRIX**3 / (multiplied - start) / 1e9,
            "copy_gb_per_s": 2 * COPY_BYTES / (copied - multiplied) / 1e9,
        }

    def memory(self) -> dict[str, float]:
        """Nothing that the process itself does not show."""
        return {}

    def close(self) -> None:
        """Nothing is held."""


class GpuLimits:
    """torch's half-precision matrix product, where there is torch for this GPU, and a copy within its memory."""

    def __init__(self, inspector: CudaInspector) -> None:
        self.device = inspector.device
        with self.device.active():
            self.stream = self.device.stream()
            self.events = [self.device.event(timed=True) for _ in range(2)]
            self.source, self.target = self.device.alloc(GPU_COPY_BYTES), self.device.alloc(GPU_COPY_BYTES)
        self.torch = _torch_on_gpu()

    def measured(self) -> dict[str, float]:
        """As ``CpuLimits.measured``; without a product that cannot be measured."""
        start, end = self.events
        with self.device.active():
            start.record(self.stream)
            self.stream.copy_within(self.target, self.source)
            end.record(self.stream)
            end.wait()
            copy_s = end.seconds_since(start)
        found = {"copy_gb_per_s": 2 * GPU_COPY_BYTES / copy_s / 1e9}
        return found if self.torch is None else {"matmul_gflops": self._matmul_gflops(self.torch), **found}

    def _matmul_gflops(self, torch: Any) -> float:
        with self.device.active():
            a = torch.ones(GPU_MATRIX, GPU_MATRIX, dtype=torch.float16, device="cuda")
            a @ a  # what is loaded at the first call
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(4):
                a @ a
            torch.cuda.synchronize()
            seconds = time.perf_counter() - start
            del a
            torch.cuda.empty_cache()
            return 4 * 2 * GPU_MATRIX**3 / seconds / 1e9

    def memory(self) -> dict[str, float]:
        """``gpu_memory_mb``: in use on the GPU, by whomever, without what is held here."""
        with self.device.active():
            return {"gpu_memory_mb": (self.device.used_bytes() - 2 * GPU_COPY_BYTES) / 1e6}

    def close(self) -> None:
        """Give the copy's memory back."""
        with self.device.active():
            self.device.free(self.source, self.target)


def device_name(inspector: BoardInspector) -> str:
    """The GPU, or the processor, as they name themselves."""
    if isinstance(inspector, CudaInspector):
        return next((gpu.name for gpu in gpus()), "a GPU")
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "a CPU"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "a CPU")


def _torch_on_gpu() -> Any:
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None
