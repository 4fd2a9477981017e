"""An AMQP 1.0 connection of a CFX endpoint, over Apache Qpid Proton, on a thread of its own.

What is published is sent in order, durable, and counts once the broker has accepted it; where the connection breaks
first it is sent again, under the same identity. Addresses are looked for before the first message: RabbitMQ accepts
into a queue that does not exist, and into nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event as ThreadEvent
from threading import Thread
from typing import Any

from proton import Delivery, Endpoint, Terminus, symbol
from proton.handlers import MessagingHandler
from proton.reactor import ApplicationEvent, Container, EventInjector

from hisir_edge.errors import InputError
from hisir_edge.mes.cfx.address import Address, is_queue, ssl_domain
from hisir_edge.mes.cfx.amqp import Durable, Later, message_from_envelope
from hisir_edge.mes.cfx.messages import Envelope
from hisir_edge.mes.cfx.outbox import Outbox
from hisir_edge.mes.cfx.requests import Identity, answer, request_from_bytes

LOOK_S = 10.0
"""An address that has been found is there; one that is not answered for after so long is not."""
AGAIN_S = 2.0
FIRST_S, LONGEST_S = 0.1, 5.0
"""Between two attempts to connect; each time twice as long."""
MOST_REPLIES = 64
"""Addresses of others that answers were sent to, which are kept open."""
Tell = Callable[[str], None]


class CfxConnection(MessagingHandler):
    """From ``start`` to ``close``; ``publish`` may be called by any thread."""

    def __init__(self, address: Address, me: Identity, on_retry: Tell) -> None:
        super().__init__(prefetch=0, auto_accept=False, peer_close_is_error=True)
        self.address, self.me, self._on_retry = address, me, on_retry
        self.on_up: Callable[[], None] = lambda: None
        """Called on the connection's thread each time that messages can be sent."""
        self._outbox = Outbox()
        self._wake = EventInjector()
        self._container: Container | None = None
        self._conn: Any = None
        self._sender: Any = None
        self._looking: Any = None
        self._requests: Any = None
        self._replies: dict[str, Any] = {}
        self._found = self._closing = False
        self._again_s = FIRST_S
        self.fatal: InputError | None = None
        self._was_up, self._ended = ThreadEvent(), ThreadEvent()
        self._thread = Thread(target=self._run, name="cfx", daemon=True)

    def start(self) -> None:
        """Connect; the first address that is looked for and not there ends it (``fatal``)."""
        self._thread.start()

    def wait_up(self) -> None:
        """Until messages can be sent, however long the broker is away; InputError as for ``publish``."""
        while not self._was_up.wait(0.2):
            self._check()
        self._check()

    @property
    def is_up(self) -> bool:
        """Whether messages can be sent just now."""
        sender = self._sender
        return sender is not None and bool(sender.state & Endpoint.REMOTE_ACTIVE)

    def publish(self, envelopes: list[Envelope]) -> None:
        """Send in order; returns once the broker has accepted all.

        InputError for an address that is not there, or a message that the broker rejects.
        """
        self._check()
        items = self._outbox.add([message_from_envelope(one, self.me.handle) for one in envelopes])
        self._wake.trigger(ApplicationEvent("more"))
        for item in items:
            while not item.done.wait(0.5):
                self._check()

    def tell(self, envelopes: list[Envelope]) -> None:
        """Send in order, not waited for: the oldest are dropped where the broker is away for long."""
        self._outbox.add([message_from_envelope(one, self.me.handle) for one in envelopes], told=True)
        self._wake.trigger(ApplicationEvent("more"))

    def first(self, envelopes: list[Envelope]) -> None:
        """Send these before all that waits; on the connection's thread alone."""
        self._outbox.add_first([message_from_envelope(one, self.me.handle) for one in envelopes])

    def close(self) -> None:
        """Send what waits, as far as that goes at once, and disconnect."""
        self._closing = True
        self._wake.trigger(ApplicationEvent("end"))
        self._ended.wait(5)

    def _check(self) -> None:
        if self.fatal is not None:
            raise self.fatal
        if self._ended.is_set():
            raise InputError(expected="the CFX connection to go on", received="its end", fix="start it again")

    def _run(self) -> None:
        try:
            self._container = Container(self)
            self._container.run()
        except Exception as error:  # whatever Proton raises is told to whoever publishes
            self.fatal = self.fatal or InputError(
                expected="a CFX connection", received=f"{type(error).__name__}: {error}", fix="check the broker's log"
            )
        finally:
            self._ended.set()

    # what Proton calls, on its thread

    def on_start(self, event: Any) -> None:
        """Connect for the first time."""
        event.container.selectable(self._wake)
        self._connect()

    def _connect(self) -> None:
        """A connection of its own each time: one that Proton makes again opens the links of before under old names."""
        if self._container is None or self._closing:
            return
        self._conn = self._container.connect(
            self.address.url, reconnect=False, heartbeat=30, user=self.address.user or None,
            password=self.address.password or None, ssl_domain=ssl_domain(self.address),
            allowed_mechs="PLAIN" if self.address.user else "ANONYMOUS", allow_insecure_mechs=True, sasl_enabled=True,
        )  # fmt: skip

    def on_connection_opened(self, event: Any) -> None:
        """Look for the address, before anything is sent to it."""
        self._forget_links()
        product = str((event.connection.remote_properties or {}).get(symbol("product"), ""))
        if product == "RabbitMQ" and not is_queue(self.address.target):
            self._give_up(
                "a queue of RabbitMQ, /amq/queue/NAME: what is sent to an exchange without one is accepted and gone",
                self.address.target,
            )  # fmt: skip
            return
        self._looking = event.container.create_receiver(event.connection, self.address.target, options=Durable())
        event.container.schedule(LOOK_S, Later(self._looked_long))

    def on_link_opened(self, event: Any) -> None:
        """The address is there: send to it, and take requests."""
        if event.link == self._looking and self._sender is None:
            if event.link.remote_source is None or event.link.remote_source.type == Terminus.UNSPECIFIED:
                return  # an error follows
            self._found = True
            self._sender = event.container.create_sender(event.connection, self.address.target, options=Durable())
            if self.me.request_address:
                self._requests = event.container.create_receiver(
                    event.connection, self.me.request_address, options=Durable()
                )
                self._requests.flow(10)
        elif event.link == self._sender:
            self._again_s = FIRST_S
            self.on_up()
            self._was_up.set()
            self._send()

    def on_sendable(self, event: Any) -> None:
        """The broker gives credit."""
        if event.link == self._sender:
            self._send()

    def on_accepted(self, event: Any) -> None:
        """The broker has a message."""
        if event.link == self._sender:
            self._outbox.accepted(event.delivery)

    def on_rejected(self, event: Any) -> None:
        """It does not want one: no repetition would mend that."""
        if event.link == self._sender:
            condition = event.delivery.remote.condition
            self._give_up("the broker to accept CFX messages", f"a rejection ({condition or 'no reason'})")

    def on_released(self, event: Any) -> None:
        """Not now: sent again after a while."""
        if event.link == self._sender:
            self._on_retry(f"{self.address.shown} takes no message now")
            self._outbox.again()
            event.container.schedule(AGAIN_S, Later(self._send))

    on_modified = on_released

    def on_message(self, event: Any) -> None:
        """Another endpoint asks."""
        body = event.message.body
        content = body if isinstance(body, (bytes, memoryview)) else str(body).encode()
        request = request_from_bytes(bytes(content))
        event.delivery.update(Delivery.ACCEPTED)
        event.delivery.settle()
        event.receiver.flow(1)
        reply_to = event.message.reply_to
        response = None if request is None else answer(request, self.me)
        if response is not None and reply_to and len(reply_to) <= 1000:
            self._reply(event, reply_to, response)

    def on_more(self, event: Any) -> None:
        """Something was published."""
        self._send()

    def on_end(self, event: Any) -> None:
        """``close`` was called."""
        if self._conn is not None:
            self._conn.close()
        self._wake.close()
        event.container.stop()

    def on_session_error(self, event: Any) -> None:
        """RabbitMQ's way to say that an address is not there."""
        self._refused(event.session.remote_condition)

    def on_link_error(self, event: Any) -> None:
        """Other brokers' way."""
        if event.link in (self._looking, self._sender):
            self._refused(event.link.remote_condition)
        else:
            self._on_retry(f"{self.address.shown}: {event.link.remote_condition}")

    def on_connection_error(self, event: Any) -> None:
        """The broker ends the connection."""
        self._on_retry(f"{self.address.shown}: {event.connection.remote_condition}")

    def on_transport_error(self, event: Any) -> None:
        """The connection broke, or the user is not let in."""
        condition = event.transport.condition
        if condition is not None and str(condition.name) == "amqp:unauthorized-access":
            self._give_up("a user that the broker lets in", f"{self.address.shown}: {condition.description}")
            return
        self._on_retry(f"{self.address.shown}: {condition.description if condition else 'the connection broke'}")

    def on_transport_closed(self, event: Any) -> None:
        """What was not accepted is sent again, on another connection."""
        if event.connection != self._conn:
            return
        self._forget_links()
        self._again_s = min(self._again_s * 2, LONGEST_S)
        event.container.schedule(self._again_s, Later(self._connect))

    def _looked_long(self) -> None:
        if self._sender is None and self._conn is not None and self._conn.state & Endpoint.REMOTE_ACTIVE:
            self._refused(None)

    def _refused(self, condition: Any) -> None:
        """The address is not there: the end at first; later it may come back."""
        why = f"{self.address.target}: {condition.description or condition.name if condition else 'no answer'}"
        if not self._found:
            self._give_up("an address that exists: make the queue first", why)
            return
        self._on_retry(f"{self.address.shown}: {why}")
        if self._conn is not None:
            self._conn.close()

    def _give_up(self, expected: str, received: str) -> None:
        self.fatal = InputError(expected=expected, received=received, fix="correct --target, or the broker's settings")
        self._closing = True
        if self._conn is not None:
            self._conn.close()
        self._wake.close()
        if self._container is not None:
            self._container.stop()

    def _forget_links(self) -> None:
        self._sender = self._looking = self._requests = None
        self._replies.clear()
        self._outbox.again()

    def _send(self) -> None:
        sender = self._sender
        if sender is None or not sender.state & Endpoint.REMOTE_ACTIVE:
            return
        for item in self._outbox.unsent():
            if sender.credit <= 0:
                return
            item.delivery = sender.send(item.message)

    def _reply(self, event: Any, to: str, response: Envelope) -> None:
        if to not in self._replies:
            if len(self._replies) >= MOST_REPLIES:
                self._replies.pop(next(iter(self._replies))).close()
            self._replies[to] = event.container.create_sender(event.connection, to)
        message = message_from_envelope(response, self.me.handle)
        message.correlation_id = event.message.correlation_id or response.request_id
        self._replies[to].send(message)
