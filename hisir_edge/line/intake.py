"""Where a board is accepted: as a frame that came by itself, or as a trigger that asks the camera for one.

From here a trigger has a number, is in the journal (or the log says why not) and in the pipeline: it gets exactly one
verdict.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import InvalidStateError
from contextlib import suppress
from dataclasses import replace
from functools import partial
from threading import Lock

import structlog

from hisir_edge.camera.calls.source import CallsCamera
from hisir_edge.camera.source import Source
from hisir_edge.errors import InputError
from hisir_edge.inspection.verdict import fail_closed
from hisir_edge.labels import board_name
from hisir_edge.line.pipeline import Pipeline
from hisir_edge.line.products import Products, Selection
from hisir_edge.line.sequence import Sequence
from hisir_edge.line.state import LineState
from hisir_edge.line.triggers import Identity, Trigger, Waiting
from hisir_edge.line.verdicts import Outcome
from hisir_edge.records import Frame, GrabFault

log = structlog.get_logger()

MOST_IDENTITIES = 256


class Intake:
    """Accepts triggers; from any thread, but ``take`` and ``answer_without_frame`` from the daemon's loop alone."""

    def __init__(
        self,
        selection: Selection,
        sequence: Sequence,
        waiting: Waiting,
        pipeline: Pipeline[int, Trigger, Outcome],
        state: LineState,
    ) -> None:
        self._selection, self._sequence, self._waiting = selection, sequence, waiting
        self._pipeline, self._state = pipeline, state
        self._lock, self._accepting = Lock(), Lock()
        self._arming = False
        self._numbers: dict[int, int] = {}
        """Of announced boards, by token."""
        self.taken_at = float("-inf")
        """When the last frame was taken as a trigger (``time.monotonic``)."""

    def take(self, item: Frame | GrabFault, go_on: Callable[[], bool]) -> None:
        """Give what the camera gave to the trigger that asked for it, or accept it as a trigger of its own.

        Waits for a free slot while ``go_on``; without one it is an ERROR verdict by its deadline all the same.
        """
        if self._state.software_triggered:
            if not self._waiting.give(item):
                self._state.counts["unsolicited"] += 1
                log.warning("frame that nobody asked for", frame_id=item.frame_id)
            return
        if self._state.paused.is_set():
            if isinstance(self._state.source, CallsCamera):
                self._state.source.put_back(item)
            else:
                self._state.counts["while_paused"] += 1
            return
        identity = self._identity_of(item)
        if item.sheet is not None:
            unit = item.sheet.unit if item.sheet.is_named else identity.unit
            identity = replace(identity, unit=unit, product=item.sheet.product or identity.product)
        accepted = self.taken_at = time.monotonic()
        with self._accepting:  # from the product that it is to have until the pipeline has it
            with self._lock:
                trigger = self._trigger(identity, item.source, item.unit)
                self._sequence.record(trigger)
                self._number(identity, trigger)
                trigger.frame.set_result(replace(item, unit=trigger.unit))
            while not self._pipeline.put(trigger, 0.2 if go_on() else None, accepted):
                pass

    def trigger(self, identity: Identity) -> Trigger:
        """Accept a trigger that asks the camera for a frame; InputError where it is refused: there is no verdict."""
        settings = self._selection.products.settings
        if not self._state.software_triggered:
            raise InputError(
                expected='source.trigger = "software" for triggers of the control socket',
                received=f'"{settings.source.trigger}", where every frame is a trigger',
                fix="announce boards instead",
                code="wrong_mode",
            )
        with self._lock:
            source = self._state.check_accepting()
            self._check_camera(source)
            trigger = self._trigger(identity, source.name)
            self._sequence.record_answered(trigger)
            if not self._pipeline.put(trigger, 0.0):
                self._sequence.take_back(trigger)
                raise InputError(
                    expected="a free slot",
                    received=f"{settings.infer.slots} boards in flight",
                    fix="trigger after the verdict, or raise infer.slots",
                    code="busy",
                )
            self._waiting.add(trigger)
            fail_closed(source.trigger, partial(self._asked_in_vain, trigger), "camera not asked for a frame")
        self._state.show()
        return trigger

    def announce(self, identity: Identity) -> int:
        """Take the identity of the next board, where frames are triggers; how many wait for their boards."""
        if self._state.software_triggered:
            raise InputError(
                expected='source.trigger = "free-run" or "hardware" for announced boards',
                received='"software", where a trigger names its board',
                fix="name it in the trigger",
                code="wrong_mode",
            )
        with self._lock:
            self._state.check_accepting()
        count = self._waiting.announce(identity)
        if count > MOST_IDENTITIES:
            self._waiting.forget_identities()
            raise InputError(
                expected=f"at most {MOST_IDENTITIES} boards to be announced",
                received=str(count),
                fix="all are forgotten: announce the next",
                code="limit",
            )
        return count

    def seq_of(self, token: int) -> int:
        """The number that was given to an announced board; 0: none yet, or long ago."""
        return self._numbers.get(token, 0)

    def _number(self, identity: Identity, trigger: Trigger) -> None:
        if identity.token:
            self._numbers[identity.token] = trigger.seq
            while len(self._numbers) > MOST_IDENTITIES:
                del self._numbers[next(iter(self._numbers))]

    def answer_without_frame(self, identity: Identity, reason: str, wait: bool) -> bool:
        """Accept a board that cannot be inspected, for an ERROR verdict; whether a slot was free for it.

        ``wait``: for a slot, a short time.
        """
        with self._accepting, self._lock:
            source = self._state.source
            trigger = self._trigger(identity, source.name if source else "")
            trigger.frame.set_result(trigger.fault(reason))
            self._sequence.record(trigger)
            taken = self._pipeline.put(trigger, 0.2 if wait else 0.0)
            if taken:
                self._number(identity, trigger)
            else:
                self._sequence.take_back(trigger)
        return taken

    def leave_to_next_start(self, identity: Identity) -> None:
        """Journal a board that cannot be answered any more: the next start answers it with an ERROR verdict."""
        with self._accepting, self._lock:
            source = self._state.source
            self._sequence.record(self._trigger(identity, source.name if source else ""))

    def arm(self, source: Source) -> None:
        """After a trigger without its frame: arm the camera again, and accept triggers once it is armed."""
        with self._lock:
            if self._waiting.closed and not self._arming:
                source.rearm()
                self._arming = True
            elif self._arming and source.armed:
                self._waiting.open()
                self._arming = False

    def close(self) -> None:
        """Accept no trigger from now on; one that is being accepted is in the pipeline before this returns."""
        with self._lock:
            self._state.close()

    def pause(self) -> None:
        """Accept nothing until ``resume``. Announced boards are forgotten, because they may go by meanwhile."""
        self._state.paused.set()
        self._waiting.forget_identities()

    def resume(self) -> None:
        """Accept again."""
        self._waiting.forget_identities()
        self._state.paused.clear()

    def select(self, product: str) -> None:
        """See ``Selection.select``."""
        with self._lock:
            self._selection.select(product)

    def use(self, products: Products) -> Products:
        """See ``Selection.use``; between two boards."""
        with self._accepting, self._lock:
            return self._selection.use(products)

    def _check_camera(self, source: Source) -> None:
        """InputError (refused) unless the camera can be asked for a frame now."""
        if not source.up:
            raise InputError(
                expected="the camera to be there",
                received="a lost camera",
                fix="wait until status says Ready",
                code="camera_lost",
            )
        if blocked := self._waiting.blocked:
            raise InputError(
                expected="one frame asked for at a time",
                received=blocked,
                fix="trigger again in a moment",
                code="frame_due",
            )

    def _asked_in_vain(self, trigger: Trigger, reason: str) -> None:
        """The camera refused: the trigger has a fault instead of a frame."""
        if self._waiting.expire(trigger.seq):
            with suppress(InvalidStateError):  # its deadline passed in this very moment
                trigger.frame.set_result(trigger.fault(reason))

    def _identity_of(self, item: Frame | GrabFault) -> Identity:
        """The identity that was announced for a frame's board; none where it may be another board's."""
        if isinstance(item, Frame) or item.boards == 1:
            views = (item, *item.more) if isinstance(item, Frame) else (item,)
            return self._waiting.identity(min(view.grabbed_at_ns for view in views))
        if forgotten := self._waiting.forget_identities(item.boards):
            log.warning("announced boards forgotten", boards=forgotten, reason=item.reason)
        return Identity()

    def _trigger(self, identity: Identity, source: str, unit: str = "") -> Trigger:
        """A trigger under the next number. ``unit``: the board's name if nobody announced one."""
        seq, products = self._sequence.next(), self._selection.products
        unit = unit or f"{source}-{seq:08d}"
        name = identity.product or self._selection.product
        # a file name may hold bytes that are not text
        unit = (board_name(identity.unit, products.settings.identity.field) or unit).encode("utf-8", "replace").decode()
        return Trigger(
            seq=seq, unit=unit, product_name=name, product=products.by_name.get(name), source=source,
            accepted_at_ns=time.time_ns(), named=bool(identity.unit),
        )  # fmt: skip
