"""The int8 network for a CPU computes what the plain Q/DQ network computes, with less around it."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper

from hisir_edge.engine.calibration.ranges import activations_from_tiles, range_by_method
from hisir_edge.engine.cpu.graph import CHANNEL_BLOCK, MOST_LOGIT, for_cpu_kernels
from hisir_edge.engine.export import onnx_from_net
from hisir_edge.engine.precision import int8_model, prepared_model, quantisable
from hisir_edge.inspection.cpu.onnxruntime import session_options
from hisir_edge.net.hisir_net import HisirNet

TILE = 64
RNG = np.random.default_rng(17)
FEED = {
    "tile": RNG.integers(0, 256, (3, 3, TILE, TILE), dtype=np.uint8),
    "cue": RNG.integers(0, 256, (3, 4, TILE, TILE), dtype=np.uint8),
}


def outputs(model: onnx.ModelProto, feed: dict = FEED) -> list[np.ndarray]:
    return ort.InferenceSession(model.SerializeToString(), session_options(0)).run(None, feed)


WHOLE = [("unet", ()), ("nafnet", ()), ("rep", ())]
LACKING = [("rep", ("cue",)), ("rep", ("gate",))]


def named(params: tuple[str, tuple[str, ...]]) -> str:
    return "-".join((params[0], *params[1]))


@pytest.fixture(scope="module", params=[*WHOLE, *LACKING], ids=named)
def network(request, tmp_path_factory) -> tuple[onnx.ModelProto, dict]:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("net") / "m.onnx"
    backbone, without = request.param
    onnx_from_net(HisirNet(backbone, 16, without), TILE, path)
    prepared = prepared_model(path)
    onnx.save(prepared, str(path))
    seen = activations_from_tiles(path, FEED["tile"], FEED["cue"])
    return prepared, {name: range_by_method(one, "minmax") for name, one in seen.items()}


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_scores_and_misfits_stay_what_they_were(network, kept):
    """Also where the first layers were left in float."""
    prepared, ranges = network
    plain = int8_model(prepared, ranges, quantisable(prepared)[:kept], "cpu")
    quick = for_cpu_kernels(plain)
    onnx.checker.check_model(quick)
    for a, b in zip(outputs(plain), outputs(quick), strict=True):
        assert a.std() > 0
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("network", WHOLE, ids=named, indirect=True)
def test_pixels_go_in_as_they_are_in_whole_blocks_of_channels(network):
    prepared, ranges = network
    model = for_cpu_kernels(int8_model(prepared, ranges, (), "cpu"))
    kinds = [node.op_type for node in model.graph.node]
    assert not {"Softplus", "Resize"} & set(kinds)
    attentions = sum(node.op_type == "GlobalAveragePool" for node in prepared.graph.node)
    assert kinds.count("Expand") == attentions
    assert "Cast" not in kinds
    users = {name: {n.op_type for n in model.graph.node if name in n.input} for name in FEED}
    assert all(kinds <= {"DequantizeLinear", "Slice"} for kinds in users.values()), users
    stems = [n for n in model.graph.node if n.op_type == "Conv" and "/stem" in n.name]
    shapes = {t.name: t.dims for t in model.graph.initializer}
    maker = {name: n for n in model.graph.node for name in n.output}
    assert len(stems) == 2
    assert all(shapes[maker[stem.input[1]].input[0]][1] % CHANNEL_BLOCK == 0 for stem in stems)


def test_every_grey_level_is_its_own_eight_bit_value(network):
    """A tile of all levels gives the same whether pixels are quantised or taken in as they are."""
    prepared, ranges = network
    plain = int8_model(prepared, ranges, (), "cpu")
    levels = np.arange(256, dtype=np.uint8).repeat(16).reshape(1, 1, TILE, TILE)
    feed = {"tile": levels.repeat(3, 1), "cue": levels[..., ::-1].repeat(4, 1).copy()}
    np.testing.assert_allclose(outputs(plain, feed)[0], outputs(for_cpu_kernels(plain), feed)[0], rtol=1e-4, atol=1e-6)


def test_the_plain_softplus_keeps_nan_and_never_overflows():
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    graph = helper.make_graph([helper.make_node("Softplus", ["x"], ["y"], "last")], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    quick = for_cpu_kernels(model)
    assert [node.op_type for node in quick.graph.node] == ["Min", "Exp", "Add", "Log"]
    logits = np.linspace(-12, MOST_LOGIT, 1000, dtype=np.float32)
    np.testing.assert_allclose(
        outputs(quick, {"x": logits})[0], np.logaddexp(0, logits.astype(np.float64)), rtol=2e-2, atol=1e-7
    )
    odd = np.array([np.nan, np.inf, 1e4, -1e4, -np.inf] * 7, np.float32)
    expected = np.array([np.nan, MOST_LOGIT, MOST_LOGIT, 0, 0] * 7, np.float32)
    np.testing.assert_allclose(outputs(quick, {"x": odd})[0], expected, rtol=1e-6)


def resized(scale_after: float, **how: str) -> onnx.ModelProto:
    """Eight-bit features, doubled by a Resize between a DequantizeLinear and a QuantizeLinear."""
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, ["n", 2, 3, 5])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, 6, 10])
    numbers = {"before": np.float32(0.5), "after": np.float32(scale_after), "zero": np.uint8(7)}
    stored = [onnx.numpy_helper.from_array(np.array(value), name) for name, value in numbers.items()]
    stored.append(onnx.numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice"))
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor", **how}
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "before", "zero"], ["a"]),
        helper.make_node("Resize", ["a", "", "twice"], ["b"], "up", **how),
        helper.make_node("QuantizeLinear", ["b", "after", "zero"], ["c"]),
        helper.make_node("DequantizeLinear", ["c", "after", "zero"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [x], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("model", "copied"),
    [
        (resized(0.5), True),
        (resized(0.25), False),
        (resized(0.5, mode="linear"), False),
        (resized(0.5, nearest_mode="ceil"), False),
        (resized(0.5, coordinate_transformation_mode="half_pixel"), False),
    ],
    ids=["doubling", "another-scale", "linear", "ceil", "half-pixel"],
)
def test_only_a_plain_doubling_is_done_by_copies(model, copied):
    quick = for_cpu_kernels(model)
    assert ("Resize" not in {node.op_type for node in quick.graph.node}) == copied
    feed = {"x": RNG.integers(0, 256, (2, 2, 3, 5), dtype=np.uint8)}
    np.testing.assert_array_equal(outputs(model, feed)[0], outputs(quick, feed)[0])
