"""Flags that signals set for the daemon."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class SignalFlag:
    """As ``threading.Event`` without its lock.

    A signal's handler may interrupt another handler, or the main thread, while that holds the lock, and would then wait
    for it for ever.
    """

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        """Set it; from any thread or handler."""
        self._set = True

    def clear(self) -> None:
        """Clear it."""
        self._set = False

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._set


@dataclass(frozen=True, slots=True)
class Asked:
    """``stop``: SIGTERM or SIGINT came; boards in flight are still judged and published. ``reload``: SIGHUP came."""

    stop: SignalFlag
    reload: SignalFlag


@contextmanager
def signals() -> Iterator[Asked]:
    """Handle SIGTERM, SIGINT and SIGHUP until exit; then restore the handlers that were there."""
    asked = Asked(SignalFlag(), SignalFlag())
    handlers = {
        signal.SIGTERM: lambda *_: asked.stop.set(),
        signal.SIGINT: lambda *_: asked.stop.set(),
        signal.SIGHUP: lambda *_: asked.reload.set(),
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
