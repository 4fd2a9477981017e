"""Messages of a CFX endpoint that the broker has not accepted yet, in order, of which the first are on their way."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from threading import Event, Lock

from proton import Delivery, Message

MOST_TOLD = 1000
"""Messages that nobody waits for; beyond, the oldest are dropped while the broker is away."""


@dataclass(slots=True, eq=False)
class Item:
    """One message. ``delivery``: since it was sent on the present connection; ``told``: nobody waits for it.

    ``greeting``: what a connection begins with.
    """

    message: Message = field(repr=False)
    told: bool = False
    greeting: bool = False
    done: Event = field(default_factory=Event, repr=False)
    delivery: Delivery | None = field(default=None, repr=False)


class Outbox:
    """May be used by several threads; deliveries by the connection's alone."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._lock = Lock()

    def add(self, messages: Sequence[Message], told: bool = False) -> list[Item]:
        """Behind all others; of those that nobody waits for ``MOST_TOLD`` are kept."""
        items = [Item(message, told) for message in messages]
        with self._lock:
            self._items.extend(items)
            waiting = [item for item in self._items if item.told and item.delivery is None]
            for item in waiting[: max(len(waiting) - MOST_TOLD, 0)]:
                self._items.remove(item)
        return items

    def add_first(self, messages: Sequence[Message]) -> None:
        """Before all others, in place of what the connection before was to begin with."""
        with self._lock:
            rest = [item for item in self._items if not item.greeting]
            self._items = deque([*(Item(message, told=True, greeting=True) for message in messages), *rest])

    def next(self, window: int = 1) -> Item | None:
        """The first that is not on its way, of the first ``window``."""
        with self._lock:
            return next((item for item in islice(self._items, window) if item.delivery is None), None)

    @property
    def is_empty(self) -> bool:
        """Whether the broker has everything."""
        with self._lock:
            return not self._items

    def accepted(self, delivery: Delivery) -> None:
        """The broker has it."""
        with self._lock:
            done = next((item for item in self._items if item.delivery == delivery), None)
            if done is not None:
                self._items.remove(done)
        if done is not None:
            done.delivery = None  # Proton's objects end on their own thread
            done.done.set()

    def refused(self, delivery: Delivery) -> None:
        """It is to be sent again; those behind it may have been accepted, or will be."""
        with self._lock:
            for item in self._items:
                if item.delivery == delivery:
                    item.delivery = None

    def again(self) -> None:
        """What was sent and not accepted is to be sent again."""
        with self._lock:
            for item in self._items:
                item.delivery = None
