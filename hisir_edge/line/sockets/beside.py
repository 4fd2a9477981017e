"""Threads beside the control socket's: what reads or writes the journal holds back no trigger."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread

import structlog

log = structlog.get_logger()

THREADS = 1
"""Of Python's threads one works at a time; two would have a trigger wait for both."""
Job = Callable[[], list[bytes]]


class Beside:
    """``fd`` becomes readable when a job is done; ``done`` takes what is."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._jobs: SimpleQueue[tuple[list[bytes], Job] | None] = SimpleQueue()
        self._done: deque[tuple[list[bytes], list[bytes]]] = deque()
        self._threads = [Thread(target=self._run, name=f"control-beside-{n}", daemon=True) for n in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def work(self, envelope: list[bytes], job: Job) -> None:
        """Do a job; its answer is for this envelope."""
        self._jobs.put((envelope, job))

    def done(self) -> list[tuple[list[bytes], list[bytes]]]:
        """(Envelope, answer) of a job that is done: one at most, to send it takes a while. ``fd`` tells of the next."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        if not self._done:
            return []
        found = self._done.popleft()
        if self._done:
            os.eventfd_write(self.fd, 1)
        return [found]

    def close(self) -> list[tuple[list[bytes], list[bytes]]]:
        """End, once all jobs are done; what ``done`` has not taken."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        os.close(self.fd)
        return list(self._done)

    def _run(self) -> None:
        while (taken := self._jobs.get()) is not None:
            envelope, job = taken
            try:
                answer = job()
            except Exception as error:  # whoever asked hears nothing; the next are served
                log.exception("control request failed", reason=str(error))
                answer = [b"{}"]
            self._done.append((envelope, answer))
            os.eventfd_write(self.fd, 1)
