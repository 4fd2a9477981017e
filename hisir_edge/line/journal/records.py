"""What the journal holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AcceptedTrigger:
    """A trigger as it was accepted."""

    seq: int
    unit: str
    source: str
    product: str
    accepted_at_ns: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A verdict as it goes over the wire: topic, JSON, mask (1-bit PNG or empty); and whose it is, when written."""

    seq: int
    topic: str
    body: bytes
    mask: bytes
    source: str = ""
    unit: str = ""

    def frames(self) -> list[bytes]:
        """The ZeroMQ frames."""
        return [self.topic.encode(), self.body, self.mask]


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody decided about a verdict, or about one of its defects (``defect``: its Priority; 0: the board)."""

    seq: int
    defect: int
    verification: str
    detail: str
    operator: str
    client: str
    at_ns: int
    id: int = 0
