"""Float32 ONNX -> int8 ONNX with explicit Q/DQ, calibrated on good tiles and corrupted ones."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from hisir_edge.arrays import U8
from hisir_edge.errors import InputError

# score and misfit heads work on logits and small differences: they stay in float32
QUANTISED_OPERATORS = ["Conv", "Add", "Concat", "Resize"]


class _Tiles(CalibrationDataReader):  # type: ignore[misc]
    """Feeds (tile, cue) pairs to the calibrator, one tile at a time."""

    def __init__(self, tiles: U8, cues: U8) -> None:
        self.pairs: Iterator[tuple[U8, U8]] = iter(list(zip(tiles, cues, strict=True)))

    def get_next(self) -> dict[str, U8] | None:
        pair = next(self.pairs, None)
        return None if pair is None else {"tile": pair[0][None], "cue": pair[1][None]}


def _kept_in_float(model: onnx.ModelProto) -> list[str]:
    """Nodes where eight bits are too few.

    The convolution that makes the gate's logits (the last one), the sum that makes the
    reconstruction (its difference to the tile is what counts), the division by the deviation of the good boards, and
    the score and misfit arithmetic outside the network proper (a small constant in them would round to zero and
    divide by it).
    """
    nodes = model.graph.node
    last = [node.name for node in nodes if node.op_type == "Conv"][-1]
    outside = [node.name for node in nodes if not node.name.startswith("/net/")]
    divided = [node.name for node in nodes if node.name.startswith("/net/gate/Add")]
    return [last, "/net/Add", *divided, *outside]


def int8_from_onnx(float_model: Path, tiles: U8, cues: U8, out: Path) -> None:
    """Quantise: per-channel int8 weights, uint8 activations (fastest with AVX512-VNNI), moving-average-free min-max.

    tiles (n, 3, t, t) and cues (n, 4, t, t) uint8; InputError when there are none.
    """
    if len(tiles) == 0:
        raise InputError(expected="calibration tiles", received="none", fix="train with more good boards")
    prepared = out.with_suffix(".prepared.onnx")
    logging.getLogger().setLevel(logging.ERROR)  # the quantiser logs its advice through the root logger
    quant_pre_process(str(float_model), str(prepared), skip_symbolic_shape=True)
    try:
        quantize_static(
            str(prepared),
            str(out),
            _Tiles(tiles, cues),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=QUANTISED_OPERATORS,
            nodes_to_exclude=_kept_in_float(onnx.load(str(prepared))),
            calibrate_method=CalibrationMethod.MinMax,
        )
    finally:
        prepared.unlink(missing_ok=True)
