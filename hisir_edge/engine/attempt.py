"""One network in one precision after another, until one passes the acceptance gate."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx

from hisir_edge.backends import onnxruntime_engine
from hisir_edge.bundle.load import Bundle
from hisir_edge.bundle.manifest import CalibrationModel
from hisir_edge.corruption.plant import words_of_classes
from hisir_edge.engine.calibration.ranges import Activation, Range, activations_from_tiles, range_by_method
from hisir_edge.engine.calibration.sensitivity import layer_costs, logit_error, scores_of_model
from hisir_edge.engine.calibration.tiles import Calibration, calibration_from_images, default_images
from hisir_edge.engine.cpu.graph import for_cpu_kernels
from hisir_edge.engine.derive import Reading, reading_from_maps
from hisir_edge.engine.gate import Drift, drift_between, table_of_drift
from hisir_edge.engine.maps import Maps, maps_from_inspector
from hisir_edge.engine.precision import Style, fp16_model, half_emulated, int8_model, prepared_model, quantised_nodes
from hisir_edge.engine.recipe import EngineRecipe, Precision, matching_nodes
from hisir_edge.errors import InputError, InspectionError
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.rops import Rops
from hisir_edge.learn.data.run import RunRecord, words_of_steps

COST_TILES = 4
KEPT_SHARES = (0, 1 / 8, 1 / 4, 1 / 2)
"""The fraction of the most quantisation-sensitive layers to keep in float, tried in turn until the gate passes."""
CHAINS: dict[Precision, tuple[Precision, ...]] = {
    "int8": ("int8", "fp16", "fp32"),
    "fp16": ("fp16", "fp32"),
    "fp32": ("fp32",),
}
OnStage = Callable[[str], None]
OnProgress = Callable[[str, int, int], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Inputs of a build: the run, the float bundle without thresholds, and the user's options.

    ``steps``: how many the run was trained for.
    """

    record: RunRecord
    bundle: Bundle
    scratch: Path
    recipe: EngineRecipe
    style: Style
    calibration_images: tuple[str, ...]
    rate: float
    max_drop: float
    least_planted_recall: float
    steps: int
    threads: int
    on_stage: OnStage = field(repr=False)
    on_progress: OnProgress = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedCandidate:
    """A network that passed: its ONNX file, what it reads, how far it drifted, how it was calibrated.

    ``runs_here``: the file that the gate ran on ONNX Runtime; another one where the network is for a GPU.
    """

    precision: Precision
    model: Path
    runs_here: Path
    reading: Reading
    drift: Drift
    calibration: CalibrationModel | None = None
    calibration_json: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantised:
    """All that int8 networks of one run are made from."""

    prepared: onnx.ModelProto = field(repr=False)
    calibration: Calibration
    activations: dict[str, Activation] = field(repr=False)
    method: str
    method_errors: dict[str, float]
    ranges: dict[str, Range] = field(repr=False)
    costs: dict[str, float] = field(repr=False)


def accepted(task: Task, precision: Precision, fallback: bool) -> AcceptedCandidate:
    """The first network from ``precision`` on that passes; InputError with the gate's table when none does."""
    task.on_stage("float32 on held-out boards")
    reference = _maps(task, task.bundle.model, "fp32")
    seen = reading_from_maps(task.bundle, reference, task.rate)
    drift = drift_between(reference, seen, reference, seen, task.max_drop, task.least_planted_recall)
    _check_trained(task, drift)
    chain: tuple[Precision, ...] = CHAINS[precision]
    said = ""
    for one in chain if fallback else chain[:1]:
        if one == "fp32":
            return AcceptedCandidate(
                precision="fp32", model=task.bundle.model, runs_here=task.bundle.model, reading=seen, drift=drift
            )
        result = _int8(task, reference, seen) if one == "int8" else _fp16(task, reference, seen)
        if isinstance(result, AcceptedCandidate):
            return result
        said = result
        task.on_stage(said)
    raise InputError(
        expected=f"an {precision} engine that inspects as float32 does",
        received=said.splitlines()[0],
        fix="allow more with --max-drop, step down with --fallback, or train longer",
    )


def _check_trained(task: Task, drift: Drift) -> None:
    """InputError where the float32 network itself finds too few of the planted defects: nothing later mends that."""
    if drift.recall >= task.least_planted_recall:
        return
    if not drift.planted:
        raise InputError(
            expected="planted defects of 6 px or more to check the network with",
            received="none: boards too plain or too few, or zones that ignore nearly everything",
            fix="take more good boards, or lower --least-planted-recall to 0",
        )
    found = words_of_classes(drift.planted_by_class, drift.recall_by_class)
    raise InputError(
        expected=f"at least {task.least_planted_recall:.0%} of the planted defects to be found",
        received=f"{drift.recall:.0%} of {drift.planted} ({found}) by a network of {words_of_steps(task.steps)}",
        fix="repeat the train command with more --max-minutes or --steps, or take more good boards; "
        "--least-planted-recall lowers the limit, and defects of these kinds will pass",
    )


def _fp16(task: Task, reference: Maps, seen: Reading) -> AcceptedCandidate | str:
    task.on_stage("cast to half precision")
    prepared = prepared_model(task.bundle.model)
    model = _saved_half(task, prepared, prepared, "fp16")
    return _tried(task, "fp16", model, reference, seen)


def _saved_half(task: Task, model: onnx.ModelProto, prepared: onnx.ModelProto, name: str) -> Path:
    """Cast a float32 or Q/DQ network to half precision; for GPUs with another file beside it for the gate to run."""
    kept = _kept_float32(task, prepared)
    path = task.scratch / f"{name}.onnx"
    onnx.save(fp16_model(model, kept), str(path))
    if task.style == "gpu":
        onnx.save(half_emulated(model, kept), str(_for_gate(path)))
    return path


def _for_gate(model: Path) -> Path:
    return model.with_suffix(".gate.onnx")


def _kept_float32(task: Task, model: onnx.ModelProto) -> list[str]:
    """Score and misfit arithmetic, the division by the boards' deviation, and what the recipe names."""
    names = [node.name for node in model.graph.node]
    always = [n for n in names if not n.startswith("/net/") or n.startswith(("/net/gate/Add", "/net/gate/Div"))]
    return [*always, *matching_nodes(task.recipe.fp16.keep_float32, names, "fp16.keep_float32")]


def _int8(task: Task, reference: Maps, seen: Reading) -> AcceptedCandidate | str:
    quantised = _calibrated(task)
    names = [node.name for node in quantised.prepared.graph.node]
    kept = matching_nodes(task.recipe.int8.keep_float, names, "int8.keep_float")
    result: AcceptedCandidate | str = ""
    for step in sorted({round(share * len(quantised.costs)) for share in KEPT_SHARES}):
        sensitive = list(quantised.costs)[:step]
        if sensitive:
            task.on_stage(f"{result}\nleaving the {step} most sensitive layers in float: {', '.join(sensitive)}")
        floats = [*kept, *sensitive]
        int8 = int8_model(quantised.prepared, quantised.ranges, floats, task.style)
        counts = quantised_nodes(int8)
        if task.style == "gpu":
            model = _saved_half(task, int8, quantised.prepared, f"int8-{step}")
        else:
            model = task.scratch / f"int8-{step}.onnx"
            onnx.save(for_cpu_kernels(int8), str(model))
        result = _tried(task, "int8", model, reference, seen)
        if isinstance(result, AcceptedCandidate):
            return replace(
                result,
                calibration=_summary(quantised, tuple(floats), counts),
                calibration_json=_whole_record(quantised, tuple(floats)),
            )
    return result


def _calibrated(task: Task) -> Quantised:
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

    def tell(done: int, total: int) -> None:
        task.on_progress("cost of each layer", done, total)

    few = slice(COST_TILES)
    costs = layer_costs(prepared, ranges[best], task.style, (check[0][few], check[1][few], scores[few]), tell)
    task.on_stage("most sensitive layers: " + ", ".join(f"{n} {e:.4f}" for n, e in list(costs.items())[:3]))
    return Quantised(
        prepared=prepared,
        calibration=calibration,
        activations=seen,
        method=best,
        method_errors=errors,
        ranges=ranges[best],
        costs=costs,
    )


def _summary(quantised: Quantised, kept: tuple[str, ...], counts: dict[str, int]) -> CalibrationModel:
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


def _whole_record(quantised: Quantised, kept: tuple[str, ...]) -> str:
    """``calibration.json``: the list with hashes, every range, every layer's cost."""
    calibration = quantised.calibration
    content = {
        "method": quantised.method,
        "method_errors": quantised.method_errors,
        "list_sha256": calibration.list_sha256,
        "images": [{"path": path, "sha256": digest} for path, digest in calibration.images],
        "tiles": len(calibration.tiles),
        "kept_float": kept,
        "layer_costs": quantised.costs,
        "ranges": {name: [lo, hi] for name, (lo, hi) in quantised.ranges.items()},
    }
    return json.dumps(content, indent=1)


def _maps(task: Task, model: Path, name: str) -> Maps:
    engine = onnxruntime_engine(model, task.bundle.recipe, task.threads)
    inspector = CpuInspector(task.bundle, engine, Rops)

    def tell(done: int, total: int) -> None:
        task.on_progress(f"{name} on good boards", done, total)

    return maps_from_inspector(inspector, task.record, task.scratch / f"maps-{name}", tell)


def _tried(task: Task, precision: Precision, model: Path, reference: Maps, seen: Reading) -> AcceptedCandidate | str:
    """The network behind the gate: accepted, or what the gate says."""
    task.on_stage(f"gate: {precision} against float32")
    name = model.stem
    try:
        runs_here = _for_gate(model) if _for_gate(model).exists() else model
        maps = _maps(task, runs_here, name)
        reading = reading_from_maps(task.bundle, maps, task.rate)
    except InspectionError as error:
        return f"{precision}: {error.received} where float32 has {error.expected}"
    except InputError as error:  # float32 could inspect this board
        return f"{precision}: {error.received}"
    drift = drift_between(reference, seen, maps, reading, task.max_drop, task.least_planted_recall)
    shutil.rmtree(task.scratch / f"maps-{name}")
    refusals = drift.refusals()
    if refusals:
        return f"{precision}: {'; '.join(refusals)}\n{table_of_drift(drift)}"
    task.on_stage(table_of_drift(drift))
    return AcceptedCandidate(precision=precision, model=model, runs_here=runs_here, reading=reading, drift=drift)
