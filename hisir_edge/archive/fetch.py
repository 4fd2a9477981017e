"""Boards that a line passed, fetched from its archive: to be looked at, and then counted among the good ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hisir_edge.archive.board_file import (
    FACTS,
    Facts,
    View,
    damage_told,
    evidence_from_npz,
    facts_from_json,
    frame_from_picture,
)
from hisir_edge.errors import InputError
from hisir_edge.images.pixels import Pixels
from hisir_edge.mes.stored import stored_file
from hisir_edge.records import Evidence
from hisir_edge.transport.control_client import Asker

MOST_ASKED = 1000
NOT_GOOD = ("DefectConfirmed", "DefectAccepted")
"""What people have written back of a board that is not good: a defect, or one that was repaired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which boards: numbers above ``after`` up to ``upto``, grabbed from ``since`` until ``until`` (aware times).

    ``epoch``: empty, the present one; ``product``, ``camera``: empty, that of the first such board.
    """

    after: int = 0
    upto: int = 2**62
    since: datetime | None = None
    until: datetime | None = None
    epoch: str = ""
    product: str = ""
    camera: str = ""


@dataclass(frozen=True, slots=True)
class PassedBoard:
    """A board of the archive, and the camera's part of it that is wanted."""

    facts: Facts
    view: View


def passed_boards(asker: Asker, wanted: Wanted) -> Iterator[PassedBoard]:
    """The boards that passed and of which nobody said otherwise, by number; InputError where the line refuses."""
    after, product, camera = wanted.after, wanted.product, wanted.camera
    epoch = {"epoch": wanted.epoch} if wanted.epoch else {}
    bad = not_good(asker)
    while True:
        answer, _ = asker.ask({"do": "archived", "after": after, "most": MOST_ASKED, **epoch})
        for row in answer["boards"]:
            after = row["seq"]
            if after > wanted.upto:
                return
            if row["result"] != "PASS" or (answer["epoch"], after) in bad:
                continue
            facts = _facts_of(asker, answer["epoch"], after)
            if facts is None or not _in_time(facts, wanted) or facts.product != (product or facts.product):
                continue
            view = next((one for one in facts.views if one.camera == (camera or one.camera)), None)
            if view is None:
                continue
            product, camera = facts.product, view.camera
            yield PassedBoard(facts, view)
        if not answer["boards"]:
            return


def frame_of(asker: Asker, board: PassedBoard) -> Pixels | None:
    """The frame as it is archived; None where the board is not there any more."""
    data = _member(asker, board.facts.epoch, board.facts.seq, board.view.picture)
    return None if data is None else frame_from_picture(data, board.view, _name_of(board))


def evidence_of(asker: Asker, board: PassedBoard) -> Evidence | None:
    """What its judgement came from; None where it is not kept."""
    if not board.view.evidence:
        return None
    data = _member(asker, board.facts.epoch, board.facts.seq, board.view.evidence)
    if data is None:
        return None
    with damage_told(_name_of(board)):
        return evidence_from_npz(data)


def _name_of(board: PassedBoard) -> str:
    return f"board {board.facts.seq} ({board.facts.unit})"


def _in_time(facts: Facts, wanted: Wanted) -> bool:
    at = datetime.fromisoformat(facts.grabbed_at)
    return (wanted.since is None or at >= wanted.since) and (wanted.until is None or at < wanted.until)


def not_good(asker: Asker) -> set[tuple[str, int]]:
    """Epoch and number of the boards of which the last word of somebody is a defect."""
    last: dict[tuple[str, int, int], str] = {}
    after = 0
    while True:
        answer, _ = asker.ask({"do": "decisions", "after": after})
        for one in answer["decisions"]:
            last[one["epoch"], one["seq"], one["defect"]] = one["Verification"]
            after = one["id"]
        if not answer["decisions"]:
            return {(epoch, seq) for (epoch, seq, _), word in last.items() if word in NOT_GOOD}


def _facts_of(asker: Asker, epoch: str, seq: int) -> Facts | None:
    data = _member(asker, epoch, seq, FACTS)
    if data is None:
        return None
    with damage_told(f"board {seq}"):
        return facts_from_json(data)


def _member(asker: Asker, epoch: str, seq: int, member: str) -> bytes | None:
    request: dict[str, Any] = {"do": "archived_board", "epoch": epoch, "seq": seq, "member": member}
    try:
        return stored_file(asker, request)[1]
    except InputError as error:
        if error.code != "unknown":
            raise
        return None  # deleted meanwhile: the oldest go first
