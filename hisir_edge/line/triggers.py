"""Triggers: each one that is accepted has a number, and with that number exactly one verdict."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock

from hisir_edge.line.journal.records import AcceptedTrigger
from hisir_edge.line.products import Product
from hisir_edge.records import Frame, GrabFault


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A board to inspect, its frame taken or still to come. ``product`` is None where an unknown one was asked for."""

    seq: int
    unit: str
    product_name: str
    product: Product | None = field(repr=False)
    source: str
    accepted_at_ns: int
    named: bool = False
    """Whether ``unit`` was announced; otherwise a code on the board may name it."""
    frame: Future[Frame | GrabFault] = field(repr=False, default_factory=Future)

    @property
    def accepted(self) -> AcceptedTrigger:
        """As it is journaled."""
        return AcceptedTrigger(self.seq, self.unit, self.source, self.product_name, self.accepted_at_ns)

    def fault(self, reason: str) -> GrabFault:
        """A fault for this trigger, with what is known of its frame."""
        item = self.frame.result() if self.frame.done() else None
        return GrabFault(
            source=self.source,
            frame_id=item.frame_id if item else 0,
            unit=self.unit,
            reason=reason,
            grabbed_at_ns=self.accepted_at_ns,
            sheet=item.sheet if item else None,
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """Name and product of the next board before its frame comes; empty: as the camera and the line say."""

    unit: str = ""
    product: str = ""
    stands_since_ns: int = 0
    """Since when the board stands under the camera, wall clock: an older frame is another board's. 0: unknown."""
    token: int = 0
    """By which whoever announced it asks for its number; 0: nobody does."""


class Waiting:
    """The trigger whose frame is still to come, one at most, and identities of boards to come. From any thread.

    One at most: frames carry no name of who asked for them. With two on their way a camera that takes one request for
    nothing would give each board the next one's picture.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._trigger: Trigger | None = None
        self._closed = False
        self._identities: deque[Identity] = deque()

    def add(self, trigger: Trigger) -> None:
        """A frame is being asked for."""
        with self._lock:
            if self._trigger is not None or self._closed:
                raise RuntimeError("a frame was asked for, or the camera is not armed")
            self._trigger = trigger

    def give(self, item: Frame | GrabFault) -> bool:
        """Hand the trigger its frame; whether there was one. After a fault nothing is given until ``open``."""
        with self._lock:
            trigger, self._trigger = self._trigger, None
            if trigger is None or self._closed:
                return False
            if isinstance(item, GrabFault):
                self._closed = True
        with suppress(InvalidStateError):
            trigger.frame.set_result(item)
        return True

    def expire(self, seq: int) -> bool:
        """Forget the trigger with this number, which has its verdict; whether it was waiting.

        From then on until ``open`` nothing is given to anybody: its frame may still come.
        """
        with self._lock:
            if self._trigger is None or self._trigger.seq != seq:
                return False
            self._trigger, self._closed = None, True
            return True

    @property
    def blocked(self) -> str:
        """Why the camera cannot be asked for a frame now; empty where it can, until ``add``."""
        with self._lock:
            if self._trigger is not None:
                return "a board whose frame is still to come"
            return "a camera that is being armed" if self._closed else ""

    @property
    def closed(self) -> bool:
        """Whether frames that come now may have been asked for by a trigger that is done with."""
        return self._closed

    def open(self) -> None:
        """The camera is armed again: frames that come now were asked for from now on."""
        with self._lock:
            self._closed = False

    def announce(self, identity: Identity) -> int:
        """The next board's identity, after those that were announced before; how many there are now."""
        with self._lock:
            self._identities.append(identity)
            return len(self._identities)

    def identity(self, grabbed_at_ns: int) -> Identity:
        """The identity of the board of a frame that was taken then; empty where it is an older frame, or none waits."""
        with self._lock:
            if not self._identities or self._identities[0].stands_since_ns > grabbed_at_ns:
                return Identity()
            return self._identities.popleft()

    def waits_for(self, identity: Identity) -> bool:
        """Whether this very announcement still waits for its board's frame."""
        with self._lock:
            return any(one is identity for one in self._identities)

    def forget_with(self, identity: Identity) -> bool:
        """Forget all identities where this very announcement still waits; whether it did."""
        with self._lock:
            if not any(one is identity for one in self._identities):
                return False
            self._identities.clear()
            return True

    @property
    def announced(self) -> int:
        """Number of identities that wait for their boards."""
        return len(self._identities)

    def forget_identities(self, boards: int | None = None) -> int:
        """Forget the identities of boards that went by; None: of all, their number is unknown. Returns how many."""
        with self._lock:
            count = len(self._identities) if boards is None else min(boards, len(self._identities))
            for _ in range(count):
                self._identities.popleft()
            return count

    def __bool__(self) -> bool:
        return self._trigger is not None
