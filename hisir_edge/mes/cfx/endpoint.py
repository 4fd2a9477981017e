"""An AMQP 1.0 connection of a CFX endpoint, over Apache Qpid Proton, on a thread of its own.

What is published is sent in order, durable, one message at a time (``window`` of them), and counts once the broker has
accepted it; where the connection breaks first it is sent again, under the same identity. With RabbitMQ the address is
looked for before the first message: it accepts into a queue that does not exist, and into nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proton import Delivery, Endpoint, Terminus, symbol
from proton.handlers import MessagingHandler

from hisir_edge.mes.cfx.address import Address, is_queue, ssl_domain
from hisir_edge.mes.cfx.amqp import Durable, Later, Replies, message_from_envelope
from hisir_edge.mes.cfx.messages import Envelope
from hisir_edge.mes.cfx.publisher import END_S, FIRST_S, Publisher, Tell
from hisir_edge.mes.cfx.requests import Identity, answer, request_from_bytes

LOOK_S = 10.0
"""A link that is not answered for after so long is none."""
AGAIN_S = 2.0


class CfxConnection(Publisher, MessagingHandler):
    """See ``Publisher``; all else is called by Proton, on the connection's thread."""

    def __init__(self, address: Address, me: Identity, on_retry: Tell) -> None:
        Publisher.__init__(self, address.shown, me.handle, on_retry)
        MessagingHandler.__init__(self, prefetch=0, auto_accept=False)
        self.address, self.me = address, me
        self.on_up: Callable[[], list[Envelope]] = list
        """What to say first on each connection; called on the connection's thread."""
        self.on_beat: Callable[[], Envelope | None] = lambda: None
        """What to say each ``address.heartbeat_s``; called there, too."""
        self._conn: Any = None
        self._sender: Any = None
        self._requests: Any = None
        self._looking: Any = None
        self._pending = ""
        """The address whose link was asked for last."""
        self._replies = Replies()
        self._held = False

    # what Proton calls, on its thread

    def on_start(self, event: Any) -> None:
        """Connect for the first time."""
        event.container.selectable(self._wake)
        event.container.schedule(self.address.heartbeat_s, Later(self._beat))
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
        """Look for the address where the broker would not say that it is not there."""
        properties, target = event.connection.remote_properties or {}, self.address.target
        event.container.schedule(LOOK_S, Later(lambda: self._looked_long(event.connection)))
        if properties.get(symbol("product")) != "RabbitMQ":
            self._open_links()
        elif is_queue(target):
            self._looking = event.connection.session()  # of its own, so that its end takes the consumer along
            self._looking.open()
            self._pending = target
            event.container.create_receiver(self._looking, target, options=Durable())
        else:
            self._fail("a queue of RabbitMQ, /amq/queue/NAME: what is sent elsewhere is accepted and gone", target)

    def _open_links(self) -> None:
        """Requests first: once messages can be sent, everything is there."""
        if self._container is None:
            return
        options = None if self._looking is None else Durable()
        if self.me.request_address and self._requests is None:
            self._pending = self.me.request_address
            self._requests = self._container.create_receiver(self._conn, self._pending, options=options)
        else:
            self._pending = self.address.target
            self._sender = self._container.create_sender(self._conn, self._pending, options=options)

    def on_link_opened(self, event: Any) -> None:
        """One after the other: the look, requests, the sender."""
        link = event.link
        far = link.remote_target if link.is_sender else link.remote_source
        if link.connection != self._conn or far is None or far.type == Terminus.UNSPECIFIED:
            return  # of before; or an error follows
        if self._looking is not None and link.session == self._looking:
            self._looking.close()
            self._open_links()
        elif link == self._requests:
            link.flow(10)
            self._open_links()
        elif link == self._sender:
            self._pending = ""
            self._outbox.add_first([message_from_envelope(one, self.me.handle) for one in self.on_up()])
            self.is_up = True
            self._was_up.set()
            self._send()

    def on_sendable(self, event: Any) -> None:
        """The broker gives credit."""
        self._send()

    def on_accepted(self, event: Any) -> None:
        """The broker has a message."""
        if event.link == self._sender:
            self._again_s = FIRST_S
            self._outbox.accepted(event.delivery)
            self._send()

    def on_released(self, event: Any) -> None:
        """Not now, for a full queue perhaps: it is sent again after a while, and nothing before it."""
        if event.link == self._sender:
            self._on_retry(
                f"{self.address.shown} takes no message now ({event.delivery.remote.condition or 'no reason'})"
            )
            self._held = True
            self._outbox.refused(event.delivery)
            event.container.schedule(AGAIN_S, Later(self._go_on))

    on_rejected = on_modified = on_released

    def on_message(self, event: Any) -> None:
        """Another endpoint asks."""
        event.delivery.update(Delivery.ACCEPTED)
        event.delivery.settle()
        event.receiver.flow(1)
        body, reply_to = event.message.body, event.message.reply_to
        content = bytes(body) if isinstance(body, (bytes, memoryview)) else str(body).encode(errors="replace")
        request = request_from_bytes(content)
        response = None if request is None else answer(request, self.me)
        if response is not None and reply_to and len(reply_to) <= 1000:
            self._replies.send(event, reply_to, message_from_envelope(response, self.me.handle), response.request_id)

    def on_more(self, event: Any) -> None:
        """Something was published."""
        self._send()

    def on_end(self, event: Any) -> None:
        """``close`` was called."""
        self._send()
        if self._outbox.is_empty or not self.is_up:
            self._finish()
        elif self._container is not None:
            self._container.schedule(END_S, Later(self._finish))

    def on_session_error(self, event: Any) -> None:
        """RabbitMQ's way to say that an address is not there."""
        self._session_ended(event, event.session.remote_condition)

    def on_session_closing(self, event: Any) -> None:
        """Without a reason."""
        if event.session != self._looking:
            self._session_ended(event, None)

    def _session_ended(self, event: Any, condition: Any) -> None:
        if self._replies.is_of(event.session):
            self._on_retry(f"{self.address.shown}: no answer to a request: {condition or 'no reason'}")
            self._replies.forget(event.session)
            event.session.close()
        else:
            self._refused(event.connection, condition)

    def on_link_error(self, event: Any) -> None:
        """Other brokers' way; also of an address that an answer was to go to."""
        if event.link in (self._sender, self._requests) or event.link.session == self._looking:
            self._refused(event.connection, event.link.remote_condition)

    def on_link_closing(self, event: Any) -> None:
        """Without a reason."""
        if event.link in (self._sender, self._requests):
            self._refused(event.connection, None)

    def on_connection_error(self, event: Any) -> None:
        """The broker ends the connection."""
        self._on_retry(f"{self.address.shown}: {event.connection.remote_condition}")

    def on_transport_error(self, event: Any) -> None:
        """The connection broke, or the user is not let in."""
        condition = event.transport.condition
        why = f"{self.address.shown}: {condition.description if condition else 'the connection broke'}"
        if self._was_up.is_set() or condition is None:
            self._on_retry(why)
        elif str(condition.name) == "amqp:unauthorized-access":
            self._fail("a user that the broker lets in", why)
        elif "certificate verify failed" in why:
            self._fail("a broker whose certificate this machine trusts (SSL_CERT_FILE names another authority)", why)
        else:
            self._on_retry(why)

    def on_transport_closed(self, event: Any) -> None:
        """What was not accepted is sent again, on another connection."""
        if event.connection == self._conn:
            if self.is_up and not self._closing:
                self._on_retry(f"{self.address.shown}: the connection ended")
            self._down()
            event.container.schedule(self._longer(), Later(self._connect))

    def _looked_long(self, connection: Any) -> None:
        if connection == self._conn and not self.is_up and connection.state & Endpoint.REMOTE_ACTIVE:
            self._refused(connection, None)

    def _refused(self, connection: Any, condition: Any) -> None:
        """A link is not there: the end at first; later it may come back."""
        if connection != self._conn or self._closing:
            return
        said = f"{condition.description or condition.name}" if condition else "no answer"
        why = f"{self._pending or self.address.target}: {said}"
        if not self._was_up.is_set():
            self._fail("an address that exists: make the queue first", why)
            return
        self._on_retry(f"{self.address.shown}: {why}")
        self.is_up = False
        connection.close()

    def _down(self) -> None:
        self.is_up = self._held = False
        self._sender = self._looking = self._requests = None
        self._replies = Replies()
        self._outbox.again()

    def _go_on(self) -> None:
        self._held = False
        self._send()

    def _send(self) -> None:
        """What may be on its way; with a window of 1 what the broker gives back is followed by nothing."""
        while self.is_up and not self._held and self._sender.credit > 0:
            item = self._outbox.next(self.address.window)
            if item is None:
                if self._closing and self._outbox.is_empty:
                    self._finish()
                return
            item.delivery = self._sender.send(item.message)

    def _beat(self) -> None:
        if self._container is None or self._closing:
            return
        self._container.schedule(self.address.heartbeat_s, Later(self._beat))
        beat = self.on_beat() if self.is_up else None
        if beat is not None:
            self.tell([beat])
