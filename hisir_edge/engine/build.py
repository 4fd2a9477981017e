"""``build-engine``: a training run becomes a bundle. Reads as one sentence: export, quantise, gate, compile, write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hisir_edge.backends import onnxruntime_engine
from hisir_edge.bundle.load import bundle_from_manifest
from hisir_edge.bundle.manifest import Manifest
from hisir_edge.engine.acceptance.alone import show_places
from hisir_edge.engine.acceptance.asked import asked_for
from hisir_edge.engine.acceptance.maps import boards_compared
from hisir_edge.engine.acceptance.reviewed import with_reviewed
from hisir_edge.engine.assemble import float_bundle, with_engine, with_network, with_self_test
from hisir_edge.engine.attempt import accepted
from hisir_edge.engine.cascade.make import with_first_look
from hisir_edge.engine.compiler import compiler_of
from hisir_edge.engine.options import BuildOptions, archs_of, calibration_list, check_out, checked_run
from hisir_edge.engine.staging import finish, resolved, staging
from hisir_edge.engine.task import OnProgress, OnStage, Task
from hisir_edge.images.kept import arrays_kept
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.learn.data.run import is_short, words_of_steps
from hisir_edge.learn.review.boards import load_reviewed
from hisir_edge.learn.training.reached import progress_of
from hisir_edge.machine.cpu import available_threads
from hisir_edge.registry import TARGETS


@arrays_kept()
def build_bundle(
    run: Path,
    out: Path,
    options: BuildOptions,
    on_stage: OnStage = lambda stage: None,
    on_progress: OnProgress = lambda phase, done, total: True,
) -> Manifest:
    """Build a bundle from a run; ``out`` is replaced only by one that passed the gate, loads and tests itself."""
    out = resolved(out)
    check_out(out)
    options = _stepped_down(options, on_stage)
    record, net = checked_run(run, options)
    images, reached = calibration_list(options.calib, record), progress_of(run)
    with staging(out) as (staged, scratch):
        on_stage("export ONNX")
        bundle = float_bundle(run, record, net, staged, options)
        compiler = compiler_of(options.target)
        if compiler is not None and options.precision == "fp32":  # the very network that is compiled
            compiler.check_network(archs_of(options), bundle.model.read_bytes())
        task = Task(
            record=record,
            bundle=bundle,
            scratch=scratch,
            recipe=options.recipe,
            style=TARGETS[options.target].graph,
            calibration_images=images,
            rate=options.false_calls_per_board,
            max_drop=options.max_drop,
            asked=asked_for(
                options.least_planted_recall,
                options.usual_planted_recall,
                is_short=is_short(reached.step, reached.start),
            ),
            compared=boards_compared(record),
            trained=words_of_steps(reached.step, reached.start),
            threads=available_threads(),
            on_stage=on_stage,
            on_progress=on_progress,
        )
        found = accepted(task, options.precision, options.fallback)
        manifest = with_network(bundle.manifest, found, staged)
        inspector = CpuInspector(bundle, onnxruntime_engine(found.runs_here, bundle.recipe, available_threads()))
        show_places(inspector, record, found.reading.alone, run, on_stage)
        if options.cascade and load_reviewed(run):
            on_stage("no first look: reviewed boards are judged by the whole network alone")
        elif options.cascade:
            so_far = bundle_from_manifest(staged, manifest, "")
            manifest = with_first_look(manifest, so_far, found.runs_here, record, scratch, on_stage, on_progress)
        manifest = with_self_test(manifest, staged, found.runs_here, record, on_stage)
        manifest = with_reviewed(manifest, staged, found.runs_here, run, record, options.despite_reviewed, on_stage)
        if compiler is not None:
            on_stage(f"compile for {options.target}")
            manifest = with_engine(manifest, staged, options, compiler, on_progress)
        finish(staged, out, manifest)
    return manifest


def _stepped_down(options: BuildOptions, on_stage: OnStage) -> BuildOptions:
    """With --fallback: fp16 where the installed TensorRT compiles no int8, said before any work is done."""
    compiler = compiler_of(options.target)
    if not options.fallback or options.precision != "int8" or compiler is None or compiler.takes_int8:
        return options
    on_stage(f"int8: not with {options.target} {compiler.version}, stepping down to fp16")
    return replace(options, precision="fp16", calib=None)
