"""The list of a shift's boards, before and after somebody said that they are good."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hisir_edge.archive.board_file import Facts
from hisir_edge.errors import InputError
from hisir_edge.images import write_atomic
from hisir_edge.view.shift.passed import EPOCH

SCHEMA = "hisir-edge/shift/1.0"
MOST_BYTES = 50_000_000
UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
PICTURE = re.compile(r"[A-Za-z0-9_-]{1,160}\.png")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedBoard:
    """``good_says``: who says that it is good, empty: nobody yet."""

    epoch: str
    seq: int
    unit: str
    grabbed_at: str
    picture: str
    good_says: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Boards of one product, as one camera sees them."""

    line: str
    product: str
    camera: str
    boards: tuple[ListedBoard, ...]

    def with_boards(self, boards: tuple[ListedBoard, ...]) -> Listed:
        """Others of the same camera."""
        return replace(self, boards=boards)


def listed_board(facts: Facts, camera: str) -> ListedBoard:
    """A board of the archive; its picture's name says line's journal, number, camera and board."""
    words = (facts.epoch[:8], f"{facts.seq:010d}", *(UNSAFE.sub("_", one)[:40] or "_" for one in (camera, facts.unit)))
    return ListedBoard(
        epoch=facts.epoch, seq=facts.seq, unit=facts.unit, grabbed_at=facts.grabbed_at, picture="-".join(words) + ".png"
    )


def save_list(path: Path, listed: Listed) -> None:
    """Write a list."""
    write_atomic(path, (json.dumps({"schema": SCHEMA, **asdict(listed)}, indent=1) + "\n").encode())


def load_list(path: Path) -> Listed:
    """Read a list; InputError for anything else."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("too large")
        raw: dict[str, Any] = json.loads(path.read_text())
        if raw.pop("schema") != SCHEMA:
            raise ValueError(f"another schema than {SCHEMA}")
        boards = tuple(_checked(ListedBoard(**one)) for one in raw.pop("boards"))
        listed = Listed(**raw, boards=boards)
        if not all(isinstance(one, str) for one in (listed.line, listed.product, listed.camera)):
            raise ValueError("facts of another kind")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(
            expected="a list that hisir-edge boards --look wrote",
            received=f"{path} ({getattr(error, 'strerror', None) or error})"[:300],
            fix="look at the boards first, and name the list beside the sheet",
        ) from error
    return listed


def _checked(board: ListedBoard) -> ListedBoard:
    """ValueError for a board that is none."""
    texts = (board.epoch, board.unit, board.grabbed_at, board.picture, board.good_says)
    known = isinstance(board.seq, int) and not isinstance(board.seq, bool) and board.seq >= 0
    if not known or not all(isinstance(one, str) for one in texts):
        raise ValueError("a board of another kind")
    if not EPOCH.fullmatch(board.epoch) or not PICTURE.fullmatch(board.picture):
        raise ValueError(f"a board of another kind: {board.picture[:80]}")
    return board
