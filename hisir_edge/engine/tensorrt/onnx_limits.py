"""Nodes of an ONNX network that a release of TensorRT for RTX refuses, found before it is compiled."""

from __future__ import annotations

import onnx

from hisir_edge.engine.tensorrt.releases import RTX_WITHOUT_SM75_FLOAT_PRODUCTS
from hisir_edge.errors import InputError
from hisir_edge.machine.tensorrt import release


def check_network(target: str, version: str, gpu_arch: tuple[str, ...], onnx_model: bytes) -> None:
    """InputError that names a float32 matrix product for SM75, which TensorRT for RTX refuses from 1.7 on."""
    if target != "tensorrt-rtx" or "sm75" not in gpu_arch or release(version) < RTX_WITHOUT_SM75_FLOAT_PRODUCTS:
        return
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(onnx_model))
    graph = model.graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("MatMul", "Gemm") and kinds.get(node.input[0]) == onnx.TensorProto.FLOAT:
            raise InputError(
                expected=f"no float32 matrix product for sm75 with {target} {version}",
                received=f"node {node.name!r} ({node.op_type})",
                fix="build --precision fp16, take the node out of fp16.keep_float32, or leave sm75 out of --gpu-arch",
            )
