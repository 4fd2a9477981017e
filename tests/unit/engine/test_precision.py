"""Number formats: what is quantised, what stays float, and that the gate's twin of a half-precision network is one."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper

from hisir_edge.engine.calibration.ranges import activations_from_tiles, range_by_method
from hisir_edge.engine.export import QUANTISED_HALF_OPSET, onnx_from_net
from hisir_edge.engine.precision import (
    fp16_model,
    half_emulated,
    int8_model,
    kept_in_float,
    prepared_model,
    quantisable,
    quantised_nodes,
)
from hisir_edge.net.hisir_net import HisirNet
from hisir_edge.registry import BACKBONES

TILE = 64
RNG = np.random.default_rng(7)
FEED = {
    "tile": RNG.integers(0, 256, (3, 3, TILE, TILE), dtype=np.uint8),
    "cue": RNG.integers(0, 256, (3, 4, TILE, TILE), dtype=np.uint8),
}


@pytest.fixture(scope="module", params=sorted(BACKBONES))
def network(request, tmp_path_factory) -> tuple[onnx.ModelProto, dict]:
    """A prepared float32 network of each backbone and its min-max ranges."""
    torch.manual_seed(2)
    path = tmp_path_factory.mktemp("net") / "m.onnx"
    net = HisirNet(request.param, 16)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.8, 1.2)
            module.bias.data.normal_(0, 0.1)
    onnx_from_net(net, TILE, path, QUANTISED_HALF_OPSET)
    prepared = prepared_model(path)
    onnx.save(prepared, str(path))
    seen = activations_from_tiles(path, FEED["tile"], FEED["cue"])
    return prepared, {name: range_by_method(one, "minmax") for name, one in seen.items()}


def outputs(model: onnx.ModelProto, optimised: bool = True, exact: bool = False) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options).run(None, FEED)


@pytest.mark.parametrize("style", ["cpu", "gpu"])
def test_all_but_the_named_convolutions_are_int8(network, style):
    prepared, ranges = network
    layers = quantisable(prepared)
    convolutions = sum(node.op_type == "Conv" for node in prepared.graph.node)
    assert convolutions == len(layers) + 1, "the gate's logits are the only convolution that always stays float"
    assert quantised_nodes(int8_model(prepared, ranges, (), style)) == {"int8": len(layers), "float": 1}
    fewer = int8_model(prepared, ranges, layers[:3], style)
    assert quantised_nodes(fewer) == {"int8": len(layers) - 3, "float": 4}
    exact, close = outputs(prepared)[0], outputs(int8_model(prepared, ranges, (), style))[0]
    assert 0 < np.abs(exact - close).mean() < 0.1 * exact.std() + 0.01


def highest_weight(model: onnx.ModelProto) -> int:
    weights = [numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    return max(int(np.abs(w.astype(np.int16)).max()) for w in weights if w.ndim == 4)


def test_quick_sums_of_a_processor_without_vnni_are_exact(network):
    """Two products of 255 and 64 are the most that sixteen bits hold; a GPU's sums have more, and keep eight bits."""
    prepared, ranges = network
    model = int8_model(prepared, ranges, (), "cpu")
    assert highest_weight(model) == 64
    assert 2 * 255 * 64 <= np.iinfo(np.int16).max < 2 * 255 * 65
    assert highest_weight(int8_model(prepared, ranges, (), "gpu")) > 64
    quick, exact = outputs(model), outputs(model, exact=True)
    for a, b in zip(quick, exact, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_arithmetic_of_scores_is_never_quantised(network):
    prepared, ranges = network
    model = int8_model(prepared, ranges, (), "cpu")
    made_by = {name: node for node in model.graph.node for name in node.output}
    kept = set(kept_in_float(prepared))
    for node in model.graph.node:
        if node.name in kept and node.op_type in ("Div", "Softplus", "Mul", "Add"):
            for name in node.input:
                source = made_by.get(name)
                # what comes in may have been int8 before; what this node adds is float
                assert source is None or source.op_type != "QuantizeLinear"


@pytest.mark.parametrize("quantised", [False, True])
def test_the_twin_gives_what_half_precision_gives(network, quantised):
    """ONNX Runtime's own half precision, unoptimised: optimised, it leaves roundings out."""
    prepared, ranges = network
    model = int8_model(prepared, ranges, (), "gpu") if quantised else prepared
    outside = [node.name for node in prepared.graph.node if not node.name.startswith("/net/")]
    half, twin = outputs(fp16_model(model, outside), optimised=False)[0], outputs(half_emulated(model, outside))[0]
    exact = outputs(model)[0]
    assert not np.array_equal(twin, exact), "roundings are not left out"
    for a, b in ((half, twin), (twin, exact)):
        # an activation at the edge of two int8 steps may fall to either side
        assert np.abs(a - b).max() < 0.1 * exact.std() + 5e-3
        assert np.abs(a - b).mean() < 0.01 * exact.std() + 1e-3


def test_the_twin_overflows_as_half_precision_does(network):
    """All activations of the reconstruction a million times as high; float32 takes that through every backbone."""
    prepared, _ = network
    loud = onnx.ModelProto()
    loud.CopyFrom(prepared)
    first = next(node for node in loud.graph.node if node.op_type == "Conv")
    for tensor in loud.graph.initializer:
        if tensor.name in first.input[1:]:
            big = numpy_helper.to_array(tensor) * np.float32(1e6)
            tensor.CopyFrom(numpy_helper.from_array(big, tensor.name))
    outside = [node.name for node in prepared.graph.node if not node.name.startswith("/net/")]
    assert all(np.isfinite(part).all() for part in outputs(loud))
    assert not all(np.isfinite(part).all() for part in outputs(half_emulated(loud, outside)))


def test_what_stays_float32_is_rounded_where_half_precision_takes_it_in():
    """X * 1e5 in float32, then * 1e-5 in half precision: the cast in between overflows."""
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [3])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [3])
    nodes = [
        onnx.helper.make_node("Mul", ["x", "up"], ["high"], name="kept"),
        onnx.helper.make_node("Mul", ["high", "down"], ["low"], name="half"),
        onnx.helper.make_node("Identity", ["low"], ["y"], name="end"),
    ]
    numbers = [numpy_helper.from_array(np.float32(v), n) for v, n in ((1e5, "up"), (1e-5, "down"))]  # type: ignore[arg-type]
    graph = onnx.helper.make_graph(nodes, "g", [x], [y], numbers)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)], ir_version=8)
    feed = {"x": np.array([0.1, 1, 2], np.float32)}
    run = ort.InferenceSession(half_emulated(model, ["kept"]).SerializeToString()).run(None, feed)[0]
    assert np.isfinite(run[0]) and np.isinf(run[1:]).all()
