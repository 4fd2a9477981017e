"""Accepts triggers and answers each with one verdict, whatever happens to it; asked and told things from any thread."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event, Lock
from typing import Any

import structlog

from hisir_edge import __version__
from hisir_edge.camera.paired import judged
from hisir_edge.camera.source import Source
from hisir_edge.errors import HisirEdgeError, InputError
from hisir_edge.inspection.board import BoardInspector, error_judgement
from hisir_edge.labels import board_name, shown
from hisir_edge.line.barcode import reader_from_settings
from hisir_edge.line.journal.store import Accepted, Journal
from hisir_edge.line.pipeline import Pipeline
from hisir_edge.line.products import Product, Products
from hisir_edge.line.sockets.message import Message, Recipe, message_from_judgement
from hisir_edge.line.states import State, StateMachine
from hisir_edge.line.triggers import Identity, Trigger, Waiting
from hisir_edge.records import Frame, GrabFault, Judgement

log = structlog.get_logger()

NO_BUNDLE = "0" * 64
MOST_IDENTITIES = 256


@dataclass(frozen=True, slots=True)
class Verdict:
    """A trigger, what was taken for it, what was made of that, and how it goes over the wire."""

    seq: int
    item: Frame | GrabFault
    judgement: Judgement
    message: Message = field(repr=False)


class Core:
    """The line's triggers, products and pipeline.

    ``out`` hands a verdict over, in the order in which triggers were accepted. ``pipeline`` is to be entered before the
    first trigger.
    """

    def __init__(
        self,
        products: Products,
        epoch: str,
        machine: StateMachine,
        out: Callable[[Verdict], None],
        journal: Journal | None = None,
    ) -> None:
        self.products, self.epoch, self.machine, self._out, self._journal = products, epoch, machine, out, journal
        self.product = products.first
        self.waiting = Waiting()
        self.counts: Counter[str] = Counter()
        self.draining, self.paused = Event(), Event()
        self.started_at = time.monotonic()
        self.source: Source | None = None
        self.last_reload = ""
        """What came of the last SIGHUP."""
        self.hermes_state: Callable[[], str] = lambda: ""
        self.unjournaled: Callable[[], int] = lambda: 0
        """How many verdicts the journal has not taken."""
        self._lock, self._accepting, self._seq = Lock(), Lock(), journal.last_seq if journal else 0
        self._first_seq = self._seq
        self._arming = self._serving = False
        settings = products.settings
        self.reader = reader_from_settings(settings.identity)
        self.deadline_s = settings.line.deadline_ms / 1e3
        self.period_s = settings.line.expected_period_ms / 1e3
        self._expected_at: float | None = None
        self._arrived: tuple[float, Identity] | None = None
        self.unsettled: deque[tuple[Identity, str]] = deque()
        self.asked_for = settings.source.trigger == "software"
        """Whether frames come because a trigger asked for them; otherwise each frame is a trigger."""
        self.pipeline = Pipeline[int, Trigger, Verdict](
            list(range(settings.infer.slots)), self._inspected, out, self.deadline_s, self._late
        )

    def take(self, item: Frame | GrabFault, go_on: Callable[[], bool]) -> None:
        """What the camera gave: to the trigger that asked for it, or as a trigger of its own.

        Waits for a free slot while ``go_on``; without one it is an ERROR verdict by its deadline all the same.
        """
        if self.asked_for:
            if not self.waiting.give(item):
                self.counts["unsolicited"] += 1
                log.warning("frame that nobody asked for", frame_id=item.frame_id)
            return
        if self.paused.is_set():
            self.counts["while_paused"] += 1
            return
        identity = self._identity_of(item)
        accepted = time.monotonic()
        self._expected_at = accepted + self.period_s
        with self._accepting:  # from the product that it is to have until the pipeline has it
            with self._lock:
                self._seq += 1
                trigger = self._trigger(identity, item.source, item.unit)
                self._record_frame(trigger)
                trigger.frame.set_result(replace(item, unit=trigger.unit))
            while not self.pipeline.put(trigger, 0.2 if go_on() else None, accepted):
                pass

    def supervise(self, go_on: Callable[[], bool]) -> None:
        """With ``line.expected_period_ms``: an ERROR verdict for each period in which no board came.

        Counted from the last board, or since the line takes boards: while it is paused or the camera is lost (which is
        an ERROR of its own), none is expected.
        """
        if not self.period_s or self.paused.is_set() or self.source is None or not self.source.up:
            self._expected_at = None
            return
        now = time.monotonic()
        if self._expected_at is None:
            self._expected_at = now + self.period_s
        if now > self._expected_at:
            self.counts["missing"] += 1
            reason = f"no board within the expected {self.period_s * 1e3:g} ms"
            name = self.source.name
            unit = f"{name}-missing-{self.counts['missing']:06d}"
            # which board did not come nobody knows: what was announced may be of it or of the next
            self.take(GrabFault(name, 0, unit, reason, time.time_ns(), None), go_on)

    def _identity_of(self, item: Frame | GrabFault) -> Identity:
        """What was announced for a frame's board; none where it is not sure that this is the one."""
        if isinstance(item, Frame) or item.boards == 1:
            return self.waiting.identity()
        if forgotten := self.waiting.forget_identities(item.boards):
            log.warning("announced boards forgotten", boards=forgotten, reason=item.reason)
        return Identity()

    def trigger(self, identity: Identity) -> Trigger:
        """Accept a trigger that asks the camera for a frame; InputError where it is refused: there is no verdict."""
        if not self.asked_for:
            raise _refused(
                'source.trigger = "software" for triggers of the control socket',
                f'"{self.products.settings.source.trigger}", where every frame is a trigger',
                "announce boards instead",
            )
        with self._lock:
            source = self._check_accepting()
            if not source.up:
                raise _refused("the camera to be there", "a lost camera", "wait until status says Ready")
            if self.waiting or self.waiting.closed:
                received = "a board whose frame is still to come" if self.waiting else "a camera that is being armed"
                raise _refused("one frame asked for at a time", received, "trigger again in a moment")
            self._seq += 1
            trigger = self._trigger(identity, source.name, f"{source.name}-{self._seq:08d}")
            self._record_told(trigger)
            if not self.pipeline.put(trigger, 0.0):
                self._forget(trigger)
                slots = self.products.settings.infer.slots
                raise _refused(
                    "a free slot", f"{slots} boards in flight", "trigger after the verdict, or raise infer.slots"
                )
            self.waiting.add(trigger)
            try:
                source.trigger()
            except HisirEdgeError as error:
                if self.waiting.expire(trigger.seq):
                    trigger.frame.set_result(trigger.fault(str(error)))
        self.show_state()
        return trigger

    @property
    def takes_a_board(self) -> bool:
        """Whether a board may come now: nothing is in the way, and the one before has its verdict."""
        there = self.source is not None and self.source.up and self._serving
        held = self.draining.is_set() or self.paused.is_set() or self.waiting.closed or self.waiting.announced
        return there and not held and not self.pipeline.waiting and not self.unsettled

    def arrived(self, identity: Identity) -> None:
        """A board stands under the camera: it is asked for, or the next frame is its. What is refused is an ERROR."""
        try:
            if self.asked_for:
                self.trigger(identity)
            else:
                self.announce(identity)  # before it is looked for: what is looked for and not announced is forgotten
                self._arrived = (time.monotonic(), identity)
        except InputError as error:
            self.unjudged(identity, f"not inspected: {error}")

    def unjudged(self, identity: Identity, reason: str) -> None:
        """A board that cannot be inspected: an ERROR verdict of its own, as soon as ``settle`` is called."""
        self.unsettled.append((identity, reason))

    def settle(self, wait: bool = False) -> None:
        """Number ``unjudged`` boards and hand them over, as far as there are free slots, or ``wait`` for these.

        By the spine alone: in the pipeline's order numbers rise, whoever hands over.
        """
        while self.unsettled:
            identity, reason = self.unsettled[0]
            with self._accepting, self._lock:
                self._seq += 1
                name = self.source.name if self.source else ""
                trigger = self._trigger(identity, name, f"{name}-{self._seq:08d}")
                trigger.frame.set_result(trigger.fault(reason))
                self._record_frame(trigger)
                taken = self.pipeline.put(trigger, 0.2 if wait else 0.0)
                if not taken:
                    self._forget(trigger)
            if taken:
                self.unsettled.popleft()
            elif not wait:
                return

    def check_arrival(self) -> None:
        """A board that arrived, and whose frame did not come by the deadline, is an ERROR; its name is no other's."""
        arrived = self._arrived
        if arrived is None:
            return
        if not self.waiting.announced:
            self._arrived = None
        elif time.monotonic() > arrived[0] + self.deadline_s:
            self._arrived = None
            self.waiting.forget_identities()
            self.unjudged(arrived[1], f"no frame within {self.deadline_s * 1e3:g} ms of the board's arrival")

    def _record_frame(self, trigger: Trigger) -> None:
        """Journal a frame's trigger. Where that fails its verdict may still be journaled; if not it is an ERROR."""
        try:
            if self._journal is not None:
                self._journal.accept(trigger.accepted, told=False)
        except sqlite3.Error as error:
            log.error("trigger not journaled", seq=trigger.seq, unit=trigger.unit, reason=str(error))

    def _record_told(self, trigger: Trigger) -> None:
        """Journal a trigger whose number somebody is told; InputError where that fails: it is refused."""
        try:
            if self._journal is not None:
                self._journal.accept(trigger.accepted, told=True)
        except sqlite3.Error as error:
            self._seq -= 1
            raise _refused(
                "a journal that takes the trigger", str(error), "make room on its disk; see the log"
            ) from error

    def _forget(self, trigger: Trigger) -> None:
        """It was refused: its number is the next one's, which replaces it where the journal cannot be told now."""
        self._seq -= 1
        try:
            if self._journal is not None:
                self._journal.forget(trigger.seq)
        except sqlite3.Error as error:
            log.error("refused trigger not taken back", seq=trigger.seq, reason=str(error))

    def abandoned(self, trigger: Accepted) -> Verdict:
        """The verdict of a trigger that the daemon before this one accepted and did not answer."""
        product = self.products.by_name.get(trigger.product)
        before = Trigger(trigger.seq, trigger.unit, trigger.product, product, trigger.source, trigger.accepted_at_ns)
        fault = before.fault("the daemon ended before this board was judged (crash, kill or power cut)")
        return self._verdict(before, fault, error_judgement(fault.reason))

    def arm(self, source: Source) -> None:
        """After a trigger without its frame: arm the camera anew, and let triggers in again once it is."""
        with self._lock:
            if self.waiting.closed and not self._arming:
                source.rearm()
                self._arming = True
            elif self._arming and source.armed:
                self.waiting.open()
                self._arming = False

    def pause(self) -> None:
        """Accept nothing until ``resume``; what was announced is forgotten, for boards may go by meanwhile."""
        self.paused.set()
        self.waiting.forget_identities()

    def resume(self) -> None:
        """Accept again."""
        self.waiting.forget_identities()
        self.paused.clear()

    def serve(self, source: Source) -> None:
        """From now on triggers are accepted."""
        with self._lock:
            self.source, self._serving = source, True

    def close(self) -> None:
        """From now on none is."""
        with self._lock:
            self._serving = False

    def announce(self, identity: Identity) -> int:
        """The identity of the next board, where frames are triggers; how many are waiting for theirs."""
        if self.asked_for:
            raise _refused(
                'source.trigger = "free-run" or "hardware" for announced boards',
                '"software", where a trigger names its board',
                "name it in the trigger",
            )
        with self._lock:
            self._check_accepting()
        count = self.waiting.announce(identity)
        if count > MOST_IDENTITIES:
            self.waiting.forget_identities()
            raise _refused(
                f"at most {MOST_IDENTITIES} boards to be announced", str(count), "all are forgotten: announce the next"
            )
        return count

    def select(self, product: str) -> None:
        """The product of the boards that are accepted from now on; InputError for one that is not loaded."""
        if product not in self.products.by_name:
            raise _refused(
                f"one of the products {', '.join(sorted(self.products.by_name))}",
                product,
                "add its bundle to bundle.others",
            )
        with self._lock:
            self.product = product
        log.info("product", product=product)

    def use(self, products: Products) -> Products:
        """Boards accepted from now on are inspected with these; the ones before.

        InputError where the product that was selected is not among them: another is not to be taken for it.
        """
        with self._accepting, self._lock:
            if self.product not in products.by_name and self.product != self.products.first:
                known = ", ".join(sorted(products.by_name))
                raise _refused(
                    f"the selected product {self.product} in the new configuration", known, "select another one first"
                )
            before, self.products = self.products, products
            if self.product not in products.by_name:
                self.product = products.first
                log.warning("product", product=self.product, reason="bundle.path holds another one now")
        return before

    def published(self, message: Message) -> None:
        """Count what was handed over."""
        self.counts[message.result.value] += 1

    def status(self) -> dict[str, Any]:
        """What is going on."""
        return {
            "version": __version__, "line": self.products.settings.line.name, "epoch": self.epoch,
            "state": self.machine.state.value, "paused": self.paused.is_set(), "draining": self.draining.is_set(),
            "product": self.product, "products": sorted(self.products.by_name),
            "camera_up": bool(self.source and self.source.up), "accepted": self._seq - self._first_seq,
            "seq": self._seq,
            "verdicts": {name: self.counts[name] for name in ("PASS", "FAIL", "ERROR")},
            "in_flight": self.pipeline.waiting, "stuck_slots": self.pipeline.late_slots,
            "unsolicited_frames": self.counts["unsolicited"], "frames_while_paused": self.counts["while_paused"],
            "last_reload": self.last_reload, "unjournaled": self.unjournaled(), "hermes": self.hermes_state(),
            "uptime_s": round(time.monotonic() - self.started_at, 1),
        }  # fmt: skip

    def show_state(self) -> None:
        """Bring the state up to what is: asked every now and then by the spine."""
        state = self.machine.state
        if state is State.HALTED or not self._serving:
            return
        if self.source is None or not self.source.up or self.pipeline.late_slots or self.unjournaled():
            self.machine.to(State.ERROR)
            return
        busy = State.SINGLE_EXECUTION if self.asked_for else State.CONTINUOUS_EXECUTION
        running = self.pipeline.waiting > 0 if self.asked_for else not self.paused.is_set()
        if state is State.INITIALIZED:
            self.machine.to(State.READY)
        self.machine.to(busy if running else State.READY)

    def _check_accepting(self) -> Source:
        if self.source is None or not self._serving or self.draining.is_set():
            received = "one that drains or ends" if self.draining.is_set() else "one that is not there yet, or ends"
            raise _refused("a line that takes boards", received, "see status")
        if self.paused.is_set():
            raise _refused("a line that takes boards", "one that is paused", "resume it")
        return self.source

    def _trigger(self, identity: Identity, source: str, unit: str) -> Trigger:
        name = identity.product or self.product
        product = self.products.by_name.get(name)
        field = self.products.settings.identity.field
        # a file name may hold what no text is
        unit = (board_name(identity.unit, field) or unit).encode("utf-8", "replace").decode()
        return Trigger(self._seq, unit, name, product, source, time.time_ns(), bool(identity.unit))

    def _inspected(self, slot: int, trigger: Trigger) -> Verdict:
        """The verdict of a trigger; whatever goes wrong on the way to it is an ERROR under its number."""
        try:
            return self._judged(slot, trigger)
        except Exception as error:
            log.exception("inspection failed", seq=trigger.seq, unit=trigger.unit)
            item = trigger.fault(f"inspection failed: {type(error).__name__}: {error}")
            return self._verdict(trigger, item, error_judgement(item.reason))

    def _judged(self, slot: int, trigger: Trigger) -> Verdict:
        item = trigger.frame.result()
        item = replace(item, unit=trigger.unit)
        item, wrong = self._identified(trigger, item)
        if wrong:
            judgement = error_judgement(wrong)
        elif trigger.product is None:
            known = ", ".join(sorted(self.products.by_name))
            judgement = error_judgement(f"unknown product {trigger.product_name}; loaded are {known}")
        else:
            judgement = judge_product(trigger.product, slot, item)
        return self._verdict(trigger, item, judgement)

    def _identified(self, trigger: Trigger, item: Frame | GrabFault) -> tuple[Frame | GrabFault, str]:
        """The item under the name that the board itself carries, and what is wrong with that."""
        if self.reader is None or isinstance(item, GrabFault):
            return item, ""
        try:
            text = self.reader.read(item.rgb)
        except HisirEdgeError as error:
            return item, str(error)
        except Exception as error:
            log.exception("code not read", frame_id=item.frame_id)
            return item, f"code not read: {type(error).__name__}: {error}"
        if text and trigger.named and text != trigger.unit:
            announced, label = shown(trigger.unit), shown(text)
            return item, f"expected the board {announced}, which was announced; got {label} on its label"
        return (replace(item, unit=text) if text else item), ""

    def _late(self, trigger: Trigger) -> Verdict:
        waited = f"{self.deadline_s * 1e3:g} ms"
        if self.waiting.expire(trigger.seq):  # should its frame still come, it is for nobody
            fault = trigger.fault(f"no frame within {waited}")
            trigger.frame.set_result(fault)
            return self._verdict(trigger, fault, error_judgement(fault.reason))
        item = trigger.fault(f"not inspected within {waited}")
        return self._verdict(trigger, item, error_judgement(item.reason))

    def _verdict(self, trigger: Trigger, item: Frame | GrabFault, judgement: Judgement) -> Verdict:
        line = self.products.settings.line.name
        recipe = (
            trigger.product.recipe if trigger.product else Recipe(line, self.epoch, trigger.product_name, NO_BUNDLE)
        )
        return Verdict(trigger.seq, item, judgement, encoded(recipe, trigger.seq, item, judgement))


def _refused(expected: str, received: str, fix: str) -> InputError:
    return InputError(expected=expected, received=received, fix=fix)


def judge_product(product: Product, slot: int, item: Frame | GrabFault) -> Judgement:
    """As ``judge``; of several views one judgement."""
    if isinstance(item, GrabFault) or not product.more:
        return judge(product.inspectors[slot], item)
    every = (product, *product.more)
    if len(item.more) != len(product.more):
        return error_judgement(f"expected frames of {len(every)} cameras; got {1 + len(item.more)}")
    judges = [partial(judge, one.inspectors[slot]) for one in every]
    return judged(judges, [one.recipe.bundle_sha256 for one in every], item)


def judge(inspector: BoardInspector, item: Frame | GrabFault) -> Judgement:
    """One judgement for whatever the source gave; never raises, never PASS for the unexpected."""
    if isinstance(item, GrabFault):
        return error_judgement(item.reason)
    try:
        return inspector.inspect(item.image)
    except Exception as error:
        log.exception("inspection failed", frame_id=item.frame_id, unit=item.unit)
        return error_judgement(f"inspection failed: {type(error).__name__}: {error}")


def encoded(recipe: Recipe, seq: int, item: Frame | GrabFault, judgement: Judgement) -> Message:
    """A verdict as it goes over the wire; one that cannot be encoded is an ERROR under the same number."""
    try:
        message = message_from_judgement(recipe, seq, item, judgement)
        message.frames()
    except Exception as error:
        log.exception("verdict could not be encoded", seq=seq)
        return message_from_judgement(recipe, seq, item, error_judgement(f"verdict could not be encoded: {error}"))
    return message
