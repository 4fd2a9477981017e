"""Frames in flight: while one is inferred, the next is registered and the last one judged; results come in order.

Each slot is an inspector with frame buffers of its own, on a thread of its own; all share one engine's threads, which
work off the tiles in the order of the frames. A slot that fails fails its frame alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import Generic, TypeVar

from hisir_edge.line.inspect import Inspector

Item = TypeVar("Item")
Done = TypeVar("Done")


class Pipeline(Generic[Item, Done]):
    """Runs ``work(inspector, item)`` for each item on the next free slot."""

    def __init__(self, inspector: Inspector, slots: int, work: Callable[[Inspector, Item], Done]) -> None:
        self.slots, self._work = slots, work
        self._free: SimpleQueue[Inspector] = SimpleQueue()
        for number in range(slots):
            self._free.put(inspector if number == 0 else inspector.sibling())
        self._pool = ThreadPoolExecutor(slots, "slot")
        self._flying: deque[Future[Done]] = deque()

    def __enter__(self) -> Pipeline[Item, Done]:
        """Nothing to do: threads start with the first frame."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for what is in flight and end the threads."""
        self._pool.shutdown()

    def __len__(self) -> int:
        """Frames in flight, or done and not yet taken."""
        return len(self._flying)

    def put(self, item: Item) -> None:
        """Hand over an item; with all slots taken, ``take`` first."""
        if len(self._flying) == self.slots:
            raise RuntimeError("no free slot: take a result first")
        self._flying.append(self._pool.submit(self._run, item))

    def ready(self) -> bool:
        """Whether ``take`` would return at once."""
        return bool(self._flying) and self._flying[0].done()

    def take(self) -> Done:
        """The result of the oldest item, waited for; what its work raised is raised here."""
        return self._flying.popleft().result()

    def drain(self) -> Iterator[Done]:
        """The results of everything in flight, in order."""
        while self._flying:
            yield self.take()

    def _run(self, item: Item) -> Done:
        inspector = self._free.get()
        try:
            return self._work(inspector, item)
        finally:
            self._free.put(inspector)
