"""File descriptors: a process that runs out of them is ended inside libzmq, so they are counted before it begins."""

from __future__ import annotations

import resource

from hisir_edge.errors import ConfigError

RESERVED = 640
"""For cameras, journal, engines and logs, and for connections that come faster than they are refused."""
ENOUGH = 65_536


def ensure_descriptors(connections: int) -> int:
    """Raise this process's own limit as far as it may; the limit then.

    ConfigError where it leaves no room for so many connections.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    if soft != resource.RLIM_INFINITY and soft < connections + RESERVED:
        raise ConfigError(
            expected=f"{connections + RESERVED} file descriptors for this process",
            received=f"a limit of {soft}",
            fix="raise LimitNOFILE in the unit (ulimit -n in a shell), or lower security.max_connections",
        )
    return ENOUGH if soft == resource.RLIM_INFINITY else soft
