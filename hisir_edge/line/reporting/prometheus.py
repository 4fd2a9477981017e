"""Figures for Prometheus on a loopback port: how many, how long, what was lost. No board ids in labels."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from threading import Thread
from types import TracebackType
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from hisir_edge import __version__
from hisir_edge.camera.paired import cameras_of
from hisir_edge.config.from_files import CallsSource
from hisir_edge.config.sockets import MetricsTable
from hisir_edge.errors import PublishError
from hisir_edge.line.assembly import InspectionLine
from hisir_edge.line.journal.retention import REASONS_TO_DELETE
from hisir_edge.line.journal.store import Journal
from hisir_edge.line.reporting.archiver import Archiver
from hisir_edge.line.state import LineState, State
from hisir_edge.line.verdicts import NO_BUNDLE, Outcome
from hisir_edge.records import Answer, GrabFault, Judgement, Result, by_camera

STAGES = ("register", "tile", "infer", "merge", "judge", "total")
RESIDUALS_PX = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
LOOKED = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 0.99, 1.0)
POSE = ("shift_x_px", "shift_y_px", "turn_deg", "scale")
OPTICS = ("blur_px", "brightness", "white_share")
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
TRUTHS = ("unknown", "real", "false")
REASONS = (
    ("overrun", "overrun"), ("incomplete", "incomplete"), ("repeated", "repeated"), ("timestamp went", "timestamp"),
    ("went back", "went_back"), ("gap in", "gap"), ("late frame", "late"), ("exposed", "exposure"),
    ("no board within", "missing"), ("no frame of", "unpaired"), ("camera", "camera_lost"),
    ("no frame within", "deadline"), ("not inspected within", "hung"),
)  # fmt: skip
"""Words of a fault's reason and the label's value; anything else is ``other``."""


class Metrics:
    """Served on entry, on 127.0.0.1 alone; port 0: not served, counted all the same."""

    def __init__(self, settings: MetricsTable) -> None:
        self.settings = settings
        self.registry = registry = CollectorRegistry()
        self.inspections = Counter(
            "hisir_inspections_total", "Verdicts handed over", ("result", "product"), registry=registry
        )
        self.stages = Histogram(
            "hisir_stage_duration_seconds", "Time a frame took in each stage", ("stage",), buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.lost = Counter(
            "hisir_frames_lost_total", "Frames that could not be judged", ("reason",), registry=registry
        )
        self.refused = Counter(
            "hisir_refused_total", "Connections and requests that were refused", ("reason",), registry=registry
        )
        self.info = Gauge("hisir_info", "The version that runs", ("version", "line"), registry=registry)
        self.camera_up = Gauge("hisir_camera_up", "1 while the camera is there", ("camera",), registry=registry)
        self.in_flight = Gauge("hisir_in_flight", "Boards accepted and without a verdict yet", registry=registry)
        self.stuck = Gauge("hisir_stuck_slots", "Slots that hang beyond the deadline", registry=registry)
        self.state = Gauge("hisir_state", "1 for the state that the line is in", ("state",), registry=registry)
        self.residual = Histogram(
            "hisir_registration_residual_px", "How far the patches that agree on a board's pose lie apart",
            ("camera",), buckets=RESIDUALS_PX, registry=registry,
        )  # fmt: skip
        self.inliers = Histogram(
            "hisir_registration_inlier_share", "Share of the patches that agree on a board's pose", ("camera",),
            buckets=SHARES, registry=registry,
        )  # fmt: skip
        self.lay = Gauge(
            "hisir_board_pose", "How the last board lay against the golden image", ("camera", "of"), registry=registry
        )
        self.optics = Gauge(
            "hisir_optics", "How the last frame was taken, against the good boards", ("camera", "of"),
            registry=registry,
        )  # fmt: skip
        self.looked = Histogram(
            "hisir_looked_share", "Share of a board's tiles that the whole network saw", ("camera",), buckets=LOOKED,
            registry=registry,
        )  # fmt: skip
        self.warnings = Counter("hisir_warnings_total", "Frames with a warning", ("camera", "of"), registry=registry)
        self.deleted = Gauge(
            "hisir_journal_deleted_verdicts", "Verdicts deleted from the journal since the start", ("reason",),
            registry=registry,
        )  # fmt: skip
        self.journal_up = Gauge("hisir_journal_up", "1 while the journal takes verdicts", registry=registry)
        self.archived = Gauge(
            "hisir_archived_boards", "Boards since the start that were kept, dropped (too slow a disk), or failed",
            ("outcome",), registry=registry,
        )  # fmt: skip
        self.calls = Counter(
            "hisir_calls_total", "Another machine's calls, by answer and by what a person has said of them",
            ("answer", "truth"), registry=registry,
        )  # fmt: skip
        self._server: Any = None
        self._thread: Thread | None = None

    def __enter__(self) -> Metrics:
        """Serve; PublishError when the port is taken."""
        if self.settings.port:
            try:
                self._server, self._thread = start_http_server(self.settings.port, "127.0.0.1", self.registry)
            except OSError as error:
                raise PublishError(
                    expected=f"to serve metrics.port {self.settings.port}",
                    received=error.strerror or str(error),
                    fix="stop the other program on this port, or choose another one",
                ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop serving."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def watch(self, line: InspectionLine, journal: Journal, archiver: Archiver) -> None:
        """Read these from the line and its journal whenever Prometheus asks."""
        for why in REASONS_TO_DELETE:
            self.deleted.labels(why).set_function(partial(journal.retention.deleted.__getitem__, why))
        self.journal_up.set_function(lambda: float(not journal.wrong))
        for outcome in ("kept", "dropped", "failed"):
            self.archived.labels(outcome).set_function(partial(archiver.counts.__getitem__, outcome))
        # at 0 from the start: what appears with its first count has grown by nothing for whoever asks about growth
        for product in line.selection.products.by_name:
            for result in Result:
                self.inspections.labels(result.value, product)
        for reason in (*dict.fromkeys(label for _, label in REASONS), "other"):
            self.lost.labels(reason)
        settings = line.selection.products.settings
        if isinstance(settings.source, CallsSource):
            for answer in Answer:
                for truth in TRUTHS:
                    self.calls.labels(answer.value, truth)
        self.info.labels(__version__, settings.line.name).set(1)
        for number, source in enumerate((settings.source, *(view.source for view in settings.also))):
            self.camera_up.labels(source.name).set_function(partial(_is_up, line.state, number))
        self.in_flight.set_function(lambda: float(line.pipeline.waiting))
        self.stuck.set_function(lambda: float(line.pipeline.late_slots))
        for state in State:
            self.state.labels(state.value).set_function(partial(_is_now, line.state, state))

    def refuse(self, reason: str) -> None:
        """Count one connection or request that was refused; ``reason``: one of a few words."""
        self.refused.labels(reason).inc()

    def count(self, outcome: Outcome) -> None:
        """Count one outcome that was handed over."""
        body = outcome.message.body
        # what others call their products is no label: there would be no end of them
        product = "unknown" if body["RecipeRevision"] == NO_BUNDLE else body["RecipeName"]
        self.inspections.labels(outcome.message.result.value, product).inc()
        for one in (body["vision"]["calls"] or {}).get("answers", ()):
            self.calls.labels(one["answer"], one["truth"] or TRUTHS[0]).inc()
        if isinstance(outcome.item, GrabFault):
            reason = next((label for words, label in REASONS if words in outcome.item.reason), "other")
            self.lost.labels(reason).inc()
            return
        times = outcome.judgement.times
        for stage in STAGES:
            self.stages.labels(stage).observe(getattr(times, f"{stage}_s"))
        for source, part in by_camera(outcome.item, outcome.judgement):
            self._count_pose(source, part)
            self._count_optics(source, part)
            if part.score is not None:
                self.looked.labels(source).observe(part.looked_share)

    def _count_pose(self, source: str, judgement: Judgement) -> None:
        pose, residual_px = judgement.board_pose, judgement.registration_residual_px
        if pose is None or residual_px is None:
            return
        self.residual.labels(source).observe(residual_px)
        self.inliers.labels(source).observe(pose.inlier_share)
        for name in POSE:
            self.lay.labels(source, name).set(getattr(pose, name))

    def _count_optics(self, source: str, judgement: Judgement) -> None:
        seen = {} if judgement.optics is None else asdict(judgement.optics)
        for name in OPTICS:  # a frame of which nothing is known is not to show the one before
            value = seen.get(name)
            self.optics.labels(source, name).set(float("nan") if value is None else value)
        for fault in judgement.warnings:
            self.warnings.labels(source, fault.kind).inc()


def _is_up(state: LineState, number: int) -> float:
    return float(state.source is not None and cameras_of(state.source)[number].up)


def _is_now(line: LineState, state: State) -> float:
    return float(line.machine.state is state)
