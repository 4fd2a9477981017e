"""Inputs of a training run: record, boards, memory, tiles to train on and held-out ones, network."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from hisir_edge.arrays import U8
from hisir_edge.errors import InputError
from hisir_edge.geometry.tile import plan_from_size, scaled_hw
from hisir_edge.images import Rules, png_bytes, write_atomic
from hisir_edge.images.kept import arrays_kept
from hisir_edge.inspection.registration.finder import scaled_polygon
from hisir_edge.learn.data.alignment import lost_allowed
from hisir_edge.learn.data.area import area_picture, check_area
from hisir_edge.learn.data.datasets import (
    are_grey,
    frame_size,
    good_images_of,
    load_scaled,
    orientations,
    scale_of_boards,
    split_held_out,
)
from hisir_edge.learn.data.distinct import boards_among, boards_of_pictures, same_boards
from hisir_edge.learn.data.left_out import FEWEST_BOARDS, Memories, memories_of_boards
from hisir_edge.learn.data.memory import GoodBoards, good_boards_from_frames, good_boards_like, some_of
from hisir_edge.learn.data.odd import Differing, differing_boards, without_odd_places
from hisir_edge.learn.data.run import (
    RunRecord,
    RunSettings,
    check_pictures,
    differing_settings,
    is_of_older_schema,
    load_record,
    save_memory,
    save_record,
)
from hisir_edge.learn.data.statistics import BoardMemory
from hisir_edge.learn.data.tiles import CorruptedTiles, TileBatch
from hisir_edge.learn.data.variants import save_variants, variants_like, with_variants
from hisir_edge.learn.review.prepare import record_of_reviewed, with_reviewed
from hisir_edge.net.hisir_net import HisirNet

HELD_OUT_BATCHES, HELD_OUT_REVIEWED, HELD_OUT_BOARDS = 8, 4, 8
HELD_OUT_SEED = 9091
MOST_LEFT_OUT = 64
"""Of more boards the memory is the same without any of them; without one of several pictures it is not made quickly."""


@arrays_kept()
def prepare_run(
    settings: RunSettings, run: Path, on_load: Callable[[int, int], None]
) -> tuple[RunRecord, CorruptedTiles, list[TileBatch]]:
    """Load the boards, write the run's record and memory, and set the tile stream and held-out tiles up."""
    net_from_settings(settings)  # names that are unknown are told before anything is written
    record, boards = _prepared(_open_run(settings, run, on_load), run, on_load)
    memories = memories_of_boards(boards) if record.each_left_out else None
    held_out = _held_out_batches(record, boards, memories, run)
    learnt = some_of(boards, range(len(record.train)))
    record, learning = with_reviewed(run, record, boards, learnt)
    memory_of = None if memories is None else partial(memories.memory_beside, boards.memory, len(learnt.frames))
    stream = CorruptedTiles(
        run / "boards.npy", learning.boards, settings.tile_px, settings.batch, settings.seed, memory_of, learning.tiles
    )
    if learning.tiles is not None:
        held_out += stream.reviewed_batches(HELD_OUT_SEED, HELD_OUT_REVIEWED)
    for some in (boards, learnt, learning.boards):
        some.frames.clear()
    return record, stream, held_out


@arrays_kept()
def prepare_teaching(settings: RunSettings, run: Path, on_load: Callable[[int, int], None]) -> RunRecord:
    """Load the boards and write the run's record and memory, which all boards are in: none is held out."""
    record = _open_run(settings, run, on_load)
    every = tuple(sorted((*record.train, *record.held_out), key=Path))
    record = replace(record, train=every, held_out=(), each_left_out=False)
    record, boards = _prepared(record, run, on_load)
    boards.frames.clear()
    record = replace(record, held_out=record.train, each_left_out=True)
    save_record(run, record)
    return record


def _prepared(record: RunRecord, run: Path, on_load: Callable[[int, int], None]) -> tuple[RunRecord, GoodBoards]:
    """Register the boards, make their memory, and write both into the run's folder."""
    settings = record.settings
    learning = _offered(record.train, record.dropped)
    judging = _offered(record.begun_with, record.dropped_held_out) if record.each_left_out else []
    offered = [*learning, *judging]
    boards, all_of_them = _load_boards(record, offered, len(learning), on_load)
    if judging and not all_of_them:  # the memory is that of the boards that are learnt
        record, judging, offered = replace(record, each_left_out=False), [], learning
    if record.settings.area is not None and not boards.registered:
        raise InputError(
            expected="boards that are found in the pictures, for an --area of theirs",
            received="boards that are not (--register off, or they do not lie alike)",
            fix="leave --area out, or train with --register anywhere to see why",
        )
    kept = tuple(offered[i] for i in boards.kept)
    boards = replace(boards, boards=tuple(boards_among(kept, record.same_board)))
    counter = iter(range(2 * len(offered) + 1, 4 * len(offered) + 1))
    boards = with_variants(boards, settings.variants, lambda: on_load(next(counter), 4 * len(offered)))
    on_load(4 * len(offered), 4 * len(offered))
    record = replace(
        record,
        locate=boards.locate,
        area=scaled_polygon(boards.area, 1 / record.scale),
        train=tuple(path for path in kept if path in set(learning)),
        dropped=tuple(sorted({*record.dropped, *learning} - set(kept), key=Path)),
    )
    if judging:
        record = _with_held_out(record, [path for path in kept if path in set(judging)], judging)
    held_out_seen: list[Differing] = []
    later = record.held_out[len(record.begun_with) :] if record.each_left_out else record.held_out
    if later:
        record, held_out_seen = _without_lost_held_out(record, boards, later)
    run.mkdir(parents=True, exist_ok=True)
    record = replace(record, variants=tuple(place.model for place in boards.variants.places))
    record, boards = without_odd_places(record, boards, held_out_seen, run)
    save_record(run, record)
    save_memory(run, boards.memory)
    if boards.registered:
        save_variants(run, boards.variants)
        write_atomic(run / "golden.png", png_bytes(boards.memory.mean_rgb))
        write_atomic(run / "area.png", png_bytes(area_picture(boards.memory.mean_rgb, boards.area)))
    return record, boards


def _offered(used: tuple[str, ...], dropped: tuple[str, ...]) -> list[str]:
    """Pictures to try again; who was told of those that were dropped may have removed them."""
    return sorted((*used, *(path for path in dropped if Path(path).is_file())), key=Path)


def _with_held_out(record: RunRecord, kept: list[str], offered: list[str]) -> RunRecord:
    """The record with the held-out boards that were found with the others; InputError where none was."""
    lost = sorted({*record.dropped_held_out, *offered} - set(kept), key=Path)
    if not kept:
        raise _held_out_lost(lost)
    later = record.held_out[len(record.begun_with) :]
    return replace(record, held_out=(*kept, *later), dropped_held_out=tuple(lost))


def _held_out_lost(lost: list[str]) -> InputError:
    return InputError(
        expected="held-out good boards that lie and are lit like the others",
        received=", ".join(lost),
        fix="remove these pictures, or train with --register off",
    )


def _without_lost_held_out(
    record: RunRecord, boards: GoodBoards, paths: tuple[str, ...]
) -> tuple[RunRecord, list[Differing]]:
    """The record without those held-out boards that the line could not judge, and where the others differ.

    ``paths``: the last ones of the held-out boards, which the memory does not know. InputError for too many of them.
    """
    known = record.held_out[: len(record.held_out) - len(paths)]
    kept: list[str] = []
    lost: list[str] = []
    differing: list[Differing] = []
    for path in paths:
        seen = variants_like(boards.variants, good_boards_like(boards, [_frame(record, path)]))
        (kept if seen.kept else lost).append(path)
        differing += differing_boards(seen)
    if not (known or kept) or len(lost) > lost_allowed(len(record.held_out)):
        raise _held_out_lost(lost)
    added = sum(path in kept for path in record.held_out[len(record.begun_with) :])
    first, later = (lost, []) if not record.each_left_out else ([], lost)
    record = replace(
        record,
        held_out=(*known, *kept),
        added=added,
        dropped_held_out=(*record.dropped_held_out, *first),
        dropped_added=(*record.dropped_added, *later),
    )
    return record, differing


def _held_out_batches(record: RunRecord, boards: GoodBoards, memories: Memories | None, run: Path) -> list[TileBatch]:
    """Corrupted tiles of held-out boards, the same ones whenever the run is continued."""
    s, first = record.settings, len(record.train)
    memory_of: Callable[[int], BoardMemory] | None = None
    if memories is None:
        frames = [_frame(record, path) for path in record.held_out[:HELD_OUT_BOARDS]]
        like = variants_like(boards.variants, good_boards_like(boards, frames))
    else:
        like = some_of(boards, range(first, first + min(len(record.begun_with), HELD_OUT_BOARDS)))
        memory_of = partial(memories.memory_after, first)
    stream = CorruptedTiles(run / "held_out.npy", like, s.tile_px, s.batch, s.seed + HELD_OUT_SEED, memory_of)
    batches = [stream.batch_of(number) for number in range(HELD_OUT_BATCHES)]
    stream.remove_files()
    return batches


def _open_run(settings: RunSettings, run: Path, on_load: Callable[[int, int], None]) -> RunRecord:
    if (run / "run.json").exists():
        record = load_record(run)
        if is_of_older_schema(run):
            raise InputError(
                expected="a run of this version to be continued",
                received=f"{run} of an earlier one, whose boards were registered otherwise",
                fix="build it as it is, or train again into another --out",
            )
        if record.settings != settings:
            raise InputError(
                expected=f"the settings that {run} was begun with ({differing_settings(record.settings, settings)})",
                received=differing_settings(settings, record.settings),
                fix="repeat the first command to continue, or choose another --out",
            )
        check_pictures(record)
        return record
    if settings.of:
        return record_of_reviewed(settings, run)
    if run.exists() and any(run.iterdir()):
        raise InputError(
            expected="a new folder or a training run", received=f"{run} with other files", fix="choose another --out"
        )
    good = good_images_of(settings.folders, settings.recursive)
    frame_hw = frame_size(good)
    check_area(settings.area, frame_hw)
    rules = Rules(settings.levels, are_grey(good, settings.levels))
    counter = iter(range(1, len(good) + 1))
    boards = boards_of_pictures(good, frame_hw, lambda: on_load(next(counter), len(good)), rules)
    training, held_out = split_held_out(good, settings.seed, boards)
    scale = (
        settings.scale
        if settings.scale is not None
        else scale_of_boards(training, settings.register, settings.tile_px, frame_hw, rules)
    )
    plan_from_size(scaled_hw(frame_hw, scale), settings.tile_px, settings.overlap_px)
    return RunRecord(
        settings=settings,
        frame_hw=frame_hw,
        scale=scale,
        locate="off",
        grey=bool(rules.grey),
        train=tuple(map(str, training)),
        held_out=tuple(map(str, held_out)),
        same_board=same_boards(good, boards),
        each_left_out=FEWEST_BOARDS < len(good) <= MOST_LEFT_OUT and len(set(boards)) == len(good),
        orientations=orientations(good),
    )


def _frame(record: RunRecord, path: str) -> U8:
    return load_scaled(Path(path), record.frame_hw, record.scale, record.rules)


def _load_boards(
    record: RunRecord, paths: list[str], learning: int, on_load: Callable[[int, int], None]
) -> tuple[GoodBoards, bool]:
    """The boards of these pictures, registered together; whether all of them are.

    Where they are loose objects, or too many are lost, the first ones alone, ``learning``, that are learnt.
    """
    total = 4 * len(paths)  # the second half is for their variants
    frames = []
    for i, path in enumerate(paths):
        frames.append(_frame(record, path))
        on_load(i + 1, total)
    counter = iter(range(len(frames) + 1, total + 1))

    def found(count: int) -> GoodBoards:
        area = scaled_polygon(record.settings.area, record.scale)
        return good_boards_from_frames(
            frames[:count], record.settings.register, lambda: on_load(next(counter, total), total), area
        )

    if learning < len(paths):
        with suppress(InputError):
            boards = found(len(paths))
            if boards.registered:
                return boards, True
    return found(learning), learning == len(paths)


def net_from_settings(settings: RunSettings) -> HisirNet:
    """An untrained network of a run."""
    return HisirNet(settings.backbone, settings.width, settings.without)
