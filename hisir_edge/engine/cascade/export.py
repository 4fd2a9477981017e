"""The file of a first look: eight bits in; inside eight bits on a processor, half precision where it is compiled."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.transformers.onnx_model import OnnxModel

from hisir_edge.arrays import U8
from hisir_edge.engine.export import OPSET
from hisir_edge.engine.precision import Style, fp16_model, half_emulated, quiet
from hisir_edge.inspection.cascade.planes import PLANES
from hisir_edge.net.first_look import FirstLookNet

CALIBRATED_ON, AT_ONCE = 256, 16
"""Tiles whose activations set the ranges."""


def onnx_of_first_look(
    net: FirstLookNet, planes: U8, tile_px: int, scratch: Path, style: Style = "cpu"
) -> tuple[bytes, bytes]:
    """(What ships, what it is proven by): ``planes`` uint8 (n, 8, t, t) in, ``expected`` (n, t/16, t/16) out.

    On a processor both are int8 with weights of seven bits; ``planes``: tiles that the ranges come from. With the style
    of a GPU what ships is compiled: half precision but for the first convolution, whose sums of whole grey levels need
    more digits; the other one gives what that gives (``half_emulated``).
    """
    floats, int8 = scratch / "first_look.float.onnx", scratch / "first_look.int8.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # see engine.export
        torch.onnx.export(
            net.folded().eval(), (torch.zeros(1, PLANES, tile_px, tile_px, dtype=torch.uint8),), str(floats),
            input_names=["planes"], output_names=["expected"],
            dynamic_axes={"planes": {0: "n"}, "expected": {0: "n"}}, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    if style == "gpu":
        plain = onnx.load(str(floats))
        first = next(node.name for node in plain.graph.node if node.op_type == "Conv")
        shipped = fp16_model(plain, [first])
        return bytes(shipped.SerializeToString()), bytes(half_emulated(plain, [first]).SerializeToString())
    with quiet():
        quantize_static(
            str(floats), str(int8), _Tiles(planes), quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, extra_options={"WeightSymmetric": True},
        )  # fmt: skip
    model = onnx.load(str(int8))
    _take_in(OnnxModel(model))
    content = bytes(model.SerializeToString())
    return content, content


class _Tiles(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime's has no types
    def __init__(self, planes: U8) -> None:
        self._batches: Iterator[dict[str, Any]] = (
            {"planes": np.asarray(planes[first : first + AT_ONCE])} for first in range(0, len(planes), AT_ONCE)
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


def _take_in(graph: OnnxModel) -> None:
    """Planes enter as the eight bits that they are, where their range is whole grey levels from 0."""
    for quantise in graph.get_nodes_by_op_type("QuantizeLinear"):
        maker = graph.output_name_to_node().get(quantise.input[0])
        if maker is None or maker.op_type != "Cast" or maker.input[0] != "planes":
            continue
        scale, zero = (numpy_helper.to_array(graph.get_initializer(name)) for name in quantise.input[1:3])
        if np.isclose(scale, 1.0) and int(zero) == 0:
            graph.replace_input_of_all_nodes(quantise.output[0], "planes")
    graph.prune_graph(allow_remove_graph_inputs=False)
