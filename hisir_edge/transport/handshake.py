"""Outcome of a ZeroMQ connection's handshake, which libzmq reports to a socket monitor alone.

libzmq 4.3.5 does not connect again after a refusal (ZAP status 400), another security mechanism, or a message above the
peer's size limit: the socket has to be made again. Needs pyzmq and the standard library.
"""

from __future__ import annotations

import zmq
from zmq.utils.monitor import recv_monitor_message

UNKNOWN_KEY = "refused: the line does not know this key, or takes no more connections"
OTHER_MECHANISM = "refused: the line asks for keys and none are given, or the reverse"
BROKEN_OFF = "refused: the connection was closed during its handshake"
REFUSALS = {
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): UNKNOWN_KEY,
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): OTHER_MECHANISM,
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): BROKEN_OFF,
}
SUCCEEDED, DISCONNECTED = int(zmq.EVENT_HANDSHAKE_SUCCEEDED), int(zmq.EVENT_DISCONNECTED)


class Handshake:
    """Watches one socket from before it connects until ``close``; used by the socket's thread."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._monitor = socket.get_monitor_socket(sum(REFUSALS) | SUCCEEDED | DISCONNECTED)
        self.succeeded = False
        """Whether the line has ever accepted this socket: what was sent may have reached it."""
        self.refusal = ""
        """Why the line refused the connection; empty where it did not."""
        self.was_closed = False
        """Whether the line closed a connection that it had accepted, as after a message that is too large."""

    def look(self) -> str:
        """Take in what happened since the last call; gives ``refusal``."""
        while self._monitor.poll(0):
            event = int(recv_monitor_message(self._monitor)["event"])
            if event == SUCCEEDED:
                self.succeeded, self.was_closed, self.refusal = True, False, ""
            elif event == DISCONNECTED:
                self.was_closed = self.succeeded
            else:
                self.refusal = REFUSALS.get(event, self.refusal)
        return self.refusal

    def close(self) -> None:
        """Stop watching; before the socket is closed."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)  # pyzmq leaves it open, and its context would never end
