"""The parts of a line, wired: one way from a trigger to its outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hisir_edge.line.arrivals import Arrivals
from hisir_edge.line.intake import Intake
from hisir_edge.line.journal.store import Journal
from hisir_edge.line.pipeline import Pipeline
from hisir_edge.line.products import Products, Selection
from hisir_edge.line.sequence import Sequence
from hisir_edge.line.state import LineState, StateMachine
from hisir_edge.line.triggers import Trigger, Waiting
from hisir_edge.line.verdicts import LabelReader, Outcome, Verdicts


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionLine:
    """intake (numbers, journal) -> pipeline (slots) -> verdicts -> ``out``; enter ``pipeline`` before triggers come."""

    epoch: str
    selection: Selection
    verdicts: Verdicts
    pipeline: Pipeline[int, Trigger, Outcome]
    state: LineState
    intake: Intake
    arrivals: Arrivals
    waiting: Waiting


def line_from_products(
    products: Products,
    epoch: str,
    machine: StateMachine,
    out: Callable[[Outcome], None],
    journal: Journal | None = None,
    counts: Counter[str] | None = None,
    unjournaled: Callable[[], int] = lambda: 0,
    reader: LabelReader | None = None,
    optics: Callable[[], dict[str, Any]] = dict,
) -> InspectionLine:
    """Wire a line. ``out`` gets each outcome, in the order in which triggers were accepted.

    ``counts``, ``unjournaled`` and ``optics``: see ``LineState``. ``reader``: see ``Verdicts``.
    """
    settings = products.settings
    selection, sequence, waiting = Selection(products), Sequence(journal), Waiting()
    verdicts = Verdicts(selection, epoch, waiting, reader)
    pipeline = Pipeline[int, Trigger, Outcome](
        list(range(settings.infer.slots)), verdicts.inspected, out, settings.line.deadline_ms / 1e3, verdicts.late
    )
    state = LineState(
        machine, selection, sequence, pipeline, Counter() if counts is None else counts, unjournaled,
        lambda: "" if journal is None else journal.wrong, optics,
    )  # fmt: skip
    intake = Intake(selection, sequence, waiting, pipeline, state)
    return InspectionLine(
        epoch=epoch, selection=selection, verdicts=verdicts, pipeline=pipeline, state=state, intake=intake,
        arrivals=Arrivals(intake, state, waiting, pipeline, settings), waiting=waiting,
    )  # fmt: skip
