"""Engines are compiled for real, without a GPU, by TensorRT for RTX; classic TensorRT by the same code, by name."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from hisir_edge.cuda import tensorrt_engine as running
from hisir_edge.engine.calibration.ranges import activations_from_tiles, range_by_method
from hisir_edge.engine.export import QUANTISED_HALF_OPSET, onnx_from_net
from hisir_edge.engine.precision import fp16_model, int8_model, prepared_model
from hisir_edge.engine.recipe import TensorRtTable
from hisir_edge.engine.tensorrt import compile as compiling
from hisir_edge.engine.tensorrt.compile import engine_from_onnx
from hisir_edge.errors import InputError
from hisir_edge.machine.tensorrt import module_of
from hisir_edge.net.hisir_net import HisirNet
from hisir_edge.registry import BACKBONES

NAMES = json.loads((Path(__file__).parents[2] / "data" / "tensorrt_names.json").read_text())
OBJECTS = {
    "builder": "Builder", "network": "INetworkDefinition", "config": "IBuilderConfig", "parser": "OnnxParser",
    "profile": "IOptimizationProfile", "error": "ParserError", "cache": "ITimingCache", "tensor": "ITensor",
    "layer": "ILayer",
}  # fmt: skip
ONLY_RTX = {
    "ComputeCapability", "IBuilderConfig.num_compute_capabilities", "IBuilderConfig.set_compute_capability",
    "IBuilderConfig.get_compute_capability",
}  # fmt: skip
TILE = 64

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx has no wheel for this platform"
)


def _dotted(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Attribute):
        return [*_dotted(node.value), node.attr]
    return [node.id] if isinstance(node, ast.Name) else ["?"]


def _names_used() -> set[str]:
    """Every TensorRT name that compile.py uses, as Class.member."""
    tree = ast.parse(Path(compiling.__file__).read_text())
    out = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            root, *rest = _dotted(node)
            if root == "trt" and rest[0] != "__version__":
                out.add(".".join(rest))
            elif root in OBJECTS and len(rest) == 1:
                out.add(f"{OBJECTS[root]}.{rest[0]}")
    return out


@pytest.mark.parametrize("version", sorted(NAMES))
def test_every_name_used_exists_in_classic_tensorrt(version):
    used = _names_used() - ONLY_RTX
    assert {"Builder.build_serialized_network", "OnnxParser.parse", "IBuilderConfig.progress_monitor"} <= used
    known = {*NAMES[version], *(name.split(".")[0] for name in NAMES[version])}
    inherited = {"ILogger.__init__", "IProgressMonitor.__init__"}
    assert used - known - inherited == set()


@pytest.mark.parametrize("version", sorted(NAMES))
def test_every_name_that_runs_an_engine_exists_in_classic_tensorrt(version):
    classes = {"engine": "ICudaEngine", "context": "IExecutionContext", "runtime": "Runtime", "trt": ""}
    used = set()
    for node in ast.walk(ast.parse(Path(running.__file__).read_text())):
        if isinstance(node, ast.Attribute):
            *_, holder, name = ["", *_dotted(node)]
            if holder in classes:
                used.add(f"{classes[holder]}.{name}".lstrip("."))
    ours = {"ICudaEngine.batch", "ICudaEngine.tile_px", "ICudaEngine.trt", "ICudaEngine.engine", "ICudaEngine.captures"}
    # Logger is in every release, but not among the classes that were recorded
    only_rtx = {"ICudaEngine.create_runtime_config", "DynamicShapesKernelSpecializationStrategy", "CudaGraphStrategy"}
    assert {"IExecutionContext.execute_async_v3", "Runtime.deserialize_cuda_engine"} <= used
    known = {*NAMES[version], *(name.split(".")[0] for name in NAMES[version])}
    assert used - ours - only_rtx - known == {"Logger", "__version__"}


def test_the_recorded_names_tell_releases_apart():
    assert "BuilderFlag.FP16" in NAMES["10.3.0"]
    assert "BuilderFlag.FP16" not in NAMES["11.4.0.106"]


def test_a_flavour_that_is_not_installed_names_the_fix():
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("classic TensorRT is installed here")
    with pytest.raises(InputError, match=r"expected tensorrt for --target tensorrt.*JetPack"):
        module_of("tensorrt")


@pytest.fixture(scope="module", params=sorted(BACKBONES))
def networks(request, tmp_path_factory) -> dict[str, onnx.ModelProto]:
    """fp32, fp16 and int8 networks of one backbone, as the build stage makes them for TensorRT."""
    import numpy as np

    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("net") / f"{request.param}.onnx"
    onnx_from_net(HisirNet(request.param, 16), TILE, path, QUANTISED_HALF_OPSET)
    prepared = prepared_model(path)
    rng = np.random.default_rng(1)
    tiles = rng.integers(0, 256, (4, 3, TILE, TILE), dtype=np.uint8)
    cues = rng.integers(0, 256, (4, 4, TILE, TILE), dtype=np.uint8)
    stored = path.with_name("prepared.onnx")
    onnx.save(prepared, str(stored))
    ranges = {n: range_by_method(a, "minmax") for n, a in activations_from_tiles(stored, tiles, cues).items()}
    outside = [node.name for node in prepared.graph.node if not node.name.startswith("/net/")]
    int8 = fp16_model(int8_model(prepared, ranges, (), "gpu"), outside)
    return {"fp32": prepared, "fp16": fp16_model(prepared, outside), "int8": int8}


@needs_rtx
def test_each_backbone_compiles_in_each_precision_for_two_architectures(networks):
    plans = {
        precision: engine_from_onnx("tensorrt-rtx", model.SerializeToString(), TILE, TensorRtTable(), ("sm86", "sm89"))
        for precision, model in networks.items()
    }
    for plan in plans.values():
        assert plan.gpu_arch == ("sm86", "sm89")
        assert [(t.name, t.dtype, t.shape) for t in plan.inputs] == [
            ("tile", "UINT8", (-1, 3, TILE, TILE)),
            ("cue", "UINT8", (-1, 4, TILE, TILE)),
        ]
        assert [(t.name, t.dtype, t.shape) for t in plan.outputs] == [
            ("score", "FLOAT", (-1, TILE, TILE)),
            ("misfit", "FLOAT", (-1, TILE // 16, TILE // 16)),
        ]
    assert "HALF" not in plans["fp32"].network_layers and "INT8" not in plans["fp32"].network_layers
    assert plans["fp16"].network_layers["HALF"] > plans["fp16"].network_layers["FLOAT"]
    inputs = {node.input[0] for node in networks["fp32"].graph.node if node.op_type == "Conv"}
    assert plans["int8"].network_layers["INT8"] >= len(inputs) - 1, "each quantised convolution has int8 in front of it"
    assert len(plans["fp16"].engine) < len(plans["fp32"].engine), "smaller by half the weights"


@needs_rtx
def test_an_operator_that_tensorrt_lacks_is_named_with_its_node():
    x = helper.make_tensor_value_info("tile", TensorProto.FLOAT, ["n", 3, TILE, TILE])
    y = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 3, TILE, TILE])
    node = helper.make_node("BitShiftOfNobody", ["tile"], ["score"], name="/net/odd/Op", domain="")
    graph = helper.make_graph([node], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(InputError) as caught:
        engine_from_onnx("tensorrt-rtx", model.SerializeToString(), TILE, TensorRtTable())
    said = str(caught.value)
    assert "'/net/odd/Op' (BitShiftOfNobody)" in said
    assert "replace this operator in the backbone" in said
    assert "\n" not in said


@needs_rtx
def test_no_onnx_at_all_is_one_line():
    with pytest.raises(InputError, match="can parse"):
        engine_from_onnx("tensorrt-rtx", b"no onnx", TILE, TensorRtTable())


@needs_rtx
@pytest.mark.parametrize("arch", ["sm90", "sm1", "SM999"])
def test_an_unknown_architecture_names_the_known_ones(networks, arch):
    with pytest.raises(InputError, match="sm86"):
        engine_from_onnx("tensorrt-rtx", networks["fp32"].SerializeToString(), TILE, TensorRtTable(), (arch,))


@needs_rtx
def test_progress_is_told_and_can_stop_the_build(networks):
    model = networks["fp32"].SerializeToString()
    seen: list[tuple[str, int, int]] = []

    def follow(phase: str, done: int, total: int) -> bool:
        seen.append((phase, done, total))
        return True

    engine_from_onnx("tensorrt-rtx", model, TILE, TensorRtTable(), ("sm86",), follow)
    assert len({phase for phase, _, _ in seen}) >= 2
    assert all(0 <= done <= total for _, done, total in seen)
    with pytest.raises(InputError, match="got stopped"):
        engine_from_onnx("tensorrt-rtx", model, TILE, TensorRtTable(), ("sm86",), lambda *_: False)


@needs_rtx
def test_tiles_of_another_size_are_refused(networks):
    with pytest.raises(InputError, match="tiles of 128 px"):
        engine_from_onnx("tensorrt-rtx", networks["fp32"].SerializeToString(), 128, TensorRtTable())


@needs_rtx
def test_too_little_workspace_names_its_key_and_the_size(networks):
    with pytest.raises(InputError, match=r"tensorrt\.workspace_mib of \d+ or more in the recipe; got 16, which"):
        engine_from_onnx(
            "tensorrt-rtx",
            networks["fp16"].SerializeToString(),
            TILE,
            TensorRtTable(workspace_mib=16, profile_tiles=(1, 64, 512)),
            ("sm86",),
        )


@needs_rtx
def test_int8_is_refused_before_any_work_where_the_release_compiles_none(monkeypatch):
    rtx = module_of("tensorrt-rtx")
    for version, refused in (("1.6.0.5", True), ("1.2.0", True), ("1.7.0.1", False), ("1.10.0.1", False)):
        monkeypatch.setattr(rtx, "__version__", version)
        compiling.check_target("tensorrt-rtx", TensorRtTable(), (), "fp16")
        if refused:
            with pytest.raises(InputError, match=rf"tensorrt-rtx 1\.7 or later for int8.*got {version}"):
                compiling.check_target("tensorrt-rtx", TensorRtTable(), (), "int8")
        else:
            compiling.check_target("tensorrt-rtx", TensorRtTable(), (), "int8")


def test_a_float32_product_for_sm75_is_named():
    from hisir_edge.engine.tensorrt.onnx_limits import check_network

    def product(kind):
        a = helper.make_tensor_value_info("a", kind, [2, 3])
        b = helper.make_tensor_value_info("b", kind, [3, 2])
        out = helper.make_tensor_value_info("out", kind, [2, 2])
        node = helper.make_node("MatMul", ["a", "b"], ["out"], name="/net/attention/MatMul")
        graph = helper.make_graph([node], "g", [a, b], [out])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()

    for version, archs, kind in (
        ("1.6.0", ("sm75",), TensorProto.FLOAT), ("1.7.1", ("sm86",), TensorProto.FLOAT),
        ("1.7.1", ("sm75", "sm86"), TensorProto.FLOAT16),
    ):  # fmt: skip
        check_network("tensorrt-rtx", version, archs, product(kind))
    with pytest.raises(InputError, match="got node '/net/attention/MatMul'"):
        check_network("tensorrt-rtx", "1.7.1", ("sm75", "sm86"), product(TensorProto.FLOAT))


def test_a_librarys_raw_lines_stay_off_the_terminal():
    script = (
        "import os, sys; from hisir_edge.engine.tensorrt.terminal import kept_off_the_terminal\n"
        "with kept_off_the_terminal() as said:\n"
        "    os.write(2, b'[MyelinCheckException] raw\\n'); print('progress', file=sys.stderr)\n"
        "    print(said())\n"
        "print('after', file=sys.stderr); os.write(2, b'end\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.splitlines() == ["progress", "after", "end"]
    assert done.stdout.strip() == "['[MyelinCheckException] raw']"
