"""An int8 network rewritten so that ONNX Runtime's eight-bit kernels on a CPU do the network's work and little else.

Every step keeps what the network computes. Measured on two cores (decision 0014): without them up to two thirds of the
time went into number formats, layouts and logarithms.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper
from onnxruntime.transformers.onnx_model import OnnxModel

from hisir_edge.engine.cpu.layout import copy_instead_of_looking_up
from hisir_edge.engine.export import INPUTS
from hisir_edge.engine.precision import PIXEL_RANGE, STACKS
from hisir_edge.net.position import CUE_CHANNELS

CHANNEL_BLOCK = 8
"""ONNX Runtime turns NCHW into NHWC before an eight-bit convolution, quickly only in whole blocks of channels."""
MOST_LOGIT = 80.0
"""exp() of it is still a float32; as a score it is no different from any logit beyond."""


def for_cpu_kernels(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a Q/DQ network (style "cpu") that gives the same scores in less time; patterns not there are left."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    graph = OnnxModel(copy)
    for name in INPUTS:
        _take_in(graph, name)
    for stack in STACKS:
        _pad(graph, stack)
    _shuffle_eight_bits(graph)
    _plain_softplus(graph)
    graph.topological_sort()
    copy_instead_of_looking_up(graph)
    graph.prune_graph(allow_remove_graph_inputs=False)
    graph.topological_sort()
    return copy


def _after(graph: OnnxModel, name: str, *kinds: str) -> NodeProto | None:
    """The last node of a chain of ``kinds`` that begins at a tensor; None where there is none, or more than one."""
    users, node = graph.input_name_to_nodes(), None
    for kind in kinds:
        found = [user for user in users.get(name, []) if user.op_type == kind]
        if len(found) != 1:
            return None
        node, name = found[0], found[0].output[0]
    return node


def _take_in(graph: OnnxModel, name: str) -> None:
    """Pixels enter as the eight bits that they are, instead of as floats that are quantised to the same eight bits."""
    quantised = _after(graph, name, "Cast", "Sub", "Mul", "QuantizeLinear")
    if quantised is not None and _is_pixel_scale(graph, quantised):
        graph.replace_input_of_all_nodes(quantised.output[0], name)


def _is_pixel_scale(graph: OnnxModel, quantise: NodeProto) -> bool:
    scale, zero = (graph.get_initializer(name) for name in quantise.input[1:3])
    if scale is None or zero is None or zero.data_type != onnx.TensorProto.UINT8:
        return False
    same_scale = np.isclose(numpy_helper.to_array(scale), 1 / 255, rtol=1e-5)
    return bool(same_scale) and int(numpy_helper.to_array(zero)) == -round(PIXEL_RANGE[0] * 255)


def _pad(graph: OnnxModel, stack: str) -> None:
    """Stacked channels are filled up to whole blocks with cue channels that the convolution gives no weight."""
    concat = next((node for node in graph.nodes() if node.name == stack), None)
    conv = _after(graph, concat.output[0], "QuantizeLinear", "DequantizeLinear", "Conv") if concat is not None else None
    pixels = [node for node in graph.get_nodes_by_op_type("DequantizeLinear") if node.input[0] == "cue"]
    stored = graph.output_name_to_node().get(conv.input[1]) if conv is not None else None
    weights = graph.get_initializer(stored.input[0]) if stored is not None else None
    if concat is None or weights is None or not pixels:
        return
    values = numpy_helper.to_array(weights)
    missing = -values.shape[1] % CHANNEL_BLOCK
    filled = np.concatenate([values, np.zeros((values.shape[0], missing, *values.shape[2:]), values.dtype)], axis=1)
    weights.CopyFrom(numpy_helper.from_array(filled, weights.name))
    names = {key: f"{stack}/filling/{key}" for key in ("start", "end", "axis", "cut", "whole", "one")}
    for key, value in (("start", CUE_CHANNELS - 1), ("end", CUE_CHANNELS), ("axis", 1)):
        graph.add_initializer(numpy_helper.from_array(np.array([value], np.int64), names[key]))
    cut = helper.make_node(
        "Slice", ["cue", *(names[k] for k in ("start", "end", "axis"))], [names["cut"]], names["cut"]
    )
    one = helper.make_node("DequantizeLinear", [names["cut"], *pixels[0].input[1:]], [names["one"]], names["one"])
    whole = helper.make_node("DequantizeLinear", ["cue", *pixels[0].input[1:]], [names["whole"]], names["whole"])
    wholes, ones = divmod(missing, CUE_CHANNELS)
    concat.input.extend([names["whole"]] * wholes + [names["one"]] * ones)
    graph.add_nodes([cut, one, whole])


def _shuffle_eight_bits(graph: OnnxModel) -> None:
    """Pixels are shuffled before they become floats, a quarter of the bytes."""
    maker = graph.output_name_to_node()
    for node in graph.get_nodes_by_op_type("DepthToSpace"):
        floats = maker.get(node.input[0])
        if floats is None or floats.op_type != "DequantizeLinear":
            continue
        result, shuffled = node.output[0], f"{node.output[0]}/eight_bits"
        node.input[0], node.output[0] = floats.input[0], shuffled
        graph.add_node(
            helper.make_node("DequantizeLinear", [shuffled, *floats.input[1:]], [result], f"{node.name}/floats")
        )


def _plain_softplus(graph: OnnxModel) -> None:
    """log(1 + exp(x)) by vectorised operators; NaN stays NaN. Scores under 1e-7 (logits under -16) become 0."""
    for node in graph.get_nodes_by_op_type("Softplus"):
        most, one = f"{node.name}/most", f"{node.name}/one"
        for name, value in ((most, MOST_LOGIT), (one, 1.0)):
            graph.add_initializer(numpy_helper.from_array(np.array(value, np.float32), name))
        low, grown, more = (f"{node.output[0]}/{part}" for part in ("low", "grown", "more"))
        steps = [
            helper.make_node("Min", [node.input[0], most], [low], f"{node.name}/Min"),
            helper.make_node("Exp", [low], [grown], f"{node.name}/Exp"),
            helper.make_node("Add", [grown, one], [more], f"{node.name}/Add"),
            helper.make_node("Log", [more], [node.output[0]], f"{node.name}/Log"),
        ]
        graph.remove_node(node)
        graph.add_nodes(steps)
