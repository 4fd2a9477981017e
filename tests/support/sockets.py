"""Ports and raw connections."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A port of this machine that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
