"""Addresses of sockets. ZeroMQ itself takes any number for a port and listens on what is left of it in 16 bits."""

from __future__ import annotations

import re
import socket


def port_of(endpoint: str) -> int:
    """The port of ``tcp://HOST:PORT``, 1..65535; 0 where there is none."""
    found = re.fullmatch(r"tcp://.+:([0-9]{1,5})", endpoint)
    port = int(found[1]) if found else 0
    return port if port <= 65535 else 0


def ipc_in_use(endpoint: str) -> bool:
    """Whether somebody listens at an ``ipc://`` address: ZeroMQ would take it over without a word."""
    if not endpoint.startswith("ipc://"):
        return False
    path = endpoint.removeprefix("ipc://")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect("\0" + path[1:] if path.startswith("@") else path)
        except OSError:  # nobody does, or it is no address, which binding will say
            return False
    return True
