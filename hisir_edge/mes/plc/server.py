"""The Modbus TCP server around the handshake: everything that changes it happens on one event loop."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any

import structlog
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from hisir_edge.errors import InputError, NoAnswer
from hisir_edge.mes.live import LiveLine, check_addresses
from hisir_edge.mes.plc.handshake import Asked, Awaited, Handshake, Timing
from hisir_edge.mes.plc.registers import Code, FromPlc, ToPlc
from hisir_edge.transport.addresses import not_free

log = structlog.get_logger()
STATUS_EACH_S, BEAT_S, NUMBER_EACH_S = 0.5, 0.1, 0.1
WRITES = (6, 16, 23)
"""Modbus function codes that write whole registers."""
READS = (3, 4, 23)
SHORT = {
    "paused": "the line is paused", "camera_lost": "a camera of the line is not there", "busy": "the line is busy",
    "frame_due": "the frame before is still to come", "starting": "the line is starting", "draining": "the line ends",
    "rate": "too many requests", "journal": "the journal takes nothing", "role": "the key lacks the role control",
}  # fmt: skip
"""Of the line's refusals, in words that fit the registers."""


@dataclass(frozen=True, slots=True)
class Options:
    """``host``, ``port``: where to listen; ``only_from``: addresses that may connect, empty: all that can."""

    endpoint: str
    control: str
    keys: tuple[str, str]
    host: str
    port: int
    only_from: tuple[str, ...]
    timing: Timing = field(default_factory=Timing)


def options(
    endpoint: str, control: str, keys: tuple[str, str], listen: str, only_from: tuple[str, ...], timing: Timing
) -> Options:
    """Checked: InputError for an address that is none, or that others reach without being named."""
    host, _, port = listen.rpartition(":")
    if not (math.isfinite(timing.plc_s) and math.isfinite(timing.verdict_s)):
        raise InputError(expected="seconds", received="what is no number", fix="correct --plc-silent-s, --verdict-s")
    if not host:
        raise InputError(expected="HOST:PORT, such as 127.0.0.1:5020", received=listen, fix="correct --listen")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
        number = int(port) if port.isdecimal() and len(port) < 6 else 0
        allowed = tuple(str(ipaddress.ip_address(one)) for one in only_from)
    except ValueError as error:
        raise InputError(
            expected="addresses such as 127.0.0.1:5020, and of the PLC such as 192.168.1.7", received=str(error),
            fix="correct --listen or --only-from",
        ) from error  # fmt: skip
    if not 0 < number < 65536:
        raise InputError(
            expected="an address with a port, such as 127.0.0.1:5020", received=listen, fix="correct --listen"
        )
    if not address.is_loopback and not allowed:
        raise InputError(
            expected="the PLC's address with one that others reach: Modbus knows no keys", received=listen,
            fix="name it: --only-from 192.168.1.7",
        )  # fmt: skip
    return Options(endpoint, control, keys, str(address), number, allowed, timing)


def serve(given: Options, on_retry: Callable[[str], None], on_ready: Callable[[str], None]) -> None:
    """Until SIGTERM or SIGINT. InputError for an address that cannot be used."""
    logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)
    check_addresses(given.endpoint, given.control, given.keys)
    asyncio.run(_serve(given, on_retry, on_ready))


class _Server(ModbusTcpServer):  # type: ignore[misc]
    """One that talks to those that are named."""

    def __init__(self, given: Options, device: SimDevice) -> None:
        super().__init__(device, address=(given.host, given.port))
        self._only_from, self._there = given.only_from, set[Any]()

    def callback_new_connection(self) -> Any:
        """A connection's handler; a stranger's is closed before it has said anything."""
        handler = super().callback_new_connection()
        connected = handler.callback_connected

        def first() -> None:
            peer = handler.transport.get_extra_info("peername")[0]
            known = not self._only_from or str(ipaddress.ip_address(peer)) in self._only_from
            log.info("a PLC connects" if known else "a connection was refused", address=peer)
            connected()
            if not known:
                handler.transport.abort()
                return
            self._there.add(handler)
            if len(self._there) > 1:
                log.warning("several are connected: one PLC at a time may write", connections=len(self._there))

        def last(error: Exception | None) -> None:
            if handler in self._there:
                self._there.discard(handler)
                log.info("a PLC disconnects")
            disconnected(error)

        disconnected = handler.callback_disconnected
        handler.callback_connected, handler.callback_disconnected = first, last
        return handler


class Desk:
    """The handshake with its line: what the PLC writes is asked of the line, its answers come back."""

    def __init__(self, handshake: Handshake, line: Callable[[], LiveLine], loop: asyncio.AbstractEventLoop) -> None:
        self._handshake, self._line, self._loop = handshake, line, loop
        self._asking: set[asyncio.Future[None]] = set()
        self._told: dict[str, Any] = {}
        self._one = asyncio.Lock()

    async def access(
        self, function: int, start: int, address: int, count: int, registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:  # fmt: skip
        """What pymodbus calls: a read gets what is so now, a write is handed on; nothing is both."""
        now = monotonic()
        if values is None:
            if function not in READS:
                return ExcCodes.ILLEGAL_FUNCTION
            image = self._handshake.image(now)
            at = ToPlc.HEARTBEAT - start
            registers[at : at + len(image)] = image
            registers[FromPlc.HEARTBEAT - start : FromPlc.END - start] = self._handshake.plc
            return None
        if function not in WRITES or address + count > FromPlc.END:
            return ExcCodes.ILLEGAL_ADDRESS
        asked = self._handshake.wrote(address, [int(value) for value in values], now)
        self._tell()
        if asked is not None:
            future = asyncio.ensure_future(self._ask(asked))
            self._asking.add(future)
            future.add_done_callback(self._asking.discard)
        return None

    def status(self, status: dict[str, Any] | None) -> None:
        """By any thread."""
        self._call(lambda: self._handshake.status(status, monotonic()))

    def verdict(self, verdict: Any) -> None:
        """By any thread."""
        self._call(lambda: self._handshake.verdict(verdict))

    async def beat(self) -> None:
        """Heartbeat, and what is late, for ever."""
        while True:
            self._handshake.beat(monotonic())
            self._tell()
            await asyncio.sleep(BEAT_S)

    async def _ask(self, asked: Asked) -> None:
        try:
            async with self._one:  # in the PLC's order: a board that was withdrawn is not announced behind the next
                if not self._handshake.is_asking(asked.turn):
                    return
                answer = await self._loop.run_in_executor(None, partial(_taken, self._line(), asked))
            while not answer["seq"] and self._handshake.is_asking(asked.turn):  # its frame is still to come
                await asyncio.sleep(NUMBER_EACH_S)
                wanted = {"do": "numbered", "token": answer["token"]}
                with suppress(NoAnswer):  # how long that may go on is the handshake's to say
                    answer |= await self._loop.run_in_executor(None, self._line().ask, wanted)
            self._handshake.taken(asked.turn, Awaited(str(answer["epoch"]), int(answer["seq"])))
        except NoAnswer as error:
            self._handshake.refused(asked.turn, Code.LINE_AWAY, str(error))
        except InputError as error:
            self._handshake.refused(asked.turn, Code.REFUSED, SHORT.get(error.code, error.received))
        except Exception as error:  # whatever it is, the PLC has its answer
            self._handshake.refused(asked.turn, Code.REFUSED, "the line could not be asked")
            log.error("the line could not be asked", error=f"{type(error).__name__}: {error}")
        self._tell()

    def _call(self, change: Callable[[], None]) -> None:
        def changed() -> None:
            change()
            self._tell()

        self._loop.call_soon_threadsafe(changed)

    def _tell(self) -> None:
        """Log what stands in the registers, each time it is something else."""
        words = {"phase": self._handshake.phase.name, **self._handshake.words()}
        if words != self._told:
            self._told = words
            log.info("PLC", **words)


def _taken(line: LiveLine, asked: Asked) -> dict[str, Any]:
    """Answer with ``epoch`` and ``seq`` of a board; ``seq`` 0 and a ``token`` where its frame is still to come.

    NoAnswer, TryLater, InputError in the line's words where it does not take it.
    """
    try:
        return line.ask({"do": "trigger", **asked.request})
    except InputError as error:
        if error.code != "wrong_mode":
            raise
        return {"seq": 0} | line.ask({"do": "announce", "unit": asked.name, **asked.request, "arrived": True})


async def _serve(given: Options, on_retry: Callable[[str], None], on_ready: Callable[[str], None]) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    handshake = Handshake(given.timing, monotonic())
    desk = Desk(handshake, lambda: line, loop)
    line = LiveLine(
        given.endpoint, given.control, given.keys, desk.status, desk.verdict, on_retry, STATUS_EACH_S
    )  # fmt: skip
    device = SimDevice(0, [SimData(0, count=ToPlc.END, values=0, datatype=DataType.REGISTERS)], action=desk.access)
    server = _Server(given, device)
    try:
        await server.serve_forever(background=True)
    except (RuntimeError, OSError) as error:
        raise not_free(f"{given.host}:{given.port}") from error
    beating = asyncio.ensure_future(desk.beat())
    try:
        line.start()
        on_ready(f"{given.host}:{given.port}")
        await ended.wait()
    finally:
        await loop.run_in_executor(None, line.close)
        beating.cancel()
        await server.shutdown()
