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
from hisir_edge.errors import HungError, PublishError
from hisir_edge.line.control import ControlSocket, only, text_of
from hisir_edge.line.core import Core, Verdict
from hisir_edge.line.grab import EndOfFrames, Source, source_from_settings
from hisir_edge.line.heap import return_freed_memory
from hisir_edge.line.metrics import Metrics
from hisir_edge.line.notify import Systemd
from hisir_edge.line.pictures import Pictures, PictureWriter
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
    hung: bool = False
    """Whether a thread is still at work that nobody can end: the process has to be left without waiting for it."""


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
                machine.to(State.INITIALIZED)
                _log_ready(products)
                systemd.tell("READY=1", f"STATUS={machine.state.value}")
                _wait_for_subscribers(publisher, settings, told.stop, systemd)
                with core.pipeline, Reloader(core, read_again, systemd, results.use) as reloader:
                    core.serve(source)
                    try:
                        _serve(core, source, told, reloader, systemd)
                    finally:
                        core.close()  # whatever ends it: from here on no trigger is accepted
                        systemd.tell("STOPPING=1")
            results.close()
    machine.to(State.HALTED)
    verdicts = {name: core.counts[name] for name in (r.value for r in Result) if core.counts[name]}
    log.info("stopped", **verdicts)
    hung = core.pipeline.late_slots > 0
    core.products.close(wait=not hung)
    return Summary(verdicts, hung)


def _serve(core: Core, source: Source, told: _Told, reloader: Reloader, systemd: Systemd) -> None:
    """Take what the camera gives until the end; everything that may take long happens in other threads."""
    slots = core.products.settings.infer.slots

    def go_on() -> bool:
        if core.pipeline.stuck < slots and core.pipeline.moving:
            systemd.beat()
        return not told.stop.is_set()

    # told to stop, the frame that a trigger has asked for is still waited for
    while (go_on() or (core.asked_for and core.waiting)) and not core.pipeline.failed:
        if told.stop.is_set():
            core.draining.set()
        core.show_state()
        if told.reload.is_set():
            told.reload.clear()
            reloader.ask()
        if core.pipeline.stuck >= slots:
            raise HungError(
                expected=f"inspections to end within {core.deadline_s:g} s",
                received=f"all {slots} slots hanging",
                fix="the service manager starts the daemon again; see the log for what hung",
            )
        if core.draining.is_set() and not core.pipeline.waiting:
            return
        core.arm(source)
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
        core.pause()
        return {}

    def resume(request: dict[str, Any]) -> dict[str, Any]:
        only(request)
        core.resume()
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
        self.publisher, self.metrics, self.pictures = publisher, metrics, PictureWriter(pictures)

    def use(self, output: OutputTable) -> None:
        """Keep pictures as this says from now on; InputError for a folder that will not do."""
        if output != self.pictures.settings:
            self.pictures.use(Pictures(output))

    def close(self) -> None:
        """Write the pictures that are waiting, if the disk takes them."""
        self.pictures.close()

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
        self.pictures.put(verdict.item, verdict.judgement, verdict.seq)


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
