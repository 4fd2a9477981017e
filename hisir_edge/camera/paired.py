"""Several cameras that look at one board, such as top and bottom: their frames brought together as one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType

import structlog

from hisir_edge.camera.source import EndOfFrames, Source
from hisir_edge.records import Frame, GrabFault

log = structlog.get_logger()

STEP_S = 0.02


class Views:
    """Cameras of one board as one source; the first names frames and boards.

    The first frame of a board opens it; the others have ``pair_s`` to follow. Where one does not the board is a fault,
    and frames are not paired until none has come for ``pair_s``, so that none is taken for the next board's. Boards
    have to be further apart than twice that.
    """

    def __init__(self, sources: Sequence[Source], pair_s: float) -> None:
        self.sources, self.pair_s, self.name = tuple(sources), pair_s, sources[0].name
        self._stack = ExitStack()
        self._taken: dict[int, Frame] = {}
        self._opened_at = 0.0
        self._lost_step = False
        self._seen: dict[int, int] = {}
        self._quiet_at = 0.0
        self._reason = ""

    @property
    def up(self) -> bool:
        """See ``Source.up``: whether all are."""
        return all(source.up for source in self.sources)

    @property
    def armed(self) -> bool:
        """See ``Source.armed``: whether all are."""
        return all(source.armed for source in self.sources)

    @property
    def frame_wh(self) -> tuple[int, int] | None:
        """See ``Source.frame_wh``: of the first."""
        return self.sources[0].frame_wh

    @property
    def pixel_format(self) -> str | None:
        """See ``Source.pixel_format``: of the first."""
        return self.sources[0].pixel_format

    def __enter__(self) -> Views:
        """Open all of them, or none."""
        with ExitStack() as stack:
            for source in self.sources:
                stack.enter_context(source)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close all of them."""
        self._stack.close()

    def trigger(self) -> None:
        """See ``Source.trigger``: of all, one right after the other."""
        for source in self.sources:
            source.trigger()

    def rearm(self) -> None:
        """See ``Source.rearm``."""
        self._taken.clear()
        self._seen.clear()
        self._lost_step = False
        for source in self.sources:
            source.rearm()

    def next(self, timeout_s: float) -> Frame | GrabFault | None:
        """See ``Source.next``: a frame with ``more``, or a fault for the board."""
        end = time.monotonic() + timeout_s
        while True:
            for number, source in enumerate(self.sources):
                try:
                    item = source.next(STEP_S / len(self.sources))
                except EndOfFrames:
                    if self._taken or self._lost_step:
                        return self._last()
                    raise
                if item is not None and (found := self._take(number, item)) is not None:
                    return found
            if (found := self._overdue()) is not None:
                return found
            if time.monotonic() >= end:
                return None

    def _take(self, number: int, item: Frame | GrabFault) -> Frame | GrabFault | None:
        now = time.monotonic()
        if isinstance(item, GrabFault) and item.boards is None:  # nobody knows how many: nothing is counted any more
            self._taken.clear()
            self._begin_anew(now, "")
            return replace(item, reason=f"{item.source}: {item.reason}")
        boards = item.boards if isinstance(item, GrabFault) else 1
        if self._lost_step:
            self._seen[number] = self._seen.get(number, 0) + (boards or 0)
            self._quiet_at = now + self.pair_s
            return None
        if isinstance(item, GrabFault) or number in self._taken:
            reason = f"{item.source}: {item.reason}" if isinstance(item, GrabFault) else self._missing()
            self._begin_anew(now, reason)
            self._seen[number] = self._seen.get(number, 0) + (boards or 0)
            return None
        if not self._taken:
            self._opened_at = now
        self._taken[number] = item
        if len(self._taken) < len(self.sources):
            return None
        first, *more = (self._taken[n] for n in range(len(self.sources)))
        self._taken.clear()
        return replace(first, more=tuple(more))

    def _last(self) -> GrabFault:
        """A camera gives no more (a replay): what the others gave of the last board is a fault."""
        boards, reason = max([1, *self._seen.values()]), self._reason if self._lost_step else self._missing()
        self._taken.clear()
        self._seen.clear()
        self._lost_step = False
        return GrabFault(
            source=self.name,
            frame_id=0,
            unit=f"{self.name}-unpaired",
            reason=reason,
            grabbed_at_ns=time.time_ns(),
            boards=boards,
        )

    def _overdue(self) -> GrabFault | None:
        now = time.monotonic()
        if self._lost_step and now > self._quiet_at:
            boards, reason, self._lost_step = max(self._seen.values(), default=0), self._reason, False
            self._seen.clear()
            if boards:
                log.warning("views out of step", boards=boards, reason=reason)
                many = "" if boards == 1 else f" ({boards} boards)"
                return GrabFault(
                    source=self.name,
                    frame_id=0,
                    unit=f"{self.name}-unpaired",
                    reason=reason + many,
                    grabbed_at_ns=time.time_ns(),
                    boards=boards,
                )
        if not self._lost_step and self._taken and now > self._opened_at + self.pair_s:
            self._begin_anew(now, self._missing())
        return None

    def _missing(self) -> str:
        names = ", ".join(source.name for n, source in enumerate(self.sources) if n not in self._taken)
        return f"no frame of {names} within {self.pair_s * 1e3:g} ms of the others'"

    def _begin_anew(self, now: float, reason: str) -> None:
        """From now on frames are counted, not paired, until it has been quiet."""
        self._seen = dict.fromkeys(self._taken, 1)
        self._taken.clear()
        self._lost_step, self._quiet_at = True, now + self.pair_s
        self._reason = reason or "frames came while the views were out of step"


def cameras_of(source: Source) -> tuple[Source, ...]:
    """The cameras of a source, the first of which names frames and boards."""
    return source.sources if isinstance(source, Views) else (source,)
