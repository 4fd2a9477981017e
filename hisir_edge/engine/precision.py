"""Number formats of an ONNX file: half precision by casting, int8 by explicit Q/DQ with our own ranges.

The graph surgery is ONNX Runtime's (its quantiser, its float16 converter); ranges, and which nodes stay out, are ours.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from hisir_edge.engine.calibration.ranges import Range, float_tensors

Style = Literal["cpu", "gpu"]
"""cpu: uint8 activations, every operator that ONNX Runtime's int8 kernels join up (AVX512-VNNI).
gpu: symmetric int8 activations in front of convolutions alone, biases in float, as TensorRT fuses them."""

QUANTISED: dict[Style, list[str]] = {
    "cpu": ["Conv", "Relu", "Clip", "Add", "Mul", "GlobalAveragePool", "Concat", "Resize"],
    "gpu": ["Conv"],
}


def prepared_model(float_model: Path) -> onnx.ModelProto:
    """The float network folded and with shapes, as calibration and quantiser want it."""
    out = float_model.with_suffix(".prepared.onnx")
    try:
        with quiet():
            quant_pre_process(str(float_model), str(out), skip_symbolic_shape=True)
        return onnx.load(str(out))
    finally:
        out.unlink(missing_ok=True)


@contextmanager
def quiet() -> Iterator[None]:
    """The quantiser logs its advice through the root logger."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)


LAYERS = ("/net/backbone/", "/net/restore/", "/net/gate/backbone/", "/net/gate/head/")
STACKS = ("/net/Concat", "/net/gate/Concat")
"""Inputs of the backbones: pixels of tile and cue, departures; all are differences of grey levels."""
PIXEL_RANGE: Range = (-128 / 255, 127 / 255)
"""With 8 bits over this range a pixel of the tile or the cue is its own eight-bit value."""


def kept_in_float(model: onnx.ModelProto) -> list[str]:
    """Nodes where eight bits are too few, in every network.

    The convolution that makes the gate's logits (the last one), and everything outside the layers proper: differences
    of colours, the division by the deviation of the good boards, the score and misfit arithmetic (a small constant in
    them would round to zero and divide by it).
    """
    nodes = model.graph.node
    last = [node.name for node in nodes if node.op_type == "Conv"][-1]
    return [last, *(node.name for node in nodes if not node.name.startswith(LAYERS) and node.name not in STACKS)]


def quantisable(model: onnx.ModelProto) -> list[str]:
    """Convolutions that may be quantised, in the order of the graph."""
    kept = set(kept_in_float(model))
    return [node.name for node in model.graph.node if node.op_type == "Conv" and node.name not in kept]


def int8_model(
    prepared: onnx.ModelProto, ranges: dict[str, Range], keep_float: Iterable[str], style: Style
) -> onnx.ModelProto:
    """Explicit Q/DQ: per-channel int8 weights, 8-bit activations in ``ranges``; ``keep_float`` nodes are left out.

    On a CPU what the backbones take in has ``PIXEL_RANGE``, and weights have seven bits: processors without VNNI add
    two products in sixteen bits, which hold 2 x 255 x 64 and no more, so that their quick sums are exact.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(prepared)
    options: dict[str, Any] = {"WeightSymmetric": True}
    if style == "gpu":
        options |= {
            "ActivationSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": QUANTISED["gpu"],
        }
    if style == "cpu":
        stacks = [node for node in prepared.graph.node if node.name in STACKS]
        ranges = ranges | {name: PIXEL_RANGE for node in stacks for name in (*node.input, *node.output)}
    limits = {n: (np.array(lo, np.float32), np.array(hi, np.float32)) for n, (lo, hi) in ranges.items()}
    quantiser = QDQQuantizer(
        copy,
        True,
        style == "cpu",
        QuantType.QInt8,
        QuantType.QInt8 if style == "gpu" else QuantType.QUInt8,
        TensorsData(CalibrationMethod.MinMax, limits),
        [],
        sorted({*kept_in_float(prepared), *keep_float}),
        QUANTISED[style],
        options,
    )
    with quiet():
        quantiser.quantize_model()
    model: onnx.ModelProto = quantiser.model.model
    return model


def fp16_model(model: onnx.ModelProto, keep_float32: Iterable[str]) -> onnx.ModelProto:
    """Cast a float32 or Q/DQ network to half precision; inputs and outputs keep their types, named nodes float32.

    A Q/DQ network must have opset 19 or later: only from there on may their scales be half precision.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    out: onnx.ModelProto = convert_float_to_float16(
        copy, keep_io_types=True, node_block_list=sorted(set(keep_float32)), disable_shape_infer=False
    )
    return out


def quantised_nodes(model: onnx.ModelProto) -> dict[str, int]:
    """How many convolutions take their weights from int8, and how many from float."""
    made_by = {name: node.op_type for node in model.graph.node for name in node.output}
    weights = [made_by.get(n.input[1], "initializer") for n in model.graph.node if n.op_type == "Conv"]
    return {"int8": weights.count("DequantizeLinear"), "float": len(weights) - weights.count("DequantizeLinear")}


NO_ARITHMETIC = ("Constant", "Cast", "Shape", "Gather", "Slice", "QuantizeLinear", "DequantizeLinear", "Identity")


def half_emulated(model: onnx.ModelProto, keep_float32: Iterable[str]) -> onnx.ModelProto:
    """A float32 network that gives what its half-precision version gives on a GPU, for where there is none.

    ONNX Runtime computes half precision in float32 on a CPU and leaves out the roundings in between, so neither
    coarse nor overflowing activations would be seen. Here weights are rounded, and so is what each node gives, with
    infinity beyond 65504; sums inside a node stay float32, as in tensor cores.
    """
    out = onnx.ModelProto()
    out.CopyFrom(model)
    kept, floats = set(keep_float32), set(float_tensors(out))
    last = {output.name for output in out.graph.output}
    nodes: list[onnx.NodeProto] = []
    rounded: dict[str, str] = {}
    for node in out.graph.node:
        # what a node that stays float32 gave is rounded where a half-precision one takes it in
        for i, name in enumerate(node.input):
            if node.name not in kept and name in rounded:
                node.input[i] = rounded[name]
        nodes.append(node)
        if node.op_type in NO_ARITHMETIC:
            continue
        for i, name in enumerate(node.output):
            if name not in floats or name in last:
                continue
            exact, half = (name, f"{name}/rounded") if node.name in kept else (f"{name}/exact", name)
            node.output[i] = exact
            rounded[exact] = half
            nodes.append(helper.make_node("Cast", [exact], [f"{name}/half"], to=TensorProto.FLOAT16))
            nodes.append(helper.make_node("Cast", [f"{name}/half"], [half], to=TensorProto.FLOAT))
    for tensor in out.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in _constants_of(out, kept):
            with np.errstate(over="ignore"):
                weights = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    del out.graph.node[:]
    out.graph.node.extend(nodes)
    return out


def _constants_of(model: onnx.ModelProto, kept: set[str]) -> set[str]:
    """Inputs of the nodes that stay float32."""
    return {name for node in model.graph.node if node.name in kept for name in node.input}
