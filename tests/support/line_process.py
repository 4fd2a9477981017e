"""A line without camera and network: the real journal, outbox and sockets, and boards that are judged as they come.

    python tests/support/line_process.py FOLDER VERDICTS CONTROL --count 1000 [--rate-hz 500] [--mask-bytes 200]
        [--keys FOLDER]

Numbers its boards on from what its journal holds, until there are ``count``; then it answers until it is told to end.
"""

from __future__ import annotations

import argparse
import random
import signal
import sqlite3
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace

from hisir_edge.config.kept import JournalTable
from hisir_edge.config.sockets import ControlTable, PublishTable, SecurityTable
from hisir_edge.line.journal.outbox import Outbox
from hisir_edge.line.journal.records import AcceptedTrigger
from hisir_edge.line.journal.store import Journal
from hisir_edge.line.sockets.commands import commands
from hisir_edge.line.sockets.context import Wire
from hisir_edge.line.sockets.control import ControlSocket
from hisir_edge.line.sockets.publish import Publisher
from hisir_edge.transport.addresses import heard_at
from support.messages import sample_message


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("verdicts")
    parser.add_argument("control")
    parser.add_argument("--line", default="l")
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--rate-hz", type=float, default=0)
    parser.add_argument("--mask-bytes", type=int, default=200)
    parser.add_argument("--synchronous", default="FULL")
    parser.add_argument("--keys", type=Path)
    parser.add_argument("--insecure", action="store_true")
    parser.add_argument("--clock", type=Path, help="a file with the seconds by which this machine's clock is wrong")
    options = parser.parse_args()
    if options.clock:
        set_clock(options.clock)
    told = Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    serve(options, told)


def set_clock(file: Path) -> None:
    """Have time.time and time.time_ns go wrong by what the file says, whenever it says it."""
    true = time.time_ns

    def wrong_ns() -> int:
        with suppress(OSError, ValueError):
            return true() + int(float(file.read_text()) * 1e9)
        return true()

    time.time_ns, time.time = wrong_ns, lambda: wrong_ns() / 1e9


def serve(options: argparse.Namespace, told: Event) -> None:
    keys = options.keys
    security = SecurityTable(
        server_key=str(keys / "line.key_secret") if keys else "", clients=str(keys / "clients") if keys else ""
    )
    table = JournalTable(synchronous=options.synchronous)
    with (
        Journal(options.folder, table) as journal,
        Wire(security) as wire,
        Publisher(PublishTable(endpoint=options.verdicts), wire) as publisher,
    ):
        outbox = Outbox(
            journal, publisher.send,
            lambda seq: publisher.beat(options.line, journal.epoch, seq, control=heard_at(options.control)),
            publisher.idle,
        )  # fmt: skip
        settings = SimpleNamespace(line=SimpleNamespace(name=options.line))
        status = {"line": options.line, "epoch": journal.epoch}
        line = SimpleNamespace(
            epoch=journal.epoch, state=SimpleNamespace(status=lambda epoch, hermes: status),
            selection=SimpleNamespace(products=SimpleNamespace(settings=settings)),
        )  # fmt: skip
        hermes, revising = SimpleNamespace(state=""), SimpleNamespace(store=None, in_use=0)
        known = commands(line, hermes, journal, wire, told, publisher.tell, None, revising)  # type: ignore[arg-type]
        with ControlSocket(ControlTable(endpoint=options.control), wire, known):
            try:
                boards(options, journal, outbox, told)
            finally:
                outbox.close()


def boards(options: argparse.Namespace, journal: Journal, outbox: Outbox, told: Event) -> None:
    rng, seq = random.Random(7), journal.last_seq

    def put(seq: int, fails: bool) -> None:
        message = sample_message(seq, journal.epoch, fails, line=options.line)
        message = replace(message, mask_png=message.mask_png + rng.randbytes(options.mask_bytes))
        outbox.put(message, seq, lambda m: None)

    for left in journal.left:  # accepted by the one before this, which was killed
        put(left.seq, True)
    due = time.monotonic()
    while not told.is_set() and seq < options.count:
        seq += 1
        with suppress(sqlite3.Error):  # a full disk: as line/sequence.py does
            journal.accept(AcceptedTrigger(seq, f"unit-{seq}", "cam", "p", time.time_ns()), told=False)
        put(seq, seq % 5 == 0)
        if options.rate_hz:
            due = max(due + 1 / options.rate_hz, time.monotonic() - 0.1)
            told.wait(max(due - time.monotonic(), 0))
    told.wait()


if __name__ == "__main__":
    main()
