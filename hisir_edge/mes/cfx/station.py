"""What a line's status means in CFX: online and offline, states of SEMI E58, faults of camera and journal."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from typing import Any

import zmq

from hisir_edge.errors import HisirEdgeError, NoAnswer, TryLater
from hisir_edge.mes.cfx import states
from hisir_edge.mes.cfx.messages import Envelope, now
from hisir_edge.mes.cfx.states import PAUSED, STATES, UNKNOWN, Fault
from hisir_edge.mes.subscription import Subscription
from hisir_edge.transport.addresses import beside
from hisir_edge.transport.control_client import Asker

EACH_S, OFFLINE_S = 1.0, 5.0
"""How often the line is asked, and for how long it may not answer before it is offline."""
AGAIN_S = 5.0
"""Until it is tried again where keys or addresses cannot be used."""


class Station:
    """Turns one status after the other into what has changed; no sockets, no clock of its own."""

    def __init__(self) -> None:
        self.faults: dict[str, Fault] = {}
        self._online = False
        self._answered_at: float | None = None
        self._state = STATES["Halted"]
        self._since: float | None = None

    def seen(self, status: dict[str, Any] | None, at_s: float) -> list[Envelope]:
        """``status``: the control socket's answer, None where there was none; ``at_s``: a clock that only goes on."""
        if status is None:
            if not self._online or at_s - (self._answered_at or 0.0) < OFFLINE_S:
                return []
            self._online = False
            return [states.station_offline(), *self._to(UNKNOWN, at_s)]
        out: list[Envelope] = []
        if not self._online:
            away_s = None if self._answered_at is None else at_s - self._answered_at
            out.append(states.station_online(away_s))
        self._online, self._answered_at = True, at_s
        out += self._faults_now(status)
        code = STATES.get(str(status.get("state")), UNKNOWN)
        return out + self._to(PAUSED if status.get("paused") and code == STATES["Ready"] else code, at_s)

    def _to(self, state: int, at_s: float) -> list[Envelope]:
        if state == self._state:
            return []
        lasted_s = None if self._since is None else at_s - self._since
        fault = next(iter(self.faults.values()), None) if state == STATES["Error"] else None
        changed = states.state_changed(self._state, lasted_s, state, fault)
        self._state, self._since = state, at_s
        return [changed]

    def _faults_now(self, status: dict[str, Any]) -> list[Envelope]:
        journal = str(status.get("journal_error") or "")
        wrong = {
            "CAMERA": "" if status.get("camera_up", True) else "a camera of the line is not there",
            "JOURNAL": f"nothing can be journaled: {journal}" if journal else "",
        }
        out = []
        for code, words in wrong.items():
            fault = self.faults.get(code)
            if words and fault is None:
                cause = "ElectricalFailure" if code == "CAMERA" else "SoftwareFailure"
                fault = self.faults[code] = Fault(code, cause, words, str(uuid.uuid4()), now())
                out.append(states.fault_occurred(fault))
            elif not words and fault is not None:
                out.append(states.fault_cleared(self.faults.pop(code)))
        return out


class Watch:
    """Asks the line's control socket again and again, on a thread of its own, from construction to ``close``."""

    def __init__(
        self, endpoint: str, control: str, keys: tuple[str, str],
        on_status: Callable[[dict[str, Any] | None], None], on_retry: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._endpoint, self._control, self._keys = endpoint, control, keys
        self._on_status, self._on_retry = on_status, on_retry
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="cfx-status", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """No more."""
        self._stopped.set()
        self._thread.join(10)

    def _run(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            while not self._stopped.is_set():
                try:
                    self._ask(context)
                except (HisirEdgeError, zmq.ZMQError) as error:  # keys or an address that cannot be used, for example
                    self._on_retry(f"states and faults are not told: {error}")
                    self._stopped.wait(AGAIN_S)
        finally:
            context.destroy(linger=0)

    def _ask(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        control = self._control or self._told(context)
        if not control:
            return
        with Asker(control, *self._keys, context) as line:
            while not self._stopped.wait(EACH_S):
                status: dict[str, Any] | None = None
                with suppress(NoAnswer, TryLater):
                    status, _ = line.ask({"do": "status"}, 2.0, self._stopped.is_set)
                if not self._stopped.is_set():
                    self._on_status(status)

    def _told(self, context: zmq.Context[zmq.Socket[bytes]]) -> str:
        """The control address that the line's heartbeats tell; empty where it is to end before."""
        subscription = Subscription(context, self._endpoint, ("heartbeat/",), self._keys)
        try:
            while not self._stopped.is_set():
                frames = subscription.receive(200)
                with suppress(ValueError, KeyError, IndexError, TypeError):
                    told = str(json.loads(frames[1])["control"])
                    if told:
                        return beside(self._endpoint, told)
            return ""
        finally:
            subscription.close()
