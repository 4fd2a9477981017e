"""What other threads see of a CFX endpoint's connection: publish, tell, close; and the thread that Proton runs on."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

from proton.reactor import ApplicationEvent, Container, EventInjector

from hisir_edge.errors import InputError
from hisir_edge.mes.cfx.amqp import Later, message_from_envelope
from hisir_edge.mes.cfx.messages import Envelope
from hisir_edge.mes.cfx.outbox import Item, Outbox

FIRST_S, LONGEST_S = 0.1, 5.0
"""Between two attempts to connect; each time twice as long, until a message is accepted."""
END_S = 2.0
Tell = Callable[[str], None]


class Publisher(ABC):
    """From ``start`` to ``close``; ``publish``, ``wait`` and ``tell`` may be called by any thread."""

    def __init__(self, shown: str, handle: str, on_retry: Tell) -> None:
        self._shown, self._handle, self._on_retry = shown, handle, on_retry
        self.failure: InputError | None = None
        """Why it has ended, where it has."""
        self.is_up = False
        self._outbox = Outbox()
        self._wake: EventInjector | None = None
        self._container: Container | None = None
        self._conn: Any = None
        self._closing = False
        self._again_s = FIRST_S
        self._was_up, self._ended = Event(), Event()
        self._thread = Thread(target=self._run, name="cfx", daemon=True)

    @abstractmethod
    def _down(self) -> None:
        """The connection is gone."""

    def start(self) -> None:
        """Connect; an address that is not there, or a user that is not let in, ends it at first (``failure``)."""
        self._thread.start()

    def wait_up(self) -> None:
        """Until messages can be sent, however long the broker is away; InputError as for ``publish``."""
        while not self._was_up.wait(0.2):
            self._check()
        self._check()

    def publish(self, envelopes: list[Envelope]) -> list[Item]:
        """Send in order, not waited for; see ``wait``. InputError where it has ended."""
        self._check()
        items = self._outbox.add([message_from_envelope(one, self._handle) for one in envelopes])
        self._trigger("more")
        return items

    def wait(self, items: list[Item]) -> None:
        """Until the broker has accepted all of these. InputError where it has ended."""
        for item in items:
            while not item.done.wait(0.5):
                self._check()

    def tell(self, envelopes: list[Envelope]) -> None:
        """Send in order, not waited for: the oldest are dropped where the broker is away for long."""
        self._outbox.add([message_from_envelope(one, self._handle) for one in envelopes], told=True)
        self._trigger("more")

    def close(self) -> None:
        """Send what waits, as far as that goes within ``END_S``, and disconnect."""
        self._closing = True
        self._trigger("end")
        self._ended.wait(END_S + 3)

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self._ended.is_set():
            raise InputError(expected="the CFX connection to go on", received="its end", fix="start it again")

    def _trigger(self, what: str) -> None:
        wake = self._wake
        if wake is not None:
            wake.trigger(ApplicationEvent(what))

    def _run(self) -> None:
        try:
            while not self._closing:
                try:
                    self._wake = EventInjector()
                    self._container = Container(self)
                    self._container.run()
                    return
                except OSError as error:  # Proton lets them out: a name that nobody knows, a network that is away
                    self._on_retry(f"{self._shown}: {error}")
                    self._down()
                    time.sleep(self._longer())
        except Exception as error:  # whatever else Proton raises is told to whoever publishes
            self._fail("a CFX connection", f"{type(error).__name__}: {error}")
        finally:
            self.is_up = False
            self._ended.set()

    def _fail(self, expected: str, received: str) -> None:
        self.failure = InputError(
            expected=expected, received=received, fix="correct --target, or the broker's settings"
        )
        self._finish()

    def _finish(self) -> None:
        self._closing = True
        if self._conn is not None:
            self._conn.close()
        if self._wake is not None:
            self._wake.close()
        if self._container is not None:
            self._container.schedule(0.2, Later(self._container.stop))  # the broker is told

    def _longer(self) -> float:
        self._again_s = min(self._again_s * 2, LONGEST_S)
        return self._again_s
