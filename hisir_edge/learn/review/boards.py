"""Boards that people have reviewed: false calls that are good, defects that were confirmed, escapes that were drawn.

The operator's page exports them as one ZIP: ``reviewed.json``, and each board as the line archived it. A training run
keeps them in its folder ``reviewed``: a picture a board, and one list.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from hisir_edge.archive.board_file import DAMAGE, ArchivedBoard, View
from hisir_edge.errors import InputError
from hisir_edge.images import png_bytes, write_atomic
from hisir_edge.images.pixels import Pixels
from hisir_edge.json_once import loads_once

SCHEMA = "hisir-edge/reviewed/1.0"
LIST, FOLDER = "reviewed.json", "reviewed"
OURS = re.compile(r"[0-9a-f]{8}-\d{10}\.png")
"""What a run calls its reviewed pictures."""
Kind = Literal["false call", "confirmed", "repaired", "escape", "open"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DEFECTS = ("confirmed", "repaired", "escape")
MOST_BOARDS, MOST_PLACES, MOST_CORNERS = 5000, 500, 512
MOST_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class ReviewedPlace:
    """A place of a board's frame, polygon in the camera's pixels, and what people said of what was called there.

    "open": called, and nobody has decided.
    """

    kind: Kind
    polygon: tuple[tuple[float, float], ...]
    who: str = ""

    @property
    def is_defect(self) -> bool:
        """Whether it has to be found."""
        return self.kind in DEFECTS

    @property
    def box_xywh(self) -> tuple[float, float, float, float]:
        """Around the polygon."""
        xs, ys = zip(*self.polygon, strict=True)
        return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


@dataclass(frozen=True, slots=True)
class ReviewedBoard:
    """A board; ``name``: line, epoch and number, ``picture``: its file in the run."""

    name: str
    unit: str
    picture: str
    places: tuple[ReviewedPlace, ...]

    @property
    def is_good(self) -> bool:
        """Whether all that was called on it is a false call, by what people said."""
        return bool(self.places) and all(place.kind == "false call" for place in self.places)


def unpack_reviewed(files: tuple[Path, ...], run: Path, frame_hw: tuple[int, int], camera: str = "") -> int:
    """Put reviewed boards into a run's folder, beside those that are there; how many are new or have other words.

    ``camera``: of boards that several look at; empty: the only one. InputError for a damaged file, and for other
    frames than the run's.
    """
    known = {board.name: board for board in load_reviewed(run)}
    before = dict(known)
    (run / FOLDER).mkdir(parents=True, exist_ok=True)
    for board, frame in _read(files, camera):
        if not any(place.kind != "open" for place in board.places):  # all of it was taken back
            known.pop(board.name, None)
            continue
        path = run / FOLDER / board.picture
        if not path.exists():
            if frame is None:  # not archived any more, and never taken into a run
                continue
            pixels = frame()
            _check_size(pixels.hw, frame_hw, board.name)
            grey = pixels.data.ndim == 2 and pixels.pixel_format == "Mono8"
            write_atomic(path, png_bytes(pixels.data if grey else pixels.rgb))
        known[board.name] = board
    if not known:
        raise InputError(
            expected="reviewed boards in " + ", ".join(map(str, files)),
            received="none that is archived and decided on",
            fix="review boards on the operator's page, and export them again",
        )
    save_reviewed(run, tuple(known.values()))
    return sum(before.get(name) != known.get(name) for name in before.keys() | known.keys())


def check_same_reviews(files: tuple[Path, ...], run: Path, camera: str = "") -> None:
    """InputError where these files have boards that a run was not begun with, or other words on them."""
    known = {board.name: board for board in load_reviewed(run)}
    other = [
        board.name
        for board, frame in _read(files, camera)
        if known.get(board.name) != board and (frame is not None or board.name in known)
    ]
    if other:
        raise InputError(
            expected=f"the reviews that {run} was begun with",
            received=f"{len(other)} board(s) that it does not have so, such as {other[0]}",
            fix="choose another --out, or repeat the first command to continue",
        )


def _read(files: tuple[Path, ...], camera: str) -> Iterator[tuple[ReviewedBoard, Callable[[], Pixels] | None]]:
    """The boards of exports with what was said of this camera's frames, and each one's frame.

    None for a board that is not in the file: one that is not archived any more, or on which all was taken back.
    """
    for file in files:
        with _told(file), zipfile.ZipFile(file) as archive:
            product, boards = _boards_of(archive)
            for raw in boards:
                named = {
                    "name": f"{raw['line']}/{raw['epoch']}/{raw['seq']}", "unit": str(raw["unit"]),
                    "picture": f"{raw['epoch'][:8]}-{int(raw['seq']):010d}.png",
                }  # fmt: skip
                if not raw["file"]:
                    places = _places(raw, camera)
                    yield ReviewedBoard(**named, places=places), None
                    continue
                with ArchivedBoard(_member(archive, str(raw["file"])), f"{file}: {raw['file']}") as board:
                    facts = board.facts
                    if (facts.product, facts.epoch, facts.seq) != (product, raw["epoch"], raw["seq"]):
                        raise ValueError(f"{raw['file']} of another board than is listed")
                    view = _view(board, camera)
                    if places := _places(raw, view.camera):
                        yield ReviewedBoard(**named, places=places), partial(board.frame, view)


def save_reviewed(run: Path, boards: tuple[ReviewedBoard, ...]) -> None:
    """Write the list."""
    text = json.dumps({"schema": SCHEMA, "boards": [asdict(board) for board in boards]}, indent=1)
    write_atomic(run / FOLDER / LIST, text.encode())


def load_reviewed(run: Path) -> tuple[ReviewedBoard, ...]:
    """The reviewed boards of a run, none where it has no such; InputError for a damaged list."""
    path = run / FOLDER / LIST
    if not path.exists():
        return ()
    with _told(path):
        raw = loads_once(path.read_bytes())
        if raw["schema"] != SCHEMA:
            raise ValueError(f"another schema than {SCHEMA}")
        return tuple(
            ReviewedBoard(str(b["name"]), str(b["unit"]), str(b["picture"]), tuple(_place(p) for p in b["places"]))
            for b in raw["boards"]
        )


def where_they_lie(raw: Any, run: Path) -> Any:
    """What a run's record names, with its reviewed pictures where they are now: a run may have been moved or copied."""
    if isinstance(raw, dict):
        return {key: where_they_lie(one, run) for key, one in raw.items()}
    if isinstance(raw, list):
        return [where_they_lie(one, run) for one in raw]
    if isinstance(raw, str) and Path(raw).parent.name == FOLDER and OURS.fullmatch(Path(raw).name):
        here = run.absolute() / FOLDER / Path(raw).name
        return str(here) if here.is_file() else raw
    return raw


def picture_of(run: Path, board: ReviewedBoard) -> Path:
    """Where a board's picture lies."""
    return (run / FOLDER / board.picture).absolute()


def _boards_of(archive: zipfile.ZipFile) -> tuple[str, list[dict[str, Any]]]:
    """The product, and the list of boards."""
    raw = loads_once(_member(archive, LIST))
    if raw["schema"] != SCHEMA:
        raise ValueError(f"another schema than {SCHEMA}")
    boards = raw["boards"]
    if not isinstance(boards, list) or len(boards) > MOST_BOARDS:
        raise ValueError(f"a list of up to {MOST_BOARDS} boards")
    for board in boards:
        named = all(isinstance(board[name], str) for name in ("line", "epoch", "unit", "file"))
        if not named or type(board["seq"]) is not int or not board["epoch"].isalnum():
            raise ValueError("boards of line, epoch, seq, unit and file")
    return str(raw["product"]), boards


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > MOST_BYTES:
        raise ValueError(f"{name} of more than {MOST_BYTES >> 20} MiB")
    return archive.read(name)


def _places(raw: dict[str, Any], camera: str) -> tuple[ReviewedPlace, ...]:
    places = raw["places"]
    if not isinstance(places, list) or len(places) > MOST_PLACES:
        raise ValueError(f"a list of up to {MOST_PLACES} places")
    return tuple(_place(place) for place in places if not camera or place["camera"] == camera)


def _place(raw: dict[str, Any]) -> ReviewedPlace:
    corners = tuple((float(x), float(y)) for x, y in raw["polygon"])
    if raw["kind"] not in KINDS or not 1 <= len(corners) <= MOST_CORNERS:
        raise ValueError(f"places of kind ({', '.join(KINDS)}) and polygon")
    if any(not abs(value) < 1e6 for corner in corners for value in corner):
        raise ValueError("corners in the frame")
    return ReviewedPlace(raw["kind"], corners, str(raw.get("who", "")))


def _view(board: ArchivedBoard, camera: str) -> View:
    views = board.facts.views
    names = [view.camera for view in views]
    if not camera and len(views) == 1:
        return views[0]
    if camera not in names:
        raise InputError(
            expected=f"--camera: one of {', '.join(names)}, whose frames the run is of",
            received=camera or "none",
            fix="name it",
        )
    return views[names.index(camera)]


def _check_size(found: tuple[int, int], wanted: tuple[int, int], name: str) -> None:
    if found != wanted:
        raise InputError(
            expected=f"reviewed boards of {wanted[1]}x{wanted[0]}, as the run's",
            received=f"{name} of {found[1]}x{found[0]}",
            fix="name the run of this camera and product",
        )


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """InputError for what is damaged, or none."""
    try:
        yield
    except DAMAGE as error:
        raise InputError(
            expected=f"reviewed boards in {path}, as the operator's page exports them",
            received=f"{type(error).__name__}: {error}"[:200],
            fix="export them again",
        ) from error
