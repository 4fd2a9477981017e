"""Teaching: a run without a gradient step. The shipped network knows boards; a memory of these ones is all it needs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from hisir_edge.bundle.lock import sole_writer
from hisir_edge.bundle.replace import replace_folder
from hisir_edge.errors import InputError
from hisir_edge.learn.data.prepare import prepare_teaching
from hisir_edge.learn.data.run import RunRecord, RunSettings, load_record, save_checkpoint
from hisir_edge.net.pretrained import pretrained_state


def teach(
    settings: RunSettings, run: Path, on_load: Callable[[int, int], None] = lambda done, total: None
) -> RunRecord:
    """Write a run of the shipped weights and the memory of all boards; it is built like any other.

    A run that was taught before is replaced. InputError where no weights are shipped for these settings, and for boards
    that cannot be used.
    """
    weights = pretrained_state(settings.backbone, settings.width)
    run = run.absolute()
    run.parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(run, "teaching"):
        _check_replaceable(run)
        made = run.with_name(f".{run.name}.new")
        shutil.rmtree(made, ignore_errors=True)  # of a teaching that was killed
        try:
            record = prepare_teaching(settings, made, on_load)
            state = {"best": weights, "average": weights, "step": 0, "seconds": 0.0, "best_loss": float("nan")}
            save_checkpoint(made, state)
            _check_replaceable(run)
            replace_folder(made, run)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return record


WRITTEN = {
    "run.json", "checkpoint.pt", "memory.npz", "area.png", "golden.png", "variants.png", "variants", "odd",
}  # fmt: skip
"""What a run that was taught consists of."""


def _check_replaceable(run: Path) -> None:
    """InputError unless ``run`` is new, empty, or was taught before and holds nothing else."""
    there = {path.name for path in run.iterdir()} if run.is_dir() else set()
    taught = "run.json" in there and load_record(run).taught
    foreign = sorted(there - WRITTEN if taught else there)
    if foreign or (run.exists() and not run.is_dir()):
        raise InputError(
            expected="a new folder for the run, or one that was taught before",
            received=f"{run} with other files, such as {foreign[0]}" if foreign else f"{run}, a file",
            fix="choose another --run",
        )
