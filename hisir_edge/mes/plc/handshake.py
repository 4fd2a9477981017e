"""The handshake with a PLC: a state machine without sockets and without a clock of its own.

IDLE: waits for START. ASKING: the line was asked. BUSY: the verdict is awaited. RESULT: it stands until it is
acknowledged. RELEASE: START and ACKNOWLEDGE have to fall. Whatever is not as it should be is an ERROR that stands as
any other result; a PASS that was not acknowledged is taken back when the PLC or the line falls silent.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from hisir_edge.mes.plc.registers import (
    MAP_VERSION,
    NOTHING,
    PART_REGISTERS,
    REASON_REGISTERS,
    TEXT_REGISTERS,
    Code,
    Command,
    FromPlc,
    Outcome,
    Shown,
    Status,
    ToPlc,
    clipped,
    registers_from_text,
    text_from_registers,
)
from hisir_edge.mes.verdict import Verdict

STATUS_S = 3.0
"""For how long a status of the line counts."""
TAKES_BOARDS = ("Ready", "SingleExecution", "ContinuousExecution")
OUTCOMES = {"PASS": Outcome.PASS, "FAIL": Outcome.FAIL, "ERROR": Outcome.ERROR}
MOST_WAITING = 256


class Phase(IntEnum):
    """Of ``ToPlc.PHASE``."""

    IDLE = 0
    ASKING = 1
    BUSY = 2
    RESULT = 3
    RELEASE = 4


@dataclass(frozen=True, slots=True)
class Timing:
    """``plc_s``: for how long the PLC's heartbeat may stand still; ``verdict_s``: how long a verdict may take."""

    plc_s: float = 2.0
    verdict_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What the line is asked for; ``turn`` tells this request's answer from those of requests before."""

    turn: int
    request: dict[str, str]
    name: str
    """For a board that has no name, where it needs one."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """Which verdict is the board's: the one of its number."""

    epoch: str
    seq: int


class Handshake:
    """Every call says when it is, by a clock that only goes on; ``image`` is what the PLC reads."""

    def __init__(self, timing: Timing, at_s: float) -> None:
        self._timing = timing
        self.plc = [0] * FromPlc.END
        self.phase, self._shown = Phase.RELEASE, NOTHING
        self._request, self._turn, self._commands = 0, 0, Command(0)
        self._unit = ""
        self._awaited: Awaited | None = None
        self._early: list[Verdict] = []
        self._token, self._boards = secrets.token_hex(3), 0
        self._since_s = at_s
        self._beat_at_s: float | None = None
        self._status: dict[str, Any] = {}
        self._status_at_s: float | None = None
        self._heartbeat = 0

    def wrote(self, address: int, values: list[int], at_s: float) -> Asked | None:
        """The PLC has written registers from ``address`` on. Gives what the line has to be asked for, None: nothing."""
        before = self.plc[FromPlc.HEARTBEAT]
        self.plc[address : address + len(values)] = values
        if self.plc[FromPlc.HEARTBEAT] != before:
            self._beat_at_s = at_s
        return self._commanded(at_s, address <= FromPlc.COMMAND < address + len(values))

    def status(self, status: dict[str, Any] | None, at_s: float) -> None:
        """What the line says of itself; None: it did not answer, which counts after ``STATUS_S``."""
        if status is not None:
            self._status, self._status_at_s = status, at_s
        self.tick(at_s)

    def taken(self, turn: int, awaited: Awaited) -> None:
        """The line has taken the board."""
        if not self.is_asking(turn):
            return
        self.phase, self._awaited = Phase.BUSY, awaited
        for verdict in self._early:
            self._judge(verdict)

    def is_asking(self, turn: int) -> bool:
        """Whether this request's number is still to come."""
        return self.phase is Phase.ASKING and turn == self._turn

    def refused(self, turn: int, code: Code, reason: str) -> None:
        """The line has not taken it."""
        if self.is_asking(turn):
            self._error(code, reason)

    def verdict(self, verdict: Verdict) -> None:
        """A verdict of the line, whosever it is."""
        if self.phase is Phase.ASKING:  # it may be faster than the answer
            self._early = [*self._early[-MOST_WAITING:], verdict]
        elif self.phase is Phase.BUSY:
            self._judge(verdict)

    def tick(self, at_s: float) -> None:
        """Time goes on: what has not come is not coming."""
        waits = self.phase in (Phase.ASKING, Phase.BUSY)
        stands = self.phase is Phase.RESULT and self._shown.outcome is Outcome.PASS
        if waits or stands:
            if not self._plc_alive(at_s):
                self._error(Code.PLC_SILENT, "the PLC's heartbeat stands still")
            elif not self._online(at_s):
                self._error(Code.LINE_AWAY, "the line does not answer")
            elif waits and at_s > self._since_s + self._timing.verdict_s:
                self._error(Code.LATE, f"no verdict within {self._timing.verdict_s:g} s")

    def beat(self, at_s: float) -> None:
        """One more beat of ours, where the line is there."""
        self.tick(at_s)
        if self._online(at_s):
            self._heartbeat = (self._heartbeat + 1) % 65536

    def image(self, at_s: float) -> list[int]:
        """Registers from ``ToPlc.HEARTBEAT`` to ``ToPlc.END``, as they are now."""
        self.tick(at_s)
        shown, words = self._shown, [0] * (ToPlc.END - ToPlc.HEARTBEAT)

        def put(address: int, *values: int) -> None:
            at = address - ToPlc.HEARTBEAT
            words[at : at + len(values)] = values

        put(ToPlc.HEARTBEAT, self._heartbeat, self._bits(at_s), self._request, shown.outcome)
        put(ToPlc.SEQUENCE, (shown.seq >> 16) & 0xFFFF, shown.seq & 0xFFFF)
        put(ToPlc.ERROR_CODE, shown.code, clipped(shown.defects), clipped(100 * shown.score))
        put(ToPlc.LEFT, *(clipped(value) for value in shown.box))
        put(ToPlc.PHASE, self.phase, MAP_VERSION)
        put(ToPlc.UNIT, *registers_from_text(shown.unit, TEXT_REGISTERS))
        put(ToPlc.REASON, *registers_from_text(shown.reason, REASON_REGISTERS))
        put(ToPlc.PART, *registers_from_text(shown.part, PART_REGISTERS))
        return words

    def words(self) -> dict[str, Any]:
        """Where it stands, for a log."""
        shown = self._shown
        told = {"request": self._request, "unit": self._unit}
        return told | (
            {"result": shown.outcome.name, "code": shown.code.name, "reason": shown.reason} if shown.outcome else {}
        )

    def _commanded(self, at_s: float, is_commanded: bool) -> Asked | None:
        """``is_commanded``: COMMAND itself was written; after a start nobody knows before what the PLC has in it."""
        command = Command(self.plc[FromPlc.COMMAND] & 3)
        started, acknowledged = Command.START in command, Command.ACKNOWLEDGE in command
        starts = started and Command.START not in self._commands
        acknowledges = acknowledged and Command.ACKNOWLEDGE not in self._commands
        self._commands = command
        if self.phase is Phase.RESULT and acknowledges:
            self.phase, self._shown = Phase.RELEASE, NOTHING
        elif self.phase in (Phase.ASKING, Phase.BUSY) and not started:
            self._error(Code.WITHDRAWN, "START fell before there was a result")
        elif starts and self.phase is not Phase.RESULT:  # a result stands until it is acknowledged
            wrong = "START beside ACKNOWLEDGE" if acknowledged else "START before both bits were 0"
            return self._start(at_s, "" if self.phase is Phase.IDLE and not acknowledged else wrong)
        if self.phase is Phase.RELEASE and not command and is_commanded:
            self.phase = Phase.IDLE
        return None

    def _start(self, at_s: float, not_ready: str) -> Asked | None:
        """A board: what the line is asked for; where it is not, an ERROR stands for this request."""
        unit = text_from_registers(self.plc[FromPlc.UNIT : FromPlc.UNIT + TEXT_REGISTERS])
        product = text_from_registers(self.plc[FromPlc.PRODUCT : FromPlc.PRODUCT + TEXT_REGISTERS])
        before, self._request = self._request, self.plc[FromPlc.REQUEST]
        self._turn, self._since_s, self._early, self._shown, self._unit = self._turn + 1, at_s, [], NOTHING, unit or ""
        self._awaited = None
        wrong = {
            Code.NOT_READY: not_ready,
            Code.REQUEST_USED: "" if self._request not in (0, before) else f"request {self._request} is no new number",
            Code.TEXT: "" if unit is not None and product is not None else "unit or product is no printable ASCII",
            Code.PLC_SILENT: "" if self._plc_alive(at_s) else "the PLC's heartbeat stands still",
            Code.LINE_AWAY: "" if self._online(at_s) else "the line does not answer",
        }
        for code, reason in wrong.items():
            if reason:
                self._error(code, reason)
                return None
        self._boards += 1
        self.phase = Phase.ASKING
        wanted = {"unit": unit, "product": product}
        return Asked(
            self._turn, {key: text for key, text in wanted.items() if text}, f"PLC-{self._token}-{self._boards}"
        )

    def _judge(self, verdict: Verdict) -> None:
        if self.phase is not Phase.BUSY or self._awaited != Awaited(verdict.epoch, verdict.seq):
            return
        outcome = OUTCOMES[verdict.result]
        code = Code.NOT_JUDGED if outcome is Outcome.ERROR else Code.NONE
        boxes = [(d.x, d.y, d.w, d.h) for d in verdict.defects[:1]]
        part = next((d.component for d in verdict.defects if d.component), "")
        self.phase, self._shown = Phase.RESULT, Shown(
            outcome, code, verdict.reason, verdict.seq, verdict.unit, verdict.defects_total, verdict.score or 0.0,
            boxes[0] if boxes else (0, 0, 0, 0), part,
        )  # fmt: skip

    def _error(self, code: Code, reason: str) -> None:
        """An ERROR stands, in place of what stood."""
        unit = self._shown.unit or self._unit
        seq = self._shown.seq or (self._awaited.seq if self._awaited else 0)
        self.phase, self._early = Phase.RESULT, []
        self._shown = replace(NOTHING, outcome=Outcome.ERROR, code=code, reason=reason, seq=seq, unit=unit)

    def _bits(self, at_s: float) -> int:
        online, alive, outcome = self._online(at_s), self._plc_alive(at_s), self._shown.outcome
        camera_up, paused = bool(self._status.get("camera_up")), bool(self._status.get("paused"))
        takes = self._status.get("state") in TAKES_BOARDS and not paused and not self._status.get("draining")
        bits = {
            Status.ONLINE: online,
            Status.READY: online and alive and self.phase is Phase.IDLE and takes and camera_up,
            Status.BUSY: self.phase in (Phase.ASKING, Phase.BUSY),
            Status.RESULT_VALID: self.phase is Phase.RESULT,
            Status.PASS: outcome is Outcome.PASS,
            Status.FAIL: outcome is Outcome.FAIL,
            Status.ERROR: outcome is Outcome.ERROR,
            Status.PLC_ALIVE: alive,
            Status.CAMERA_UP: online and camera_up,
            Status.PAUSED: online and paused,
        }
        return sum(int(bit) for bit, is_set in bits.items() if is_set)

    def _online(self, at_s: float) -> bool:
        return self._status_at_s is not None and at_s <= self._status_at_s + STATUS_S

    def _plc_alive(self, at_s: float) -> bool:
        return self._beat_at_s is not None and at_s <= self._beat_at_s + self._timing.plc_s
