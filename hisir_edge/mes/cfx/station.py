"""What a line's status means in CFX: online and offline, states of SEMI E58, faults of camera and journal."""

from __future__ import annotations

import uuid
from typing import Any

from hisir_edge.mes.cfx import states
from hisir_edge.mes.cfx.messages import Envelope, now
from hisir_edge.mes.cfx.states import PAUSED, STATES, UNKNOWN, Fault

OFFLINE_S = 5.0
"""For how long the line may not answer before it is offline."""


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
