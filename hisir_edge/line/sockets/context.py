"""The line's sockets: one ZeroMQ context, CURVE where others can reach them, and who may do what.

CURVE: https://rfc.zeromq.org/spec/26; who is let in is answered by ZAP (https://rfc.zeromq.org/spec/27) from a folder
of public keys, read anew at each handshake. What is refused is counted, and logged once a second at most for each
reason.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock, Thread
from types import TracebackType

import structlog
import zmq
from zmq.auth.thread import ThreadAuthenticator

from hisir_edge.config.sockets import SecurityTable
from hisir_edge.errors import ConfigError, InputError, PublishError
from hisir_edge.line.sockets.guard import Guard
from hisir_edge.transport.addresses import ipc_in_use
from hisir_edge.transport.control_client import keep_alive
from hisir_edge.transport.curve_keys import ANYBODY, ROLES, Client, clients_from_folder, key_pair

log = structlog.get_logger()

VERDICTS, CONTROL, CALLS = "verdicts", "control", "calls"
"""The domains of ZAP: the socket that a client wants to use."""
HANDSHAKE_MS = 5000
TERM_S = 5.0
MOST_BYTES_IN = {VERDICTS: 64_000, CONTROL: 100_000, CALLS: 400_000_000}
"""Bytes that one connection may send in a second: subscriptions and requests are short, boards are pictures."""


class Refusals:
    """Counts of refused connections and requests by reason; the log has each reason at a bounded rate."""

    def __init__(self, on_refusal: Callable[[str], None]) -> None:
        self.counts: Counter[str] = Counter()
        self._on_refusal = on_refusal
        self._lock, self._logged_at = Lock(), dict[str, float]()

    def add(self, reason: str, **facts: object) -> None:
        """One more. ``reason`` is one of a few words; ``facts`` go to the log."""
        with self._lock:
            self.counts[reason] += 1
            self._on_refusal(reason)
            now, before = time.monotonic(), self._logged_at.get(reason, 0.0)
            if now < before + 1:
                return
            self._logged_at[reason] = now
            count = self.counts[reason]
        log.warning("refused", reason=reason, count=count, **facts)


class Wire:
    """Open from entry to exit; makes the sockets and knows who is at the other end."""

    def __init__(self, settings: SecurityTable, on_refusal: Callable[[str], None] = lambda reason: None) -> None:
        """``on_refusal`` is called with the reason of each connection and request that is refused."""
        self.settings = settings
        self.refusals = Refusals(on_refusal)
        self._authenticator: ThreadAuthenticator | None = None
        self._keys: tuple[bytes, bytes] | None = None
        self._clients: dict[str, Client] = {}

    def __enter__(self) -> Wire:
        """ConfigError for keys that are none, or that others may read."""
        self.context = zmq.Context()
        self.guard = Guard(self.settings.max_connections, self.refusals.add)
        try:
            self._load_keys()
        except BaseException:
            self.context.term()
            raise
        self.guard.start()
        if self._keys is not None:
            self._authenticator = ThreadAuthenticator(self.context)
            self._authenticator.start()
            for domain in MOST_BYTES_IN:
                self._authenticator.configure_curve_callback(domain, _Doorman(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End what goes on in the background; the sockets are to be closed before."""
        self.guard.stop()
        if self._authenticator is not None:
            self._authenticator.stop()
        # libzmq may wait for ever for connections that were thrown away by the thousand: the end is not to wait with it
        ending = Thread(target=self.context.term, name="sockets", daemon=True)
        ending.start()
        ending.join(TERM_S)
        if ending.is_alive():
            log.warning("sockets left to the end of the process", waited_s=TERM_S)

    def bound(
        self, kind: int, key: str, endpoint: str, domain: str, options: Mapping[zmq.SocketOption, int]
    ) -> zmq.Socket[bytes]:
        """A socket bound to an address; PublishError, naming the configuration's ``key``, where it cannot be."""
        if ipc_in_use(endpoint):
            raise PublishError(
                expected=f"to bind {key} {endpoint}",
                received="Address already in use",
                fix="stop the other daemon on this address, or choose another one",
            )
        socket = self.context.socket(kind)
        try:
            for name, value in options.items():
                socket.setsockopt(name, value)
            socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
            keep_alive(socket)
            # No limit here, the guard's is the one: where a connection breaks while its messages wait for room, a PING
            # among them ends the process (libzmq 4.3.5, "Assertion failed: !_io_error", see keep_alive).
            socket.setsockopt(zmq.RCVHWM, 0)
            if self._keys is not None and self.asks_for_keys(endpoint):
                socket.curve_publickey, socket.curve_secretkey = self._keys
                socket.curve_server = True
                socket.zap_domain = domain.encode()
            self.guard.watch(socket, domain, MOST_BYTES_IN[domain])
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.closed(socket, 0)
            taken = error.errno == zmq.EADDRINUSE
            port = key.rsplit(".", maxsplit=1)[0]
            raise PublishError(
                expected=f"to bind {key} {endpoint}",
                received=error.strerror or str(error),
                fix="stop the other program on this address, or choose another one"
                if taken
                else f"name an address of this machine in [{port}]: tcp://*:PORT for all networks, "
                "tcp://127.0.0.1:PORT for itself",
            ) from error
        return socket

    def closed(self, socket: zmq.Socket[bytes], linger_ms: int) -> None:
        """Close one of its sockets; what is queued is still sent for so long."""
        self.guard.forget(socket)
        socket.close(linger=linger_ms)

    def asks_for_keys(self, endpoint: str) -> bool:
        """Whether who comes in at an address has to have a key: an ipc socket is guarded by its file's rights."""
        return self._keys is not None and not endpoint.startswith("ipc://")

    def client(self, endpoint: str, user_id: str) -> Client | None:
        """The client that sent a message, as the folder of clients has it now; None if its key was removed."""
        return self._clients_now().get(user_id) if self.asks_for_keys(endpoint) else ANYBODY

    def lets_in(self, domain: str, key: str) -> bool:
        """Whether a key's owner may connect: to verdicts with the role read, to control with any role.

        To calls with the role control: they are boards, as triggers are.
        """
        client = self._clients_now().get(key)
        if client is None:
            self.refusals.add("unknown key", socket=domain, key=key)
            return False
        wanted = {VERDICTS: {"read"}, CALLS: {"control"}}.get(domain, set(ROLES))
        if not client.roles & wanted:
            self.refusals.add("role", socket=domain, client=client.name, roles=sorted(client.roles))
            return False
        return True

    def _clients_now(self) -> dict[str, Client]:
        folder = Path(self.settings.clients)
        try:
            self._clients = clients_from_folder(folder)
        except OSError as error:  # nobody is let in by a folder that cannot be read, nor thrown out by it
            self.refusals.add("clients cannot be read", folder=str(folder), error=error.strerror)
        return self._clients

    def _load_keys(self) -> None:
        if not self.settings.server_key:
            return
        try:
            self._keys = key_pair(self.settings.server_key)
            self._clients = clients_from_folder(Path(self.settings.clients))
            if not self._clients:
                raise InputError(
                    expected="public keys (*.key) of those who may connect",
                    received=f"none in {self.settings.clients}",
                    fix="copy NAME.key of hisir-edge keygen into it",
                )
        except OSError as error:
            raise ConfigError(
                expected="security.clients, a folder of public keys",
                received=f"{self.settings.clients} ({error.strerror})",
                fix="make it, and copy NAME.key of hisir-edge keygen into it",
            ) from error
        except InputError as error:
            raise ConfigError(expected=f"security: {error.expected}", received=error.received, fix=error.fix) from error


class _Doorman:
    """Callback of pyzmq's authenticator; an exception here would end its thread."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def callback(self, domain: str, key: bytes) -> bool:
        try:
            return self._wire.lets_in(domain, key.decode("ascii"))
        except Exception as error:
            log.exception("authentication failed", reason=str(error))
            return False
