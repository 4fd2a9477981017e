"""How old a verdict is, by a clock that no one can set: the time that the journal itself has been in use.

The age of a verdict is what passed on the kernel's own clock (CLOCK_BOOTTIME, clock_getres(2)) since it was written.
The time between two starts of the machine is known by its wall clock alone: it counts only where that clock has gone
steadily, and synchronised by a time server (adjtimex(2), STA_UNSYNC), for hours before and after, and never more than
``MOST_GAP_S`` at once. A clock that is wrong, for a moment or for years, may keep verdicts longer; to delete one early
it would have to be synchronised to a wrong time.
"""

from __future__ import annotations

import ctypes
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import structlog

log = structlog.get_logger()

STEADY_S = 4 * 3600.0
"""A wall clock is believed once it has gone with the kernel's clock for so long."""
STEP_S = 2.0
"""From one look to the next it may go otherwise by so much: beyond, somebody has set it."""
STA_UNSYNC = 0x40
MOST_GAP_S = 14 * 86_400.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Clocks:
    """Wall clock and kernel's clock at one moment; ``boot`` names the start of the machine, where the latter begins."""

    boot: str
    boottime_ns: int
    wall_ns: int
    synchronised: bool = False

    @property
    def offset_ns(self) -> int:
        """What the wall clock is ahead of the kernel's."""
        return self.wall_ns - self.boottime_ns


@dataclass(frozen=True, slots=True)
class Kept:
    """The journal's time at a moment, and for how long the wall clock had gone steadily then."""

    used_ns: int
    steady_ns: int
    clocks: Clocks

    def as_text(self) -> str:
        """For the journal's file."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Kept | None:
        """None for what is none: the journal's time begins anew, and everything is kept the longer."""
        with suppress(ValueError, TypeError, KeyError):
            found = json.loads(text)
            at = found["clocks"]
            clocks = Clocks(
                str(at["boot"]), int(at["boottime_ns"]), int(at["wall_ns"]), at.get("synchronised") is True
            )  # fmt: skip
            return cls(max(int(found["used_ns"]), 0), max(int(found["steady_ns"]), 0), clocks)
        return None


def clocks_now() -> Clocks:
    """Those of this moment."""
    return Clocks(_boot(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns(), _synchronised())


@cache
def _boot() -> str:
    """The start of the machine, which a process does not outlive."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


class _Timex(ctypes.Structure):
    """The beginning of ``struct timex`` (sys/timex.h), and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long), ("status", ctypes.c_int), ("rest", ctypes.c_byte * 512),
    )  # fmt: skip


@cache
def _adjtimex() -> Any:
    """The C library's function; None where there is none."""
    try:
        return ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return None


def _synchronised() -> bool:
    """Whether a time server holds the wall clock, as the kernel knows it; modes = 0 changes nothing."""
    found, ask = _Timex(), _adjtimex()
    return ask is not None and int(ask(ctypes.byref(found))) >= 0 and not found.status & STA_UNSYNC


class JournalTime:
    """Nanoseconds that a journal has been in use, from what was ``kept`` of it; ``look`` every few seconds."""

    def __init__(self, kept: str = "", clocks: Callable[[], Clocks] = clocks_now) -> None:
        self._clocks = clocks
        now, before = clocks(), Kept.from_text(kept)
        self._used_ns, self._steady_ns, self._last = 0, 0, now
        self._gap_from: Clocks | None = None
        if before is None:
            return
        self._used_ns = before.used_ns
        went_on = now.boottime_ns - before.clocks.boottime_ns
        if now.boot and now.boot == before.clocks.boot and went_on >= 0:
            self._used_ns += min(went_on, int(MOST_GAP_S * 1e9))
            steady = abs(now.offset_ns - before.clocks.offset_ns) <= STEP_S * 1e9
            if steady and now.synchronised and before.clocks.synchronised:
                self._steady_ns = before.steady_ns + went_on
        elif before.steady_ns >= STEADY_S * 1e9:
            self._gap_from = before.clocks
        self._began = now

    def look(self) -> int:
        """The journal's time now, in nanoseconds."""
        now, last = self._clocks(), self._last
        went_on = max(now.boottime_ns - last.boottime_ns, 0)
        stepped_ns = now.offset_ns - last.offset_ns
        self._used_ns += went_on
        self._steady_ns = self._steady_ns + went_on if now.synchronised and last.synchronised else 0
        self._last = now
        if abs(stepped_ns) > STEP_S * 1e9:
            self._steady_ns = 0
            log.warning("this machine's clock was set", by_s=round(stepped_ns / 1e9, 1))
        if self._gap_from is not None and self._steady_ns >= STEADY_S * 1e9:
            began_ns = now.wall_ns - (now.boottime_ns - self._began.boottime_ns)
            self._used_ns += min(max(began_ns - self._gap_from.wall_ns, 0), int(MOST_GAP_S * 1e9))
            self._gap_from = None
        return self._used_ns

    def kept(self) -> str:
        """What the next start needs to know. A gap that is not believed yet is given up: verdicts stay longer."""
        return Kept(self._used_ns, self._steady_ns, self._last).as_text()
