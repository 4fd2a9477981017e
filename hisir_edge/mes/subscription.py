"""A subscription that lasts: its socket is made again where the line refuses it, or falls silent.

Needs pyzmq and the standard library.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import zmq

from hisir_edge.transport.control_client import connected, keep_alive, secured
from hisir_edge.transport.handshake import Handshake

WAITING = 1000
"""Live verdicts that wait for the caller; what is beyond comes from the journal."""
SILENT_S, AGAIN_S = 5.0, 1.0
"""A line says each second that it is there. It is asked again after so long without a word, or after a refusal."""
Tell = Callable[[str], None]


class Subscription:
    """A SUB socket of some topics, from construction to ``close``, used by one thread.

    InputError for an address or keys that are none.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, topics: tuple[str, ...],
        keys: tuple[str, str] = ("", ""), waiting: Tell = lambda reason: None,
    ) -> None:  # fmt: skip
        self._context, self._endpoint, self._topics, self._keys = context, endpoint, topics, keys
        self._waiting = waiting
        self._told_at = -SILENT_S
        self._socket, self._handshake = self._connected()

    def receive(self, timeout_ms: int) -> list[bytes]:
        """The frames of the next message; none where nothing comes in time."""
        if self._socket.poll(timeout_ms):
            self._heard_at = time.monotonic()
            return self._socket.recv_multipart()
        now, refusal = time.monotonic(), self._handshake.look()
        if refusal and now > self._made_at + AGAIN_S:
            self._again(f"{self._endpoint}: {refusal}; asks again")
        elif now > self._heard_at + SILENT_S:
            self._again(f"nothing comes from {self._endpoint}: is the line up, and are the keys the right ones?")
        return []

    def close(self) -> None:
        """Disconnect."""
        self._handshake.close()
        self._socket.close(linger=0)

    def _again(self, reason: str) -> None:
        if time.monotonic() > self._told_at + SILENT_S:
            self._told_at = time.monotonic()
            self._waiting(reason)
        new = self._connected()  # keys that cannot be read leave the old socket to be closed
        self.close()
        self._socket, self._handshake = new

    def _connected(self) -> tuple[zmq.Socket[bytes], Handshake]:
        socket = self._context.socket(zmq.SUB)
        handshake = Handshake(socket)
        try:
            options = {
                zmq.LINGER: 0, zmq.RCVHWM: WAITING, zmq.RECONNECT_IVL: 100, zmq.RECONNECT_IVL_MAX: 1000,
            }  # fmt: skip
            for option, value in options.items():
                socket.setsockopt(option, value)
            keep_alive(socket)
            for topic in self._topics:
                socket.setsockopt_string(zmq.SUBSCRIBE, topic)
            secured(socket, *self._keys)
            connected(socket, self._endpoint)
        except BaseException:
            handshake.close()
            socket.close(linger=0)
            raise
        self._made_at = self._heard_at = time.monotonic()
        return socket, handshake
