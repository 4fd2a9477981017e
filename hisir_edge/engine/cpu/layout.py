"""Eight-bit features enlarged and factors spread by copying memory, in the layout that ONNX Runtime keeps them in.

ONNX Runtime runs eight-bit convolutions in NHWC and takes neighbouring changes of layout out again, so that the ones
written here cost nothing; a nearest-neighbour ``Resize`` or a product of unequal shapes there looks each value up
(decision 0014).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper
from onnxruntime.transformers.onnx_model import OnnxModel

TO_NHWC, TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]

Shape = tuple[int, ...]
Step = tuple[str, Sequence[str], str, Mapping[str, int | Sequence[int]]]
"""Operator, inputs, output, attributes."""


def copy_instead_of_looking_up(graph: OnnxModel) -> None:
    """Rewrite doublings and factors a channel of a sorted int8 graph in place; other patterns are left."""
    known = onnx.shape_inference.infer_shapes(graph.model).graph.value_info
    shapes = {one.name: tuple(size.dim_value for size in one.type.tensor_type.shape.dim) for one in known}
    maker, users = graph.output_name_to_node(), graph.input_name_to_nodes()
    for node in graph.get_nodes_by_op_type("Resize"):
        floats, after = maker.get(node.input[0]), users.get(node.output[0], [])
        if floats is None or floats.op_type != "DequantizeLinear" or not _doubles(node, shapes):
            continue
        if len(after) == 1 and after[0].op_type == "QuantizeLinear" and _same_format(graph, floats, after[0]):
            _double(graph, node.name, floats.input[0], shapes[node.input[0]], after[0].output[0])
    for node in graph.get_nodes_by_op_type("Mul"):
        for factor, features in ((0, 1), (1, 0)):
            floats = maker.get(node.input[factor])
            of_factor, whole = (shapes.get(node.input[i], ()) for i in (factor, features))
            if floats is not None and floats.op_type == "DequantizeLinear" and _is_a_channel(of_factor, whole):
                node.input[factor] = _spread(graph, node.name, floats, whole)


def _double(graph: OnnxModel, name: str, source: str, shape: Shape, result: str) -> None:
    """Each pixel twice, then each row twice: (N, C, H, W) -> (N, C, 2H, 2W), uint8, in place of tensor ``result``."""
    _, channels, height, width = shape
    by_columns = _constant(graph, f"{name}/by_columns", [0, 0, 2 * width, channels])
    by_rows = _constant(graph, f"{name}/by_rows", [0, 2 * height, 2 * width, channels])
    pixels, columns, wide, rows, high, done = (
        f"{name}/{i}" for i in ("pixels", "columns", "wide", "rows", "high", "done")
    )
    _add(
        graph,
        ("Transpose", [source], pixels, {"perm": TO_NHWC}),
        ("Concat", [pixels, pixels], columns, {"axis": 3}),
        ("Reshape", [columns, by_columns], wide, {}),
        ("Concat", [wide, wide], rows, {"axis": 2}),
        ("Reshape", [rows, by_rows], high, {}),
        ("Transpose", [high], done, {"perm": TO_NCHW}),
    )
    graph.replace_input_of_all_nodes(result, done)


def _spread(graph: OnnxModel, name: str, floats: NodeProto, whole: Shape) -> str:
    """A factor (N, C, 1, 1) as (N, C, H, W): the name of the dequantised tensor."""
    _, channels, height, width = whole
    shape = _constant(graph, f"{name}/shape", [1, height, width, channels])
    factor, everywhere, planes, result = (f"{name}/{i}" for i in ("factor", "everywhere", "planes", "floats"))
    _add(
        graph,
        ("Transpose", [floats.input[0]], factor, {"perm": TO_NHWC}),
        ("Expand", [factor, shape], everywhere, {}),
        ("Transpose", [everywhere], planes, {"perm": TO_NCHW}),
        ("DequantizeLinear", [planes, *floats.input[1:]], result, {}),
    )
    return result


def _add(graph: OnnxModel, *steps: Step) -> None:
    for kind, takes, gives, how in steps:
        node = helper.make_node(kind, list(takes), [gives], gives)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in how.items())
        graph.add_node(node)


def _constant(graph: OnnxModel, name: str, shape: Sequence[int]) -> str:
    graph.add_initializer(numpy_helper.from_array(np.array(shape, np.int64), name))
    return name


def _doubles(node: NodeProto, shapes: Mapping[str, Shape]) -> bool:
    """Whether a ``Resize`` repeats each pixel of planes of known size twice in both directions."""
    how = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    before, after = shapes.get(node.input[0], ()), shapes.get(node.output[0], ())
    if len(before) != 4 or len(after) != 4 or min(before[1:]) < 1:
        return False
    repeats = how.get("mode"), how.get("coordinate_transformation_mode"), how.get("nearest_mode")
    doubled = (before[1], 2 * before[2], 2 * before[3])
    return bool(repeats == (b"nearest", b"asymmetric", b"floor") and after[1:] == doubled)


def _same_format(graph: OnnxModel, one: NodeProto, other: NodeProto) -> bool:
    """Whether two (de)quantising nodes use the same scale and zero."""
    for a, b in zip(one.input[1:3], other.input[1:3], strict=True):
        first, second = graph.get_initializer(a), graph.get_initializer(b)
        if first is None or second is None or first.data_type != second.data_type:
            return False
        if not np.array_equal(numpy_helper.to_array(first), numpy_helper.to_array(second)):
            return False
    return True


def _is_a_channel(factor: Shape, whole: Shape) -> bool:
    """Whether one is a value a channel and the other whole planes of known size."""
    if len(factor) != 4 or len(whole) != 4 or min(whole[1:]) < 1:
        return False
    return factor[1:] == (whole[1], 1, 1) and whole[2:] != (1, 1)
