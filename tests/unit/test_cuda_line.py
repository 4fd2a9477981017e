"""The line on a GPU, with a device that runs the very kernels on the CPU and ONNX Runtime in TensorRT's place.

What this cannot show is in device.py and tensorrt_engine.py: that pycuda, the driver and TensorRT do as asked. That is
for ``make gpu-check``, on a machine with a GPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from dataclasses import replace

import numpy as np
import pytest

from hisir_edge.cuda.device import BLOCK, Buffer
from hisir_edge.cuda.line import CudaInspector, _with_rows_beside
from hisir_edge.engine.bundle import load_bundle
from hisir_edge.engine.load import engine_from_bundle
from hisir_edge.errors import InspectionError
from hisir_edge.images import read_rgb
from hisir_edge.line.board import in_flight
from hisir_edge.line.gain import Zone
from hisir_edge.line.inspect import Inspector
from hisir_edge.line.pipeline import Pipeline
from hisir_edge.line.selftest import self_test
from hisir_edge.records import Result


class HostDevice:
    """A ``Device`` whose memory is the host's; it insists on what a GPU would insist on."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library, self.local, self.streams = library, threading.local(), 0
        self.pinned_arrays: list[np.ndarray] = []
        self.launched: list[str] = []
        self.held: dict[int, object] = {}

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

    def stream(self):
        self.check()
        self.streams += 1
        return HostStream(self, self.streams)


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

    def wait(self):
        self.device.check()


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

    captures = False

    def __init__(self, bundle, batch):
        self.batch, self.spoil, self.contexts = batch, "", 0
        self.real, self.t = engine_from_bundle(bundle, 1), bundle.recipe.tile_px
        self.shapes: set[int] = set()

    def context(self):
        self.contexts += 1
        return self

    def enqueue(self, count, tile, cue, score, misfit, stream):
        t, r = self.t, self.t // 16
        self.shapes.add(count)
        if self.spoil == "no graph" and stream.recording is not None:
            stream.recording = None
            raise InspectionError(expected="to be recorded", received="a refusal", fix="none")

        def at(address, shape, kind):
            length = int(np.prod(shape)) * np.dtype(kind).itemsize
            return np.frombuffer((ctypes.c_uint8 * length).from_address(address), kind).reshape(shape)

        def work():
            if self.spoil == "failure":
                raise InspectionError(expected="the engine to run", received="no", fix="none")
            tiles, cues = at(tile, (count, 3, t, t), np.uint8), at(cue, (count, 4, t, t), np.uint8)
            scores, fit = at(score, (count, t, t), np.float32), at(misfit, (count, r, r), np.float32)
            for n in range(0, count, self.real.batch):
                here = slice(n, min(n + self.real.batch, count))
                self.real.infer(tiles[here], cues[here], scores[here], fit[here])
            if self.spoil in ("nan", "inf"):
                scores[-1, 3, 5] = float(self.spoil)
            if self.spoil == "misfit":
                fit[0, 1, 1] = np.nan

        stream.do(work)


@pytest.fixture
def gpu(small_bundle, kernels):
    bundle = load_bundle(small_bundle)
    return CudaInspector(bundle, HostDevice(kernels), lambda: HostEngine(bundle, 7))


@pytest.fixture
def cpu(small_bundle):
    bundle = load_bundle(small_bundle)
    made = Inspector(bundle, engine_from_bundle(bundle, 1))
    yield made
    made.close()


@pytest.fixture(scope="module")
def frames(small_boards):
    return [read_rgb(p) for p in sorted((small_boards / "test").rglob("*.png"))]


def _alike(one, other):
    """The same verdict; positions are rounded to 1/256 px here and to 1/32 px in OpenCV's warp, so nearly the map."""
    assert (one.result, one.regions_total) == (other.result, other.regions_total)
    assert one.score == pytest.approx(other.score, rel=0.1, abs=0.05)
    union = (one.mask | other.mask).sum()
    assert (one.mask & other.mask).sum() >= 0.9 * union


def test_both_backends_judge_alike(gpu, cpu, frames):
    for frame in frames:  # the third and later ones run as a graph
        _alike(gpu.inspect(frame), cpu.inspect(frame))
    assert gpu._slot.stream.launches == len(frames) - 1
    assert set(gpu.device.launched) == {"tiles_u8", "region_figures", "choose", "gather"}
    assert gpu.device.streams == 1
    assert len(gpu.engine.shapes) == 1, "a graph holds for one shape"
    self_test(gpu)
    gpu.close()
    assert not gpu.device.held and not gpu.device.pinned_arrays, "all memory is given back"


def test_the_same_frame_gives_the_same_verdict_whatever_came_before(gpu, frames):
    first = [gpu.inspect(frame) for frame in frames]
    again = [gpu.inspect(frame) for frame in reversed(frames)][::-1]
    for one, other in zip(first, again, strict=True):
        assert (one.result, one.score, one.regions) == (other.result, other.score, other.regions)
        assert np.array_equal(one.mask, other.mask)


def test_frames_in_flight_do_not_see_each_other(gpu, frames):
    items = [frames[i % len(frames)] for i in range(14)]
    alone, done = [gpu.inspect(frame) for frame in items], []
    with Pipeline(in_flight(gpu, 3), CudaInspector.inspect, done.append) as pipeline:
        for item in items:
            pipeline.put(item)
    assert gpu.engine.contexts == gpu.device.streams == 3
    for one, other in zip(alone, done, strict=True):
        assert (one.result, one.score, one.regions) == (other.result, other.score, other.regions)


@pytest.mark.parametrize("spoil", ["failure", "nan", "inf", "misfit"])
def test_what_fails_is_an_error_and_the_slot_is_built_anew(gpu, frames, spoil):
    before = gpu.inspect(frames[0])
    gpu.engine.spoil = spoil
    for _ in range(2):
        judgement = gpu.inspect(frames[0])
        assert (judgement.result, judgement.mask) == (Result.ERROR, None)
    gpu.engine.spoil = ""
    after = gpu.inspect(frames[0])
    assert (after.result, after.score, after.regions) == (before.result, before.score, before.regions)
    assert gpu.device.streams == gpu.engine.contexts == 3
    gpu.close()
    assert not gpu.device.held and not gpu.device.pinned_arrays, "what failed has given its memory back, too"


def test_what_cannot_be_recorded_is_done_step_by_step(gpu, frames):
    gpu.engine.spoil = "no graph"
    first, second, third = (gpu.inspect(frames[0]) for _ in range(3))
    assert first.result is second.result is third.result is not Result.ERROR
    assert gpu._slot.graph is None
    assert gpu.device.streams == 1


def test_bands_beside_hot_ones_are_fetched():
    rows = np.zeros(7, bool)
    rows[3] = True
    assert _with_rows_beside(rows).tolist() == [False, False, True, True, True, False, False]
    rows[:] = [True, False, False, False, False, False, True]
    assert _with_rows_beside(rows).tolist() == [True, True, False, False, False, True, True]


def test_tiles_of_ignored_zones_are_not_run(small_bundle, kernels, cpu, frames):
    bundle = load_bundle(small_bundle)
    left = Zone("left", ((-9.0, -9.0), (300.0, -9.0), (300.0, 400.0), (-9.0, 400.0)), 0.0)
    gpu = CudaInspector(replace(bundle, zones=(left,)), HostDevice(kernels), lambda: HostEngine(bundle, 64))
    assert 0 < len(gpu.numbers) < len(gpu.plan.origins_yx)
    for frame in frames:
        judgement, whole = gpu.inspect(frame), cpu.inspect(frame)
        assert not judgement.mask[:, :280].any()
        assert judgement.mask[:, 420:].any() == whole.mask[:, 420:].any()
    everything = replace(left, polygon_xy=((-9.0, -9.0), (600.0, -9.0), (600.0, 400.0), (-9.0, 400.0)))
    blind = CudaInspector(replace(bundle, zones=(everything,)), HostDevice(kernels), lambda: HostEngine(bundle, 64))
    assert (blind.inspect(frames[0]).result, blind.inspect(frames[0]).score) == (Result.PASS, 0.0)


def test_a_wrong_frame_is_an_error_and_costs_no_slot(gpu, frames):
    gpu.inspect(frames[0])
    assert gpu.inspect(frames[0][:-16]).result is Result.ERROR
    assert gpu.inspect(np.zeros_like(frames[0])).result is Result.ERROR  # no board there: not registered
    assert gpu.device.streams == 1
