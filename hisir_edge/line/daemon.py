"""The daemon's spine: start up, one verdict per trigger until told to stop, shut down."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType

import structlog

from hisir_edge.camera.factory import source_from_settings
from hisir_edge.camera.paired import Views
from hisir_edge.camera.source import EndOfFrames, Source
from hisir_edge.config import OutputTable, Settings
from hisir_edge.errors import HungError, PublishError
from hisir_edge.inspection.board import error_judgement
from hisir_edge.line.core import Core, Verdict
from hisir_edge.line.heap import return_freed_memory
from hisir_edge.line.hermes.link import HermesLink
from hisir_edge.line.hermes.protocol import Board
from hisir_edge.line.journal.outbox import Outbox
from hisir_edge.line.journal.store import Journal, folder_of
from hisir_edge.line.pictures import Pictures, PictureWriter
from hisir_edge.line.products import Products, check_frames, products_from_settings
from hisir_edge.line.prometheus import Metrics
from hisir_edge.line.reload import Reloader
from hisir_edge.line.sockets.commands import commands
from hisir_edge.line.sockets.context import Wire
from hisir_edge.line.sockets.control import ControlSocket
from hisir_edge.line.sockets.message import Message
from hisir_edge.line.sockets.publish import Publisher
from hisir_edge.line.states import State, StateMachine
from hisir_edge.line.systemd import Systemd
from hisir_edge.line.triggers import Identity
from hisir_edge.records import Result
from hisir_edge.transport.addresses import heard_at

log = structlog.get_logger()

POLL_S = 0.2
DISK_LIMIT_S = 10.0
"""A journal that takes longer for a verdict is no progress: the service manager's watchdog is not fed."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run of the daemon came to: verdicts by result."""

    verdicts: dict[str, int]
    hung: bool = False
    """Whether a thread is still at work that nobody can end: the process has to be left without waiting for it."""


class _Flag:
    """As ``threading.Event`` without its lock: a signal's handler may interrupt the one before it, or the main thread,
    while they hold that lock, and would wait for it for ever.
    """

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def clear(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        return self._set


@dataclass(slots=True)
class _Told:
    """What signals have told the daemon."""

    stop: _Flag
    reload: _Flag


def run(settings: Settings, read_again: Callable[[], Settings] | None = None) -> Summary:
    """Inspect until the source ends, SIGTERM or SIGINT; every trigger that was accepted gets one verdict.

    ``read_again``: the configuration anew, for SIGHUP; without it SIGHUP is logged and does nothing.
    """
    return_freed_memory()
    systemd = Systemd()
    machine = StateMachine(lambda state: systemd.tell(f"STATUS={state.value}"))
    journal = Journal(folder_of(settings.journal, settings.line.name), settings.journal)
    with _signals() as told, journal:
        products = products_from_settings(settings, journal.epoch)
        with (
            Wire(settings.security) as wire,
            Publisher(settings.publish, wire) as publisher,
            Metrics(settings.metrics) as metrics,
        ):

            def say_alive(seq: int) -> None:
                state, control = machine.state.value, heard_at(settings.control.endpoint)
                publisher.beat(settings.line.name, journal.epoch, seq, state=state, control=control)

            def hand_over(verdict: Verdict) -> None:
                results.out(verdict)

            pictures = Pictures(settings.output)
            core = Core(products, journal.epoch, machine, hand_over, journal)
            metrics.watch(core)
            wire.refusals.heard = metrics.refuse
            # its thread is at work from here on: whatever may be refused was looked at before
            outbox = Outbox(journal, publisher.send, say_alive, publisher.idle)
            results = _Results(outbox, metrics, pictures)
            core.unjournaled = lambda: results.outbox.unwritten
            results.published = core.published

            def beat() -> None:
                if results.outbox.waits_for_s() < DISK_LIMIT_S and not results.outbox.failed:
                    systemd.beat()

            with (
                results,
                ControlSocket(settings.control, wire, commands(core, journal, wire, told.reload, publisher.tell)),
                source_from_settings(settings) as source,
            ):
                check_frames(source.sources if isinstance(source, Views) else [source], products)
                machine.to(State.INITIALIZED)
                _log_ready(products, journal)
                systemd.tell("READY=1", f"STATUS={machine.state.value}")
                _wait_for_subscribers(publisher, settings, told.stop, systemd)
                for trigger in journal.left:
                    results.out(core.abandoned(trigger))
                with core.pipeline, Reloader(core, read_again, systemd, results.use) as reloader:
                    with _hermes(core, settings) as hermes:
                        core.hermes_state = lambda: hermes.state
                        core.serve(source)
                        try:
                            _serve(core, source, told, reloader, beat)
                        finally:
                            core.close()  # whatever ends it: from here on no trigger is accepted
                            systemd.tell("STOPPING=1")
                    core.settle(wait=True)
    machine.to(State.HALTED)
    verdicts = {name: core.counts[name] for name in (r.value for r in Result) if core.counts[name]}
    log.info("stopped", **verdicts)
    hung = core.pipeline.late_slots > 0
    core.products.close(wait=not hung)
    return Summary(verdicts, hung)


def _serve(core: Core, source: Source, told: _Told, reloader: Reloader, beat: Callable[[], None]) -> None:
    """Take what the camera gives until the end; everything that may take long happens in other threads."""
    slots = core.products.settings.infer.slots

    def go_on() -> bool:
        if core.pipeline.stuck < slots and core.pipeline.moving:
            beat()
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
        if core.products.lost:
            raise HungError(
                expected="a GPU that takes another frame after one that failed",
                received="none: it is lost to this process",
                fix="the service manager starts the daemon again; see the driver's log (dmesg) for what happened",
            )
        if core.draining.is_set() and not core.pipeline.waiting and not core.unsettled:
            return
        core.arm(source)
        core.check_arrival()
        core.settle()
        try:
            item = source.next(POLL_S)
        except EndOfFrames:
            return
        if item is not None and not (core.draining.is_set() and not core.asked_for):
            core.take(item, go_on)
        elif item is None and not core.draining.is_set():
            core.supervise(go_on)


def _hermes(core: Core, settings: Settings) -> HermesLink:
    """Boards of the machine before this one, under the names that the line knows them by."""
    table = settings.hermes

    def identity(board: Board) -> Identity:
        unit = {"TopBarcode": board.top_barcode, "BottomBarcode": board.bottom_barcode}.get(table.unit, "")
        return Identity(unit or board.board_id, table.products.get(board.product_type, board.product_type))

    def arrived(board: Board) -> None:
        log.info("board arrived", board_id=board.board_id, work_order=board.work_order, product=board.product_type)
        core.arrived(identity(board))

    def lost(board: Board, reason: str) -> None:
        core.unjudged(identity(board), reason)

    return HermesLink(table, settings.line.name, lambda: core.takes_a_board, arrived, lost)


class _Results:
    """Where verdicts go: journal and subscribers first, then the log, the figures, the disk."""

    def __init__(self, outbox: Outbox, metrics: Metrics, pictures: Pictures) -> None:
        self.outbox, self.metrics, self.pictures = outbox, metrics, PictureWriter(pictures)
        self.published: Callable[[Message], None] = lambda message: None

    def __enter__(self) -> _Results:
        """Nothing to open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Hand over what is waiting, write the pictures that are, if the disk takes them."""
        self.outbox.close()
        self.pictures.close()

    def use(self, output: OutputTable) -> None:
        """Keep pictures as this says from now on; InputError for a folder that will not do."""
        if output != self.pictures.settings:
            self.pictures.use(Pictures(output))

    def out(self, verdict: Verdict) -> None:
        """Hand one verdict over."""
        self.outbox.put(verdict.message, verdict.seq, lambda message: self._out(_as_published(verdict, message)))

    def _out(self, verdict: Verdict) -> None:
        message, judgement = verdict.message, verdict.judgement
        level = log.info if judgement.result is Result.PASS else log.warning
        level(
            "verdict", seq=verdict.seq, result=judgement.result.value, unit=message.unit,
            frame_id=verdict.item.frame_id, product=message.body["RecipeName"], regions=judgement.regions_total,
            total_s=round(judgement.times.total_s, 5), reason=judgement.reason,
        )  # fmt: skip
        self.published(message)
        self.metrics.count(verdict)
        self.pictures.put(verdict.item, judgement, verdict.seq)


def _as_published(verdict: Verdict, message: Message) -> Verdict:
    """With what was published, which is an ERROR where the journal did not take it; pictures then say so, too."""
    if message.result is verdict.judgement.result:
        return replace(verdict, message=message)
    return replace(verdict, message=message, judgement=error_judgement(message.reason))


def _wait_for_subscribers(publisher: Publisher, settings: Settings, stop: _Flag, systemd: Systemd) -> None:
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


def _log_ready(products: Products, journal: Journal) -> None:
    settings, first = products.settings, products.by_name[products.first]
    manifest = first.bundle.manifest
    log.info(
        "ready", line=settings.line.name, product=manifest.product, bundle=first.bundle.manifest_sha256[:12],
        precision=manifest.precision, endpoint=settings.publish.endpoint, source=settings.source.type,
        products=sorted(products.by_name), journal=str(journal.folder), epoch=journal.epoch, seq=journal.last_seq,
    )  # fmt: skip


@contextmanager
def _signals() -> Iterator[_Told]:
    """SIGTERM and SIGINT: the boards in hand are still judged and published. SIGHUP: read the configuration again."""
    told = _Told(_Flag(), _Flag())
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
