"""Boards without a frame: they arrive from the machine before, or do not come when they are expected."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from threading import Lock

from hisir_edge.config.tables import Settings
from hisir_edge.errors import InputError
from hisir_edge.line.intake import Intake
from hisir_edge.line.pipeline import Pipeline
from hisir_edge.line.state import LineState
from hisir_edge.line.triggers import Identity, Trigger, Waiting
from hisir_edge.line.verdicts import Outcome
from hisir_edge.records import GrabFault


class Arrivals:
    """Makes sure that a board without a frame has its ERROR verdict, and that its name goes to no other board.

    ``arrived`` and ``report`` from any thread, everything else from the daemon's loop alone.
    """

    def __init__(
        self,
        intake: Intake,
        state: LineState,
        waiting: Waiting,
        pipeline: Pipeline[int, Trigger, Outcome],
        settings: Settings,
    ) -> None:
        self._intake, self._state, self._waiting, self._pipeline = intake, state, waiting, pipeline
        self._deadline_s = settings.line.deadline_ms / 1e3
        self._period_s = settings.line.expected_period_ms / 1e3
        self._lock = Lock()
        self._watched_since: float | None = None
        self._standing: list[tuple[float, Identity]] = []
        self._reported: set[int] = set()
        self._tokens = count(1)
        self._missing = 0
        self._unanswered: deque[tuple[Identity, str]] = deque()

    @property
    def unanswered(self) -> bool:
        """Whether a board that cannot be inspected waits for its number."""
        return bool(self._unanswered)

    @property
    def board_may_come(self) -> bool:
        """Whether the next board may come in: the line takes boards, and the one before has its verdict."""
        held = self._waiting.closed or self._waiting.announced or self._pipeline.waiting or self._unanswered
        return self._state.takes_boards and not held

    def arrived(self, identity: Identity) -> None:
        """A board stands under the camera: ask for its frame, or give its name to the next frame.

        A board that is refused is an ERROR verdict.
        """
        try:
            if self._state.software_triggered:
                self._intake.trigger(identity)
            else:
                self._announce(identity)
        except InputError as error:
            self.report(identity, f"not inspected: {error}")

    def stands(self, identity: Identity) -> int:
        """A board stands under the camera of a line whose frames are triggers: the next frame that is taken is its own.

        Without a frame by the deadline, or before the next board stands there, or where the line forgets it (paused,
        boards that went by), it is an ERROR verdict and its name goes to no other board. A token by which
        ``Intake.seq_of`` tells its number; InputError where the line takes none.
        """
        return self._announce(replace(identity, stands_since_ns=time.time_ns())).token

    def _announce(self, identity: Identity) -> Identity:
        with self._lock:
            for _, before in self._standing:
                if before.stands_since_ns and self._waiting.forget_with(before):
                    self.report(before, "no frame before the next board arrived")
                    self._reported.add(before.token)
            identity = replace(identity, token=next(self._tokens))
            self._intake.announce(identity)
            self._standing.append((time.monotonic(), identity))
        return identity

    def report(self, identity: Identity, reason: str) -> None:
        """A board that cannot be inspected: an ERROR verdict of its own after the next ``answer``."""
        self._unanswered.append((identity, reason))

    def answer(self, wait: bool = False) -> None:
        """Number reported boards and put them into the pipeline, as far as slots are free; ``wait``: all of them.

        From one thread, so that numbers rise in the pipeline's order.
        """
        while self._unanswered:
            identity, reason = self._unanswered[0]
            if self._intake.answer_without_frame(identity, reason, wait):
                self._unanswered.popleft()
            elif not wait:
                return

    def leave_to_next_start(self) -> None:
        """Journal the boards that are still to be numbered, where the daemon ends by an error: none is lost."""
        while self._unanswered:
            identity, _ = self._unanswered.popleft()
            self._intake.leave_to_next_start(identity)

    def check_arrival(self) -> None:
        """Report a board that arrived and whose frame did not come by the deadline, or whose name was forgotten."""
        with self._lock:
            left = []
            for arrived_at, identity in self._standing:
                if self._intake.seq_of(identity.token) or identity.token in self._reported:
                    self._reported.discard(identity.token)
                elif not self._waiting.waits_for(identity):
                    self.report(identity, "its announcement was forgotten: the line was paused, or boards went by")
                elif time.monotonic() > arrived_at + self._deadline_s:
                    if self._waiting.forget_with(identity):
                        self.report(identity, f"no frame within {self._deadline_s * 1e3:g} ms of the board's arrival")
                else:
                    left.append((arrived_at, identity))
            self._standing = left

    def check_period(self, go_on: Callable[[], bool]) -> None:
        """With ``line.expected_period_ms``: an ERROR verdict for each period in which no board came.

        The period counts from the last board, or from when the line began to take boards. While the line is paused or
        its camera is lost (an ERROR of its own), no board is expected.
        """
        source = self._state.source
        if not self._period_s or self._state.paused.is_set() or source is None or not source.up:
            self._watched_since = None
            return
        now = time.monotonic()
        if self._watched_since is None:
            self._watched_since = now
        if now > max(self._watched_since, self._intake.taken_at) + self._period_s:
            self._missing += 1
            reason = f"no board within the expected {self._period_s * 1e3:g} ms"
            unit = f"{source.name}-missing-{self._missing:06d}"
            # nobody knows which board did not come: an announced name may be its own or the next board's
            fault = GrabFault(
                source=source.name, frame_id=0, unit=unit, reason=reason, grabbed_at_ns=time.time_ns(), boards=None
            )
            self._intake.take(fault, go_on)
