"""Addresses of sockets. ZeroMQ itself takes any number for a port and listens on what is left of it in 16 bits."""

from __future__ import annotations

import re


def port_of(endpoint: str) -> int:
    """The port of ``tcp://HOST:PORT``, 1..65535; 0 where there is none."""
    found = re.fullmatch(r"tcp://.+:([0-9]{1,5})", endpoint)
    port = int(found[1]) if found else 0
    return port if port <= 65535 else 0
