"""The server: what the line says comes from threads, and is shown in order on the event loop."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog
from asyncua import Server, ua

from hisir_edge import __version__
from hisir_edge.errors import InputError
from hisir_edge.mes.live import LiveLine, check_addresses
from hisir_edge.mes.opcua.access import OPEN, SECURE, Rules, Users, Validator, is_loopback
from hisir_edge.mes.opcua.methods import Methods
from hisir_edge.mes.opcua.model import NAMESPACE, Model
from hisir_edge.mes.opcua.pki import Pki
from hisir_edge.mes.verdict import Verdict
from hisir_edge.transport.addresses import not_free

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Options:
    """``listen``: ``opc.tcp://HOST:PORT``; ``pki``: folder of certificates; ``keys``: of the line, where it asks.

    ``without_security``: whoever reaches the address may read without a certificate, also from other machines.
    """

    endpoint: str
    control: str
    keys: tuple[str, str]
    listen: str
    pki: Path
    without_security: bool


def serve(options: Options, on_retry: Callable[[str], None], on_ready: Callable[[str], None]) -> None:
    """Until SIGTERM or SIGINT. InputError for an address that cannot be used; ``on_ready`` gets the address."""
    host, port = host_port(options.listen)
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # strangers' requests are no news, ours are told below
    check_addresses(options.endpoint, options.control, options.keys)
    pki = Pki(options.pki, f"urn:{socket.gethostname()}:hisir-edge", "hisir-edge", (host,), log.warning)
    asyncio.run(_serve(options, pki, host, port, on_retry, on_ready))


def host_port(listen: str) -> tuple[str, int]:
    """Of ``opc.tcp://HOST:PORT``; InputError for anything else."""
    try:
        parts = urlsplit(listen)
        host, port = parts.hostname or "", 4840 if parts.port is None else parts.port
        right = parts.scheme == "opc.tcp" and host and not parts.username and parts.path in ("", "/")
    except ValueError:
        host, port, right = "", 0, False
    if not right or not _is_host(host) or not 0 < port < 65536:
        raise InputError(
            expected="an address such as opc.tcp://127.0.0.1:4840", received=listen, fix="correct --listen"
        )
    return host, port


def _is_host(host: str) -> bool:
    """Whether a text can be a host's name or address."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return len(host) < 254


class Shown:
    """A queue of what came from the line, and what of it was shown."""

    def __init__(self, model: Model, loop: asyncio.AbstractEventLoop) -> None:
        self._model, self._loop = model, loop
        self._queue: asyncio.Queue[Callable[[], Any]] = asyncio.Queue()
        self._away = self._lost = True
        """The line does not answer; its verdicts cannot be told: the last one may be an old one."""

    def status(self, status: dict[str, Any] | None) -> None:
        """By any thread."""
        self._put(lambda: self._status(status))

    def verdict(self, verdict: Verdict) -> None:
        """By any thread."""
        self._put(lambda: self._verdict(verdict))

    def lost(self) -> None:
        """By any thread: verdicts are not told just now."""
        self._put(self._lose)

    async def run(self) -> None:
        """Show one after the other, for ever; what cannot be shown is told, and ends nothing."""
        while True:
            show = await self._queue.get()
            try:
                await show()
            except Exception as error:
                log.error("something of the line cannot be shown", error=f"{type(error).__name__}: {error}")
                self._lost = True
                await self._model.show_result_status(is_last=False)

    async def _status(self, status: dict[str, Any] | None) -> None:
        if status is None:
            if not self._away:
                log.warning("the line does not answer")
                await self._model.show_away()
            self._away = True
            return
        if self._away:
            log.info("the line answers", line=status.get("line"))
            self._away = False
            await self._model.show_result_status(is_last=not self._lost)
        await self._model.show_status(status)

    async def _verdict(self, verdict: Verdict) -> None:
        self._lost = False
        await self._model.show_verdict(verdict, is_last=not self._away)

    async def _lose(self) -> None:
        self._lost = True
        await self._model.show_result_status(is_last=False)

    def _put(self, show: Callable[[], Any]) -> None:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, show)


async def _serve(
    options: Options, pki: Pki, host: str, port: int, on_retry: Callable[[str], None], on_ready: Callable[[str], None]
) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    server = await _configured(options, pki, host, port)
    model = Model(server, await server.register_namespace(NAMESPACE))
    await model.build()
    shown = Shown(model, loop)
    line = LiveLine(
        options.endpoint, options.control, options.keys, shown.status, shown.verdict, on_retry, on_lost=shown.lost
    )
    await Methods(line, pki).add_to(model)
    try:
        await server.start()
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise not_free(f"{options.listen}: {why}") from error
    showing = asyncio.ensure_future(shown.run())
    try:
        line.start()
        on_ready(options.listen)
        await ended.wait()
    finally:
        await loop.run_in_executor(None, line.close)
        showing.cancel()
        await server.stop()


async def _configured(options: Options, pki: Pki, host: str, port: int) -> Server:
    server = Server(user_manager=Users(pki))
    await server.init()
    # a session stays with the channel that made it: none is looked up for another one
    server.iserver.lookup_external_session = lambda token: None
    shown_host = f"[{host}]" if ":" in host else host
    server.set_endpoint(f"opc.tcp://{shown_host}:{port}")
    server.socket_address = (host, port)
    server.set_server_name("hisir-edge")
    server.application_type = ua.ApplicationType.Server
    await server.set_application_uri(f"urn:{socket.gethostname()}:hisir-edge")
    await server.set_build_info(NAMESPACE, "hisir-edge", "hisir-edge", __version__, "", datetime.now(timezone.utc))
    is_open = options.without_security or is_loopback(host)
    server.set_security_policy([*SECURE, *(OPEN if is_open else [])], Rules(pki))
    server.set_identity_tokens([ua.AnonymousIdentityToken])
    if not is_open:  # without security a client may name any certificate: what counts is its channel's (Users)
        server.iserver.certificate_validator = Validator(pki)
    await server.load_certificate(pki.certificate)
    await server.load_private_key(pki.private_key)
    return server
