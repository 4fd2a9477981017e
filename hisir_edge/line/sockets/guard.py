"""Watches the connections of the line's sockets: how many, and how much they send. Who sends too much is cut off.

ZeroMQ bounds a message's frames, but neither connections nor the length of a message of many frames, nor subscriptions.
Messages of clients are small, so that a flood shows in its bytes.
"""

from __future__ import annotations

import ipaddress
import os
import socket as sockets
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Lock, Thread

import structlog
import zmq
from zmq.utils.monitor import recv_monitor_message

log = structlog.get_logger()

POLL_MS = 10
"""How long a flood goes on before it is noticed."""
WINDOW_S = 1.0
TOGETHER, PART = 4, 8
"""Limit for all connections together, as a multiple of one connection's; beyond it the largest senders are cut off."""
BANNED_S, BANNED_HERE_S = 10.0, 3.0
"""How long an address is refused after a flood; the second value is for this machine itself."""
BYTES_RECEIVED_AT = 128
"""Offset of tcpi_bytes_received (Linux 4.1) in struct tcp_info."""
IPC = "ipc:"
FAILED: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "no key or another protocol",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "no key or another protocol",
}
"""Connections with unknown keys are counted where they are refused."""


@dataclass(slots=True)
class _Connection:
    fd: int
    peer: str
    since: float
    bytes_before: int = 0


@dataclass(slots=True)
class _Watched:
    monitor: zmq.Socket[bytes]
    name: str
    most_bytes: int
    connections: dict[int, _Connection]


class Guard:
    """``watch`` sockets before they are bound, ``forget`` them before they are closed; ``refused`` hears of the rest.

    A connection is known by its file descriptor, which ZeroMQ tells and owns: it is looked at and shut down, never
    closed, here.
    """

    def __init__(self, max_connections: int, refused: Callable[..., None]) -> None:
        self._most, self._refused = max_connections, refused
        self._watched: dict[int, _Watched] = {}
        self._banned: dict[str, float] = {}
        self._lock, self._end = Lock(), Event()
        self._thread = Thread(target=self._run, name="guard", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; every socket is to be forgotten before."""
        self._end.set()
        self._thread.join()

    @property
    def connections(self) -> int:
        """Number of connections now, over tcp and ipc."""
        with self._lock:
            return sum(len(watched.connections) for watched in self._watched.values())

    def watch(self, socket: zmq.Socket[bytes], name: str, most_bytes: int) -> None:
        """Look after a socket's connections from now on: ``most_bytes`` of each in ``WINDOW_S``."""
        events = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED
        for failed in FAILED:
            events |= failed
        monitor = socket.get_monitor_socket(events)
        with self._lock:
            self._watched[id(socket)] = _Watched(monitor, name, most_bytes, {})

    def forget(self, socket: zmq.Socket[bytes]) -> None:
        """No more."""
        with self._lock:
            watched = self._watched.pop(id(socket), None)
            if watched is not None:
                socket.disable_monitor()
                watched.monitor.close(linger=0)

    def cut_off(self, frame: zmq.Frame, reason: str) -> None:
        """Shut down the connection that a message came over, if it is there, and refuse its address for a while."""
        with self._lock:
            try:
                fd, host = int(frame.get("__fd")), str(frame.get("Peer-Address"))
            except (zmq.ZMQError, ValueError):  # not over tcp
                return
            for watched in self._watched.values():
                connection = watched.connections.get(fd)
                if connection is not None and _host(connection.peer).strip("[]") == host.strip("[]"):
                    self._cut(connection, reason, watched.name)
                    self._ban(connection.peer)
                    watched.connections.pop(fd, None)

    def _run(self) -> None:
        while not self._end.wait(POLL_MS / 1e3):
            with self._lock:
                for watched in self._watched.values():
                    try:
                        self._events(watched)
                        self._floods(watched)
                    except Exception as error:  # whatever it is, it is to go on for the others
                        log.exception("connections not watched", socket=watched.name, reason=str(error))

    def _events(self, watched: _Watched) -> None:
        while watched.monitor.poll(0):
            event = recv_monitor_message(watched.monitor)
            kind, fd = event["event"], int(event["value"])
            if kind == zmq.EVENT_ACCEPTED:
                self._accepted(watched, fd)
            elif kind in FAILED:
                self._refused(FAILED[kind], socket=watched.name)
            else:
                watched.connections.pop(fd, None)

    def _accepted(self, watched: _Watched, fd: int) -> None:
        found = _peer(fd)
        if found is None:  # gone already
            return
        connection = _Connection(fd, found, time.monotonic())
        if self._banned.get(_host(found), 0.0) > time.monotonic():
            self._cut(connection, "banned for a flood", watched.name)
            return
        if len(watched.connections) >= self._most:
            self._cut(connection, "too many connections", watched.name)
            return
        watched.connections[fd] = connection

    def _floods(self, watched: _Watched) -> None:
        """Connections that send too much in this second; if all together do, those with a large share."""
        now, sent = time.monotonic(), dict[int, int]()
        for connection in list(watched.connections.values()):
            received = _bytes_received(connection.fd)
            if received is None:
                watched.connections.pop(connection.fd, None)  # it is gone
                continue
            sent[connection.fd] = received - connection.bytes_before
            if now > connection.since + WINDOW_S:
                connection.since, connection.bytes_before = now, received
        together = sum(sent.values()) > TOGETHER * watched.most_bytes
        for fd, count in sent.items():
            if count > watched.most_bytes or (together and count > watched.most_bytes / PART):
                connection = watched.connections.pop(fd)
                self._cut(connection, "flood", watched.name)
                self._ban(connection.peer)

    def _ban(self, peer: str) -> None:
        if peer.startswith(IPC):  # it has no address: those who may open the file are this machine's own
            return
        now, host = time.monotonic(), _host(peer)
        self._banned = {one: until for one, until in self._banned.items() if until > now}
        here = ipaddress.ip_address(host.partition("%")[0]).is_loopback
        self._banned[host] = now + (BANNED_HERE_S if here else BANNED_S)

    def _cut(self, connection: _Connection, reason: str, name: str) -> None:
        self._refused(reason, socket=name, peer=connection.peer)
        borrowed = _borrowed(connection.fd)
        if borrowed is None:
            return
        try:
            with suppress(OSError):
                if _name(borrowed) == connection.peer:
                    borrowed.shutdown(sockets.SHUT_RDWR)
        finally:
            borrowed.detach()


def _borrowed(fd: int) -> sockets.socket | None:
    """A socket object on libzmq's descriptor, to be detached, not closed; None where it is no tcp or ipc socket."""
    try:
        found = sockets.socket(fileno=fd)
    except OSError:
        return None
    if found.family in (sockets.AF_INET, sockets.AF_INET6, sockets.AF_UNIX) and found.type == sockets.SOCK_STREAM:
        return found
    found.detach()
    return None


def _name(borrowed: sockets.socket) -> str:
    if borrowed.family == sockets.AF_UNIX:  # both ends have the same name; the socket's own number tells them apart
        return f"{IPC}{os.fstat(borrowed.fileno()).st_ino}"
    host, port, *_ = borrowed.getpeername()
    return f"{host}:{port}"


def _host(peer: str) -> str:
    return peer.rpartition(":")[0]


def _peer(fd: int) -> str | None:
    borrowed = _borrowed(fd)
    if borrowed is None:
        return None
    try:
        return _name(borrowed)
    except OSError:
        return None
    finally:
        borrowed.detach()


def _bytes_received(fd: int) -> int | None:
    borrowed = _borrowed(fd)
    if borrowed is None:
        return None
    if borrowed.family == sockets.AF_UNIX:  # not counted there
        borrowed.detach()
        return 0
    try:
        info = borrowed.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_INFO, BYTES_RECEIVED_AT + 8)
        return int(struct.unpack_from("=Q", info, BYTES_RECEIVED_AT)[0]) if len(info) >= BYTES_RECEIVED_AT + 8 else 0
    except OSError:
        return None
    finally:
        borrowed.detach()
