"""The daemon's spine: start up, one verdict per trigger until told to stop, shut down."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import Any

import structlog

from hisir_edge.config import OutputTable, Settings
from hisir_edge.errors import InspectionError, PublishError
from hisir_edge.line.control import ControlSocket, only, text_of
from hisir_edge.line.core import Core, Verdict
from hisir_edge.line.grab import EndOfFrames, Source, source_from_settings
from hisir_edge.line.heap import return_freed_memory
from hisir_edge.line.metrics import Metrics
from hisir_edge.line.notify import Systemd
from hisir_edge.line.pictures import Pictures
from hisir_edge.line.products import Products, products_from_settings
from hisir_edge.line.publish import Publisher, stamped
from hisir_edge.line.reload import Reloader
from hisir_edge.line.states import State, StateMachine
from hisir_edge.line.triggers import Identity
from hisir_edge.records import Result

log = structlog.get_logger()

POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run of the daemon came to: verdicts by result."""

    verdicts: dict[str, int]


@dataclass(slots=True)
class _Told:
    """What signals have told the daemon."""

    stop: Event
    reload: Event


def run(settings: Settings, read_again: Callable[[], Settings] | None = None) -> Summary:
    """Inspect until the source ends, SIGTERM or SIGINT; every trigger that was accepted gets one verdict.

    ``read_again``: the configuration anew, for SIGHUP; without it SIGHUP is logged and does nothing.
    """
    return_freed_memory()
    systemd, epoch = Systemd(), uuid.uuid4().hex
    machine = StateMachine(lambda state: systemd.tell(f"STATUS={state.value}"))
    with _signals() as told:
        products = products_from_settings(settings, epoch)
        with Publisher(settings.publish) as publisher, Metrics(settings.metrics) as metrics:
            results = _Results(publisher, metrics, Pictures(settings.output))
            core = Core(products, epoch, machine, results.out)
            metrics.watch(core)
            with ControlSocket(settings.control, _answers(core, told)), source_from_settings(settings.source) as source:
                core.source = source
                machine.to(State.INITIALIZED)
                _log_ready(products)
                systemd.tell("READY=1", f"STATUS={machine.state.value}")
                _wait_for_subscribers(publisher, settings, told.stop, systemd)
                with core.pipeline, Reloader(core, read_again, systemd, results.use) as reloader:
                    _serve(core, source, told, reloader, systemd)
                    systemd.tell("STOPPING=1")
    machine.to(State.HALTED)
    verdicts = {name: core.counts[name] for name in (r.value for r in Result) if core.counts[name]}
    log.info("stopped", **verdicts)
    core.products.close()
    return Summary(verdicts)


def _serve(core: Core, source: Source, told: _Told, reloader: Reloader, systemd: Systemd) -> None:
    """Take what the camera gives until the end; everything that may take long happens in other threads."""
    slots = core.products.settings.infer.slots

    def go_on() -> bool:
        if core.pipeline.stuck < slots:
            systemd.beat()
        return not told.stop.is_set()

    while go_on() and not core.pipeline.failed:
        core.show_state()
        if told.reload.is_set():
            told.reload.clear()
            reloader.ask()
        if core.pipeline.stuck >= slots:
            raise InspectionError(
                expected=f"inspections to end within {core.deadline_s:g} s",
                received=f"all {slots} slots hanging",
                fix="the service manager starts the daemon again; see the log for what hung",
            )
        if core.draining.is_set() and not core.pipeline.waiting:
            return
        if core.rearm_wanted.is_set():
            core.rearm_wanted.clear()
            source.rearm()
            for _ in range(len(core.waiting)):  # those that wait have lost theirs with the one that did not come
                source.trigger()
        try:
            item = source.next(POLL_S)
        except EndOfFrames:
            return
        if item is not None and not (core.draining.is_set() and not core.asked_for):
            core.take(item, go_on)


def _answers(core: Core, told: _Told) -> dict[str, Callable[[dict[str, Any]], dict[str, Any]]]:
    """What the control socket can be asked to do (docs/protocol.md)."""

    def identity(request: dict[str, Any]) -> Identity:
        only(request, "unit", "product")
        return Identity(text_of(request, "unit"), text_of(request, "product"))

    def trigger(request: dict[str, Any]) -> dict[str, Any]:
        accepted = core.trigger(identity(request))
        return {"seq": accepted.seq, "unit": accepted.unit, "epoch": core.epoch}

    def announce(request: dict[str, Any]) -> dict[str, Any]:
        return {"announced": core.announce(identity(request))}

    def select(request: dict[str, Any]) -> dict[str, Any]:
        only(request, "product")
        core.select(text_of(request, "product", required=True))
        return {"product": core.product}

    def pause(request: dict[str, Any]) -> dict[str, Any]:
        only(request)
        core.paused.set()
        return {}

    def resume(request: dict[str, Any]) -> dict[str, Any]:
        only(request)
        core.paused.clear()
        return {}

    def drain(request: dict[str, Any]) -> dict[str, Any]:
        only(request)
        core.draining.set()
        return {"in_flight": core.pipeline.waiting}

    def reload(request: dict[str, Any]) -> dict[str, Any]:
        only(request)
        told.reload.set()
        return {}

    def status(request: dict[str, Any]) -> dict[str, Any]:
        only(request)
        return core.status()

    return {
        "trigger": trigger, "announce": announce, "select": select, "pause": pause, "resume": resume, "drain": drain,
        "reload": reload, "status": status,
    }  # fmt: skip


class _Results:
    """Where verdicts go: the subscribers first, then the log, the figures, the disk."""

    def __init__(self, publisher: Publisher, metrics: Metrics, pictures: Pictures) -> None:
        self.publisher, self.metrics, self.pictures = publisher, metrics, pictures

    def use(self, output: OutputTable) -> None:
        """Keep pictures as this says from now on; InputError for a folder that will not do."""
        if output != self.pictures.settings:
            self.pictures = Pictures(output)

    def out(self, verdict: Verdict) -> None:
        """Hand one verdict over."""
        self.publisher.send(stamped(verdict.message).frames())
        body = verdict.message.body
        level = log.info if body["result"] == Result.PASS.value else log.warning
        level(
            "verdict", seq=verdict.seq, result=body["result"], unit=body["unit"], frame_id=body["frame_id"],
            product=body["product"], regions=body["regions_total"], total_s=body["times_s"]["total"],
            reason=body["reason"],
        )  # fmt: skip
        self.metrics.count(verdict)
        self.pictures.keep(verdict.item, verdict.judgement, verdict.seq)


def _wait_for_subscribers(publisher: Publisher, settings: Settings, stop: Event, systemd: Systemd) -> None:
    """Hold the first frame until the wanted subscribers are there (PUB would lose its verdict)."""
    wanted = settings.publish.wait_for_subscribers
    deadline = time.monotonic() + settings.publish.wait_timeout_s
    while not stop.is_set() and publisher.count_subscribers(100) < wanted:
        systemd.beat()
        if time.monotonic() > deadline:
            raise PublishError(
                expected=f"{wanted} subscriber(s) within {settings.publish.wait_timeout_s:g} s",
                received=str(publisher.subscribers),
                fix="start the subscribers first or lower publish.wait_for_subscribers",
            )


def _log_ready(products: Products) -> None:
    settings, first = products.settings, products.by_name[products.first]
    manifest = first.bundle.manifest
    log.info(
        "ready", line=settings.line.name, product=manifest.product, bundle=first.bundle.manifest_sha256[:12],
        precision=manifest.precision, endpoint=settings.publish.endpoint, source=settings.source.type,
        products=sorted(products.by_name),
    )  # fmt: skip


@contextmanager
def _signals() -> Iterator[_Told]:
    """SIGTERM and SIGINT: the boards in hand are still judged and published. SIGHUP: read the configuration again."""
    told = _Told(Event(), Event())
    handlers = {
        signal.SIGTERM: lambda *_: told.stop.set(),
        signal.SIGINT: lambda *_: told.stop.set(),
        signal.SIGHUP: lambda *_: told.reload.set(),
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
