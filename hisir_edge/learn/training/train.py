"""Training: data, then steps until the step or minute budget is spent; resumable at any instant.

One process on a CPU or a GPU, or several under ``torchrun`` (torch DDP), each on its own share of the
stream of corrupted tiles. The weights that count are the moving average that did best on corrupted
tiles of held-out good boards; test defects are never looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from torch import Tensor

from hisir_edge.bundle.lock import sole_writer
from hisir_edge.errors import InputError
from hisir_edge.learn.data.prepare import prepare_run
from hisir_edge.learn.data.run import OF_RUN, SHIPPED, RunRecord, RunSettings, load_checkpoint
from hisir_edge.learn.training.distributed import team_from_environment
from hisir_edge.learn.training.steps import Progress, fit
from hisir_edge.net.pretrained import pretrained_state


def train(
    settings: RunSettings,
    run: Path,
    max_minutes: float | None = None,
    workers: int = 1,
    on_load: Callable[[int, int], None] = lambda done, total: None,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> RunRecord:
    """Train until ``settings.steps`` or ``max_minutes`` (of training, all sittings together) are reached.

    A run that exists is continued from its checkpoint if its settings are the same, else InputError.
    Under torchrun every process calls this with the same arguments; the first one writes the files. InputError while
    another training writes this run.
    """
    run.absolute().parent.mkdir(parents=True, exist_ok=True)
    with team_from_environment() as team, sole_writer(run.absolute(), "training") if team.leads else nullcontext():
        record, stream, held_out = team.led(lambda: prepare_run(settings, run, on_load))
        budget_s = None if max_minutes is None else max_minutes * 60
        fit(settings, run, (stream, held_out), team, budget_s, workers, on_step, _first_weights(settings))
        if team.leads:
            stream.remove_files()
    return record


def _first_weights(settings: RunSettings) -> dict[str, Tensor] | None:
    if settings.start == SHIPPED:
        return pretrained_state(settings.backbone, settings.width)
    if settings.start == OF_RUN:
        return _weights_of(Path(settings.of))
    return None


def _weights_of(run: Path) -> dict[str, Tensor]:
    """The best weights of a run; InputError where it has none."""
    state = load_checkpoint(run)
    if state is None or not state["best"]:
        raise InputError(
            expected=f"a run with weights to go on from in {run}", received="no checkpoint", fix="train it first"
        )
    found: dict[str, Tensor] = state["best"]
    return found
