"""From a trigger and its frame to one verdict, on the threads of the pipeline."""

from __future__ import annotations

import time
from concurrent.futures import InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import structlog

from hisir_edge.arrays import U8
from hisir_edge.config.from_files import CallsSource
from hisir_edge.errors import NotJudgedError
from hisir_edge.inspection.calls.answer import CallRules, answered, unanswered
from hisir_edge.inspection.calls.crops import with_crops_laid
from hisir_edge.inspection.verdict import error_judgement, fail_closed, frame_of, judgement_from_views
from hisir_edge.labels import shown
from hisir_edge.line.journal.records import AcceptedTrigger
from hisir_edge.line.products import Product, Selection
from hisir_edge.line.sockets.message import Provenance, VerdictMessage, message_from_judgement
from hisir_edge.line.triggers import Trigger, Waiting
from hisir_edge.records import Frame, GrabFault, Judgement, Result, View

log = structlog.get_logger()

NO_BUNDLE = "0" * 64


class LabelReader(Protocol):
    """Reads the name on a board (``line.barcode``)."""

    def read(self, rgb: U8) -> str:
        """The name, empty where there is none; InspectionError where it cannot be read for sure."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of one trigger: the camera's frame or fault, its judgement, and the message that is published."""

    seq: int
    item: Frame | GrabFault
    judgement: Judgement
    message: VerdictMessage = field(repr=False)


class Verdicts:
    """Makes the outcome of each trigger. ``reader`` reads the board's label; None where labels are not read."""

    def __init__(self, selection: Selection, epoch: str, waiting: Waiting, reader: LabelReader | None) -> None:
        self._selection, self._epoch, self._waiting, self._reader = selection, epoch, waiting, reader
        self._deadline_ms = selection.products.settings.line.deadline_ms

    def inspected(self, slot: int, trigger: Trigger) -> Outcome:
        """The outcome of a trigger whose frame came, by the inspector of a slot."""
        facts = {"seq": trigger.seq, "unit": trigger.unit}
        with structlog.contextvars.bound_contextvars(**facts):  # also for what the inspector logs
            return fail_closed(partial(self._inspected, slot, trigger), partial(self._faulty, trigger))

    def late(self, trigger: Trigger) -> Outcome:
        """The outcome of a trigger that missed its deadline: no frame came, or no inspection ended."""
        if self._waiting.expire(trigger.seq):  # should its frame still come, it is dropped
            outcome = self._faulty(trigger, f"no frame within {self._deadline_ms:g} ms")
        else:
            outcome = self._faulty(trigger, f"not inspected within {self._deadline_ms:g} ms")
        with suppress(InvalidStateError):  # without its frame the slot would wait for ever
            trigger.frame.set_result(outcome.item)
        return outcome

    def abandoned(self, accepted: AcceptedTrigger) -> Outcome:
        """The outcome of a trigger that an earlier run of the daemon accepted and did not answer."""
        product = self._selection.products.by_name.get(accepted.product)
        trigger = Trigger(
            seq=accepted.seq, unit=accepted.unit, product_name=accepted.product, product=product,
            source=accepted.source, accepted_at_ns=accepted.accepted_at_ns,
        )  # fmt: skip
        return self._faulty(trigger, "the daemon ended before this board was judged (crash, kill or power cut)")

    def _faulty(self, trigger: Trigger, reason: str) -> Outcome:
        return self._outcome(trigger, trigger.fault(reason), error_judgement(reason))

    def _inspected(self, slot: int, trigger: Trigger) -> Outcome:
        item = replace(trigger.frame.result(), unit=trigger.unit)
        item, misread = self._named(trigger, item)
        judgement = misread or fail_closed(partial(self._judgement, slot, trigger, item), error_judgement)
        return self._outcome(trigger, item, judgement)

    def _named(self, trigger: Trigger, item: Frame | GrabFault) -> tuple[Frame | GrabFault, Judgement | None]:
        """The item under the name on the board's label, and an ERROR if the label is not what it has to be."""

        def misread(reason: str) -> tuple[Frame | GrabFault, Judgement | None]:
            return item, error_judgement(reason)

        def named() -> tuple[Frame | GrabFault, Judgement | None]:
            laid = item if trigger.product is None else with_crops_laid(trigger.product.bundle, item)
            return self._under_its_label(trigger, laid), None

        return fail_closed(named, misread, "code not read")

    def _under_its_label(self, trigger: Trigger, item: Frame | GrabFault) -> Frame | GrabFault:
        """The item under the name on the board's label; NotJudgedError if another name was announced."""
        if self._reader is None or isinstance(item, GrabFault) or (item.sheet is not None and item.sheet.crops):
            return item  # the label between crops is that of the golden image
        text = self._reader.read(item.rgb)
        if text and trigger.named and text != trigger.unit:
            announced, label = shown(trigger.unit), shown(text)
            raise NotJudgedError(f"expected the board {announced}, which was announced; got {label} on its label")
        return replace(item, unit=text) if text else item

    def _judgement(self, slot: int, trigger: Trigger, item: Frame | GrabFault) -> Judgement:
        if trigger.product is None:
            known = ", ".join(sorted(self._selection.products.by_name))
            raise NotJudgedError(f"unknown product {trigger.product_name}; loaded are {known}")
        frame = frame_of(item)
        judged = inspect_board(trigger.product, slot, frame)
        source = self._selection.products.settings.source
        if frame.sheet is None or not isinstance(source, CallsSource):
            return judged
        rules = CallRules(source.false_below, source.margin_px, source.elsewhere == "fail")
        inspector = trigger.product.inspectors[slot]
        layers = [judged, *(inspector.inspect(layer) for layer in frame.layers)]
        return answered(layers, frame.sheet, rules, inspector.gain, trigger.product.bundle.manifest)

    def _outcome(self, trigger: Trigger, item: Frame | GrabFault, judgement: Judgement) -> Outcome:
        if item.sheet is not None and judgement.result is Result.ERROR:
            judgement = unanswered(judgement, item.sheet, judgement.reason)
        provenance = trigger.product.provenance if trigger.product else self._unknown_product(trigger)
        return Outcome(trigger.seq, item, judgement, encoded(provenance, trigger.seq, item, judgement))

    def _unknown_product(self, trigger: Trigger) -> Provenance:
        line = self._selection.products.settings.line.name
        return Provenance(line=line, epoch=self._epoch, product=trigger.product_name, bundle_sha256=NO_BUNDLE)


def inspect_board(product: Product, slot: int, frame: Frame) -> Judgement:
    """The judgement of a board: of its one frame, or of the frames of all cameras; NotJudgedError if one is missing."""
    every, frames = (product, *product.more), (frame, *frame.more)
    if not product.more:
        return product.inspectors[slot].inspect(frame.image)
    if len(frames) != len(every):
        raise NotJudgedError(f"expected frames of {len(every)} cameras; got {len(frames)}")
    return judgement_from_views(
        [
            View(
                source=part.source, frame_id=part.frame_id, frame_hw=part.image.hw,
                bundle_sha256=one.provenance.bundle_sha256, judgement=one.inspectors[slot].inspect(part.image),
                white_share=part.white_share,
            )
            for one, part in zip(every, frames, strict=True)
        ]
    )  # fmt: skip


def encoded(provenance: Provenance, seq: int, item: Frame | GrabFault, judgement: Judgement) -> VerdictMessage:
    """The message of a verdict; where a judgement cannot be encoded, that of an ERROR under the same number."""

    def encode(judgement: Judgement) -> VerdictMessage:
        message = message_from_judgement(provenance, seq, item, judgement)
        message.frames()
        return message

    def as_error(reason: str) -> VerdictMessage:
        return fail_closed(
            partial(encode, error_judgement(reason)), partial(bare, reason), "ERROR could not be encoded"
        )

    def bare(why: str, _: str) -> VerdictMessage:
        # with nothing of the item but its names: it is the item that cannot be encoded
        fault = GrabFault(
            source=str(item.source), frame_id=0, unit=str(item.unit), reason=why, grabbed_at_ns=time.time_ns()
        )
        return message_from_judgement(provenance, seq, fault, error_judgement(why))

    return fail_closed(partial(encode, judgement), as_error, "verdict could not be encoded", seq=seq)
