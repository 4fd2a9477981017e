"""An int8 network rewritten so that ONNX Runtime's eight-bit kernels on a CPU do the network's work and little else.

Every step keeps what the network computes. Measured on two cores (docs/RESULTS.md): without them more than half of the
time went into number formats, layouts and logarithms.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper
from onnxruntime.quantization.onnx_model import ONNXModel

from hisir_edge.engine.precision import PIXEL_RANGE, STACKS

CHANNEL_BLOCK = 8
"""ONNX Runtime turns NCHW into NHWC before an eight-bit convolution, quickly only in whole blocks of channels."""
INPUTS = {"tile": 3, "cue": 4}
MOST_LOGIT = 80.0
"""exp() of it is still a float32; as a score it is no different from any logit beyond."""


class _Graph:
    """A graph with its look-ups; made anew after nodes were exchanged."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.maker = {name: node for node in self.graph.node for name in node.output}
        self.users: dict[str, list[NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)

    def after(self, name: str, *kinds: str) -> NodeProto | None:
        """The last node of a chain of ``kinds`` that begins at a tensor; None where there is another one."""
        node: NodeProto | None = None
        for kind in kinds:
            found = [user for user in self.users.get(name, []) if user.op_type == kind]
            if len(found) != 1:
                return None
            node, name = found[0], found[0].output[0]
        return node


def for_cpu_kernels(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a Q/DQ network (style "cpu") that gives the same scores in less time; patterns not there are left."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    del out.graph.value_info[:]
    for name in INPUTS:
        _take_in(out, name)
    for stack in STACKS:
        _pad(out, stack)
    _shuffle_eight_bits(out)
    _plain_softplus(out)
    _drop_unused(out)
    ONNXModel(out).topological_sort()
    return out


def _take_in(model: onnx.ModelProto, name: str) -> None:
    """Pixels enter as the eight bits that they are, instead of as floats that are quantised to the same eight bits."""
    graph = _Graph(model)
    scaled = graph.after(name, "Cast", "Sub", "Mul")
    quantised = graph.after(scaled.output[0], "QuantizeLinear") if scaled is not None else None
    if quantised is None or not _is_pixel_scale(model, quantised):
        return
    for user in graph.users.get(quantised.output[0], []):
        for i, used in enumerate(user.input):
            if used == quantised.output[0]:
                user.input[i] = name


def _is_pixel_scale(model: onnx.ModelProto, quantise: NodeProto) -> bool:
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.name in quantise.input[1:]}
    scale, zero = (values.get(name) for name in quantise.input[1:3])
    return (
        scale is not None
        and zero is not None
        and zero.dtype == np.uint8
        and bool(np.isclose(scale, 1 / 255, rtol=1e-5))
        and int(zero) == -round(PIXEL_RANGE[0] * 255)
    )


def _pad(model: onnx.ModelProto, stack: str) -> None:
    """Stacked channels are filled up to whole blocks with cue channels that the convolution gives no weight."""
    graph = _Graph(model)
    concat = next((node for node in graph.graph.node if node.name == stack), None)
    conv = graph.after(concat.output[0], "QuantizeLinear", "DequantizeLinear", "Conv") if concat is not None else None
    pixels = [node for node in graph.users.get("cue", []) if node.op_type == "DequantizeLinear"]
    stored = graph.maker.get(conv.input[1]) if conv is not None else None
    weights = next((t for t in model.graph.initializer if stored is not None and t.name == stored.input[0]), None)
    if concat is None or weights is None or not pixels:
        return
    values = numpy_helper.to_array(weights)
    missing = -values.shape[1] % CHANNEL_BLOCK
    filled = np.concatenate([values, np.zeros((values.shape[0], missing, *values.shape[2:]), values.dtype)], axis=1)
    weights.CopyFrom(numpy_helper.from_array(filled, weights.name))
    names = {key: f"{stack}/filling/{key}" for key in ("start", "end", "axis", "cut", "whole", "one")}
    for key, value in (("start", 3), ("end", 4), ("axis", 1)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), names[key]))
    cut = helper.make_node(
        "Slice", ["cue", *(names[k] for k in ("start", "end", "axis"))], [names["cut"]], names["cut"]
    )
    one = helper.make_node("DequantizeLinear", [names["cut"], *pixels[0].input[1:]], [names["one"]], names["one"])
    whole = helper.make_node("DequantizeLinear", ["cue", *pixels[0].input[1:]], [names["whole"]], names["whole"])
    wholes, ones = divmod(missing, INPUTS["cue"])
    concat.input.extend([names["whole"]] * wholes + [names["one"]] * ones)
    model.graph.node.extend([cut, one, whole])


def _shuffle_eight_bits(model: onnx.ModelProto) -> None:
    """Pixels are shuffled before they become floats, a quarter of the bytes."""
    graph = _Graph(model)
    for node in list(model.graph.node):
        floats = graph.maker.get(node.input[0]) if node.op_type == "DepthToSpace" else None
        if floats is None or floats.op_type != "DequantizeLinear":
            continue
        result, shuffled = node.output[0], f"{node.output[0]}/eight_bits"
        node.input[0], node.output[0] = floats.input[0], shuffled
        model.graph.node.append(
            helper.make_node("DequantizeLinear", [shuffled, *floats.input[1:]], [result], f"{node.name}/floats")
        )


def _plain_softplus(model: onnx.ModelProto) -> None:
    """log(1 + exp(x)) by vectorised operators; NaN stays NaN. Scores under 1e-7 (logits under -16) become 0."""
    for node in list(model.graph.node):
        if node.op_type != "Softplus":
            continue
        most, one = f"{node.name}/most", f"{node.name}/one"
        for name, value in ((most, MOST_LOGIT), (one, 1.0)):
            model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
        low, grown, more = (f"{node.output[0]}/{part}" for part in ("low", "grown", "more"))
        steps = [
            helper.make_node("Min", [node.input[0], most], [low], f"{node.name}/Min"),
            helper.make_node("Exp", [low], [grown], f"{node.name}/Exp"),
            helper.make_node("Add", [grown, one], [more], f"{node.name}/Add"),
            helper.make_node("Log", [more], [node.output[0]], f"{node.name}/Log"),
        ]
        model.graph.node.remove(node)
        model.graph.node.extend(steps)


def _drop_unused(model: onnx.ModelProto) -> None:
    """Nodes and constants that nothing uses any more."""
    while True:
        used = {name for node in model.graph.node for name in node.input} | {o.name for o in model.graph.output}
        unused = [node for node in model.graph.node if not used.intersection(node.output)]
        if not unused:
            break
        for node in unused:
            model.graph.node.remove(node)
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    copies = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
    del model.graph.initializer[:]
    model.graph.initializer.extend(copies)
