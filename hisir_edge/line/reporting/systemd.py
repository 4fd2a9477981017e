"""Notifications to systemd: ready, reloading, stopping, a status line, and progress.

The protocol is one datagram (sd_notify(3)); without NOTIFY_SOCKET nothing is sent.
"""

from __future__ import annotations

import os
import socket
import time

STARTING_EACH_S, LONGER_S = 1.0, 60.0
"""How often a start that takes long says so, and how much longer than that it may take each time."""


class Systemd:
    """The service manager that started this process, if one did."""

    def __init__(self) -> None:
        self.address = os.environ.get("NOTIFY_SOCKET", "")
        watchdog_us = os.environ.get("WATCHDOG_USEC", "")
        ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.beat_each_s = int(watchdog_us) / 3e6 if watchdog_us.isdigit() and ours else 0.0
        """Seconds between signs of life, a third of WatchdogSec; 0 where none are wanted."""
        self._beat_at, self._started_at = 0.0, -STARTING_EACH_S

    def tell(self, *lines: str) -> None:
        """Send assignments such as ``READY=1``; a manager that does not listen is no reason to stop."""
        if not self.address:
            return
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.settimeout(1)
                out.sendto("\n".join(lines).encode(), address)
        except OSError:
            return

    def starting(self, text: str) -> None:
        """What the start is at, once a second, and that it takes longer: it does not count as hanging meanwhile."""
        if time.monotonic() >= self._started_at + STARTING_EACH_S:
            self._started_at = time.monotonic()
            self.tell(f"STATUS={text}", f"EXTEND_TIMEOUT_USEC={int(LONGER_S * 1e6)}")

    def reloading(self) -> None:
        """Type=notify-reload: until the next ``READY=1`` the service is reloading."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def beat(self) -> None:
        """A sign of life, if one is due."""
        if self.beat_each_s and time.monotonic() >= self._beat_at:
            self._beat_at = time.monotonic() + self.beat_each_s
            self.tell("WATCHDOG=1")
