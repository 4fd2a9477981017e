"""Small parts of an AMQP 1.0 connection: a message of an envelope, durable links, a timer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proton import Message, Terminus
from proton.reactor import LinkOption

from hisir_edge.mes.cfx.messages import Envelope


class Durable(LinkOption):
    """Queues that an address makes outlive the broker: RabbitMQ's /queue/NAME is gone with it otherwise."""

    def apply(self, link: Any) -> None:
        """On a link that is about to be opened."""
        link.source.durability = link.target.durability = Terminus.DELIVERIES


class Later:
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
