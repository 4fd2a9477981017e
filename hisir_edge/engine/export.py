"""Trained weights -> ONNX, one graph with both inputs and both outputs, any number of tiles."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import onnx
import torch

from hisir_edge.net.hisir_net import DeployedNet, HisirNet

OPSET = 17
QUANTISED_HALF_OPSET = 19
"""The first in which Q/DQ scales may be half precision; what TensorRT gets."""
INPUTS, OUTPUTS = ("tile", "cue"), ("score", "misfit")


def folded_net(net: HisirNet) -> HisirNet:
    """A copy in evaluation mode whose blocks are as few convolutions as they can be (``folded()`` of a block)."""
    out = copy.deepcopy(net).eval()
    for module in list(out.modules()):
        for name, child in list(module.named_children()):
            fold = getattr(child, "folded", None)
            if fold is not None:
                setattr(module, name, fold())
    return out


def onnx_from_net(net: HisirNet, tile_px: int, path: Path, opset: int = OPSET) -> None:
    """Write the float32 ONNX of a trained network: uint8 ``tile`` and ``cue`` in, ``score`` and ``misfit`` out."""
    deployed = DeployedNet(folded_net(net)).eval()
    deployed.to("cpu")
    tile = torch.zeros(1, 3, tile_px, tile_px, dtype=torch.uint8)
    cue = torch.zeros(1, 4, tile_px, tile_px, dtype=torch.uint8)
    with warnings.catch_warnings():
        # the TorchScript exporter is kept on purpose: it needs no onnxscript and gives plain, fusable nodes
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            deployed,
            (tile, cue),
            str(path),
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "n"} for name in (*INPUTS, *OUTPUTS)},
            opset_version=opset,
            dynamo=False,
        )
    onnx.checker.check_model(str(path))
