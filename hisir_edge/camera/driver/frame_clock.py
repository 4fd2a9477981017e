"""The camera's own clock against this PC's: frames whose time goes back, and frames that come late."""

from __future__ import annotations

from collections import deque

WINDOW_NS = 60_000_000_000
"""Two clocks drift apart by up to some 100 us a second: how far they are apart is taken from the last minute."""
MOST_KEPT = 4096
SECOND_NS = 1_000_000_000
WRAP_TOLERANCE_NS = 300_000_000


class FrameClock:
    """Follows device timestamps (ns since any moment); without them it knows nothing and finds nothing wrong.

    ``late_ms``: how much longer than the quickest frame of the last minute a frame may take from camera to PC; 0: as
    long as it likes. A frame that waited in some buffer may show another board than the one that stands there now.

    Some clocks wrap each second (TLSimu of the genicam wheel): that is followed where the PC's clock agrees.
    """

    def __init__(self, late_ms: float) -> None:
        self._late_ns = late_ms * 1e6
        self._last: tuple[int, int] | None = None
        self._seconds_ns = 0
        self._apart: deque[tuple[int, int]] = deque()

    def forget(self) -> None:
        """The acquisition starts again."""
        self._last, self._seconds_ns = None, 0
        self._apart.clear()

    def wrong(self, device_ns: int | None, now_ns: int) -> str:
        """The fault in the time of a frame that came just now; empty: none."""
        if device_ns is None:
            return ""
        last, self._last = self._last, (device_ns, now_ns)
        if last is not None and device_ns < last[0]:
            seconds = _seconds_between(last[0], device_ns, now_ns - last[1])
            if not seconds:
                self._seconds_ns = 0
                self._apart.clear()
                return f"timestamp went back: {device_ns} ns after {last[0]} ns"
            self._seconds_ns += seconds * SECOND_NS
        apart = now_ns - device_ns - self._seconds_ns
        while self._apart and (self._apart[0][0] < now_ns - WINDOW_NS or len(self._apart) >= MOST_KEPT):
            self._apart.popleft()
        while self._apart and self._apart[-1][1] >= apart:  # only what may still be the least is kept
            self._apart.pop()
        self._apart.append((now_ns, apart))
        over_ns = apart - self._apart[0][1]
        if self._late_ns and over_ns > self._late_ns:
            return f"late frame: {over_ns / 1e6:.0f} ms after it was taken, {self._late_ns / 1e6:g} ms allowed"
        return ""


def _seconds_between(last_ns: int, device_ns: int, passed_ns: int) -> int:
    """Times that a clock that wraps each second has wrapped, by the PC's clock; 0 for other clocks."""
    if last_ns >= SECOND_NS:
        return 0
    seconds = max(round((passed_ns + last_ns - device_ns) / SECOND_NS), 1)
    off_ns = device_ns + seconds * SECOND_NS - last_ns - passed_ns
    return seconds if abs(off_ns) < WRAP_TOLERANCE_NS else 0
