"""Boards of archives that passed, as pictures to learn from; without those of which somebody confirmed a defect."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hisir_edge.archive.board_file import ArchivedBoard
from hisir_edge.errors import HisirEdgeError, InputError
from hisir_edge.images import png_bytes, write_atomic
from hisir_edge.reinspect.boards import BoardRef, boards_in, content_of
from hisir_edge.reinspect.decided import confirmed_defects

LIST = "boards.json"
PASSED = "PASS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which boards: of these archives, at most so many of each, evenly over it; of one product and camera.

    ``journals``: the lines' journal folders. ``product``, ``camera``; empty: those of the first board.
    """

    archives: tuple[str, ...]
    journals: tuple[str, ...]
    most: int
    product: str = ""
    camera: str = ""


@dataclass(slots=True)
class _Taken:
    """What has been written so far; ``left_out``: why boards are not, and how many."""

    product: str
    camera: str
    pictures: dict[str, str]
    left_out: Counter[str]


def passed_pictures(
    wanted: Wanted, out: Path, advance: Callable[[int, int], None] = lambda done, total: None
) -> tuple[str, ...]:
    """Write the pictures into a folder, unless they are there already; what was left out, in words.

    InputError for archives without such boards, of several products where none is named, and for a folder of others.
    """
    asked = json.loads(json.dumps(asdict(wanted)))
    known = _list_of(out)
    if known is not None:
        if known["wanted"] != asked:
            raise InputError(
                expected=f"the archives that {out} was filled from", received="others, or otherwise asked for",
                fix="repeat the first command, or delete this folder",
            )  # fmt: skip
        return tuple(known["left_out"])
    if out.exists() and not (out / f".{LIST}").exists() and any(out.iterdir()):
        raise InputError(expected=f"a new folder {out}", received="one with other files", fix="move it away")
    out.mkdir(parents=True, exist_ok=True)
    (out / f".{LIST}").touch()  # ours, and not finished
    confirmed = {(epoch, seq) for epoch, seq, _ in confirmed_defects(map(Path, wanted.journals))}
    chosen = [board for archive in wanted.archives for board in _evenly(archive, wanted.most, confirmed)]
    if not chosen:
        raise InputError(
            expected="archived boards that passed", received=f"none in {', '.join(wanted.archives)}",
            fix='see hisir-edge reinspect; a line keeps them with [archive] keep = "all"',
        )  # fmt: skip
    taken = _Taken(wanted.product, wanted.camera, {}, Counter())
    for number, board in enumerate(chosen, 1):
        _take(board, taken, out, bool(wanted.product))
        advance(number, len(chosen))
    if not taken.pictures:
        raise InputError(
            expected=f"boards of {taken.product or 'a product'} in these archives",
            received="; ".join(f"{count} {why}" for why, count in taken.left_out.items()), fix="correct --product",
        )  # fmt: skip
    words = [f"{len(taken.pictures)} archived boards of {taken.product} that passed, camera {taken.camera}, in {out}"]
    words += [f"{count} left out: {why}" for why, count in taken.left_out.items()]
    content = {"wanted": asked, "left_out": words, "pictures": taken.pictures}
    write_atomic(out / LIST, json.dumps(content, indent=1).encode())
    (out / f".{LIST}").unlink()
    return tuple(words)


def _list_of(out: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((out / LIST).read_text())
        return found if isinstance(found, dict) and {"wanted", "left_out"} <= found.keys() else None
    except (OSError, ValueError):
        return None


def _evenly(archive: str, most: int, confirmed: set[tuple[str, int]]) -> Sequence[BoardRef]:
    passed = [one for one in boards_in([archive]) if one.result == PASSED and (one.epoch, one.seq) not in confirmed]
    count = min(most, len(passed))
    return [passed[at * len(passed) // count] for at in range(count)]


def _take(board: BoardRef, taken: _Taken, out: Path, is_named: bool) -> None:
    """A board's picture into the folder; InputError for another product than the first one's where none was named."""
    try:
        with ArchivedBoard(content_of(board), board.key) as archived:
            facts = archived.facts
            if (facts.epoch, facts.seq, facts.result) != (board.epoch, board.seq, PASSED):
                taken.left_out["not what the file's name says"] += 1
                return
            product = taken.product or facts.product
            if facts.product != product:
                if not is_named:
                    raise _SeveralProducts(product, facts.product)
                taken.left_out["of another product"] += 1
                return
            camera = taken.camera or _first(view.camera for view in facts.views)
            view = next((view for view in facts.views if view.camera == camera), None)
            if view is None:
                taken.left_out[f"without a frame of the camera {camera}"] += 1
                return
            frame = archived.frame(view)
            is_grey = frame.data.ndim == 2 and frame.pixel_format == "Mono8"
            name = f"{board.epoch[:8]}-{board.seq:010d}.png"
            write_atomic(out / name, png_bytes(frame.data if is_grey else frame.rgb))
            taken.product, taken.camera = product, camera
            taken.pictures[name] = board.key
    except _SeveralProducts as error:
        raise InputError(
            expected="--product, for archives of several", received=" and ".join(error.args), fix="name one of them"
        ) from error
    except HisirEdgeError:
        taken.left_out["damaged, or out of reach"] += 1


class _SeveralProducts(Exception):
    """Boards of two products, and nobody has said which."""


def _first(names: Iterable[str]) -> str:
    return next(iter(names), "")
