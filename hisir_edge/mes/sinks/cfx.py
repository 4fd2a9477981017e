"""Verdicts and states to a broker as an endpoint of IPC-CFX, over AMQP 1.0 (Apache Qpid Proton)."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Any

from hisir_edge.errors import InputError
from hisir_edge.mes.cfx import messages, states
from hisir_edge.mes.cfx.address import address_from_text
from hisir_edge.mes.cfx.endpoint import CfxConnection
from hisir_edge.mes.cfx.messages import Envelope
from hisir_edge.mes.cfx.outbox import Item
from hisir_edge.mes.cfx.requests import Identity
from hisir_edge.mes.cfx.station import Station
from hisir_edge.mes.cursor import Cursor, CursorFile
from hisir_edge.mes.sinks.base import OnRetry, Target
from hisir_edge.mes.status import StatusWatch
from hisir_edge.mes.verdict import Verdict

MESSAGES = 3
"""Of each verdict."""


class CfxSink:
    """``amqp://[USER:PASSWORD@]HOST[:PORT]/ADDRESS[?handle=...&requests=ADDRESS&heartbeat_s=60&window=1]`` (or amqps).

    Of each verdict WorkStarted, UnitsInspected, WorkCompleted, in order, each accepted by the broker before the cursor
    moves on; at least once, under the same UniqueID. States and faults come from the line's control socket, as they
    are when they are seen.
    """

    def __init__(self, target: Target, on_retry: OnRetry) -> None:
        """InputError for an address that is none, or is not there; waits for the broker."""
        self._address = address_from_text(target.target)
        self._cursor = CursorFile(Path(target.state_dir) / f"{target.name}.cursor")
        self._station, self._recipe = Station(), ("", "")
        self._on_way: deque[tuple[list[Item], list[Cursor]]] = deque()
        """Messages of each verdict, and its cursor, once the caller is done with it."""
        self._settled: Cursor | None = None
        try:
            me = Identity(
                self._address.handle or target.name, target.name,
                self._address.url if self._address.requests else "", self._address.requests,
            )  # fmt: skip
            self._connection = CfxConnection(self._address, me, on_retry)
            self._connection.on_up, self._connection.on_beat = self._up, self._beat
            self._connection.start()
            try:
                self._connection.wait_up()
                self._watch = StatusWatch(target.endpoint, target.control, target.keys, self._seen, on_retry)
            except BaseException:
                self._connection.close()
                raise
        except BaseException:
            self._cursor.close()
            raise

    def load(self) -> Cursor | None:
        """See ``CursorStore``."""
        return self._cursor.load()

    def put(self, verdict: Verdict) -> None:
        """See ``Sink``; returns when no more than ``window`` messages are on their way, 1: when the broker has all."""
        envelopes: list[Envelope] = []
        if self._recipe != (recipe := (verdict.product, verdict.bundle_sha256)):
            envelopes.append(messages.recipe_activated(verdict))
        items = self._connection.publish([*envelopes, *messages.of_verdict(verdict)])
        self._on_way.append((items, []))
        while len(self._on_way) > self._address.window // MESSAGES:
            self._connection.wait(self._on_way[0][0])
            if len(self._on_way) == 1:
                break
            self._settle()
        self._recipe = recipe

    def save(self, cursor: Cursor) -> None:
        """See ``CursorStore``: the verdict that was put last, once the broker has it and all before it."""
        if self._on_way:
            self._on_way[-1][1][:] = [cursor]
        else:
            self._keep(cursor)
        self._settle()

    def settled(self) -> Cursor | None:
        """See ``CursorStore``."""
        return self._settled

    def flush(self) -> None:
        """See ``CursorStore``. InputError where the connection has ended for good."""
        for items, _ in self._on_way:
            self._connection.wait(items)
        self._settle()

    def sync(self) -> None:
        """While nothing comes: what the broker has accepted meanwhile counts."""
        self._settle()
        self._cursor.sync()

    def _settle(self) -> None:
        """Of the first verdicts on their way those that the broker has, with their cursors."""
        last = None
        while self._on_way and self._on_way[0][1] and all(item.done.is_set() for item in self._on_way[0][0]):
            (last,) = self._on_way.popleft()[1]
        if last is not None:
            self._keep(last)

    def _keep(self, cursor: Cursor) -> None:
        self._cursor.save(cursor)
        self._settled = cursor

    def close(self) -> None:
        """See ``CursorStore``."""
        self._watch.close()
        self._connection.close()
        self._settle()
        self._cursor.close()

    def failure(self) -> InputError | None:
        """Why nothing can be forwarded any more, while nothing comes that could be."""
        return self._connection.failure

    def _up(self) -> list[Envelope]:
        """On the connection's thread: whoever listens learns who is there."""
        return [messages.told("CFX.EndpointConnected", self._connection.me.addresses()), self._beat()]

    def _beat(self) -> Envelope:
        faults = list(self._station.faults.values())
        return states.heartbeat(self._connection.me.handle, self._address.heartbeat_s, faults)

    def _seen(self, status: dict[str, Any] | None) -> None:
        """On the watch's thread."""
        envelopes = self._station.seen(status, time.monotonic())
        if envelopes:
            self._connection.tell(envelopes)
