"""Small parts of an AMQP 1.0 connection: a message of an envelope, durable links, a timer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proton import Handler, Message, Terminus
from proton.reactor import LinkOption

from hisir_edge.mes.cfx.messages import Envelope

MOST_REPLIES = 64
"""Addresses of others that answers were sent to, which are kept open."""


class Durable(LinkOption):
    """Queues that an address makes outlive the broker: RabbitMQ's /queue/NAME is gone with it otherwise."""

    def apply(self, link: Any) -> None:
        """On a link that is about to be opened."""
        link.source.durability = link.target.durability = Terminus.DELIVERIES


class Later(Handler):
    """What Proton's clock calls."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work

    def on_timer_task(self, event: Any) -> None:
        """It is time."""
        self._work()


def message_from_envelope(envelope: Envelope, handle: str) -> Message:
    """An AMQP message as CFX wants it: JSON in a data section, identity and names in its properties."""
    return Message(
        body=envelope.json(handle), inferred=True, durable=True, id=envelope.unique_id, reply_to=handle,
        address=envelope.target, correlation_id=envelope.request_id, content_type='application/json; charset="utf-8"',
        subject=f"{handle}.{envelope.name}",
        properties={
            "cfx-topic": envelope.topic, "cfx-message": envelope.name, "cfx-handle": handle,
            "cfx-target": envelope.target,
        },
    )  # fmt: skip


class Replies:
    """Senders to the addresses of others, each in a session of its own: one that is not there ends that alone."""

    def __init__(self) -> None:
        self._senders: dict[str, Any] = {}

    def send(self, event: Any, to: str, message: Message, request_id: str | None) -> None:
        """Answer a request of this event."""
        if to not in self._senders:
            if len(self._senders) >= MOST_REPLIES:
                self._senders.pop(next(iter(self._senders))).session.close()
            session = event.connection.session()
            session.open()
            self._senders[to] = event.container.create_sender(session, to)
        message.correlation_id = event.message.correlation_id or request_id
        self._senders[to].send(message)

    def is_of(self, session: Any) -> bool:
        """Whether a session is one of these."""
        return any(sender.session == session for sender in self._senders.values())

    def forget(self, session: Any) -> None:
        """It has ended; the next answer makes another one."""
        self._senders = {to: sender for to, sender in self._senders.items() if sender.session != session}
