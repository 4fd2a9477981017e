"""Requests and answers of each connection to the control socket: none that was accepted stays without its answer.

ZeroMQ takes few answers at once for a connection that does not read them. What is beyond waits here, and so does the
connection: with ``MOST_OUTSTANDING`` requests unanswered, the next are refused before anything is made of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

MOST_OUTSTANDING = 64
MOST_BYTES = 4_000_000
"""Of answers that wait for one connection; with more the next requests are refused, too."""
MOST_REFUSALS = 512
"""Refusals beyond that wait for a connection that does not read; more requests of it are dropped unread."""
Job = Callable[[], list[bytes]]
"""What makes the frames of an answer behind its envelope."""


class Sent(Enum):
    """What became of an answer."""

    YES = 1
    LATER = 2
    """The connection does not take it yet."""
    NEVER = 3
    """The connection is gone."""


@dataclass(slots=True)
class _Conversation:
    answers: deque[list[bytes]] = field(default_factory=deque)
    jobs: deque[tuple[list[bytes], Job]] = field(default_factory=deque)
    at_work: list[bytes] | None = None
    """The envelope of the job that is being done."""

    @property
    def outstanding(self) -> int:
        return len(self.answers) + len(self.jobs) + (self.at_work is not None)

    @property
    def bytes(self) -> int:
        return sum(len(frame) for answer in self.answers for frame in answer)


class Conversations:
    """``send`` sends one answer without waiting; ``work`` has a job done elsewhere, its answer comes to ``done``.

    Answers of jobs keep their order among themselves, the others theirs.
    """

    def __init__(self, send: Callable[[list[bytes]], Sent], work: Callable[[list[bytes], Job], None]) -> None:
        self._send, self._work = send, work
        self._of: dict[bytes, _Conversation] = {}

    @property
    def waiting(self) -> bool:
        """Whether answers wait for connections that do not take them."""
        return any(one.answers for one in self._of.values())

    def room(self, connection: bytes) -> int:
        """How many requests of a connection may be accepted now; below 0, that many are to be dropped unread."""
        one = self._of.get(connection)
        if one is None:
            return MOST_OUTSTANDING
        left = MOST_OUTSTANDING - one.outstanding
        if one.bytes > MOST_BYTES:
            left = min(left, 0)
        return left if left > 0 else min(left + MOST_REFUSALS, 0)

    def answer(self, envelope: list[bytes], frames: list[bytes]) -> None:
        """Give an answer, behind those that wait."""
        one = self._of.setdefault(envelope[0], _Conversation())
        one.answers.append([*envelope, *frames])
        self._flush(envelope[0], one)

    def ask(self, envelope: list[bytes], job: Job) -> None:
        """Have a job done, once those before it are done and their answers taken."""
        one = self._of.setdefault(envelope[0], _Conversation())
        one.jobs.append((envelope, job))
        self._next_job(one)

    def done(self, envelope: list[bytes], frames: list[bytes]) -> None:
        """Give the answer of a job."""
        one = self._of.get(envelope[0])
        # else the connection is gone, and another may have come under its name
        if one is not None and one.at_work is envelope:
            one.at_work = None
            self.answer(envelope, frames)

    def refuse_waiting(self, frames: list[bytes]) -> None:
        """Answer so what waits to be done: it will not be."""
        for connection, one in list(self._of.items()):
            waiting, one.jobs = one.jobs, deque()
            for envelope, _ in waiting:
                one.answers.append([*envelope, *frames])
            self._flush(connection, one)

    def flush(self) -> None:
        """Give what waits to the connections that take it now."""
        for connection, one in list(self._of.items()):
            self._flush(connection, one)

    def clear(self) -> None:
        """Forget all: their connections are closed."""
        self._of.clear()

    def _flush(self, connection: bytes, one: _Conversation) -> None:
        while one.answers:
            sent = self._send(one.answers[0])
            if sent is Sent.LATER:
                return
            if sent is Sent.NEVER:
                self._of.pop(connection, None)
                return
            one.answers.popleft()
        self._next_job(one)
        if not one.outstanding:
            self._of.pop(connection, None)

    def _next_job(self, one: _Conversation) -> None:
        if one.jobs and one.at_work is None and not one.answers:
            envelope, job = one.jobs.popleft()
            one.at_work = envelope
            self._work(envelope, job)
