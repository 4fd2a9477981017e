"""Ports and raw connections."""

from __future__ import annotations

import os
import random
import socket

PORTS = range(12_000, 32_000)
"""Below those that the kernel gives to connections (from 32768 on): none takes one between here and its listener."""
_given: set[int] = set()


def free_port() -> int:
    """A port of this machine that nobody listens on just now, and that these tests were not given before."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    mine = [port for port in PORTS if port % 4 == worker % 4 and port not in _given]
    for port in random.SystemRandom().sample(mine, len(mine)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise AssertionError("no free port")


def greet(raw: socket.socket) -> None:
    """ZMTP 3.1 (https://rfc.zeromq.org/spec/37) with the NULL mechanism, as a DEALER."""
    raw.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31))
    assert len(received(raw, 64)) == 64
    ready = b"\x05READY\x0bSocket-Type" + (6).to_bytes(4, "big") + b"DEALER"
    raw.sendall(b"\x04" + bytes([len(ready)]) + ready)
    flags, size = received(raw, 2)
    assert flags == 4
    received(raw, size)


def received(raw: socket.socket, count: int) -> bytes:
    """Exactly so many bytes."""
    got = b""
    while len(got) < count:
        part = raw.recv(count - len(got))
        assert part
        got += part
    return got
