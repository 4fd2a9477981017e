"""Training: data, then steps until the step or minute budget is spent; resumable at any instant.

One process on a CPU or a GPU, or several under ``torchrun`` (torch DDP), on one machine or on several, each on its own
share of the stream of corrupted tiles. The weights that count are the moving average that did best on corrupted
tiles of held-out good boards; test defects are never looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from hisir_edge.bundle.lock import sole_writer
from hisir_edge.errors import InputError
from hisir_edge.learn.data.prepare import prepare_run
from hisir_edge.learn.data.run import OF_RUN, SHIPPED, RunRecord, RunSettings, load_checkpoint
from hisir_edge.learn.training.distributed import Team, team_from_environment
from hisir_edge.learn.training.steps import Progress, fit
from hisir_edge.net.pretrained import pretrained_state


@dataclass(frozen=True, slots=True)
class Before:
    """What the leader does before it reads the boards, and the folders that it needs for that."""

    sources: tuple[str, ...]
    work: Callable[[], None]


def train(
    settings: RunSettings,
    run: Path,
    max_minutes: float | None = None,
    workers: int = 1,
    on_load: Callable[[int, int], None] = lambda done, total: None,
    on_step: Callable[[Progress], None] = lambda progress: None,
    on_done: Callable[[RunRecord], None] = lambda record: None,
    before: Before | None = None,
) -> RunRecord:
    """Train until ``settings.steps`` or ``max_minutes`` (of training, all sittings together) are reached.

    A run that exists is continued from its checkpoint if its settings are the same, else InputError.
    Under torchrun every process calls this; the one whose machine has the run, or else the boards, leads: its
    arguments count, it alone reads boards, writes files and calls ``on_load``, ``on_step`` and ``on_done``. InputError
    while another training writes this run.
    """
    run = run.absolute()
    before = before or Before((), lambda: None)
    sources = (*map(str, settings.folders), *before.sources)
    with team_from_environment(lambda: _owned(run, sources)) as team, _written_by(team, run):
        # the leader's options count: what is a folder, and what an archive, its machine alone can say
        asked = team.led(lambda: settings)
        team.led(before.work)
        record, stream, held_out = team.led(lambda: prepare_run(asked, run, on_load))
        budget_s = None if max_minutes is None else max_minutes * 60
        first = team.led(lambda: (_first_weights(asked), load_checkpoint(run)))
        with team.here(stream.files) as files:
            fit(asked, run, (stream.with_files(files), held_out), team, budget_s, workers, on_step, first)
        if team.leads:
            stream.remove_files()
            on_done(record)
    return record


def _owned(run: Path, sources: tuple[str, ...]) -> tuple[int, int]:
    """How much of the run is on this machine, the run itself, what it is begun with, boards, nothing; and how new."""
    for much, there in ((4, run / "checkpoint.pt"), (3, run / "run.json"), (2, run)):
        if there.exists():
            return much, there.stat().st_mtime_ns
    return int(any(Path(source).exists() for source in sources)), 0


@contextmanager
def _written_by(team: Team, run: Path) -> Iterator[None]:
    """The leader alone writes the run, and no other training does; its refusal is everyone's."""
    with ExitStack() as stack:

        def hold() -> None:
            run.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(sole_writer(run, "training"))

        team.led(hold)
        yield


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
