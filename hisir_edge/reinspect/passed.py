"""Boards of archives that passed, as pictures to learn from; without those of which somebody confirmed a defect."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hisir_edge.archive.board_file import ArchivedBoard
from hisir_edge.errors import HisirEdgeError, InputError
from hisir_edge.images import png_bytes, write_atomic
from hisir_edge.reinspect.boards import BoardRef, boards_in, content_of
from hisir_edge.reinspect.decided import confirmed_defects, epoch_of

LIST = "boards.json"
PASSED, NOT_GOOD = "PASS", ("DefectConfirmed", "DefectAccepted")
"""A defect that was repaired, or may stay, is one in the picture all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which boards: of these archives, at most so many of each, evenly over it; of one product and camera.

    ``journals``: the lines' journal folders; None: what people said is not known. ``product``, ``camera``; empty: those
    of the first board.
    """

    archives: tuple[str, ...]
    journals: tuple[str, ...] | None
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
    wanted: Wanted, out: Path, run: Path, advance: Callable[[int, int], None] = lambda done, total: None
) -> tuple[str, ...]:
    """Write the pictures into a folder, anew unless ``run`` was begun with them; what was left out, in words.

    InputError for archives without such boards, of several products where none is named, and for a folder of others.
    """
    asked = json.loads(json.dumps(asdict(wanted)))
    known = _list_of(out)
    if known is not None and (run / "run.json").exists():
        if known["wanted"] != asked:
            raise InputError(
                expected=f"the archives that {out} was filled from", received="others, or otherwise asked for",
                fix="repeat the first command, or delete this folder",
            )  # fmt: skip
        return tuple(known["left_out"])
    is_ours = known is not None or (out / f".{LIST}").exists()
    if out.exists() and not is_ours and any(out.iterdir()):
        raise InputError(expected=f"a new folder {out}", received="one with other files", fix="move it away")
    left_out = Counter[str]()
    chosen = _chosen(wanted, left_out)
    shutil.rmtree(out, ignore_errors=True)  # what a killed attempt left, perhaps of other boards
    out.mkdir(parents=True, exist_ok=True)
    (out / f".{LIST}").touch()  # ours, and not finished
    taken = _Taken(wanted.product, wanted.camera, {}, left_out)
    for number, board in enumerate(chosen, 1):
        _take(board, taken, out, bool(wanted.product))
        advance(number, len(chosen))
    if not taken.pictures:
        raise InputError(
            expected=f"boards of {wanted.product or 'a product'}, camera {wanted.camera or 'any'}, in these archives",
            received="; ".join(f"{count} {why}" for why, count in taken.left_out.items()),
            fix="correct --product or --camera",
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


def _chosen(wanted: Wanted, left_out: Counter[str]) -> list[BoardRef]:
    """Of each archive so many boards that passed, evenly; InputError where there are none.

    Boards whose journal is not among those named are left out: a defect may have been confirmed on them.
    """
    journals = None if wanted.journals is None else [Path(one) for one in wanted.journals]
    confirmed = {(epoch, seq) for epoch, seq, _ in confirmed_defects(journals or (), NOT_GOOD)}
    known = None if journals is None else dict(map(epoch_of, journals))
    chosen = list[BoardRef]()
    for archive in wanted.archives:
        passed = [one for one in boards_in([archive]) if one.result == PASSED]
        ours = [one for one in passed if known is None or one.epoch in known]
        told = [one for one in ours if known is None or one.seq >= known[one.epoch]]
        good = [one for one in told if (one.epoch, one.seq) not in confirmed]
        for words, count in (
            ("of an epoch that none of the journals has", len(passed) - len(ours)),
            ("older than their journal: what people said is not known any more", len(ours) - len(told)),
            ("with a confirmed defect", len(told) - len(good)),
        ):
            left_out.update({words: count} if count else {})
        count = min(wanted.most, len(good))
        chosen += [good[at * len(good) // count] for at in range(count)]
    if not chosen:
        raise InputError(
            expected='archived boards that passed ([archive] keep = "all"), and the journals of their lines',
            received="; ".join(f"{count} {why}" for why, count in left_out.items()) or "none that passed",
            fix="name each line's --journal, or --journal none where what people said is not known",
        )  # fmt: skip
    return chosen


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
                taken.left_out[f"of the product {facts.product}"] += 1
                return
            camera = taken.camera or _first(view.camera for view in facts.views)
            view = next((view for view in facts.views if view.camera == camera), None)
            if view is None:
                names = ", ".join(view.camera for view in facts.views)
                taken.left_out[f"without a frame of the camera {camera}, with {names}"] += 1
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
