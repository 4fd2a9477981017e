"""The way out: one thread journals verdicts, then publishes them, in their order; as many at once as are waiting."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Protocol

import structlog

from hisir_edge.line.journal.records import Entry
from hisir_edge.line.journal.store import Journal
from hisir_edge.line.sockets.message import VerdictMessage, as_error, stamped
from hisir_edge.line.sockets.publish import Draw

log = structlog.get_logger()

MOST_WAITING = 1000
"""Verdicts that wait for the disk; with more, the line waits for it, too."""
MOST_AT_ONCE = 64
PRUNE_EACH_S = 1.0
BEAT_EACH_S, IDLE_S = 1.0, 0.1
PUT_S, CLOSE_S = 1.0, 10.0
PRUNE_TIMES = 4
"""Steps at a time; none while a verdict waits. As it is, some 1,000 verdicts a second can go."""


class Send(Protocol):
    """Publishes the frames of a verdict (``Publisher.send``)."""

    def __call__(self, frames: list[bytes], overlay: Draw | None = None, rle: Draw | None = None) -> None:
        """Publish the frames of one verdict."""


@dataclass(frozen=True, slots=True)
class _Job:
    message: VerdictMessage
    seq: int
    then: Callable[[VerdictMessage], None]


class Outbox:
    """``put`` from any thread; ``close`` hands over what is waiting. ``send`` publishes the frames of one verdict.

    ``beat`` is called each second with the last number that was handed over, by the thread that hands over: where that
    hangs, there is no heartbeat. It calls ``idle`` every ``IDLE_S`` while there is nothing to do.

    What cannot be journaled becomes an ERROR with that reason; it is published once it is on the disk beside the
    journal (``Journal.keep_beside``) and comes into the journal later, to the byte. What finds no room there either
    waits unpublished, and all that follow it. So no number is ever published with two contents, and no verdict that
    the journal does not have is ever a PASS.
    """

    def __init__(
        self,
        journal: Journal,
        send: Send,
        beat: Callable[[int], None] = lambda seq: None,
        idle: Callable[[], None] = lambda: None,
    ) -> None:
        self._journal, self._send, self._beat, self._idle = journal, send, beat, idle
        self._last_seq, self._beat_at = max(journal.last_recorded, journal.last_published), 0.0
        self._queue: Queue[_Job | None] = Queue(MOST_WAITING)
        self._unwritten: list[Entry] = list(journal.spilled)
        self._held: list[_Job] = []
        self._closing = Event()
        self._since: float | None = None
        self.failed = False
        """Whether its thread has ended by an unexpected exception: nothing is published any more."""
        self._pruned_at = time.monotonic()
        self._thread = Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    @property
    def unwritten(self) -> int:
        """Verdicts that the journal does not have: published as ERROR, or waiting for room on the disk."""
        return len(self._unwritten) + len(self._held)

    def waits_for_s(self) -> float:
        """How long the batch in hand has been at the disk or the socket; 0 where there is none."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def put(self, message: VerdictMessage, seq: int, then: Callable[[VerdictMessage], None]) -> None:
        """Have it journaled and published; ``then`` is called with what was published."""
        job = _Job(message, seq, then)
        while not self.failed:
            with suppress(Full):
                self._queue.put(job, timeout=PUT_S)
                return
        raise RuntimeError("verdicts are not handed over any more")

    def flush(self) -> None:
        """Wait until everything that was put is published."""
        self._queue.join()

    def close(self) -> None:
        """Publish what is waiting, end the thread; one that hangs at the disk is left to the end of the process."""
        self._closing.set()
        with suppress(Full):
            self._queue.put(None, timeout=CLOSE_S)
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            log.error("verdicts not handed over", reason=f"the disk has not answered for {CLOSE_S:g} s")
        if self._unwritten:
            log.error(
                "verdicts left to the next start", first_seq=self._unwritten[0].seq, last_seq=self._unwritten[-1].seq
            )
        if self._held:
            log.error("verdicts never published", first_seq=self._held[0].seq, last_seq=self._held[-1].seq)

    def _run(self) -> None:
        try:
            while not self._step():
                pass
        except BaseException as error:
            self.failed = True
            log.exception("outbox ended", reason=str(error))
            with suppress(Empty):
                while True:  # nobody is to wait for what will not be done
                    self._queue.get_nowait()
                    self._queue.task_done()

    def _step(self) -> bool:
        """One batch, or what is left to do while there is none; whether that was the last."""
        batch, over = self._next_batch()
        waiting, held = [*self._held, *batch], len(self._held)
        try:
            self._since = time.monotonic()
            if waiting:
                self._hand_over(waiting)
            elif self._unwritten:
                self._write_later()
            self._look()
            self._beat_if_due()
            if not batch:
                self._rest()
        finally:
            self._since = None
            for _ in range(held + len(batch) - len(self._held) + over):
                self._queue.task_done()
        return over

    def _write_later(self) -> None:
        count = len(self._unwritten)
        self._record([])
        if not self._unwritten:
            log.info("verdicts journaled at last", count=count)

    def _next_batch(self) -> tuple[list[_Job], bool]:
        """The waiting verdicts; none if there were none for ``IDLE_S``, or while as many wait for the disk already."""
        batch: list[_Job] = []
        if len(self._held) >= MOST_AT_ONCE:
            time.sleep(IDLE_S)
            return batch, self._closing.is_set()
        while len(batch) < MOST_AT_ONCE and (not batch or not self._queue.empty()):
            try:
                job = self._queue.get(timeout=IDLE_S)
            except Empty:
                return batch, False
            if job is None:
                return batch, True
            batch.append(job)
        return batch, False

    def _hand_over(self, batch: list[_Job]) -> None:
        jobs = [_Job(stamped(job.message), job.seq, job.then) for job in batch]
        entries = [_entry(job.message, job.seq) for job in jobs]
        count, reason = self._record(entries)
        if count < len(entries):
            there, left = jobs[:count], jobs[count:]
            if len(left) > len(self._held) or not self._held:
                log.error("verdicts not journaled", first_seq=left[0].seq, last_seq=left[-1].seq, reason=reason)
            wrong = f"verdict could not be journaled: {reason}"
            jobs = there + [_Job(as_error(job.message, wrong), job.seq, job.then) for job in left]
            entries = [_entry(job.message, job.seq) for job in jobs]
            beside = self._journal.keep_beside(entries[count:])
            self._unwritten += entries[count : count + beside]
            count += beside
        self._held = jobs[count:]
        jobs, entries = jobs[:count], entries[:count]
        for job, entry in zip(jobs, entries, strict=True):
            try:
                self._send(entry.frames(), job.message.overlay, job.message.rle)
                self._last_seq = job.seq
            except Exception as error:  # it is in the journal
                log.exception("verdict not published", seq=job.seq, reason=str(error))
            try:
                job.then(job.message)
            except Exception as error:
                log.exception("post-publish callback failed", seq=job.seq, reason=str(error))

    def _record(self, entries: list[Entry]) -> tuple[int, str]:
        """Journal what was left, then these: how many of these are there, and why not the others."""
        left = [*self._unwritten, *entries]
        try:
            self._journal.record(left)
        except sqlite3.IntegrityError:  # a number that is there already: one by one, so that it holds up no other
            done, reason = self._one_by_one(left)
        except sqlite3.Error as error:
            done, reason = 0, str(error)
        else:
            done, reason = len(left), ""
        before = len(self._unwritten)
        self._unwritten = self._unwritten[done:]
        if before and not self._unwritten:
            self._journal.recorded_all()
        return max(done - before, 0), reason

    def _one_by_one(self, entries: list[Entry]) -> tuple[int, str]:
        for done, entry in enumerate(entries):
            try:
                self._journal.record([entry])
            except sqlite3.IntegrityError as error:
                log.error("verdict is journaled already", seq=entry.seq, reason=str(error))
            except sqlite3.Error as error:
                return done, str(error)
        return len(entries), ""

    def _beat_if_due(self) -> None:
        if time.monotonic() < self._beat_at + BEAT_EACH_S:
            return
        self._beat_at = time.monotonic()
        try:
            self._beat(self._last_seq)
        except Exception as error:
            log.exception("no heartbeat", reason=str(error))

    def _rest(self) -> None:
        try:
            self._idle()
        except Exception as error:
            log.exception("subscriptions not taken in", reason=str(error))

    def _look(self) -> None:
        """Once a second, whether the journal is still there; some steps of deleting what is old."""
        if time.monotonic() < self._pruned_at + PRUNE_EACH_S:
            return
        self._pruned_at = time.monotonic()
        try:
            if self._journal.look():
                return
            for _ in range(PRUNE_TIMES):
                if not self._journal.prune() or not self._queue.empty():
                    break
        except sqlite3.Error as error:
            log.error("journal not pruned", reason=str(error))


def _entry(message: VerdictMessage, seq: int) -> Entry:
    topic, body, mask = message.frames()
    return Entry(seq=seq, topic=topic.decode(), body=body, mask=mask, source=message.camera, unit=message.unit)
