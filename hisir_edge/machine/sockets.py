"""What a socket of this machine may hold."""

from __future__ import annotations

from pathlib import Path

LIMIT = Path("/proc/sys/net/core/rmem_max")
SHIPPED_BYTES = 1 << 26
"""What the service's sysctl file asks for at least: two frames of 12 Mpx in colour do not fit, two grey ones do."""
MOST_BYTES = 1 << 30
"""The kernel cuts SO_RCVBUF down to half of what a signed int holds; more has no effect."""


def largest_receive_buffer(limit: Path = LIMIT) -> int | None:
    """The most bytes that a socket's receive buffer may be set to (socket(7), rmem_max); None: nothing says.

    Inside a network namespace that does not show it, and on other systems than Linux, there is nothing to read.
    """
    try:
        return int(limit.read_text())
    except (OSError, ValueError):
        return None
