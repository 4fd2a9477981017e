"""``build-engine``: a training run becomes a bundle. Reads as one sentence: export, quantise, gate, compile, write."""

from __future__ import annotations

import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from hisir_edge.backends import inspector_from_bundle
from hisir_edge.bundle.load import load_bundle
from hisir_edge.bundle.lock import sole_writer
from hisir_edge.bundle.manifest import Manifest
from hisir_edge.bundle.replace import replace_folder
from hisir_edge.bundle.write import write_manifest
from hisir_edge.engine.acceptance.maps import boards_compared
from hisir_edge.engine.assemble import check_drawn, float_bundle, with_engine, with_network, with_self_test
from hisir_edge.engine.attempt import accepted
from hisir_edge.engine.compiler import compiler_of
from hisir_edge.engine.options import BuildOptions, archs_of, calibration_list, check_out, checked_run
from hisir_edge.engine.task import OnProgress, OnStage, Task
from hisir_edge.errors import InputError
from hisir_edge.inspection.selftest import draw_seed
from hisir_edge.learn.data.run import words_of_steps
from hisir_edge.learn.training.reached import progress_of
from hisir_edge.machine.cpu import available_threads
from hisir_edge.registry import TARGETS


def build_bundle(
    run: Path,
    out: Path,
    options: BuildOptions,
    on_stage: OnStage = lambda stage: None,
    on_progress: OnProgress = lambda phase, done, total: True,
) -> Manifest:
    """Build a bundle from a run; ``out`` is replaced only by one that passed the gate, loads and tests itself."""
    try:
        out = out.resolve()  # a link to a bundle stays one
    except (OSError, RuntimeError) as error:  # Python up to 3.12 raises RuntimeError for links in a circle
        raise InputError(
            expected="--out to be a path", received=f"{out} ({error})", fix="choose another --out"
        ) from error
    check_out(out)
    options = _stepped_down(options, on_stage)
    record, net = checked_run(run, options)
    images, reached = calibration_list(options.calib, record), progress_of(run)
    out.parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(out), _ended_by_signals():
        _sweep(out)
        staged = Path(tempfile.mkdtemp(prefix=f".{out.name}.new.", dir=out.parent))
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.work.", dir=out.parent))
        try:
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
                least_planted_recall=options.least_planted_recall,
                compared=boards_compared(record),
                trained=words_of_steps(reached.step, reached.start),
                threads=available_threads(),
                on_stage=on_stage,
                on_progress=on_progress,
            )
            found = accepted(task, options.precision, options.fallback)
            manifest = with_network(bundle.manifest, found, staged)
            manifest = with_self_test(manifest, staged, found.runs_here, record, on_stage)
            if compiler is not None:
                on_stage(f"compile for {options.target}")
                manifest = with_engine(manifest, staged, options, compiler, on_progress)
            write_manifest(staged, manifest)
            loaded = load_bundle(staged)
            if compiler is None:  # the very draw that every daemon with this bundle will make
                with closing(inspector_from_bundle(loaded)) as inspector:
                    check_drawn(inspector, draw_seed(loaded))
            _make_private(staged)
            check_out(out)  # somebody may have put something there meanwhile
            replace_folder(staged, out)
        finally:
            for folder in (staged, scratch):
                shutil.rmtree(folder, ignore_errors=True)
    return manifest


def _stepped_down(options: BuildOptions, on_stage: OnStage) -> BuildOptions:
    """With --fallback: fp16 where the installed TensorRT compiles no int8, said before any work is done."""
    compiler = compiler_of(options.target)
    if not options.fallback or options.precision != "int8" or compiler is None or compiler.takes_int8:
        return options
    on_stage(f"int8: not with {options.target} {compiler.version}, stepping down to fp16")
    return replace(options, precision="fp16", calib=None)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP, unless ignored (nohup), end a build as an exception would: its folders are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    heeded = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _make_private(folder: Path) -> None:
    """Readable by all, writable by its owner, whatever the umask: a service loads nothing else."""
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)


def _sweep(out: Path) -> None:
    """Remove what a killed build into this folder left; the lock is held, so none of it is in use."""
    for kind in ("new", "work"):
        ours = re.compile(re.escape(f".{out.name}.{kind}.") + r"[a-z0-9_]{8}")  # as mkdtemp names them
        for left in out.parent.iterdir():
            if ours.fullmatch(left.name):
                shutil.rmtree(left, ignore_errors=True)
