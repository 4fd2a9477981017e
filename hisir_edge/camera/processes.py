"""The programs that hold a camera's library, each a process of its own."""

from __future__ import annotations

import select
import socket
import subprocess

MODULES = {
    "genicam": "hisir_edge.camera.driver.harvesters",
    "aravis": "hisir_edge.camera.driver.aravis",
    "viva": "hisir_edge.camera.driver.viva",
}
"""By ``source.type``."""


def process_module(source_type: str) -> str:
    """The module that ``python -m`` runs for cameras of a type."""
    return MODULES[source_type]


def readable(channel: socket.socket, timeout_s: float) -> bool:
    """Whether a message comes in time; unlike ``select.select`` for any descriptor, from 1024 on, too."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    return bool(poll.poll(timeout_s * 1e3))


def how_it_ended(process: subprocess.Popen[bytes] | None, timeout_s: float) -> str:
    """A process's end in words."""
    if process is None:
        return "not started"
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return "still running"
    return f"signal {-code}" if code < 0 else f"exit {code}"
