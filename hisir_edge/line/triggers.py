"""Triggers: each one that is accepted has a number, and with that number exactly one verdict."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock

from hisir_edge.line.products import Product
from hisir_edge.records import Frame, GrabFault


@dataclass(frozen=True, slots=True)
class Trigger:
    """A board to inspect, its frame taken or still to come. ``product`` is None where an unknown one was asked for."""

    seq: int
    unit: str
    product_name: str
    product: Product | None = field(repr=False)
    source: str
    accepted_at_ns: int
    frame: Future[Frame | GrabFault] = field(repr=False, default_factory=Future)

    def fault(self, reason: str) -> GrabFault:
        """What there is of it when nothing else is."""
        item = self.frame.result() if self.frame.done() else None
        return GrabFault(self.source, item.frame_id if item else 0, self.unit, reason, self.accepted_at_ns)


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of the next board before its frame comes; empty: as the camera and the line say."""

    unit: str = ""
    product: str = ""


class Waiting:
    """Triggers whose frame is still to come, oldest first, and identities of boards to come. From any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._triggers: deque[Trigger] = deque()
        self._identities: deque[Identity] = deque()

    def add(self, trigger: Trigger) -> None:
        """A frame was asked for."""
        with self._lock:
            self._triggers.append(trigger)

    def give(self, item: Frame | GrabFault) -> bool:
        """Hand the oldest trigger its frame; whether there was one."""
        with self._lock:
            if not self._triggers:
                return False
            trigger = self._triggers.popleft()
        with suppress(InvalidStateError):
            trigger.frame.set_result(item)
        return True

    def expire(self, seq: int) -> bool:
        """Forget the trigger with this number: it has its verdict. Whether it was waiting."""
        with self._lock:
            before = len(self._triggers)
            self._triggers = deque(one for one in self._triggers if one.seq != seq)
            return len(self._triggers) < before

    def announce(self, identity: Identity) -> int:
        """The next board's identity, after those that were announced before; how many there are now."""
        with self._lock:
            self._identities.append(identity)
            return len(self._identities)

    def identity(self) -> Identity:
        """That of the next board."""
        with self._lock:
            return self._identities.popleft() if self._identities else Identity()

    def forget_identities(self) -> int:
        """None is known any more; how many were."""
        with self._lock:
            count = len(self._identities)
            self._identities.clear()
            return count

    def __len__(self) -> int:
        return len(self._triggers)
