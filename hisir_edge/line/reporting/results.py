"""Where outcomes go: the journal and the subscribers first, then the log, the metrics and the pictures."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import TracebackType

import structlog

from hisir_edge.config.kept import OutputTable
from hisir_edge.inspection.verdict import error_judgement
from hisir_edge.line.journal.outbox import Outbox
from hisir_edge.line.reporting.answers import AnswerFolder
from hisir_edge.line.reporting.archiver import Archiver
from hisir_edge.line.reporting.pictures import OverlayFolder, PictureWriter
from hisir_edge.line.reporting.prometheus import Metrics
from hisir_edge.line.reporting.recent import RecentOptics
from hisir_edge.line.sockets.message import VerdictMessage
from hisir_edge.line.verdicts import Outcome
from hisir_edge.records import Result, by_camera

log = structlog.get_logger()


class Results:
    """Hands outcomes over until exit. ``counts``: published verdicts by result; ``optics``: how boards were taken."""

    def __init__(
        self, outbox: Outbox, metrics: Metrics, pictures: OverlayFolder, archiver: Archiver, counts: Counter[str],
        optics: RecentOptics, answers: AnswerFolder,
    ) -> None:  # fmt: skip
        self._outbox, self._metrics, self._counts, self._optics = outbox, metrics, counts, optics
        self._archiver, self._answers = archiver, answers
        self._pictures = PictureWriter(pictures)

    def __enter__(self) -> Results:
        """Nothing to open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Publish the waiting verdicts and write the waiting pictures, if the disk takes them."""
        self._outbox.close()
        self._answers.close()
        self._pictures.close()
        self._archiver.close()

    def use(self, output: OutputTable) -> None:
        """Keep pictures as this says from now on; InputError for a folder that cannot be used."""
        if output != self._pictures.settings:
            self._pictures.use(OverlayFolder(output))

    def hand_over(self, outcome: Outcome) -> None:
        """Have one outcome journaled, published and reported."""
        self._outbox.put(outcome.message, outcome.seq, lambda message: self._report(_as_published(outcome, message)))

    def _report(self, outcome: Outcome) -> None:
        message, judgement = outcome.message, outcome.judgement
        fine = judgement.result is Result.PASS and not judgement.warnings
        level = log.info if fine else log.warning
        level(
            "verdict", seq=outcome.seq, result=judgement.result.value, unit=message.unit,
            frame_id=outcome.item.frame_id, product=message.body["RecipeName"], regions=judgement.regions_total,
            total_s=round(judgement.times.total_s, 5), reason=judgement.reason,
            warnings=[fault.words for _, part in by_camera(outcome.item, judgement) for fault in part.warnings],
        )  # fmt: skip
        self._answers.put(message.body)
        self._counts[message.result.value] += 1
        self._metrics.count(outcome)
        self._optics.add(outcome.item, judgement)
        self._pictures.put(outcome.item, judgement, outcome.seq)
        self._archiver.put(outcome)


def _as_published(outcome: Outcome, message: VerdictMessage) -> Outcome:
    """The outcome with the message that was published: an ERROR where the journal did not take the verdict."""
    if message.result is outcome.judgement.result:
        return replace(outcome, message=message)
    return replace(outcome, message=message, judgement=error_judgement(message.reason))
