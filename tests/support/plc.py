"""``hisir-edge plc`` as a child process, and a PLC in a script."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pymodbus.client import ModbusTcpClient

from hisir_edge.mes.plc.registers import (
    Code,
    Command,
    FromPlc,
    Outcome,
    Status,
    ToPlc,
    registers_from_text,
    text_from_registers,
)
from support.served import PATIENCE_S, Served
from support.sockets import free_port


class PlcServer(Served):
    """From entry to exit, on ``port``."""

    def __init__(self, folder: Path, endpoint: str, control: str, *more: str) -> None:
        self.port = free_port()
        arguments = ["plc", endpoint, "--control", control, "--listen", f"127.0.0.1:{self.port}", *more]
        super().__init__(arguments, "Modbus TCP server at", folder / "plc.log")


class Plc:
    """Reads and writes as a PLC's cycle does; each reading beats."""

    def __init__(self, port: int) -> None:
        self.port, self.beats, self.number = port, 0, 0
        self.client = self._connected()
        self.write(FromPlc.COMMAND, 0)  # as after each start of a PLC

    def _connected(self) -> ModbusTcpClient:
        client = ModbusTcpClient("127.0.0.1", port=self.port, timeout=3, retries=0)
        assert client.connect()
        return client

    def __enter__(self) -> Plc:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def cut(self) -> None:
        """The connection is lost."""
        self.client.close()

    def again(self) -> None:
        self.client.close()
        self.client = self._connected()

    def write(self, address: int, *values: int) -> None:
        done = self.client.write_registers(address, list(values))
        assert not done.isError(), done

    def cycle(self) -> list[int]:
        """One cycle: beat, then read all that the line says, in one request."""
        self.beats = self.beats % 65535 + 1
        self.write(FromPlc.HEARTBEAT, self.beats)
        done = self.client.read_holding_registers(ToPlc.HEARTBEAT, count=ToPlc.END - ToPlc.HEARTBEAT)
        assert not done.isError(), done
        return list(done.registers)

    def until(self, condition: Callable[[Status], bool]) -> list[int]:
        """Cycles until the status is so."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            words = self.cycle()
            if condition(status := Status(words[ToPlc.STATUS - ToPlc.HEARTBEAT])):
                return words
            time.sleep(0.01)
        raise AssertionError((status, words))

    def ready(self) -> None:
        self.until(lambda status: Status.READY in status)

    def start(self, unit: str = "", product: str = "") -> None:
        """A board is there: all words but the heartbeat in one request."""
        self.number += 1
        self.write(
            FromPlc.COMMAND, Command.START, self.number, 0, *registers_from_text(unit, 16),
            *registers_from_text(product, 16),
        )  # fmt: skip

    def result(self) -> tuple[Outcome, Code, str, int]:
        """Result, error code, unit and number, once the result is valid and of this request."""
        words = self.until(lambda status: Status.RESULT_VALID in status)

        def word(address: int) -> int:
            return words[address - ToPlc.HEARTBEAT]

        assert word(ToPlc.REQUEST) == self.number
        unit = text_from_registers(words[ToPlc.UNIT - ToPlc.HEARTBEAT : ToPlc.REASON - ToPlc.HEARTBEAT])
        assert unit is not None
        seq = (word(ToPlc.SEQUENCE) << 16) + word(ToPlc.SEQUENCE + 1)
        return Outcome(word(ToPlc.RESULT)), Code(word(ToPlc.ERROR_CODE)), unit, seq

    def acknowledge(self) -> None:
        self.write(FromPlc.COMMAND, Command.START | Command.ACKNOWLEDGE)
        self.until(lambda status: Status.RESULT_VALID not in status)
        self.write(FromPlc.COMMAND, 0)
