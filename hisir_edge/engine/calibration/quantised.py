"""Ranges of a run's network, and how the best way to take them was found."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
import onnx

from hisir_edge.arrays import F32, U8
from hisir_edge.bundle.manifest import CalibrationModel
from hisir_edge.engine.calibration.ranges import Activation, Range, activations_from_tiles, range_by_method
from hisir_edge.engine.calibration.sensitivity import layer_costs, logit_error, scores_of_model
from hisir_edge.engine.calibration.tiles import Calibration, calibration_from_images, default_images
from hisir_edge.engine.precision import int8_model, prepared_model
from hisir_edge.engine.task import Task

COST_TILES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantised:
    """All that int8 networks of one run are made from."""

    prepared: onnx.ModelProto = field(repr=False)
    calibration: Calibration
    activations: dict[str, Activation] = field(repr=False)
    method: str
    method_errors: dict[str, float]
    ranges: dict[str, Range] = field(repr=False)
    check: tuple[U8, U8, F32] = field(repr=False)
    """Tiles and cues that no range was taken from, and the float32 network's scores of them."""


def calibrated(task: Task) -> Quantised:
    """Ranges by the method whose network differs least from float32 on tiles that no range was taken from."""
    task.on_stage("calibration tiles")
    images = task.calibration_images or default_images(task.record)
    calibration = calibration_from_images(
        task.record, task.bundle.memory_rgbd, images, task.recipe.int8.tiles, task.bundle.places
    )
    prepared = prepared_model(task.bundle.model)
    path = task.scratch / "prepared.onnx"
    onnx.save(prepared, str(path))
    task.on_stage(f"activations of {len(calibration.tiles)} tiles from {len(images)} boards")
    seen = activations_from_tiles(path, calibration.tiles, calibration.cues, task.threads, calibration.places)
    check = calibration.check_tiles, calibration.check_cues
    scores = scores_of_model(prepared, check[0], check[1], task.threads)
    errors: dict[str, float] = {}
    ranges: dict[str, dict[str, Range]] = {}
    for method in task.recipe.int8.methods:
        task.on_progress("comparing ranges", len(errors), len(task.recipe.int8.methods))
        ranges[method] = {name: range_by_method(one, method) for name, one in seen.items()}
        model = int8_model(prepared, ranges[method], (), task.style)
        errors[method] = logit_error(scores_of_model(model, check[0], check[1], task.threads), scores)
    best = min(errors, key=lambda name: errors[name] if np.isfinite(errors[name]) else np.inf)
    errors = {name: error for name, error in errors.items() if np.isfinite(error)}  # what is left may be empty
    task.on_stage(f"ranges by {best}: " + ", ".join(f"{n} {e:.4f}" for n, e in errors.items()) + " (mean logit error)")
    return Quantised(
        prepared=prepared,
        calibration=calibration,
        activations=seen,
        method=best,
        method_errors=errors,
        ranges=ranges[best],
        check=(check[0], check[1], scores),
    )


def costs_of(task: Task, quantised: Quantised) -> dict[str, float]:
    """The cost of each layer in int8, the most sensitive first: looked at where the whole network is refused."""

    def tell(done: int, total: int) -> None:
        task.on_progress("cost of each layer", done, total)

    tiles, cues, scores = quantised.check
    few = tiles[:COST_TILES], cues[:COST_TILES], scores[:COST_TILES]
    return layer_costs(quantised.prepared, quantised.ranges, task.style, few, tell)


def summary_of(quantised: Quantised, kept: tuple[str, ...], counts: dict[str, int]) -> CalibrationModel:
    """For the manifest: ``kept`` are the layers left in float, ``counts`` the convolutions in int8 and in float."""
    calibration = quantised.calibration
    return CalibrationModel(
        method=quantised.method,
        images=len(calibration.images),
        list_sha256=calibration.list_sha256,
        tiles=len(calibration.tiles),
        method_errors=quantised.method_errors,
        kept_float=kept,
        int8_convolutions=counts["int8"],
        float_convolutions=counts["float"],
    )


def whole_record(quantised: Quantised, kept: tuple[str, ...], costs: dict[str, float]) -> str:
    """``calibration.json``: the list with hashes, every range, every layer's cost where that was asked for."""
    calibration = quantised.calibration
    content = {
        "method": quantised.method,
        "method_errors": quantised.method_errors,
        "list_sha256": calibration.list_sha256,
        "images": [{"path": path, "sha256": digest} for path, digest in calibration.images],
        "tiles": len(calibration.tiles),
        "kept_float": kept,
        "layer_costs": costs,
        "ranges": {name: [lo, hi] for name, (lo, hi) in quantised.ranges.items()},
    }
    return json.dumps(content, indent=1)
