"""A line's status, asked for again and again.

Needs pyzmq and the standard library.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from typing import Any

import zmq

from hisir_edge.errors import HisirEdgeError, NoAnswer, TryLater
from hisir_edge.mes.subscription import Subscription
from hisir_edge.transport.addresses import beside
from hisir_edge.transport.control_client import Asker

EACH_S, ANSWER_S = 1.0, 2.0
"""How often the line is asked, and how long it may take to answer."""
AGAIN_S = 5.0
"""Until it is tried again where keys or addresses cannot be used."""


class StatusWatch:
    """Asks the line's control socket again and again, on a thread of its own, from construction to ``close``.

    ``control``: its address; empty: what its heartbeats tell. ``on_status`` gets the answer, None where none came
    within ``ANSWER_S``; ``on_retry`` why the line cannot be asked.
    """

    def __init__(
        self, endpoint: str, control: str, keys: tuple[str, str],
        on_status: Callable[[dict[str, Any] | None], None], on_retry: Callable[[str], None],
        each_s: float = EACH_S,
    ) -> None:  # fmt: skip
        self._each_s = each_s
        self._endpoint, self._given, self._keys = endpoint, control, keys
        self.control = control
        """The line's control address; empty while it is not known."""
        self._on_status, self._on_retry = on_status, on_retry
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="status", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 10.0) -> None:
        """No more; a callback that does not return is waited for so long."""
        self._stopped.set()
        self._thread.join(timeout_s)

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
        control = self._given or self._told(context)
        if not control:
            return
        self.control = control
        with Asker(control, *self._keys, context) as line:
            while not self._stopped.wait(self._each_s):
                status: dict[str, Any] | None = None
                with suppress(NoAnswer, TryLater):
                    status, _ = line.ask({"do": "status"}, ANSWER_S, self._stopped.is_set)
                if not self._stopped.is_set():
                    self._on_status(status)

    def _told(self, context: zmq.Context[zmq.Socket[bytes]]) -> str:
        """The control address that the line's heartbeats tell; empty where it is to end before."""
        subscription = Subscription(context, self._endpoint, ("heartbeat/",), self._keys, self._on_retry)
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
