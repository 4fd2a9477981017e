"""The collector: all lines of a fleet.toml into its store, until it is to end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from threading import Event, Lock, Thread

import structlog

from hisir_edge.errors import HisirEdgeError, InputError
from hisir_edge.fleet.address import shown
from hisir_edge.fleet.follow import LineCollector
from hisir_edge.fleet.rows import Now
from hisir_edge.fleet.settings import Fleet
from hisir_edge.fleet.store import Stop, Stopped, Store, Tell
from hisir_edge.fleet.stores import opened
from hisir_edge.machine.descriptors import ensure_descriptors
from hisir_edge.transport.addresses import not_an_address
from hisir_edge.transport.curve_keys import key_pair, public_key

log = structlog.get_logger()

TELL_S, PRUNE_S, STALLED_S, CLOCK_S = 5.0, 600.0, 15.0, 60.0
TOLD_EACH = 10_000
"""A word in the log for so many boards of a line."""
END_S = 12.0
"""So long a store that does not answer is waited for at the end."""
MOST_OFF, RELEASED = timedelta(days=1), datetime(2026, 11, 1, tzinfo=timezone.utc)
"""A clock of before this program was written is wrong."""
DESCRIPTORS_A_LINE = 24


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collector did: boards stored, by line, and why some lines could not be collected."""

    boards: dict[str, int]
    wrong: dict[str, str]


def collect(fleet: Fleet, end: Event, quiet_s: float | None = None) -> Collected:
    """Collect until ``end``, or until no line has given a board for ``quiet_s``.

    InputError for a store, or a line's address or keys, that are none. Boards that are not stored when it ends come
    again at the next start: lines keep them.
    """
    _check_lines(fleet)
    ensure_descriptors(DESCRIPTORS_A_LINE * len(fleet.line))

    def stop(wait_s: float) -> bool:
        return end.wait(wait_s) if wait_s else end.is_set()

    def waiting(reason: str) -> None:
        log.warning("nothing is stored", reason=reason)

    begun = _begun(lambda: _opened(fleet, waiting, stop), stop)
    if begun is None:
        return Collected({line.name: 0 for line in fleet.line}, {})
    store, clock = begun
    collectors = [LineCollector(line, store, fleet.store, stop, quiet_s, clock.now) for line in fleet.line]
    keeping = Thread(target=_keep, args=(fleet, store, collectors, clock, stop), name="the store", daemon=True)
    log.info("collecting", lines=len(collectors), store=shown(fleet.store.target))
    try:
        for one in collectors:
            one.start()
        keeping.start()
        _attend(store, collectors, stop)
    finally:
        end.set()
        deadline = time.monotonic() + END_S
        for one in collectors:
            one.close(deadline)
        keeping.join(max(deadline - time.monotonic(), 0.0))
        store.close(deadline - time.monotonic())
    unheard = {one.line.name: one.wrong or "not heard" for one in collectors if one.wrong or not one.is_heard}
    return Collected({one.line.name: one.count for one in collectors}, unheard)


def _opened(fleet: Fleet, waiting: Tell, stop: Stop) -> tuple[Store, StoreClock]:
    store = opened(fleet.store, waiting, stop)
    return store, StoreClock(store)


def _begun(begin: Callable[[], tuple[Store, StoreClock]], stop: Stop) -> tuple[Store, StoreClock] | None:
    """What begins, on a thread that holds up no end; None where it is to end before, and its error is raised."""
    found: list[tuple[Store, StoreClock]] = []
    wrong: list[BaseException] = []

    def work() -> None:
        try:
            found.append(begin())
        except BaseException as error:
            wrong.append(error)

    thread = Thread(target=work, name="the store begins", daemon=True)
    thread.start()
    while thread.is_alive() and not stop(0):
        thread.join(0.1)
    thread.join(1.0)
    if wrong and not isinstance(wrong[0], Stopped):
        raise wrong[0]
    return found[0] if found else None


class StoreClock:
    """The store's time between its answers, by this machine's steady clock."""

    def __init__(self, store: Store) -> None:
        self._lock = Lock()
        self.look(store)

    def look(self, store: Store) -> None:
        """Ask the store."""
        there, here = store.now(), datetime.now(timezone.utc)
        is_sure = abs(there - here) < MOST_OFF and there > RELEASED
        with self._lock:
            self._at, self._there, self._is_sure = time.monotonic(), there, is_sure

    def now(self) -> Now:
        """What time it is there."""
        with self._lock:
            return Now(self._there + timedelta(seconds=time.monotonic() - self._at), self._is_sure)


def _check_lines(fleet: Fleet) -> None:
    for line in fleet.line:
        for key, address in (("endpoint", line.endpoint), ("control", line.control)):
            if address and (fault := not_an_address(address)):
                raise InputError(
                    expected=f"{key} of the line {line.name}: {fault}", received=address, fix="correct fleet.toml"
                )
        if bool(line.server_key) != bool(line.key):
            raise InputError(
                expected=f"server_key and key of the line {line.name} together", received="one of them",
                fix="name both in fleet.toml, or neither",
            )  # fmt: skip
        if line.key:
            public_key(line.server_key)
            key_pair(line.key)


def _attend(store: Store, collectors: list[LineCollector], stop: Stop) -> None:
    """Until it is to end, or all lines have fallen silent; says how far it is, and when the store does not answer."""
    counted = {one.line.name: 0 for one in collectors}
    told_at = time.monotonic()
    while not stop(0.2) and not all(one.done for one in collectors):
        for one in collectors:
            if one.count >= counted[one.line.name] + TOLD_EACH:
                counted[one.line.name] = one.count
                log.info("collected", line=one.line.name, boards=one.count)
        asked_at, now = store.asked_at, time.monotonic()
        if asked_at is not None and now > asked_at + STALLED_S and now > told_at + STALLED_S:
            told_at = now
            log.warning("nothing is stored", reason=f"the store has not answered for {now - asked_at:.0f} s")


def _keep(fleet: Fleet, store: Store, collectors: list[LineCollector], clock: StoreClock, stop: Stop) -> None:
    """On a thread of its own: how lines are, what time it is, what is too old."""
    pruned_at, asked_at = time.monotonic() - PRUNE_S, time.monotonic()

    def prune() -> None:
        now = clock.now()
        if _agrees(now, collectors):
            store.prune(now.at.date(), fleet.store.keep_days)

    while True:
        ending, now = stop(0), time.monotonic()
        work: list[Callable[[], None]] = [lambda: store.tell([one.state() for one in collectors])]
        if now > asked_at + CLOCK_S:
            asked_at = now
            work.append(lambda: clock.look(store))
        if now > pruned_at + PRUNE_S and any(one.newest_at for one in collectors):
            pruned_at = now
            work.append(prune)
        for one in work:  # what cannot be done holds up nothing else
            try:
                one()
            except Stopped:
                return
            except HisirEdgeError as error:
                log.warning("the store is not kept in order", reason=str(error))
            except Exception:
                log.exception("the store is not kept in order")
        if ending or stop(TELL_S):
            return


def _agrees(now: Now, collectors: list[LineCollector]) -> bool:
    """Whether the store's clock is that of most lines: by a clock that is years off all boards would be too old."""
    told = [one.newest_at for one in collectors if one.newest_at is not None]
    near = sum(abs(at - now.at) < MOST_OFF for at in told)
    agrees = now.is_sure and near * 2 > len(told)
    if told and not agrees:
        log.warning("nothing is deleted", reason=f"the store says {now.at:%Y-%m-%d %H:%M}, most clocks do not")
    return bool(told) and agrees
