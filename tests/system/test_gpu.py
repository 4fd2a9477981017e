"""On a GPU: the kernels give the bits that they give on the CPU, and a TensorRT bundle judges as ONNX Runtime does."""

from __future__ import annotations

import ctypes
import importlib.util

import numpy as np
import pytest

from hisir_edge.cuda.device import BLOCK, PycudaDevice
from hisir_edge.cuda.reference import LAYOUTS, fixed_point
from hisir_edge.engine.bundle import load_bundle
from hisir_edge.engine.load import inspector_from_bundle
from hisir_edge.errors import HisirEdgeError
from hisir_edge.gpus import gpus
from hisir_edge.images import read_rgb
from hisir_edge.line.merge import merge_plan_from_tiles
from hisir_edge.line.tile import plan_from_size

pytestmark = pytest.mark.gpu
TARGETS = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}


@pytest.fixture(scope="module")
def device():
    try:
        return PycudaDevice()
    except HisirEdgeError as error:
        pytest.skip(str(error))


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
                given.append(ctypes.c_void_p(None) if a is None else ctypes.c_int(a))
        with self.device.active():
            there = [self.device.upload(a) if isinstance(a, np.ndarray) else a for a in arguments]
            stream = self.device.stream()
            stream.launch(name, threads_xyz, *there)
            stream.wait()
        grid = (ctypes.c_uint * 3)(*(-(-n // b) for n, b in zip(threads_xyz, BLOCK, strict=True)))
        getattr(self.library, f"{name}_launch")(grid, (ctypes.c_uint * 3)(*BLOCK), *given)
        with self.device.active():
            for a, buffer in zip(arguments, there, strict=True):
                if isinstance(a, np.ndarray):
                    back = self.device.pinned(a.shape, a.dtype)
                    stream.copy_out(back, buffer)
                    stream.wait()
                    assert np.array_equal(back.view(np.uint8), a.view(np.uint8)), name


@pytest.mark.parametrize("pixel_format", LAYOUTS)
@pytest.mark.parametrize("hw", [(64, 64), (301, 403), (1537, 2049)])
def test_tiles_on_the_gpu_are_those_of_the_cpu(device, kernels, pixel_format, hw):
    rng = np.random.default_rng(1)
    channels = {"Mono8": 1, "RGB8": 3, "BGR8": 3, "RGBa8": 4}.get(pixel_format, 1)
    raw = rng.integers(0, 256, hw[0] * hw[1] * channels, np.uint8)
    plan, t = plan_from_size(hw, 64, 16), 64
    origins = np.array(plan.origins_yx, np.int32)
    tables = rng.integers(0, 256, (len(origins), 1, 256, 3), np.uint8)
    matrix = fixed_point(np.array([[0.9998, -0.015, 3.3], [0.015, 0.9998, -4.7]])).ravel()
    out = np.zeros((len(origins), 3, t, t), np.uint8)
    Both(device, kernels).assert_same(
        "tiles_u8", (t, t, len(origins)), raw, LAYOUTS.index(pixel_format), hw[1], hw[0], matrix, origins, tables, *hw,
        t, 0, out,
    )  # fmt: skip


@pytest.mark.parametrize("hw", [(64, 64), (301, 403), (1537, 2049)])
def test_rops_on_the_gpu_is_that_of_the_cpu(device, kernels, hw):
    rng, both = np.random.default_rng(2), Both(device, kernels)
    merge = merge_plan_from_tiles(plan_from_size(hw, 64, 16))
    n, t, side = len(merge.plan.origins_yx), 64, 4
    scores, misfit = rng.random((n, t, t), np.float32), rng.random((n, side, side), np.float32)
    level, peak = np.zeros((2, n, side, side), np.float32)
    both.assert_same("region_figures", (side, side, n), scores, misfit, t, level, peak)
    depth, rows, columns = merge.candidate.shape
    before, cell = None, np.zeros((rows, columns), np.int32)
    for _ in range(3):
        tile = np.zeros((rows, columns), np.int32)
        both.assert_same(
            "choose", (columns, rows, 1), merge.candidate, merge.cell, merge.border, depth, rows, columns, side * side,
            level, misfit, before, tile, cell,
        )  # fmt: skip
        before = tile
    out = np.zeros(merge.plan.padded_hw, np.float32)
    both.assert_same("gather", (out.shape[1], out.shape[0], 1), scores, t, tile, cell, *out.shape, out)


def test_a_recorded_stream_does_what_was_recorded(device):
    with device.active():
        stream, there = device.stream(), device.alloc(4096)
        source, back = device.pinned((4096,), np.uint8), device.pinned((4096,), np.uint8)

        def work():
            stream.copy_in(there, source)
            stream.copy_out(back, there)

        launch = stream.recorded(work)
        for value in (3, 7):
            source[:] = value
            launch()
            stream.wait()
            assert (back == value).all()


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_tensorrt_bundle_judges_as_onnxruntime_does(device, small_run, small_bundle, small_boards, tmp_path, target):
    from hisir_edge.engine.build import build_bundle
    from hisir_edge.engine.options import BuildOptions

    if importlib.util.find_spec(TARGETS[target]) is None:
        pytest.skip(f"{TARGETS[target]} is not installed")
    arch = (gpus()[0].arch,) if target == "tensorrt-rtx" else ()
    try:
        build_bundle(
            small_run, tmp_path / "b",
            BuildOptions(target=target, precision="fp16", gpu_arch=arch, product="p3", false_calls_per_board=0.2),
        )  # fmt: skip
        gpu = inspector_from_bundle(load_bundle(tmp_path / "b"))
    except HisirEdgeError as error:
        pytest.skip(f"{target} refuses this GPU: {error}")
    cpu = inspector_from_bundle(load_bundle(small_bundle), 1)
    for image in sorted((small_boards / "test").rglob("*.png")):
        frame = read_rgb(image)
        for _ in range(3):
            assert gpu.inspect(frame).result is cpu.inspect(frame).result
    cpu.close()
