"""Random inputs to every parser of what comes over a socket, then to the bound sockets themselves.

    PYTHONPATH=tests python tests/fuzz/run.py [--inputs 1000000] [--seed 1] [--raw-connections 2000]

Ends with 1 at the first input that does what is not meant, and writes it out; memory is watched.
"""

from __future__ import annotations

import argparse
import random
import socket
import sys
import time
from pathlib import Path

import psutil
import structlog
from fuzz.mutate import mutated
from fuzz.targets import Targets
from support.sockets import free_port

from hisir_edge.config.sockets import ControlTable, PublishTable, SecurityTable
from hisir_edge.line.sockets.context import Wire
from hisir_edge.line.sockets.control import ControlSocket
from hisir_edge.line.sockets.publish import Publisher
from hisir_edge.transport.control_client import ask

MOST_GROWTH_MB = 200


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--raw-connections", type=int, default=2000)
    options = parser.parse_args()
    structlog.configure(processors=[lambda *_: (_ for _ in ()).throw(structlog.DropEvent)])
    rng = random.Random(options.seed)
    with Targets() as targets:
        seeds = targets.seeds()
        for name, target in targets.all.items():
            count, began, before = options.inputs // len(targets.all), time.monotonic(), memory_mb()
            for number in range(count):
                data = mutated(rng, seeds[name])
                try:
                    target(data)
                except BaseException:
                    Path("build").mkdir(exist_ok=True)
                    Path("build/fuzz-input").write_bytes(data)
                    print(f"{name}: input {number} is in build/fuzz-input")
                    raise
            grown = memory_mb() - before
            print(
                f"{name:13s}{count:9d} inputs, {count / (time.monotonic() - began):8.0f}/s, {grown:+.1f} MB", flush=True
            )
            if grown > MOST_GROWTH_MB:
                return 1
        return raw(rng, targets, options.raw_connections)


def raw(rng: random.Random, targets: Targets, connections: int) -> int:
    """Bytes that are no ZMTP, or begin as if they were, to bound sockets, which answer at the end as before."""
    ends = [f"tcp://127.0.0.1:{free_port()}" for _ in range(2)]
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
    ready = b"\x04\x1b\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
    with Wire(SecurityTable()) as wire, Publisher(PublishTable(endpoint=ends[0]), wire) as publisher:
        known = targets.control.commands
        with ControlSocket(ControlTable(endpoint=ends[1]), wire, known):
            before, began = memory_mb(), time.monotonic()
            for number in range(connections):
                port = int(ends[number % 2].rsplit(":", maxsplit=1)[1])
                with socket.create_connection(("127.0.0.1", port), timeout=5) as one:
                    try:
                        one.sendall(mutated(rng, [greeting, greeting + ready, greeting + ready + b"\x00\x05hello"]))
                        one.settimeout(0.002)
                        one.recv(4096)
                    except OSError:
                        pass
                publisher.count_subscribers(0)
            assert ask(ends[1], {"do": "replay", "most": 0}, 10)["seq"] == 5
            grown = memory_mb() - before
    print(f"raw sockets  {connections:9d} connections, {time.monotonic() - began:.0f} s, {grown:+.1f} MB")
    return int(grown > MOST_GROWTH_MB)


def memory_mb() -> float:
    return psutil.Process().memory_info().rss / 1e6


if __name__ == "__main__":
    sys.exit(main())
