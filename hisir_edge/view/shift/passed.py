"""Which archived boards a line passed, and of which nobody has said otherwise."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hisir_edge.archive.board_file import DAMAGED, FACTS, Facts, damage_told, facts_from_json
from hisir_edge.errors import InputError
from hisir_edge.mes.stored import stored_file
from hisir_edge.transport.control_client import Asker

MOST_ASKED = 1000
NOT_GOOD = ("DefectConfirmed", "DefectAccepted")
"""What people have written back of a board that is not good: a defect, or one that was repaired."""
NOT_THERE = ("unknown", DAMAGED)
"""Codes of what the line has not any more, or cannot be read: one such board does not stand in the others' way."""
EPOCH = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which boards: numbers above ``after`` up to ``upto``, grabbed from ``since`` until ``until`` (aware times).

    ``product``, ``camera``: empty, that of the first such board.
    """

    after: int = 0
    upto: int = 2**62
    since: datetime | None = None
    until: datetime | None = None
    product: str = ""
    camera: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """``boards`` by number. ``unknown``: so many older ones, of which the journal has no decisions any more.

    ``gone``: so many were deleted meanwhile, or cannot be read.
    """

    epoch: str
    boards: tuple[Facts, ...]
    product: str = ""
    camera: str = ""
    unknown: int = 0
    gone: int = 0


def passed_boards(asker: Asker, wanted: Wanted) -> Passed:
    """The boards of the line's present journal that passed; InputError where the line refuses, or has no archive."""
    epoch, rows = _archived(asker, wanted)
    first, bad = _first_journaled(asker), not_good(asker, epoch)
    product, camera, boards = wanted.product, wanted.camera, list[Facts]()
    unknown = gone = 0
    for seq in rows:
        if seq < first:
            unknown += 1
            continue
        if seq in bad:
            continue
        facts = _facts_of(asker, epoch, seq)
        if facts is None:
            gone += 1
            continue
        has_camera = any(view.camera == (camera or view.camera) for view in facts.views)
        if not has_camera or facts.product != (product or facts.product) or not _in_time(facts, wanted):
            continue
        product, camera = facts.product, camera or facts.views[0].camera
        boards.append(facts)
    return Passed(epoch=epoch, boards=tuple(boards), product=product, camera=camera, unknown=unknown, gone=gone)


def not_good(asker: Asker, epoch: str) -> set[int]:
    """Numbers of the boards of this epoch of which somebody's last word is a defect; InputError for another epoch."""
    last: dict[tuple[int, int], str] = {}
    after = 0
    while True:
        answer, _ = asker.ask({"do": "decisions", "after": after})
        if answer.get("epoch") != epoch:
            raise InputError(
                expected=f"the line to have the journal {epoch[:12]} still, with what people said of these boards",
                received=f"{str(answer.get('epoch'))[:12]}, a later one",
                fix="look at the boards of the present journal",
            )
        for one in answer["decisions"]:
            last[one["seq"], one["defect"]] = one["Verification"]
            after = one["id"]
        if not answer["decisions"]:
            return {seq for (seq, _), word in last.items() if word in NOT_GOOD}


def is_what_it_says(facts: Facts, epoch: str, seq: int) -> bool:
    """Whether an archived file is that of this board, and passed: files may have been renamed or copied."""
    return (facts.epoch, facts.seq, facts.result) == (epoch, seq, "PASS") and bool(facts.views)


def _archived(asker: Asker, wanted: Wanted) -> tuple[str, list[int]]:
    """The present epoch, and the numbers of what passed in it."""
    found, after, epoch = list[int](), wanted.after, ""
    while True:
        answer, _ = asker.ask({"do": "archived", "after": after, "most": MOST_ASKED})
        epoch = str(answer["epoch"])
        if not EPOCH.fullmatch(epoch):
            raise InputError(expected="the epoch of a line's journal", received=epoch[:80], fix="report this")
        for row in answer["boards"]:
            after = int(row["seq"])
            if after > wanted.upto:
                return epoch, found
            if row["result"] == "PASS":
                found.append(after)
        if not answer["boards"]:
            return epoch, found


def _first_journaled(asker: Asker) -> int:
    """The number of the oldest verdict that the journal has: what people said of older ones went with them."""
    _, frames = asker.ask({"do": "replay", "after": 0, "most": 1, "masks": False})
    return int(json.loads(frames[1])["seq"]) if len(frames) > 1 else 0


def _in_time(facts: Facts, wanted: Wanted) -> bool:
    at = datetime.fromisoformat(facts.grabbed_at).astimezone()
    return (wanted.since is None or at >= wanted.since) and (wanted.until is None or at < wanted.until)


def _facts_of(asker: Asker, epoch: str, seq: int) -> Facts | None:
    request: dict[str, Any] = {"do": "archived_board", "epoch": epoch, "seq": seq, "member": FACTS}
    try:
        _, data = stored_file(asker, request)
        with damage_told(f"board {seq}"):
            facts = facts_from_json(data)
            datetime.fromisoformat(facts.grabbed_at)
    except InputError as error:
        if error.code not in NOT_THERE:
            raise
        return None
    return facts if is_what_it_says(facts, epoch, seq) else None
