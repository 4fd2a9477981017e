"""Teaching: a run without a gradient step. The shipped network knows boards; a memory of these ones is all it needs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from hisir_edge.bundle.lock import sole_writer
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
    run.absolute().parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(run.absolute(), "teaching"):
        _remove_taught(run)
        record = prepare_teaching(settings, run, on_load)
        state = {"best": weights, "average": weights, "step": 0, "seconds": 0.0, "best_loss": float("nan")}
        save_checkpoint(run, state)
    return record


def _remove_taught(run: Path) -> None:
    """Make room: teaching takes a minute, and other pictures may lie in the folder now."""
    if (run / "run.json").exists() and load_record(run).each_left_out:
        shutil.rmtree(run)
