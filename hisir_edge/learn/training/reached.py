"""How far a training has come, and the network that it made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hisir_edge.errors import InputError
from hisir_edge.learn.data.prepare import net_from_settings
from hisir_edge.learn.data.run import SCRATCH, RunRecord, load_checkpoint, load_record
from hisir_edge.net.hisir_net import HisirNet


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a run has come: steps, seconds of training, loss on held-out corrupted tiles at first and at its best.

    ``start``: the weights that it began with.
    """

    step: int
    seconds: float
    first_loss: float
    best_loss: float
    start: str = SCRATCH


def progress_of(run: Path) -> Reached:
    """Read from the checkpoint; InputError where there is none."""
    state = load_checkpoint(run)
    if state is None:
        raise InputError(
            expected=f"a checkpoint in {run}", received="none", fix="let 'hisir-edge train' run for a minute or more"
        )
    first = state.get("first_loss", float("nan"))
    start = load_record(run).settings.start
    return Reached(int(state["step"]), float(state["seconds"]), float(first), float(state["best_loss"]), start)


def trained_net(run: Path) -> tuple[RunRecord, HisirNet]:
    """The best averaged network of a run, in evaluation mode; InputError before the first checkpoint."""
    record = load_record(run)
    state = load_checkpoint(run)
    if state is None:
        raise InputError(
            expected=f"a checkpoint in {run}", received="none", fix="let 'hisir-edge train' run for a minute or more"
        )
    net = net_from_settings(record.settings)
    net.load_state_dict(state.get("best") or state["average"])
    return record, net.eval()
