"""Frames in flight: while one is inferred, the next is registered and the last one judged; results come in order.

Each slot is an inspector with frame buffers of its own, on a thread of its own; all share one engine's threads, which
work off the tiles in the order of the frames. One more thread hands the results over, so that none waits for a camera.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from queue import Queue, SimpleQueue
from threading import Semaphore, Thread
from types import TracebackType
from typing import Generic, TypeVar

from hisir_edge.line.board import BoardInspector

Item = TypeVar("Item")
Done = TypeVar("Done")


class Pipeline(Generic[Item, Done]):
    """Runs ``work(inspector, item)`` for each item on the next free slot and hands results to ``out`` in order.

    Nothing that was put is ever left out: where work or ``out`` fails, the others' results are still handed over, and
    the first failure is raised on exit. ``failed`` says so before.
    """

    def __init__(
        self,
        inspector: BoardInspector,
        slots: int,
        work: Callable[[BoardInspector, Item], Done],
        out: Callable[[Done], None],
    ) -> None:
        self._work, self._out = work, out
        self._room = Semaphore(slots)
        self._todo: SimpleQueue[tuple[Future[Done], Item] | None] = SimpleQueue()
        self._order: Queue[Future[Done] | None] = Queue()
        self._errors: list[BaseException] = []
        inspectors = [inspector, *(inspector.sibling() for _ in range(slots - 1))]
        self._slots = [Thread(target=self._run, args=(one,), name=f"slot_{n}") for n, one in enumerate(inspectors)]
        self._deliverer = Thread(target=self._deliver, name="results")

    def __enter__(self) -> Pipeline[Item, Done]:
        """Start the threads, all of them before the first item."""
        try:
            for thread in (*self._slots, self._deliverer):
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
        for _ in self._slots:
            self._todo.put(None)
        self._order.put(None)
        for thread in (*self._slots, self._deliverer):
            if thread.ident is not None:
                thread.join()

    @property
    def failed(self) -> bool:
        """Whether some work, or handing a result over, has failed."""
        return bool(self._errors)

    def put(self, item: Item) -> None:
        """Hand over an item; waits for a free slot."""
        self._room.acquire()
        future: Future[Done] = Future()
        self._order.put(future)
        self._todo.put((future, item))

    def flush(self) -> None:
        """Wait until the results of everything that was put are handed over."""
        self._order.join()

    def _run(self, inspector: BoardInspector) -> None:
        while (job := self._todo.get()) is not None:
            future, item = job
            try:
                future.set_result(self._work(inspector, item))
            except BaseException as error:  # raised again on exit; the slot goes on
                future.set_exception(error)
            del job, future, item  # a frame is not to wait here for the next one

    def _deliver(self) -> None:
        while (future := self._order.get()) is not None:
            try:
                try:
                    done = future.result()
                finally:
                    self._room.release()
                self._out(done)
            except BaseException as error:
                self._errors.append(error)
            finally:
                self._order.task_done()
        self._order.task_done()
