"""A network run by torch behind the engine protocol, on machines where it is trained: its calls are CUDA graphs.

Where TensorRT does not run (no release of it knows the GPU, or it is not installed) this proves tiles, ROPS, slots and
overlap on a real GPU, and says what they cost beside an engine. The daemon never uses it: a bundle has no weights for
it. On the device "cpu", whose addresses are the host's, the same code runs without graphs.
"""

from __future__ import annotations

import ctypes
from threading import Lock, get_ident
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hisir_edge.cuda.device import Stream

TILES_A_CALL = 64
_capturing = Lock()
"""One capture at a time: its beginning waits for the whole device, which no other capture survives."""


class TorchEngine:
    """See ``DeviceEngine``; made and used within ``Device.active``, where the device is a GPU."""

    captures = half_planes = True
    least = 1

    def __init__(self, net: nn.Module, tile_px: int, device: str = "cuda", batch: int = TILES_A_CALL) -> None:
        """``net``: seven centred planes (n, 7, t, t) -> float32 score (n, t, t) and misfit (n, t / 16, t / 16)."""
        self.tile_px, self.device, self.batch = tile_px, device, batch
        self.dtype = torch.float32 if device == "cpu" else torch.float16
        placed: Any = net.eval().requires_grad_(False).to(device, self.dtype)
        self.net: nn.Module = placed.to(memory_format=torch.channels_last)

    def context(self) -> TorchContext:
        """See ``DeviceEngine``."""
        return TorchContext(self)


class TorchContext:
    """A frame's graphs, one for each call's addresses; the first frame's calls run as they are, and warm up."""

    def __init__(self, engine: TorchEngine) -> None:
        self.engine = engine
        self.graphs: dict[tuple[int, ...], torch.cuda.CUDAGraph] = {}
        self.warm: set[tuple[int, tuple[int, ...]]] = set()
        """Calls that a thread has run as they are: what libraries keep for a thread is not made while one records."""
        self.pool: Any = None

    def enqueue(self, count: int, tile: int, cue: int, score: int, misfit: int, stream: Stream) -> None:
        """See ``DeviceContext``; ``cue`` is not used."""
        key = (count, tile, score, misfit)
        if self.engine.device == "cpu":
            self._run(*key)
            return
        ours: torch.cuda.Stream = torch.cuda.ExternalStream(stream.handle)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(ours):
            graph = self.graphs.get(key)
            if graph is None and (get_ident(), key) not in self.warm:
                self.warm.add((get_ident(), key))
                self._run(*key)
                return
            if graph is None:
                graph = self.graphs[key] = self._captured(key, ours)
            graph.replay()

    def _captured(self, key: tuple[int, int, int, int], stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with (
            _capturing,
            torch.cuda.graph(graph, pool=self.pool, stream=stream, capture_error_mode="thread_local"),
        ):
            self._run(*key)
        # calls of a context follow each other in one stream: they may use the same memory
        self.pool = self.pool or graph.pool()
        return graph

    @torch.inference_mode()
    def _run(self, count: int, tile: int, score: int, misfit: int) -> None:
        device, t = self.engine.device, self.engine.tile_px
        planes = tensor_at(tile, (count, 7, t, t), np.float16, device)
        found = self.engine.net(planes.to(self.engine.dtype).contiguous(memory_format=torch.channels_last))
        for address, shape, made in ((score, (t, t), found[0]), (misfit, (t // 16, t // 16), found[1])):
            tensor_at(address, (count, *shape), np.float32, device).copy_(made)


class _Memory:
    """Memory of the GPU that somebody else owns, as torch takes it in.

    https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html
    """

    def __init__(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape, "typestr": dtype.str, "data": (address, False), "version": 3, "strides": None,
            "stream": None,
        }  # fmt: skip


def tensor_at(address: int, shape: tuple[int, ...], dtype: type[np.generic], device: str) -> Tensor:
    """A tensor over memory that somebody else owns: of the GPU, or the host's for the device "cpu"."""
    kind = np.dtype(dtype)
    if device != "cpu":
        return torch.as_tensor(_Memory(address, shape, kind), device=device)
    raw: Any = (ctypes.c_uint8 * (int(np.prod(shape)) * kind.itemsize)).from_address(address)
    return torch.from_numpy(np.frombuffer(raw, kind).reshape(shape))
