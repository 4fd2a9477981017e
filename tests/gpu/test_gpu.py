"""On a GPU: kernels give the bits that they give on the CPU, slots overlap and are equal, nothing grows, TensorRT runs.

`make gpu-check` runs this where there is a GPU; `make gpu-emulated` runs it with the driver of ``emulated/``, which has
pycuda and all of the line's own code do as they would on one, without TensorRT and without torch.
"""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from emulated_engine import EmulatedEngine
from steps import REFUSALS
from support.messages import facts

from hisir_edge.backends import inspector_from_bundle
from hisir_edge.bundle.load import load_bundle
from hisir_edge.cuda.inspector import GPU_THREAD, CudaInspector
from hisir_edge.cuda.pycuda_device import BLOCK, PycudaDevice, first_device
from hisir_edge.cuda.reference import LAYOUTS, fixed_point
from hisir_edge.errors import HisirEdgeError
from hisir_edge.geometry.merge_plan import merge_plan_from_tiles
from hisir_edge.geometry.tile import padded_size, plan_from_size
from hisir_edge.images import read_rgb
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.board import in_flight
from hisir_edge.inspection.selftest import self_test
from hisir_edge.line.journal.reading import read_journal
from hisir_edge.line.pipeline import Pipeline
from hisir_edge.machine.gpus import gpus
from hisir_edge.records import Result

pytestmark = pytest.mark.gpu
TARGETS = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
EMULATED = "HISIR_EMULATED_GPU" in os.environ
WANTED = EMULATED or "HISIR_GPU_WANTED" in os.environ
"""Where one is wanted it is a failure that there is none."""
FRAMES = int(os.environ.get("HISIR_GPU_FRAMES", "300" if EMULATED else "10000"))
FRAMES_S = float(os.environ.get("HISIR_GPU_FRAMES_S", "3600"))
"""With less time they are fewer, and say how many."""
SIZES = [(64, 64), (301, 403)] if EMULATED else [(64, 64), (301, 403), (1537, 2049), (6143, 8191)]


@pytest.fixture(scope="module")
def device() -> PycudaDevice:
    try:
        return first_device()
    except HisirEdgeError as error:
        if WANTED:
            raise
        pytest.skip(str(error))


@pytest.fixture
def line(device, small_run, small_bundle):
    """The line on this GPU with the small network."""
    bundle = load_bundle(small_bundle)
    if EMULATED:
        made = CudaInspector(bundle, device, lambda: EmulatedEngine(bundle))
    else:
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("torch without CUDA: no engine that runs here without TensorRT")
        from hisir_edge.cuda.torch_engine import TorchEngine
        from hisir_edge.learn.training.reached import trained_net
        from hisir_edge.net.hisir_net import PlanesNet

        record, net = trained_net(small_run)
        made = CudaInspector(bundle, device, lambda: TorchEngine(PlanesNet(net), record.settings.tile_px))
    yield made
    made.close()


@pytest.fixture(scope="module")
def frames(small_boards):
    return [read_rgb(path) for path in sorted((small_boards / "test").rglob("*.png"))]


class Both:
    """Launches a kernel on both with the same arguments, arrays uploaded, and compares what came to be in them."""

    def __init__(self, device, library):
        self.device, self.library = device, library

    def assert_same(self, name, threads_xyz, *arguments):
        given = []
        for a in arguments:
            if isinstance(a, np.ndarray):
                given.append(ctypes.c_void_p(a.ctypes.data))
            else:
                given.append(ctypes.c_void_p(None) if a is None else ctypes.c_int(a))  # type: ignore[arg-type]
        with self.device.active():
            there = [self.device.upload(a) if isinstance(a, np.ndarray) else a for a in arguments]
            stream, done = self.device.stream(), self.device.event()
            stream.launch(name, threads_xyz, *there)
            done.record(stream)
            done.wait()
        grid = (ctypes.c_uint * 3)(*(-(-n // b) for n, b in zip(threads_xyz, BLOCK, strict=True)))
        getattr(self.library, f"{name}_launch")(grid, (ctypes.c_uint * 3)(*BLOCK), *given)
        with self.device.active():
            for a, buffer in zip(arguments, there, strict=True):
                if isinstance(a, np.ndarray):
                    back = self.device.pinned(a.shape, a.dtype)
                    stream.copy_out(back, buffer)
                    done.record(stream)
                    done.wait()
                    assert np.array_equal(back.view(np.uint8), a.view(np.uint8)), name
                    self.device.free(back, buffer)


@pytest.mark.parametrize("pixel_format", LAYOUTS)
@pytest.mark.parametrize("hw", SIZES)
def test_tiles_are_those_of_the_cpu(device, kernels, pixel_format, hw):
    rng, both = np.random.default_rng(1), Both(device, kernels)
    channels = {"Mono8": 1, "RGB8": 3, "BGR8": 3, "RGBa8": 4}.get(pixel_format, 1)
    raw = rng.integers(0, 256, hw[0] * hw[1] * channels, np.uint8)
    plan, t = plan_from_size(hw, 64, 16), 64
    origins = np.array(plan.origins_yx[-400:], np.int32)
    n, layout = len(origins), LAYOUTS.index(pixel_format)
    tables = rng.integers(0, 256, (n, 1, 256, 3), np.uint8)
    matrix = fixed_point(np.array([[0.9998, -0.015, 3.3], [0.015, 0.9998, -4.7]])).ravel()
    out, cues = np.zeros((n, 3, t, t), np.uint8), rng.integers(0, 256, (n, 4, t, t), np.uint8)
    both.assert_same(
        "tiles_u8", (t, t, n), raw, layout, hw[1], hw[0], matrix, origins, tables, *hw, t, 0, cues, out
    )  # fmt: skip
    memory, half = rng.integers(0, 256, (4, *padded_size(hw)), np.uint8), np.zeros((n, 7, t, t), np.float16)
    both.assert_same(
        "tiles_f16", (t, t, n), raw, layout, hw[1], hw[0], matrix, origins, tables, *hw, t, 0, memory,
        *memory.shape[1:], half,
    )  # fmt: skip


@pytest.mark.parametrize("hw", SIZES[:3])
def test_rops_and_mask_are_those_of_the_cpu(device, kernels, hw):
    rng, both = np.random.default_rng(2), Both(device, kernels)
    merge = merge_plan_from_tiles(plan_from_size(hw, 64, 16))
    n, t, side = len(merge.plan.origins_yx), 64, 4
    scores, misfit = rng.random((n, t, t), np.float32), rng.random((n, side, side), np.float32)
    (level, peak), no_number = np.zeros((2, n, side, side), np.float32), np.zeros(1, np.int32)
    both.assert_same("region_figures", (side, side, n), scores, misfit, t, level, peak, no_number)
    depth, rows, columns = merge.candidate.shape
    before, cell = None, np.zeros((rows, columns), np.int32)
    for _ in range(3):
        tile = np.zeros((rows, columns), np.int32)
        both.assert_same(
            "choose", (columns, rows, 1), merge.candidate, merge.cell, merge.border, depth, rows, columns, side * side,
            level, misfit, before, None, tile, cell,
        )  # fmt: skip
        before = tile
    out = np.zeros(merge.plan.padded_hw, np.float32)
    both.assert_same("gather", (out.shape[1], out.shape[0], 1), scores, t, tile, cell, *out.shape, out)
    gain, most_gain = rng.random(hw, np.float32) * 2, np.full((rows, columns), 2, np.float32)
    small = np.zeros((rows, columns), np.float32)
    both.assert_same(
        "region_scores", (columns, rows, 1), out, gain, *hw, out.shape[1], peak, side * side, tile, cell, most_gain,
        small,
    )  # fmt: skip
    matrix = fixed_point(np.array([[0.9998, -0.015, 3.3], [0.015, 0.9998, -4.7]])).ravel()
    bits, values = np.zeros((hw[0], -(-hw[1] // 8)), np.uint8), np.zeros(hw, np.float32)
    both.assert_same(
        "mask_bits", (bits.shape[1], hw[0], 1), out, gain, *hw, out.shape[1], small, matrix, *hw, bits, values
    )  # fmt: skip
    assert bits.any()


def test_a_recorded_stream_does_what_was_recorded(device):
    with device.active():
        stream, there, done = device.stream(), device.alloc(4096), device.event()
        source, back = device.pinned((4096,), np.uint8), device.pinned((4096,), np.uint8)

        def work():
            stream.copy_in(there, source)
            stream.copy_out(back, there)

        launch = stream.recorded(work)
        for value in (3, 7):
            source[:] = value
            launch()
            done.record(stream)
            done.wait()
            assert (back == value).all()
        launch.free()
        device.free(there, source, back)


def test_the_line_judges_as_on_a_cpu(line, small_bundle, frames):
    self_test(line)
    cpu = inspector_from_bundle(load_bundle(small_bundle), 1)
    for frame in frames:
        one, other = line.inspect(frame), cpu.inspect(frame)
        assert (one.result, one.regions_total) == (other.result, other.regions_total), one.reason
        assert one.score == pytest.approx(other.score, rel=0.1, abs=0.05)
        assert (one.mask & other.mask).sum() >= 0.9 * (one.mask | other.mask).sum()
    cpu.close()


def _same(one, other) -> bool:
    facts = ((j.result, j.reason, j.score, j.regions, j.regions_total) for j in (one, other))
    return next(facts) == next(facts) and np.array_equal(one.mask, other.mask)


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_results_are_the_same_to_the_bit_with_any_number_of_slots(line, frames, slots):
    items = [frames[i % len(frames)] for i in range(40)]
    alone = [line.inspect(frame) for frame in items[: len(frames)]]
    assert {judgement.result for judgement in alone} == {Result.PASS, Result.FAIL}
    done: list = []
    with Pipeline(in_flight(line, slots), CudaInspector.inspect, done.append) as pipeline:
        for item in items:
            pipeline.put(item)
    assert len(done) == len(items)
    for number, judgement in enumerate(done):
        assert _same(judgement, alone[number % len(alone)]), number


def test_frames_overlap_on_the_gpu(line, frames):
    """By the times of events: while one stream runs the network, another copies in or cuts tiles."""
    items = [frames[i % len(frames)] for i in range(24)]
    spans: list[tuple[str, str, float, float]] = []
    with Pipeline(in_flight(line, 3), CudaInspector.inspect, lambda _: None) as pipeline:
        for item in items:  # graphs are recorded, what is loaded late is loaded
            pipeline.put(item)
        pipeline.flush()
        line.trace(lambda *span: spans.append(span))
        for item in items:
            pipeline.put(item)
        pipeline.flush()
        line.trace(None)
    on_gpu = [span for span in spans if span[0].startswith(GPU_THREAD)]
    assert len({span[0] for span in on_gpu}) == 3
    for one, other in itertools.pairwise(sorted(s for s in on_gpu if s[0] == on_gpu[0][0])):
        assert one[0] == other[0]
    networks = [span for span in on_gpu if span[1] == "network"]
    beside = {
        other[1]
        for one in networks for other in on_gpu
        if one[0] != other[0] and min(one[3], other[3]) > max(one[2], other[2])
    }  # fmt: skip
    wall = max(s[3] for s in on_gpu) - min(s[2] for s in on_gpu)
    print(
        f"{sum(s[3] - s[2] for s in on_gpu) / wall:.2f} streams at work at a time; beside the network: {sorted(beside)}"
    )
    assert beside & {"copy in", "tiles"}, beside


def test_many_frames_and_neither_memory_grows(line, device, frames):
    process, items = psutil.Process(), [Pixels(frame) for frame in frames]
    seen: list[tuple[int, int]] = []

    def look() -> None:
        with device.active():
            seen.append((process.memory_info().rss, device.used_bytes()))

    done = []
    with Pipeline(in_flight(line, 2), CudaInspector.inspect, lambda j: done.append(j.result)) as pipeline:
        number, until = 0, time.monotonic() + FRAMES_S
        while number < FRAMES and (len(seen) == 0 or time.monotonic() < until):
            pipeline.put(items[number % len(items)])
            number += 1
            if number == FRAMES // 5:
                pipeline.flush()
                look()
        pipeline.flush()
        look()
    assert len(done) == number and Result.ERROR not in done
    assert done == [done[n % len(items)] for n in range(number)]
    (rss, used), (rss_after, used_after) = seen
    print(
        f"{number} frames: host {rss / 1e6:.1f} -> {rss_after / 1e6:.1f} MB, "
        f"GPU {used / 1e6:.1f} -> {used_after / 1e6:.1f} MB"
    )
    assert used_after <= used
    assert rss_after - rss < 16e6


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_tensorrt_bundle_judges_as_onnxruntime_does(device, small_run, small_bundle, frames, tmp_path, target):
    from hisir_edge.engine.build import build_bundle
    from hisir_edge.engine.options import BuildOptions

    if EMULATED:
        pytest.skip("TensorRT runs on real GPUs alone")
    if importlib.util.find_spec(TARGETS[target]) is None:
        pytest.skip(f"{TARGETS[target]} is not installed")
    arch = (gpus()[0].arch,) if target == "tensorrt-rtx" else ()
    options = BuildOptions(
        least_planted_recall=0.0,
        target=target,
        precision="fp16",
        gpu_arch=arch,
        product="p3",
        false_calls_per_board=0.2,
    )
    try:
        build_bundle(small_run, tmp_path / "b", options)
    except HisirEdgeError as error:
        if not any(words in str(error) for words in REFUSALS):
            raise
        pytest.skip(f"{target} knows no such GPU: {error}")
    gpu = inspector_from_bundle(load_bundle(tmp_path / "b"))
    cpu = inspector_from_bundle(load_bundle(small_bundle), 1)
    for frame in frames:
        for _ in range(3):
            assert gpu.inspect(frame).result is cpu.inspect(frame).result
    cpu.close()
    gpu.close()


def test_the_emulated_driver_minds_what_a_gpu_forgives(device):
    """Else the tests above would show little there."""
    if not EMULATED:
        pytest.skip("a real driver")
    device = PycudaDevice()  # of its own: a kernel is made ready for the arguments that it first gets
    with device.active():
        stream, there, host = device.stream(), device.alloc(64), device.pinned((64,), np.uint8)
        wrong = [
            lambda: stream.copy_in(there, np.zeros(64, np.uint8)),  # not page-locked
            lambda: stream.copy_out(host, there, 1),  # beyond its end
            lambda: stream.launch("gather", (1, 1, 1), there),  # too few arguments
            lambda: stream.launch("gather", (1, 1, 1), *(7 for _ in range(7))),  # numbers for addresses
            lambda: device.cuda.memcpy_htod_async(there.ptr, host, None),  # the default stream
        ]
        for one in wrong:
            with pytest.raises(Exception, match=r"failed|pack"):
                one()
        device.free(there, host)


def opened(arch: str) -> subprocess.CompletedProcess[str]:
    """The device with its kernels, on an emulated GPU of another kind."""
    code = (
        "import hisir_edge.cli.main as cli\nfrom hisir_edge.cuda.pycuda_device import first_device\n"
        "def opens():\n"
        "    device = first_device()\n"
        "    with device.active():\n"
        "        print(device.kernel('gather', ()) is not None)\n"
        "cli.app = opens\n"
        "cli.main()\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "EMULATED_GPU_ARCH": arch},
    )  # fmt: skip


@pytest.mark.parametrize("arch", ["75", "87", "90", "100", "103", "120", "130"])
def test_every_gpu_that_is_covered_loads_the_kernels(arch):
    if not EMULATED:
        pytest.skip("a real GPU is what it is")
    done = opened(arch)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_a_gpu_that_is_not_covered_is_named_before_anything_runs():
    if not EMULATED:
        pytest.skip("a real GPU is what it is")
    done = opened("61")
    assert done.returncode == 2 and done.stdout == ""
    assert "expected a GPU of compute capability 7.5 or later; got emulated on a CPU (sm61)" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_lost_context_is_known_by_its_end(small_bundle, small_boards, tmp_path):
    """The daemon on the emulated driver, which fails for good at a kernel: ERROR, exit code 2, and one line."""
    if not EMULATED:
        pytest.skip("no real GPU is made to fail")
    config = tmp_path / "line.toml"
    config.write_text(
        f'[bundle]\npath = "{small_bundle}"\n[journal]\nfolder = "journal"\n[infer]\nslots = 2\n'
        f'[source]\ntype = "replay"\nfolder = "{small_boards}/test/missing"\nloop = true\nrate_hz = 20\n'
        f'[publish]\nendpoint = "ipc://{tmp_path}/v"\n'
    )
    script = Path(__file__).parent / "emulated_line.py"
    done = subprocess.run(
        [sys.executable, str(script), "run", "--config", str(config)], timeout=120, capture_output=True, text=True,
        env={**os.environ, "EMULATED_GPU_DIES": "70"}, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "lost to this process" in done.stderr.splitlines()[-1]
    _, entries, left = read_journal(tmp_path / "journal")
    assert left == []
    assert [e.seq for e in entries] == list(range(1, len(entries) + 1))
    assert facts(json.loads(entries[-1].body))["result"] == "ERROR"
