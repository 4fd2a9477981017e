"""A ``Device`` for tests without a GPU: the very kernels, compiled as C++, on the host's memory; and engines on it."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time

import numpy as np

from hisir_edge.backends import engine_from_bundle
from hisir_edge.cuda.device import Buffer
from hisir_edge.cuda.pycuda_device import BLOCK
from hisir_edge.errors import InspectionError
from hisir_edge.inspection.cascade.first_look import FirstLook


class HostDevice:
    """A ``Device`` whose memory is the host's; it insists on what a GPU would insist on."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library, self.local, self.streams = library, threading.local(), 0
        self.pinned_arrays: list[np.ndarray] = []
        self.launched: list[str] = []
        self.held: dict[int, object] = {}
        self.waits = self.made = 0
        self.broken = False

    @contextlib.contextmanager
    def active(self):
        self.local.active = getattr(self.local, "active", 0) + 1
        try:
            yield
        finally:
            self.local.active -= 1

    def check(self) -> None:
        assert getattr(self.local, "active", 0), "used outside of active()"

    def alloc(self, nbytes):
        self.check()
        if self.broken:
            raise InspectionError(expected="memory of the GPU", received="an illegal address", fix="none")
        self.made += 1
        owner = np.full(max(nbytes, 1), 0xA5, np.uint8)
        self.held[owner.ctypes.data] = owner
        return Buffer(owner.ctypes.data, nbytes, owner)

    def upload(self, host):
        there = self.alloc(host.nbytes)
        there.owner[: host.nbytes] = np.ascontiguousarray(host).view(np.uint8).ravel()
        return there

    def pinned(self, shape, dtype):
        self.check()
        host = np.zeros(shape, dtype)
        self.pinned_arrays.append(host)
        return host

    def free(self, *memory):
        self.check()
        for one in memory:
            if isinstance(one, Buffer):
                del self.held[one.ptr]  # once, and only what was given
            else:
                self.pinned_arrays = [host for host in self.pinned_arrays if host is not one]

    def used_bytes(self):
        self.check()
        return sum(owner.nbytes for owner in self.held.values())  # type: ignore[attr-defined]

    def stream(self):
        self.check()
        self.streams += 1
        return HostStream(self, self.streams)

    def event(self, timed=False):
        self.check()
        return HostEvent(self, timed)


class HostEvent:
    """When work is done at once, it is over when it is recorded."""

    def __init__(self, device, timed):
        self.device, self.timed, self.at = device, timed, None

    def record(self, stream):
        self.device.check()
        assert stream.recording is None, "an event in a graph has no time"
        self.at = time.perf_counter()

    def wait(self):
        self.device.check()
        assert self.at is not None, "nothing was recorded"
        self.device.waits += 1

    def seconds_since(self, other):
        self.device.check()
        assert self.timed and other.timed, "not a timed event"
        return self.at - other.at


class HostStream:
    """Work is done at once, or kept while it is recorded."""

    def __init__(self, device, handle):
        self.device, self.handle = device, handle
        self.recording: list | None = None
        self.launches = 0

    def do(self, work):
        self.device.check()
        if self.recording is None:
            work()
        else:
            self.recording.append(work)

    def _is_pinned(self, host):
        ours = self.device.pinned_arrays
        assert host.flags.c_contiguous and any(np.shares_memory(host, one) for one in ours), "not page-locked"

    def copy_in(self, to, host):
        self._is_pinned(host)
        assert host.nbytes == to.nbytes
        self.do(lambda: ctypes.memmove(to.ptr, host.ctypes.data, host.nbytes))

    def copy_out(self, host, source, offset_bytes=0):
        self._is_pinned(host)
        assert offset_bytes + host.nbytes <= source.nbytes
        self.do(lambda: ctypes.memmove(host.ctypes.data, source.ptr + offset_bytes, host.nbytes))

    def copy_within(self, to, source):
        assert to.nbytes == source.nbytes
        self.do(lambda: ctypes.memmove(to.ptr, source.ptr, source.nbytes))

    def launch(self, kernel, threads_xyz, *arguments):
        given = [ctypes.c_int(a) if isinstance(a, int) else ctypes.c_void_p(a.ptr if a else None) for a in arguments]
        grid = (ctypes.c_uint * 3)(*(-(-n // b) for n, b in zip(threads_xyz, BLOCK, strict=True)))
        self.device.launched.append(kernel)
        self.do(lambda: getattr(self.device.library, f"{kernel}_launch")(grid, (ctypes.c_uint * 3)(*BLOCK), *given))

    def recorded(self, work):
        self.recording = kept = []
        work()
        self.recording = None

        return HostGraph(self, kept)


class HostGraph:
    def __init__(self, stream, kept):
        self.stream, self.kept = stream, kept

    def __call__(self):
        self.stream.launches += 1
        for one in self.kept:
            one()

    def free(self):
        self.kept = None


class HostEngine:
    """ONNX Runtime on addresses; ``spoil`` makes it fail or forget numbers."""

    captures, least = False, 1

    def __init__(self, bundle, batch, half_planes=False):
        self.half_planes = half_planes
        self.batch, self.spoil, self.contexts = batch, "", 0
        self.real, self.t = engine_from_bundle(bundle, 1), bundle.recipe.tile_px
        self.shapes: set[int] = set()

    def context(self):
        self.contexts += 1
        return self

    def enqueue(self, count, tile, cue, score, misfit, stream):
        self.shapes.add(count)
        if self.spoil == "no graph" and stream.recording is not None:
            stream.recording = None
            raise InspectionError(expected="to be recorded", received="a refusal", fix="none")

        stream.do(lambda: self.run_at(count, tile, cue, score, misfit))

    def run_at(self, count, tile, cue, score, misfit):
        t, r = self.t, self.t // 16
        at = array_at

        if self.spoil == "failure":
            raise InspectionError(expected="the engine to run", received="no", fix="none")
        if self.half_planes:
            both = np.rint(at(tile, (count, 7, t, t), np.float16).astype(np.float32) * 255 + 128).astype(np.uint8)
            tiles, cues = np.ascontiguousarray(both[:, :3]), np.ascontiguousarray(both[:, 3:])
        else:
            tiles, cues = at(tile, (count, 3, t, t), np.uint8), at(cue, (count, 4, t, t), np.uint8)
        scores, fit = at(score, (count, t, t), np.float32), at(misfit, (count, r, r), np.float32)
        for n in range(0, count, self.real.batch):
            here = slice(n, min(n + self.real.batch, count))
            self.real.infer(tiles[here], cues[here], scores[here], fit[here])
        if self.spoil in ("nan", "inf"):
            scores[-1, 3, 5] = float(self.spoil)
        if self.spoil == "misfit":
            fit[0, 1, 1] = np.nan


class HostLook:
    """A bundle's first look on addresses; ``level``: what it expects everywhere instead."""

    def __init__(self, bundle, batch, level=None):
        self.look, self.batch, self.t, self.level = FirstLook(bundle.first_look, bundle.folder), batch, 0, level
        self.t = bundle.recipe.tile_px

    def context(self):
        return self

    def enqueue(self, count, planes, expected, stream):
        stream.do(lambda: self.run_at(count, planes, expected))

    def run_at(self, count, planes, expected):
        seen = array_at(planes, (count, 8, self.t, self.t), np.uint8)
        out = array_at(expected, (count, self.t // 16, self.t // 16), np.float32)
        out[:] = self.look._session.run(None, {"planes": seen})[0] if self.level is None else self.level


def array_at(address, shape, kind):
    """An array at an address."""
    length = int(np.prod(shape)) * np.dtype(kind).itemsize
    return np.frombuffer((ctypes.c_uint8 * length).from_address(address), kind).reshape(shape)
