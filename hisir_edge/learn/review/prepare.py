"""A run that goes on from another one with reviewed boards: what it begins with, and what its tiles show."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hisir_edge.errors import InputError
from hisir_edge.learn.data.datasets import load_scaled, split_held_out
from hisir_edge.learn.data.distinct import boards_among
from hisir_edge.learn.data.looks import Variants
from hisir_edge.learn.data.memory import GoodBoards, good_boards_like, some_of
from hisir_edge.learn.data.run import (
    RunRecord,
    RunSettings,
    check_pictures,
    is_of_older_schema,
    load_record,
    save_record,
)
from hisir_edge.learn.data.variants import variants_like
from hisir_edge.learn.review.boards import (
    FOLDER,
    ReviewedBoard,
    check_same_reviews,
    load_reviewed,
    picture_of,
    save_reviewed,
    unpack_reviewed,
)
from hisir_edge.learn.review.tiles import ReviewedTiles, golden_polygon, patch_of, together

OURS = re.compile(r"\.?([0-9a-f]{8}-\d{10}\.png|reviewed\.json)(\.\d+\.tmp)?")
MARGIN_PX = 8
"""Around a place that is not good: nothing is learnt from it."""


def begin_reviewed(of: Path, files: tuple[Path, ...], run: Path, camera: str = "") -> None:
    """Put reviewed boards, and those that the run ``of`` had, into a new run's folder; one that is begun has them.

    InputError for boards that are not of this run's camera, for a folder with other things in it, and for other reviews
    than a run was begun with.
    """
    if (run / "run.json").exists():
        check_same_reviews(files, run, camera)
        return
    base = load_record(of)
    foreign = _foreign(run)
    if foreign:
        raise InputError(
            expected="a new folder for the run that goes on",
            received=f"{run} with other files, such as {foreign[0]}",
            fix="choose another --out",
        )
    shutil.rmtree(run / FOLDER, ignore_errors=True)  # of a beginning that was killed
    known = load_reviewed(of)
    if known:
        shutil.copytree(of / FOLDER, run / FOLDER)
        save_reviewed(run, known)
    unpack_reviewed(files, run, base.frame_hw, camera)


def record_of_reviewed(settings: RunSettings, run: Path) -> RunRecord:
    """The record of a run that goes on from ``settings.of``: its boards, and those of false calls as held-out ones."""
    of = Path(settings.of)
    base = load_record(of)
    names = {board.picture for board in load_reviewed(of)}
    later = base.held_out[len(base.begun_with) :]
    kept = tuple(path for path in later if not _is_reviewed(path, names))
    base = replace(
        base, held_out=(*base.begun_with, *kept), added=len(kept),
        dropped_added=tuple(path for path in base.dropped_added if not _is_reviewed(path, names)),
    )  # fmt: skip
    if is_of_older_schema(of):
        raise InputError(
            expected="a run of this version to go on from", received=f"{of} of an earlier one", fix="train it again"
        )
    check_pictures(base)
    if base.taught:  # all of its boards are held out, too: some are to be learnt, others to judge by
        base = _split(base)
    good = tuple(str(picture_of(run, board)) for board in load_reviewed(run) if board.is_good)
    held_out = (*base.held_out, *good)
    return replace(base, settings=settings, held_out=held_out, added=base.added + len(good), odd=(), variants=())


def _is_reviewed(path: str, names: set[str]) -> bool:
    """Whether a picture is one of a run's reviewed boards, wherever that run lay."""
    return Path(path).parent.name == FOLDER and Path(path).name in names


def _foreign(run: Path) -> list[str]:
    """What is in a folder that no beginning of ours put there."""
    if not run.is_dir():
        return []
    inside = run / FOLDER
    other = {path.name for path in run.iterdir()} - {FOLDER}
    if inside.is_dir():
        other |= {f"{FOLDER}/{path.name}" for path in inside.iterdir() if not OURS.fullmatch(path.name)}
    return sorted(other)


def _split(base: RunRecord) -> RunRecord:
    pictures = [Path(path) for path in base.train]
    shown = boards_among(base.train, base.same_board)
    training, held_out = split_held_out(pictures, base.settings.seed, list(shown))
    later = base.held_out[len(base.begun_with) :]
    return replace(base, train=tuple(map(str, training)), held_out=(*map(str, held_out), *later))


@dataclass(frozen=True, slots=True)
class Learning:
    """The boards that tiles are cut from, those of false calls last, and the places that are looked at more often."""

    boards: GoodBoards
    tiles: ReviewedTiles | None


def with_reviewed(run: Path, record: RunRecord, boards: GoodBoards, learnt: GoodBoards) -> tuple[RunRecord, Learning]:
    """The boards that are learnt and those that people have reviewed, placed as the line would place them.

    Reviewed boards that are not found in their frames, or are lit otherwise, are added to what the record leaves out.
    """
    reviewed = load_reviewed(run)
    if not reviewed:
        return record, Learning(learnt, None)
    paths = [picture_of(run, board) for board in reviewed]
    frames = [load_scaled(path, record.frame_hw, record.scale, record.rules) for path in paths]
    like = variants_like(boards.variants, good_boards_like(boards, frames))
    found = [reviewed[number] for number in like.kept]
    lost = [str(path) for number, path in enumerate(paths) if number not in like.kept]
    if lost:
        record = replace(record, dropped_added=tuple(dict.fromkeys((*record.dropped_added, *lost))))
        save_record(run, record)
    polygons = [[golden_polygon(like, n, p, record.scale) for p in board.places] for n, board in enumerate(found)]
    defects = [
        [polygon for place, polygon in zip(board.places, of, strict=True) if place.is_defect]
        for board, of in zip(found, polygons, strict=True)
    ]
    patches = [
        patch
        for number, of in enumerate(defects)
        for group in together(of)
        if (patch := patch_of(like, number, group)) is not None
    ]
    partly_good = [n for n, board in enumerate(found) if any(place.kind == "false call" for place in board.places)]
    first = len(learnt.frames)
    good = tuple(
        (first + at, float(polygon[:, 1].mean()), float(polygon[:, 0].mean()))
        for at, number in enumerate(partly_good)
        for place, polygon in zip(found[number].places, polygons[number], strict=True)
        if place.kind == "false call"
    )
    not_good = tuple(
        (first + at, _box(polygon))
        for at, number in enumerate(partly_good)
        for place, polygon in zip(found[number].places, polygons[number], strict=True)
        if place.kind != "false call"
    )
    joined = _joined(learnt, some_of(like, partly_good))
    joined = replace(joined, ignored=(*joined.ignored, *not_good))
    return record, Learning(joined, ReviewedTiles(good, tuple(patches)) if good or patches else None)


def _box(polygon: np.ndarray) -> tuple[int, int, int, int]:
    (left, top), (right, bottom) = np.floor(polygon.min(0)) - MARGIN_PX, np.ceil(polygon.max(0)) + MARGIN_PX
    return int(left), int(top), int(right - left), int(bottom - top)


def _joined(first: GoodBoards, more: GoodBoards) -> GoodBoards:
    """Two lists of boards as one; what is known of both stays that of the first."""
    if not more.frames:
        return first
    last = max(first.boards, default=-1)
    looks = first.variants.looks
    if first.variants.places:
        looks = np.concatenate([looks, more.variants.looks])
    return replace(
        first,
        frames=[*first.frames, *more.frames],
        poses=[*first.poses, *more.poses],
        lights=[*first.lights, *more.lights],
        kept=tuple(range(len(first.frames) + len(more.frames))),
        boards=(*first.boards, *range(last + 1, last + 1 + len(more.frames))) if first.boards else (),
        variants=Variants(first.variants.places, looks, first.variants.own),
    )


def words_of_reviewed(boards: tuple[ReviewedBoard, ...]) -> str:
    """How much has been reviewed, in words."""
    kinds = [place.kind for board in boards for place in board.places]
    counts = {kind: kinds.count(kind) for kind in ("false call", "confirmed", "repaired", "escape")}
    return f"{len(boards)} reviewed board(s): " + ", ".join(f"{count} {kind}" for kind, count in counts.items())
