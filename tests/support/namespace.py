"""A network namespace with `lo` alone, in which a test runs itself again."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys

INSIDE = "HISIR_INSIDE_NAMESPACE"
SIOCSIFFLAGS, IFF_UP_RUNNING = 0x8914, 0x41


def why_not() -> str:
    """Why no namespace can be made here; empty: it can."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode:
        return "no right to make a network namespace here"
    return ""


def loopback_up() -> bool:
    """Switch `lo` on where this is the run inside; whether it is."""
    if not os.environ.get(INSIDE):
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP_RUNNING))
    return True


def inside(file: str, name: str, **paths: object) -> bool:
    """Whether this is the run inside; else it is made, and has to pass."""
    if os.environ.get(INSIDE):
        return True
    test = [sys.executable, "-m", "pytest", "-q", "-x", f"{file}::{name}", "-p", "no:cacheprovider"]
    env = {**os.environ, INSIDE: "1", "HISIR_PATHS": json.dumps({k: str(v) for k, v in paths.items()})}
    done = subprocess.run(["unshare", "-n", *test], capture_output=True, text=True, timeout=240, env=env)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return False
