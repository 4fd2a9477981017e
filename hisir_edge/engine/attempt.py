"""One network in one precision after another, until one passes the acceptance gate."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from hisir_edge.backends import onnxruntime_engine
from hisir_edge.bundle.manifest import CalibrationModel
from hisir_edge.engine.acceptance.asked import NOTHING, settled
from hisir_edge.engine.acceptance.derive import Reading, reading_from_maps
from hisir_edge.engine.acceptance.difference import recall_of_difference
from hisir_edge.engine.acceptance.gate import (
    Drift,
    check_recall,
    drift_between,
    recall_of,
    table_of_drift,
    with_asked,
    with_final,
)
from hisir_edge.engine.acceptance.left_out import Others, others_of_run
from hisir_edge.engine.acceptance.maps import Maps, maps_from_inspector
from hisir_edge.engine.calibration.quantised import calibrated, costs_of, summary_of, whole_record
from hisir_edge.engine.cpu.graph import for_cpu_kernels
from hisir_edge.engine.precision import (
    fp16_model,
    half_emulated,
    int8_model,
    prepared_model,
    quantisable,
    quantised_nodes,
)
from hisir_edge.engine.recipe import Precision, matching_nodes
from hisir_edge.engine.task import Task
from hisir_edge.errors import InputError, InspectionError
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.rops import Rops

KEPT_SHARES = (0, 1 / 8, 1 / 4, 1 / 2)
"""The fraction of the most quantisation-sensitive layers to keep in float, tried in turn until the gate passes."""
CHAINS: dict[Precision, tuple[Precision, ...]] = {
    "int8": ("int8", "fp16", "fp32"),
    "fp16": ("fp16", "fp32"),
    "fp32": ("fp32",),
}


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


def accepted(task: Task, precision: Precision, fallback: bool) -> AcceptedCandidate:
    """The first network from ``precision`` on that passes; InputError with the gate's table when none does."""
    if task.record.each_left_out:
        task = replace(task, others=_others(task))
    task.on_stage(f"float32 on {'good' if task.record.taught else 'held-out'} boards")
    reference = _maps(task, task.bundle.model, "fp32", task.compared)
    seen = reading_from_maps(task.bundle, reference, task.rate)
    if whole := task.compared == len(task.record.held_out):
        task = _with_least(task, seen)
    drift = drift_between(reference, seen, reference, seen, task.max_drop, task.asked)
    if whole:
        check_recall(drift, f"a network of {task.trained}")
    chain: tuple[Precision, ...] = CHAINS[precision]
    said = ""
    for one in chain if fallback else chain[:1]:
        if one == "fp32" and whole:
            return AcceptedCandidate(
                precision="fp32", model=task.bundle.model, runs_here=task.bundle.model, reading=seen, drift=drift
            )
        tries = {"int8": _int8, "fp16": _fp16, "fp32": _fp32}
        result = tries[one](task, reference, seen)
        if isinstance(result, AcceptedCandidate):
            return result
        said = result
        task.on_stage(said)
    raise InputError(
        expected=f"an {precision} engine that inspects as float32 does",
        received=said.splitlines()[0],
        fix="allow more with --max-drop, step down with --fallback, or train longer",
    )


def _with_least(task: Task, reading: Reading) -> Task:
    """With what is asked for where the network finds less than usual: as many as a golden-image difference finds."""

    def difference() -> float:
        if task.asked.difference is not None:  # for another candidate, on the same boards
            return task.asked.difference
        task.on_stage("few planted defects are found: measuring how many a golden-image difference finds")

        def tell(done: int, total: int) -> None:
            task.on_progress("difference on good boards", done, total)

        folder = task.scratch / "difference"
        found = recall_of_difference(task.bundle, task.record, folder, task.rate, task.compared, task.others, tell)
        shutil.rmtree(folder)
        return found

    return replace(task, asked=settled(task.asked, recall_of(reading), len(reading.peaks), difference))


def _others(task: Task) -> Others:
    task.on_stage("each board by the memory of the others")
    engine = onnxruntime_engine(task.bundle.model, task.bundle.recipe, task.threads)
    return others_of_run(CpuInspector(task.bundle, engine), task.record, task.scratch)


def _fp32(task: Task, reference: Maps, seen: Reading) -> AcceptedCandidate | str:
    """The float32 network on those boards, too, that engines are not compared on."""
    return _tried(task, "fp32", task.bundle.model, reference, seen)


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
    quantised = calibrated(task)
    names = [node.name for node in quantised.prepared.graph.node]
    kept = matching_nodes(task.recipe.int8.keep_float, names, "int8.keep_float")
    result: AcceptedCandidate | str = ""
    costs: dict[str, float] = {}
    layers = len(quantisable(quantised.prepared))
    for step in sorted({round(share * layers) for share in KEPT_SHARES}):
        if step and not costs:
            costs = costs_of(task, quantised)
            task.on_stage("most sensitive layers: " + ", ".join(f"{n} {e:.4f}" for n, e in list(costs.items())[:3]))
        sensitive = list(costs)[:step]
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
                calibration=summary_of(quantised, tuple(floats), counts),
                calibration_json=whole_record(quantised, tuple(floats), costs),
            )
    return result


def _maps(task: Task, model: Path, name: str, boards: int | None = None) -> Maps:
    """Maps of the held-out boards, the first ``boards`` of them or all, and of those that are added to them."""
    engine = onnxruntime_engine(model, task.bundle.recipe, task.threads)
    inspector = CpuInspector(task.bundle, engine, Rops, task.record.each_left_out)

    def tell(done: int, total: int) -> None:
        task.on_progress(f"{name} on good boards", done, total)

    record = task.record
    if boards is not None and boards < len(record.held_out):
        record = replace(record, held_out=record.held_out[:boards], added=0)
    folder = task.scratch / f"maps-{name}"
    return maps_from_inspector(inspector, record, folder, tell, task.others, task.compared)


def _tried(task: Task, precision: Precision, model: Path, reference: Maps, seen: Reading) -> AcceptedCandidate | str:
    """The network behind the gate: accepted, or what the gate says."""
    task.on_stage(f"gate: {precision} against float32")
    name = model.stem
    try:
        runs_here = _for_gate(model) if _for_gate(model).exists() else model
        maps = _maps(task, runs_here, name)
        part = maps.first(task.compared)
        reading = reading_from_maps(task.bundle, part, task.rate)
    except InspectionError as error:
        return f"{precision}: {error.received} where float32 has {error.expected}"
    except InputError as error:  # float32 could inspect this board
        return f"{precision}: {error.received}"
    # a part of the boards says how far the engine drifted, not how much it finds with thresholds from all
    asked = _with_least(task, reading).asked if part is maps else NOTHING
    drift = drift_between(reference, seen, part, reading, task.max_drop, asked)
    refusals = drift.refusals()
    if refusals:
        shutil.rmtree(task.scratch / f"maps-{name}")
        return f"{precision}: {'; '.join(refusals)}\n{table_of_drift(drift)}"
    if part is not maps:
        task.on_stage(f"compared on {task.compared} of {maps.held_out} boards, by thresholds from these alone:")
    task.on_stage(table_of_drift(drift))
    if part is not maps:
        task.on_stage(f"thresholds from all {maps.held_out} boards")
        reading = reading_from_maps(task.bundle, maps, task.rate)
        task = _with_least(task, reading)
        drift = with_asked(with_final(drift, reading, maps.held_out), task.asked)
        check_recall(drift, f"a network of {task.trained}")
    shutil.rmtree(task.scratch / f"maps-{name}")
    return AcceptedCandidate(precision=precision, model=model, runs_here=runs_here, reading=reading, drift=drift)
