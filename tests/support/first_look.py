"""First looks that expect the same everywhere."""

from __future__ import annotations

from onnx import TensorProto, helper

from hisir_edge.bundle.manifest import CascadeModel

CASCADE = CascadeModel(
    look_from=0.3, most_residual_px=5.0, boards=2, planted=10, called=10, called_by_class={}, waved=0,
    waved_upper_bound_95=0.3, looked_share_good=0.1,
)  # fmt: skip


def network(expected: float) -> bytes:
    """A first look that expects the same everywhere: the logarithm of a raw score."""
    planes = helper.make_tensor_value_info("planes", TensorProto.UINT8, ["n", 8, "h", "w"])
    out = helper.make_tensor_value_info("expected", TensorProto.FLOAT, ["n", "r", "c"])
    mean = [
        helper.make_node("Cast", ["planes"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("AveragePool", ["floats"], ["pooled"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("ReduceMean", ["pooled"], ["grey"], axes=[1], keepdims=0),
        helper.make_node("Mul", ["grey", "nothing"], ["none"]),
        helper.make_node("Add", ["none", "level"], ["expected"]),
    ]
    values = [
        helper.make_tensor(name, TensorProto.FLOAT, [], [value])
        for name, value in (("nothing", 0.0), ("level", expected))
    ]
    graph = helper.make_graph(mean, "g", [planes], [out], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


EVERYTHING, NOTHING = 9.0, -20.0
