"""Records of the journal."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from hisir_edge.line.journal.packing import unpacked


@dataclass(frozen=True, slots=True)
class AcceptedTrigger:
    """A trigger as it was accepted."""

    seq: int
    unit: str
    source: str
    product: str
    accepted_at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A decision about a verdict, or about one of its defects (``defect``: its Priority; 0: the board)."""

    seq: int
    defect: int
    verification: str
    detail: str
    operator: str
    client: str
    at_ns: int
    id: int = 0


def entry_from_row(row: tuple[int, str, bytes, bytes, int]) -> Entry:
    """An entry of the columns of ``schema.STORED``; sqlite3.DatabaseError where its body cannot be read."""
    seq, topic, body, mask, form = row
    try:
        return Entry(seq=seq, topic=topic, body=unpacked(form, body), mask=mask)
    except ValueError as error:
        raise sqlite3.DatabaseError(f"verdict {seq}: {error}") from error


def decision_from_row(row: tuple[int, int, str, str, str, str, int, int]) -> Decision:
    """A decision of the columns of ``schema.DECIDED``."""
    seq, defect, verification, detail, operator, client, at_ns, id_ = row
    return Decision(
        seq=seq, defect=defect, verification=verification, detail=detail, operator=operator, client=client,
        at_ns=at_ns, id=id_,
    )  # fmt: skip
