"""Figures for Prometheus on a loopback port: how many, how long, what was lost. No board ids in labels."""

from __future__ import annotations

from functools import partial
from threading import Thread
from types import TracebackType
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from hisir_edge import __version__
from hisir_edge.camera.paired import cameras_of
from hisir_edge.config.sockets import MetricsTable
from hisir_edge.errors import PublishError
from hisir_edge.line.assembly import InspectionLine
from hisir_edge.line.state import LineState, State
from hisir_edge.line.verdicts import NO_BUNDLE, Outcome
from hisir_edge.records import GrabFault

STAGES = ("register", "tile", "infer", "merge", "judge", "total")
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
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

    def watch(self, line: InspectionLine) -> None:
        """Read these from the line whenever Prometheus asks."""
        settings = line.selection.products.settings
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
        if isinstance(outcome.item, GrabFault):
            reason = next((label for words, label in REASONS if words in outcome.item.reason), "other")
            self.lost.labels(reason).inc()
            return
        times = outcome.judgement.times
        for stage in STAGES:
            self.stages.labels(stage).observe(getattr(times, f"{stage}_s"))


def _is_up(state: LineState, number: int) -> float:
    return float(state.source is not None and cameras_of(state.source)[number].up)


def _is_now(line: LineState, state: State) -> float:
    return float(line.machine.state is state)
