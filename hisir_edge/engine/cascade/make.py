"""A bundle gets its first look: distilled, bounded, and left out where it would save nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from hisir_edge.backends import onnxruntime_engine
from hisir_edge.bundle.files import FIRST_LOOK
from hisir_edge.bundle.load import Bundle
from hisir_edge.bundle.manifest import CascadeModel, Manifest
from hisir_edge.engine.acceptance.left_out import Others, others_of_run
from hisir_edge.engine.cascade.bound import looked_share, proven
from hisir_edge.engine.cascade.distil import Lessons, distilled
from hisir_edge.engine.cascade.export import CALIBRATED_ON, onnx_of_first_look
from hisir_edge.engine.cascade.spoilt import Spoilt, spoilt_boards
from hisir_edge.engine.task import OnProgress, OnStage
from hisir_edge.inspection.cascade.first_look import FirstLook
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.rops import Rops
from hisir_edge.learn.data.distinct import boards_among
from hisir_edge.learn.data.run import RunRecord
from hisir_edge.machine.cpu import available_threads
from hisir_edge.registry import TARGETS


@dataclass(frozen=True, slots=True)
class Effort:
    """How many tiles it learns from, in how many steps, and on how many planted defects it is proven.

    ``worth_it``: of good boards' tiles it may leave this share to the network; beyond, it costs more than it saves.
    """

    tiles: int = 6000
    steps: int = 5000
    proven_on: int = 5000
    worth_it: float = 0.6


RESIDUALS, LEAST_RESIDUAL_PX = 1.5, 0.3
"""Frames that are registered so many times worse than the worst good board are looked at everywhere."""
LEARN_SEED, PROVE_SEED = 3301, 3302
LEAST_BOARDS, MOST_LEARNT = 2, 20
"""Boards that prove a first look at least; pictures that it learns from at most."""
MOST_ROUNDS, MORE = 2000, 1.25
"""Places for defects are drawn: some boards take fewer than the one that was tried."""


def with_first_look(
    manifest: Manifest, bundle: Bundle, network: Path, record: RunRecord, scratch: Path, on_stage: OnStage,
    on_progress: OnProgress, effort: Effort = Effort(),
) -> Manifest:  # fmt: skip
    """The manifest with its cascade, the file beside it; without one where there is too little to prove it on.

    ``bundle``: as it is so far, thresholds and all; ``network``: what the gate ran.
    """
    on_stage("first look")
    engine = onnxruntime_engine(network, bundle.recipe, available_threads())
    inspector = CpuInspector(bundle, engine, Rops, own_memory=record.each_left_out)
    others = others_of_run(inspector, record, scratch) if record.each_left_out else None
    learnt_from, proven_on = _shared_out(record)
    if bundle.manifest.optics is None or bundle.manifest.optics.most_blur_px is None:
        on_stage("no first look: blur cannot be told on these boards, and of a soft frame nothing may be left out")
        return manifest
    if not learnt_from or len(set(proven_on)) < LEAST_BOARDS:
        on_stage(f"no first look: it takes {2 * LEAST_BOARDS} good boards, to learn from and to be proven on")
        return manifest
    lessons = _lessons(inspector, record, others, learnt_from, scratch, effort, on_progress)
    net = distilled(lessons, effort.steps, record.settings.seed, partial(on_progress, "first look learns"))
    shown = lessons.planes[: min(lessons.used, CALIBRATED_ON)]
    style = TARGETS[manifest.target].graph
    content, proven_by = onnx_of_first_look(net, shown, bundle.recipe.tile_px, scratch, style)
    look, rounds = FirstLook(proven_by, bundle.folder), _rounds(inspector, record, others, proven_on, effort)
    boards = spoilt_boards(inspector, record, others, proven_on, PROVE_SEED, rounds)
    total = len(proven_on) * (rounds + 1)
    proof = proven(inspector, look, _counted(boards, "first look proven", total, on_progress))
    share = looked_share(inspector, proof)
    if proof.planted < effort.proven_on or not proof.expected or not proof.look_from > 0 or share > effort.worth_it:
        on_stage(
            f"no first look: of {proof.planted} planted defects, {len(proof.expected)} of which are called, "
            f"some look so plain that {share:.0%} of good boards would be looked at (up to {effort.worth_it:.0%} is "
            "worth it)"
        )
        return manifest
    (bundle.folder / FIRST_LOOK).write_bytes(content)
    cascade = CascadeModel(
        look_from=proof.look_from,
        most_residual_px=max(RESIDUALS * proof.most_residual_px, LEAST_RESIDUAL_PX),
        boards=len(set(boards_among(tuple(proven_on), record.same_board))),
        planted=proof.planted,
        called=len(proof.expected),
        called_by_class=proof.by_class(),
        waved=0,
        waved_upper_bound_95=proof.upper_bound_95,
        looked_share_good=share,
    )
    on_stage(words_of_cascade(cascade))
    return manifest.model_copy(update={"cascade": cascade})


def words_of_cascade(cascade: CascadeModel) -> str:
    """What the first look leaves to the whole network, and what it was proven on."""
    return (
        f"first look: {cascade.looked_share_good:.0%} of good boards' tiles are looked at; of {cascade.called} "
        f"planted defects that the network calls none is lost (at most {cascade.waved_upper_bound_95:.2%} of all, "
        "with 95 % confidence)"
    )


def _shared_out(record: RunRecord) -> tuple[list[str], list[str]]:
    """Pictures to learn from, and of other boards to be proven on.

    Boards that the network has learnt teach the first look, too; those that it has not prove it. Where all are held
    out, each half of the boards does one.
    """
    boards = boards_among(record.held_out, record.same_board)
    if not record.taught and len(set(boards)) >= LEAST_BOARDS:
        return list(record.train[:MOST_LEARNT]), list(record.held_out)
    halves: tuple[list[str], list[str]] = ([], [])
    order = {board: number for number, board in enumerate(dict.fromkeys(boards))}
    for path, board in zip(record.held_out, boards, strict=True):
        halves[order[board] % 2].append(path)
    return halves


def _rounds(
    inspector: CpuInspector, record: RunRecord, others: Others | None, boards: list[str], effort: Effort
) -> int:
    """How often each board is planted until there are enough defects; one board says how many go on it."""
    trial = spoilt_boards(inspector, record, others, boards[:1], PROVE_SEED, 1)
    most = max(1, *(board.planted for board in trial))
    return min(-(-round(MORE * effort.proven_on) // (most * len(boards))), MOST_ROUNDS)


def _lessons(
    inspector: CpuInspector, record: RunRecord, others: Others | None, boards: list[str], scratch: Path,
    effort: Effort, on_progress: OnProgress,
) -> Lessons:  # fmt: skip
    """Every fourth lesson is a clean board's tile, where there are so many."""
    lessons, rng = Lessons(scratch, inspector, effort.tiles), np.random.default_rng([record.settings.seed, LEARN_SEED])
    clean_each = max(effort.tiles // 4 // len(boards), 1)
    spoilt_each = max((effort.tiles - clean_each * len(boards)) // len(boards), 1)
    rounds = -(-spoilt_each // max(len(inspector.numbers) // 2, 1))
    spoilt = spoilt_boards(inspector, record, others, boards, LEARN_SEED, rounds)
    for board in _counted(spoilt, "first look's lessons", len(boards) * (rounds + 1), on_progress):
        here = np.intersect1d(board.numbers, inspector.numbers) if board.planted else inspector.numbers
        most = -(-spoilt_each // rounds) if board.planted else clean_each
        lessons.add(board, np.sort(rng.permutation(here)[:most]))
        if lessons.full:
            break
    return lessons


def _counted(boards: Iterator[Spoilt], what: str, total: int, on_progress: OnProgress) -> Iterator[Spoilt]:
    for number, board in enumerate(boards):
        on_progress(what, number + 1, total)
        yield board
