"""ipc connections are limited as those over tcp are; a process without descriptors does not begin."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import time

import pytest

from hisir_edge.config.sockets import ControlTable, SecurityTable
from hisir_edge.errors import ConfigError
from hisir_edge.line.sockets.context import Wire
from hisir_edge.line.sockets.control import Command, ControlSocket
from hisir_edge.machine import descriptors
from hisir_edge.machine.descriptors import RESERVED, ensure_descriptors
from hisir_edge.transport.control_client import ask


def test_connections_over_ipc_beyond_the_limit_are_cut_off(tmp_path):
    endpoint = f"ipc://{tmp_path}/control"
    with Wire(SecurityTable(max_connections=8)) as wire:
        commands = {"read": Command("read", lambda request, client: {})}
        with ControlSocket(ControlTable(endpoint=endpoint), wire, commands):
            clients = []
            try:
                for _ in range(40):
                    one = socket.socket(socket.AF_UNIX)
                    one.connect(f"{tmp_path}/control")
                    clients.append(one)
                end = time.monotonic() + 20
                while wire.refusals.counts["too many connections"] < 32:
                    assert time.monotonic() < end, dict(wire.refusals.counts)
                    time.sleep(0.01)
                assert wire.guard.connections == 8
            finally:
                for one in clients:
                    one.close()
            end = time.monotonic() + 20
            while wire.guard.connections:  # those who have gone are not counted any more
                assert time.monotonic() < end
                time.sleep(0.01)
            assert ask(endpoint, {"do": "read"}) == {}


FLOOD = """
import resource, socket, sys, time
from pathlib import Path
from hisir_edge.config.sockets import ControlTable, SecurityTable
from hisir_edge.line.sockets.context import Wire
from hisir_edge.line.sockets.control import Command, ControlSocket
from hisir_edge.logs import configure_logging
from hisir_edge.machine.descriptors import ensure_descriptors
configure_logging()
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
ensure_descriptors(128)
with Wire(SecurityTable(max_connections=64)) as wire:
    commands = {"read": Command("read", lambda request, client: {})}
    with ControlSocket(ControlTable(endpoint="ipc://" + sys.argv[1]), wire, commands):
        print("up", flush=True)
        sys.stdin.readline()
        print(dict(wire.refusals.counts)["too many connections"], flush=True)
"""


def test_a_flood_of_ipc_connections_does_not_end_the_process(tmp_path):
    path = tmp_path / "control"
    line = subprocess.Popen(
        [sys.executable, "-c", FLOOD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    clients = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert line.stdout.readline() == "up\n"
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
        for _ in range(3000):
            one = socket.socket(socket.AF_UNIX)
            one.connect(str(path))
            clients.append(one)
        for one in clients:
            one.close()
        assert ask(f"ipc://{path}", {"do": "read"}, 20) == {}, "it goes on, and lets others in"
        line.stdin.write("\n")
        line.stdin.flush()
        assert int(line.stdout.readline()) > 2000
        assert line.wait(20) == 0
    finally:
        for one in clients:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        line.kill()
        line.wait()
        line.stdin.close()
        line.stdout.close()


def test_a_limit_that_is_too_low_is_said_before_anything_begins(monkeypatch):
    seen = []
    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda what: (256, 512))
    monkeypatch.setattr(descriptors.resource, "setrlimit", lambda what, limits: seen.append(limits))
    with pytest.raises(ConfigError, match=r"a limit of 512; raise LimitNOFILE"):
        ensure_descriptors(128)
    assert seen == [(512, 512)]
    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda what: (256, 4096))
    assert ensure_descriptors(4096 - RESERVED) == 4096
