"""The daemon's spine: startup, loop, shutdown.

Every frame takes the same path: camera -> ``_serve`` -> ``Intake.take`` -> ``Pipeline`` -> ``Verdicts.inspected`` ->
``BoardInspector.inspect`` -> ``Results.hand_over`` -> ``Outbox``, which journals the verdict, then publishes it.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass

import structlog

from hisir_edge.camera.factory import source_from_settings
from hisir_edge.camera.paired import cameras_of
from hisir_edge.camera.source import EndOfFrames, Source
from hisir_edge.config.from_files import CallsSource
from hisir_edge.config.tables import Settings
from hisir_edge.errors import HungError, PublishError
from hisir_edge.line.assembly import InspectionLine, line_from_products
from hisir_edge.line.barcode import reader_from_settings
from hisir_edge.line.hermes.boards import link_from_settings
from hisir_edge.line.journal.outbox import Outbox
from hisir_edge.line.journal.schema import folder_of
from hisir_edge.line.journal.store import Journal
from hisir_edge.line.products import check_frames, products_from_settings
from hisir_edge.line.reload import Reloader
from hisir_edge.line.reporting.answers import AnswerFolder
from hisir_edge.line.reporting.archiver import archiver_from_settings
from hisir_edge.line.reporting.pictures import OverlayFolder
from hisir_edge.line.reporting.prometheus import Metrics
from hisir_edge.line.reporting.recent import RecentOptics
from hisir_edge.line.reporting.results import Results
from hisir_edge.line.reporting.systemd import Systemd
from hisir_edge.line.revising import Revising, store_from_settings
from hisir_edge.line.signals import Asked, SignalFlag, signals
from hisir_edge.line.sockets.calls import CallsSocket
from hisir_edge.line.sockets.commands import commands
from hisir_edge.line.sockets.context import Wire
from hisir_edge.line.sockets.control import ControlSocket
from hisir_edge.line.sockets.publish import Publisher
from hisir_edge.line.state import State, StateMachine
from hisir_edge.machine.descriptors import ensure_descriptors
from hisir_edge.machine.heap import return_freed_memory
from hisir_edge.records import Frame, GrabFault, Result
from hisir_edge.transport.addresses import heard_at

log = structlog.get_logger()

POLL_S = 0.2
SOCKETS = 2
SWITCH_S = 0.001
"""How long one thread of Python's may hold the others up: a trigger is not to wait for answers being written."""
DISK_LIMIT_S = 10.0
"""A journal that takes longer for a verdict is no progress: the service manager's watchdog is not fed."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Result of a run of the daemon: verdicts by result."""

    verdicts: dict[str, int]
    hung: bool = False
    """Whether a thread that cannot be ended is still at work: leave the process without waiting for it."""


def run(settings: Settings, read_again: Callable[[], Settings] | None = None) -> Summary:
    """Inspect until the source ends, SIGTERM or SIGINT; every trigger that was accepted gets one verdict.

    ``read_again``: the configuration anew, for SIGHUP; without it SIGHUP is logged and does nothing.
    """
    return_freed_memory()
    sys.setswitchinterval(SWITCH_S)
    ensure_descriptors(SOCKETS * settings.security.max_connections)
    systemd = Systemd()
    machine = StateMachine(lambda state: systemd.tell(f"STATUS={state.value}"))
    with ExitStack() as stack:
        # startup
        enter = stack.enter_context
        asked = enter(signals())
        journal = enter(Journal(folder_of(settings.journal, settings.line.name), settings.journal, systemd.starting))
        store = enter(closing(store_from_settings(settings, journal.folder)))
        products = products_from_settings(settings, journal.epoch, store.chosen)
        metrics = Metrics(settings.metrics)
        wire = enter(Wire(settings.security, metrics.refuse))
        publisher = enter(Publisher(settings.publish, wire))
        enter(metrics)
        pictures, counts, optics = OverlayFolder(settings.output), Counter[str](), RecentOptics()
        deliveries = AnswerFolder(settings.source, journal)
        reader, archiver = reader_from_settings(settings.identity), archiver_from_settings(settings, journal.folder)
        # the outbox starts its thread: everything that may be refused without a socket or camera was checked before
        outbox = Outbox(journal, publisher.send, _heartbeat(publisher, settings, journal, machine), publisher.idle)
        results = enter(Results(outbox, metrics, pictures, archiver, counts, optics, deliveries))
        line = line_from_products(
            products, journal.epoch, machine, results.hand_over, journal, counts, lambda: outbox.unwritten, reader,
            optics.as_dict,
        )  # fmt: skip
        metrics.watch(line, journal, archiver)
        reloader = Reloader(line, read_again, systemd, results.use, store)
        reloader.settle()
        hermes = link_from_settings(settings.hermes, settings.line.name, line.arrivals)
        answers = commands(
            line, hermes, journal, wire, asked.reload, publisher.tell, archiver.folder, Revising(line, store, reloader)
        )
        enter(ControlSocket(settings.control, wire, answers))
        enter(CallsSocket(settings.source, wire, deliveries))
        source = enter(source_from_settings(settings))
        check_frames(cameras_of(source), products)
        _be_ready(line, journal, systemd)
        _wait_for_subscribers(publisher, settings, asked.stop, systemd)
        for trigger in journal.left:
            results.hand_over(line.verdicts.abandoned(trigger))
        enter(line.pipeline)
        enter(reloader)
        try:
            with hermes:
                line.state.serve(source)
                try:
                    # loop
                    _serve(line, source, asked, reloader, systemd, outbox)
                finally:
                    # shutdown: whatever ended the loop, from here on no trigger is accepted
                    line.intake.close()
                    systemd.tell("STOPPING=1")
        except BaseException:
            line.arrivals.leave_to_next_start()
            raise
        line.arrivals.answer(wait=True)
    machine.to(State.HALTED)
    return _ended(line, counts)


def _ended(line: InspectionLine, counts: Counter[str]) -> Summary:
    verdicts = {result.value: counts[result.value] for result in Result if counts[result.value]}
    log.info("stopped", **verdicts)
    hung = line.pipeline.late_slots > 0
    line.selection.products.close(wait=not hung)
    return Summary(verdicts, hung)


def _serve(
    line: InspectionLine, source: Source, asked: Asked, reloader: Reloader, systemd: Systemd, outbox: Outbox
) -> None:
    """Take what the camera gives until the end; everything that may take long happens in other threads."""
    state, intake, arrivals, pipeline = line.state, line.intake, line.arrivals, line.pipeline

    def go_on() -> bool:
        _beat(line, systemd, outbox)
        return not asked.stop.is_set()

    # once stopped, wait for the frame that a trigger has asked for
    while (go_on() or (state.software_triggered and line.waiting)) and not pipeline.failed:
        if asked.stop.is_set():
            state.draining.set()
        state.show()
        if asked.reload.is_set():
            asked.reload.clear()
            reloader.ask()
        _check_alive(line)
        if state.draining.is_set() and not pipeline.waiting and not arrivals.unanswered:
            return
        intake.arm(source)
        arrivals.check_arrival()
        arrivals.answer()
        try:
            item = _next(line, source)
        except EndOfFrames:
            return
        if item is not None and not (state.draining.is_set() and not state.software_triggered):
            intake.take(item, go_on)
        elif item is None and not state.draining.is_set():
            arrivals.check_period(go_on)


def _next(line: InspectionLine, source: Source) -> Frame | GrabFault | None:
    """What the camera gives next; boards that were delivered wait for the end of a pause."""
    if line.state.paused.is_set() and isinstance(line.selection.products.settings.source, CallsSource):
        time.sleep(POLL_S)
        return None
    return source.next(POLL_S)


def _heartbeat(
    publisher: Publisher, settings: Settings, journal: Journal, machine: StateMachine
) -> Callable[[int], None]:
    """A function that publishes the heartbeat with the last number that was handed over."""

    def beat(seq: int) -> None:
        control = heard_at(settings.control.endpoint)
        publisher.beat(settings.line.name, journal.epoch, seq, state=machine.state.value, control=control)

    return beat


def _beat(line: InspectionLine, systemd: Systemd, outbox: Outbox) -> None:
    """Feed the service manager's watchdog, if inspections, hand-over and journal make progress."""
    inspecting = line.pipeline.stuck < line.pipeline.slots and line.pipeline.moving
    if inspecting and outbox.waits_for_s() < DISK_LIMIT_S and not outbox.failed:
        systemd.beat()


def _check_alive(line: InspectionLine) -> None:
    """HungError where only a new process can inspect again."""
    if line.pipeline.stuck >= line.pipeline.slots:
        raise HungError(
            expected=f"inspections to end within {line.pipeline.deadline_s:g} s",
            received=f"all {line.pipeline.slots} slots hanging",
            fix="the service manager starts the daemon again; see the log for what hung",
        )
    if line.selection.products.lost:
        raise HungError(
            expected="a GPU that takes another frame after one that failed",
            received="none: it is lost to this process",
            fix="the service manager starts the daemon again; see the driver's log (dmesg) for what happened",
        )


def _wait_for_subscribers(publisher: Publisher, settings: Settings, stop: SignalFlag, systemd: Systemd) -> None:
    """Hold the first frame until the wanted subscribers are there (PUB would lose its verdict)."""
    wanted = settings.publish.wait_for_subscribers
    deadline = time.monotonic() + settings.publish.wait_timeout_s
    while not stop.is_set() and publisher.count_subscribers(100) < wanted:
        systemd.beat()
        if time.monotonic() > deadline:
            raise PublishError(
                expected=f"{wanted} subscriber(s) within {settings.publish.wait_timeout_s:g} s",
                received=str(publisher.count_subscribers(0)),
                fix="start the subscribers first or lower publish.wait_for_subscribers",
            )


def _be_ready(line: InspectionLine, journal: Journal, systemd: Systemd) -> None:
    """Everything is open: tell the service manager and the log."""
    line.state.machine.to(State.INITIALIZED)
    _log_ready(line, journal)
    systemd.tell("READY=1", f"STATUS={line.state.machine.state.value}")


def _log_ready(line: InspectionLine, journal: Journal) -> None:
    products = line.selection.products
    settings, first = products.settings, products.by_name[products.first]
    manifest = first.bundle.manifest
    log.info(
        "ready", line=settings.line.name, product=manifest.product, bundle=first.bundle.manifest_sha256[:12],
        precision=manifest.precision, endpoint=settings.publish.endpoint, source=settings.source.type,
        products=sorted(products.by_name), journal=str(journal.folder), epoch=journal.epoch, seq=journal.last_seq,
    )  # fmt: skip
    try:
        room, wanted = journal.room(), journal.settings.keep_days
    except sqlite3.Error as error:  # it was taken away just now: it is looked for each second
        log.error("journal not read", reason=str(error))
        return
    log.info("journal", **room, budget_mb=journal.settings.budget_mb, keep_days=wanted)
    if 0 < room["room_days"] < wanted:
        log.warning(
            "journal.budget_mb holds fewer days than journal.keep_days", room_days=room["room_days"], keep_days=wanted,
            budget_mb_wanted=round(journal.settings.budget_mb * wanted / room["room_days"]),
        )  # fmt: skip
