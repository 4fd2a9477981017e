"""Frames in flight: while one is inferred, the next is registered and the last one judged; results come in order.

Each slot is an inspector with frame buffers of its own (or one for each product), on a thread of its own; all share one
engine's threads, which work off the tiles in the order of the frames. One more thread hands the results over, so that
none waits for a camera. Items that miss the deadline get the result of ``late(item)``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from queue import Queue, SimpleQueue
from threading import Event, Semaphore, Thread
from types import TracebackType
from typing import Generic, TypeVar

Slot = TypeVar("Slot")
Item = TypeVar("Item")
Done = TypeVar("Done")
STUCK_JOIN_S = 1.0
"""A slot that an overdue item holds is waited for so long at the end; its thread ends with the process."""


class Pipeline(Generic[Slot, Item, Done]):
    """Runs ``work(slot, item)`` for each item on the next free one of ``slots`` and hands results to ``out`` in order.

    Nothing that was put is ever left out: where work or ``out`` fails, the others' results are still handed over, and
    the first failure is raised on exit. ``failed`` says so before. An item that is not done ``deadline_s`` after it was
    put has the result ``late(item)``; what its slot comes to later is dropped. ``stuck`` counts slots that are still at
    work ``grace_s`` beyond the deadline; no thread can be ended from outside: where all are, only a new process helps.
    """

    def __init__(
        self,
        slots: list[Slot],
        work: Callable[[Slot, Item], Done],
        out: Callable[[Done], None],
        deadline_s: float = float("inf"),
        late: Callable[[Item], Done] | None = None,
        grace_s: float = 10.0,
    ) -> None:
        self.slots, self.deadline_s = len(slots), deadline_s
        self._work, self._out, self._late = work, out, late
        self._room = Semaphore(len(slots))
        self._grace_s = grace_s
        self._todo: SimpleQueue[tuple[Future[Done], Item, float] | None] = SimpleQueue()
        self._order: Queue[tuple[Future[Done], Item, float] | Event | None] = Queue()
        self._errors: list[BaseException] = []
        self._running: dict[Future[Done], float] = {}
        self._handing_over = float("inf")
        self._threads = [
            Thread(target=self._run, args=(one,), name=f"slot_{n}", daemon=True) for n, one in enumerate(slots)
        ]
        self._deliverer = Thread(target=self._deliver, name="results")

    def __enter__(self) -> Pipeline[Slot, Item, Done]:
        """Start the threads, all of them before the first item."""
        try:
            for thread in (*self._threads, self._deliverer):
                thread.start()
        except RuntimeError:  # no more threads: those that run would wait for ever, and the process with them
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait until everything is handed over, end the threads, raise what failed first."""
        self._end()
        if self._errors and error is None:
            raise self._errors[0]

    def _end(self) -> None:
        for _ in self._threads:
            self._todo.put(None)
        self._order.put(None)
        if self._deliverer.ident is not None:
            self._deliverer.join()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(None if not self.late_slots else STUCK_JOIN_S)

    @property
    def stuck(self) -> int:
        """Slots that are at work on an item far beyond its deadline."""
        return self._running_beyond(self._grace_s)

    @property
    def late_slots(self) -> int:
        """Slots that are at work on an item beyond its deadline."""
        return self._running_beyond(0.0)

    def _running_beyond(self, seconds: float) -> int:
        now = time.monotonic()
        return sum(now > deadline + seconds for deadline in tuple(self._running.values()))

    @property
    def moving(self) -> bool:
        """Whether results are handed over: none waits for that far beyond its deadline."""
        return time.monotonic() < self._handing_over + self._grace_s

    @property
    def waiting(self) -> int:
        """Items that were put and whose results are not handed over yet."""
        return self._order.unfinished_tasks

    @property
    def failed(self) -> bool:
        """Whether some work, or handing a result over, has failed."""
        return bool(self._errors)

    def put(self, item: Item, timeout_s: float | None = None, since: float | None = None) -> bool:
        """Hand over an item; waits for a free slot, at most so long: whether it was taken.

        ``since``: from when its deadline counts (``time.monotonic``), if not from now.
        """
        if not self._room.acquire(timeout=timeout_s):
            return False
        future: Future[Done] = Future()
        deadline = (time.monotonic() if since is None else since) + self.deadline_s
        self._order.put((future, item, deadline))
        self._todo.put((future, item, deadline))
        return True

    def flush(self) -> None:
        """Wait until the results of everything that was put are handed over."""
        self._order.join()

    def settled(self) -> Event:
        """Set once the results of everything that was put so far are handed over."""
        event = Event()
        self._order.put(event)
        return event

    def _run(self, slot: Slot) -> None:
        while (job := self._todo.get()) is not None:
            future, item, deadline = job
            if not future.done():  # else it was late before its turn came
                self._work_on(slot, future, item, deadline)
            del job, future, item  # a frame is not to wait here for the next one

    def _work_on(self, slot: Slot, future: Future[Done], item: Item, deadline: float) -> None:
        self._running[future] = deadline
        try:
            done = self._work(slot, item)
            with suppress(InvalidStateError):  # it was late, and has another result
                future.set_result(done)
        except BaseException as error:  # raised again on exit; the slot goes on
            with suppress(InvalidStateError):
                future.set_exception(error)
        finally:
            del self._running[future]

    def _deliver(self) -> None:
        while (job := self._order.get()) is not None:
            if isinstance(job, Event):
                job.set()
                self._order.task_done()
                continue
            try:
                try:
                    self._handing_over = job[2]
                    done = self._result(*job)
                finally:
                    self._room.release()
                del job
                self._out(done)
            except BaseException as error:
                self._errors.append(error)
            finally:
                self._handing_over = float("inf")
                self._order.task_done()
        self._order.task_done()

    def _result(self, future: Future[Done], item: Item, deadline: float) -> Done:
        """The result of an item; if it missed its deadline, ``late(item)``."""
        if self._late is None:
            return future.result()
        try:
            return future.result(max(deadline - time.monotonic(), 0.0))
        except FutureTimeoutError:
            if future.done():  # it was done in this very moment, or the work itself raised this
                return future.result()
        late = self._late(item)
        try:
            future.set_result(late)
        except InvalidStateError:  # done meanwhile, by a hair
            return future.result()
        return late
