"""Which quantised layers cost most: each convolution alone in int8, everything else in float."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort

from hisir_edge.arrays import F32, U8
from hisir_edge.engine.calibration.ranges import Range
from hisir_edge.engine.precision import Style, int8_model, quantisable
from hisir_edge.inspection.cpu.onnxruntime import session_options
from hisir_edge.inspection.score import logit_of_score

LOWEST_LOGIT, HIGHEST_LOGIT = -8.0, 8.0
"""Where a difference in logits says nothing any more: sure it is normal, sure it is not."""


def scores_of_model(model: onnx.ModelProto, tiles: U8, cues: U8, threads: int = 0) -> F32:
    """Scores (n, t, t) of tiles (n, 3, t, t) and cues (n, 4, t, t), on ONNX Runtime."""
    options = session_options(threads)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    parts = [
        session.run(["score"], {"tile": tiles[i : i + 4], "cue": cues[i : i + 4]})[0] for i in range(0, len(tiles), 4)
    ]
    return np.asarray(np.concatenate(parts), np.float32)


def logit_error(scores: F32, reference: F32) -> float:
    """Mean absolute difference of logits, clipped to where they matter; infinity for scores that are no numbers."""
    if not np.isfinite(scores).all():
        return float("inf")
    a, b = (np.clip(logit_of_score(s), LOWEST_LOGIT, HIGHEST_LOGIT) for s in (scores, reference))
    return float(np.abs(a - b).mean())


def layer_costs(
    prepared: onnx.ModelProto,
    ranges: dict[str, Range],
    style: Style,
    check: tuple[U8, U8, F32],
    on_layer: Callable[[int, int], None] = lambda d, t: None,
) -> dict[str, float]:
    """Mean logit error of each convolution alone, the most sensitive first. ``check``: tiles, cues, float scores."""
    layers = quantisable(prepared)
    others = [node.name for node in prepared.graph.node if node.op_type != "Conv"]
    tiles, cues, reference = check
    costs = {}
    for number, layer in enumerate(layers, 1):
        floats = [*others, *(name for name in layers if name != layer)]
        model = int8_model(prepared, ranges, floats, style)
        costs[layer] = logit_error(scores_of_model(model, tiles, cues), reference)
        on_layer(number, len(layers))
    return dict(sorted(costs.items(), key=lambda item: -item[1]))
