"""The collector: all lines of a fleet.toml into its store, until it is to end."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Event
from urllib.parse import urlsplit, urlunsplit

import structlog

from hisir_edge.fleet.follow import LineCollector
from hisir_edge.fleet.settings import Fleet
from hisir_edge.fleet.store import Stop, Stopped, Store
from hisir_edge.fleet.stores import opened

log = structlog.get_logger()

TELL_S, PRUNE_S = 5.0, 600.0
TOLD_EACH = 10_000
"""A word in the log for so many boards of a line."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collector did: boards stored, by line, and lines that were never heard."""

    boards: dict[str, int]
    unheard: tuple[str, ...]


def collect(fleet: Fleet, end: Event, quiet_s: float | None = None) -> Collected:
    """Collect until ``end``, or until no line has given a board for ``quiet_s``.

    InputError for a store or a line's address or keys that are none. Boards that are not stored when it ends come again
    at the next start: lines keep them.
    """

    def stop(wait_s: float) -> bool:
        return end.wait(wait_s) if wait_s else end.is_set()

    def waiting(reason: str) -> None:
        log.warning("nothing is stored", reason=reason)

    try:
        store = opened(fleet.store, waiting, stop)
    except Stopped:
        return Collected({line.name: 0 for line in fleet.line}, tuple(line.name for line in fleet.line))
    collectors = [LineCollector(line, store, fleet.store, stop, quiet_s) for line in fleet.line]
    try:
        with ExitStack() as stack:
            for one in collectors:
                stack.enter_context(one)
            log.info("collecting", lines=len(collectors), store=store_name(fleet.store.target))
            try:
                _attend(fleet, store, collectors, stop)
            finally:
                end.set()
    finally:
        store.close()
    unheard = tuple(one.line.name for one in collectors if not one.is_heard)
    return Collected({one.line.name: one.count for one in collectors}, unheard)


def _attend(fleet: Fleet, store: Store, collectors: list[LineCollector], stop: Stop) -> None:
    """Until it is to end, or all lines have fallen silent: how lines are, and what is too old."""
    prune_at = told_at = 0.0
    counted = {one.line.name: 0 for one in collectors}
    while not stop(0.2) and not all(one.done for one in collectors):
        now = time.monotonic()
        try:
            if now >= told_at:
                told_at = now + TELL_S
                store.tell([one.state() for one in collectors])
            if now >= prune_at:
                prune_at = now + PRUNE_S
                store.prune(fleet.store.keep_days)
        except Stopped:
            return
        for one in collectors:
            if one.count >= counted[one.line.name] + TOLD_EACH:
                counted[one.line.name] = one.count
                log.info("collected", line=one.line.name, boards=one.count)
    if all(one.done for one in collectors):
        store.tell([one.state() for one in collectors])


def store_name(target: str) -> str:
    """A store's address without a password."""
    parts = urlsplit(target)
    if parts.password is None:
        return target
    return urlunsplit(parts._replace(netloc=f"{parts.username}@{parts.netloc.rpartition('@')[2]}"))
