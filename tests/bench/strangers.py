"""What a frame's latency is while others stall or flood the line's sockets: paired rounds, one daemon, 12 megapixels.

    PYTHONPATH=tests python tests/bench/strangers.py WORK [--rounds 5] [--boards 6] [--bundle engines/demo]

Latency: from a trigger on the control socket to its verdict at a subscriber. The strangers are processes of the lowest
priority on the same machine: what the processor spends on them in their own process is left out as far as it can be.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import zmq
from support.sockets import free_port

from hisir_edge.errors import InputError
from hisir_edge.transport.control_client import Asker

STALLED = 8


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--boards", type=int, default=6)
    parser.add_argument("--bundle", type=Path, default=Path("engines/demo"))
    parser.add_argument("--photos", type=Path, default=Path("build/demo/boards"))
    parser.add_argument("--stranger", nargs=3, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stranger:
        return STRANGERS[options.stranger[0]](*options.stranger[1:])
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    verdicts, control = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    config = work / "line.toml"
    config.write_text(
        f'[bundle]\npath = "{options.bundle.absolute()}"\n[journal]\nfolder = "journal-{time.time_ns()}"\n'
        f'[source]\ntype = "replay"\nfolder = "{options.photos.absolute()}"\nloop = true\ntrigger = "software"\n'
        f'[control]\nendpoint = "{control}"\n[publish]\nendpoint = "{verdicts}"\n'
    )
    times: dict[str, list[float]] = {name: [] for name in ("nobody", *STRANGERS)}
    with daemon(config, work), listener(verdicts) as sub, Asker(control) as asker:
        while not ready(asker):
            time.sleep(0.2)
        one(asker, sub)
        for _ in range(options.rounds):
            for name in times:
                with stranger(name, options, verdicts, control):
                    times[name] += [one(asker, sub) for _ in range(options.boards)]
        refused = asker.ask({"do": "status"}, 20)[0]["refused"]
    quiet = median(times["nobody"])
    for name, spent in times.items():
        print(f"{name:24s} median {median(spent) * 1e3:7.1f} ms, {median(spent) / quiet - 1:+.1%}; {len(spent)} boards")
    print(f"refused: {refused}")
    return 0


@contextlib.contextmanager
def daemon(config: Path, work: Path):
    """The real one."""
    with (work / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "hisir_edge", "run", "--config", str(config)], stdout=log, stderr=log
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def listener(endpoint: str):
    """A subscriber."""
    context = zmq.Context()
    sub = context.socket(zmq.SUB)
    sub.linger = 0
    sub.subscribe(b"verdict/")
    sub.connect(endpoint)
    try:
        yield sub
    finally:
        sub.close()
        context.term()


def ready(asker: Asker) -> bool:
    """Whether it takes boards."""
    with contextlib.suppress(InputError):
        return asker.ask({"do": "status"}, 1.0)[0]["state"] == "Ready"
    return False


def one(asker: Asker, sub: zmq.Socket) -> float:
    """Seconds for one board."""
    time.sleep(0.2)
    began = time.perf_counter()
    seq = asker.ask({"do": "trigger"}, 20)[0]["seq"]
    while json.loads(sub.recv_multipart()[1])["seq"] != seq:
        pass
    return time.perf_counter() - began


@contextlib.contextmanager
def stranger(name: str, options: argparse.Namespace, verdicts: str, control: str):
    """A process that does what its name says."""
    if name == "nobody":
        yield
        return
    command = [sys.executable, __file__, str(options.work), "--stranger", name, verdicts, control]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ, preexec_fn=lambda: os.nice(19))
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def stalled(verdicts: str, control: str) -> int:
    """Subscribers to everything, overlays, too, that never read."""
    context, sockets = zmq.Context(), []
    for n in range(STALLED):
        sub = context.socket(zmq.SUB)
        sub.rcvhwm = 1
        sub.subscribe((b"overlay/", b"", b"rle/", b"verdict/")[n % 4])
        sub.connect(verdicts)
        sockets.append(sub)
    time.sleep(0.5)
    print("there", flush=True)
    time.sleep(3600)
    return 0


def requests(verdicts: str, control: str) -> int:
    """Requests as fast as they are taken, answers never read."""
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.rcvhwm = 1
    dealer.connect(control)
    print("there", flush=True)
    while True:
        dealer.send(b'{"do": "replay", "after": 0}')


def subscriptions(verdicts: str, control: str) -> int:
    """Subscribes and unsubscribes without end."""
    context = zmq.Context()
    sub = context.socket(zmq.XSUB)
    sub.sndhwm = 100
    sub.connect(verdicts)
    print("there", flush=True)
    while True:
        sub.send(b"\x01verdict/x")
        sub.send(b"\x00verdict/x")


def garbage(verdicts: str, control: str) -> int:
    """Connects and sends what is no ZMTP."""
    print("there", flush=True)
    while True:
        for endpoint in (verdicts, control):
            with contextlib.suppress(OSError):
                port = int(endpoint.rsplit(":", maxsplit=1)[1])
                with socket.create_connection(("127.0.0.1", port), timeout=1) as one_:
                    one_.sendall(os.urandom(200))


def spinning(verdicts: str, control: str) -> int:
    """Does nothing to the line at all, and takes as much of the processor: what the others' own work costs here."""
    print("there", flush=True)
    while True:
        with contextlib.suppress(OSError), socket.socketpair()[0] as a:
            a.sendall(os.urandom(200))


STRANGERS = {
    "stalled": stalled, "requests": requests, "subscriptions": subscriptions, "garbage": garbage, "spinning": spinning
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
