"""Anomaly maps of one engine, on disk: of the run's good boards, and of held-out ones with planted defects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hisir_edge.arrays import F32, U8, Bool
from hisir_edge.bundle.manifest import OpticsModel
from hisir_edge.corruption.plant import NAMES, WINDOWS_PER_BOARD, plant
from hisir_edge.corruption.spots import largest_part, part_boxes
from hisir_edge.engine.acceptance.left_out import Others
from hisir_edge.engine.acceptance.optics import Survey
from hisir_edge.errors import InputError, InspectionError
from hisir_edge.images import read_rgb
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.board import board_pixels
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.learn.data.distinct import boards_among
from hisir_edge.learn.data.run import RunRecord

NOISE_BOARDS = 24
COMPARED_BOARDS = 6
"""Engines are compared on so many boards where all boards are held out; the thresholds come from all."""
PLANTED = 6 * len(NAMES)
"""Windows with planted defects that are wanted on all held-out boards together."""
MOST_ROUNDS = 8
"""How often each board is planted again, where there are too few boards."""
SEED = 6006


@dataclass(frozen=True, slots=True)
class Maps:
    """Files of raw scores over the scaled golden image, (h, w) float32 each.

    ``good``: every picture, held-out ones first. ``planted`` and ``truth``: the first held-out boards with planted
    defects, and where these are (uint8, 0 or the number of the class, see ``corruption.plant``), each board once or,
    where there are few, several times. The same run gives the same boards and defects for every engine. ``boards``:
    which board each held-out picture shows; empty: each another. ``keep_alone``: what one board alone shows counts.
    ``pictures``: the picture of each good map. ``optics``: how they were taken.
    """

    good: tuple[Path, ...]
    held_out: int
    planted: tuple[Path, ...]
    truth: tuple[Path, ...]
    boards: tuple[int, ...] = ()
    keep_alone: bool = False
    pictures: tuple[str, ...] = ()
    optics: OpticsModel | None = None

    def first(self, count: int) -> Maps:
        """Those of the first ``count`` held-out pictures, which all planted defects are in, and of the added ones."""
        if count >= self.held_out:
            return self
        good = (*self.good[:count], *self.good[self.held_out :])
        pictures = (*self.pictures[:count], *self.pictures[self.held_out :])
        return replace(self, good=good, held_out=count, boards=self.boards[:count], pictures=pictures)


def boards_of(maps: Maps) -> tuple[int, ...]:
    """Which board each good map shows; those of learnt boards show one each."""
    held_out = maps.boards or tuple(range(maps.held_out))
    return (*held_out, *range(len(held_out), len(maps.good)))


def boards_compared(record: RunRecord) -> int:
    """On how many of a run's held-out boards engines are compared."""
    count = len(record.begun_with)
    return min(COMPARED_BOARDS, count) if record.taught else count


def maps_from_inspector(
    inspector: CpuInspector,
    record: RunRecord,
    folder: Path,
    on_board: Callable[[int, int], None] = lambda d, t: None,
    others: Others | None = None,
    compared: int | None = None,
) -> Maps:
    """Run an engine over the boards; InputError names a good board that cannot be inspected.

    ``others``: each board is judged by the memory of the others. ``compared``: so many of the held-out boards get
    planted defects; None: as many as are needed.
    """
    folder.mkdir()
    boards = [*record.held_out, *_noise_boards(record)]
    boxes = part_boxes(inspector.bundle.memory_rgbd[..., :3], largest_px=largest_part(inspector.plan.tile_px))
    area = padded_board(inspector)
    planting = len(record.held_out) if compared is None else compared
    rounds = min(MOST_ROUNDS, -(-PLANTED // (WINDOWS_PER_BOARD * max(planting, 1))))
    good, planted, truths, windows, survey = [], [], [], 0, Survey(inspector)
    for number, path in enumerate(boards):
        if others is not None:
            inspector.memory = others.memory_of(inspector, path)
        try:
            frame = read_rgb(Path(path), rules=record.rules)
            registration, gains = inspector.prepare(Pixels(frame))
        except InspectionError as error:
            raise InputError(
                expected=f"the good board {path} to be inspected",
                received=str(error),
                fix="remove the picture and train again",
            ) from error
        survey.add(Pixels(frame), inspector.pose_of_camera(registration))
        scores = inspector.map_with_tiles(inspector.numbers, gains)
        good.append(_saved(folder / f"good{number}.npy", _without_odd(scores, record, path)))
        clean, before = inspector.padded.copy(), set[int]()
        for turn in range(rounds if number < planting else 0):
            if windows >= PLANTED:
                break
            inspector.padded[:] = clean
            which = number + turn * planting
            truth, places = plant(
                inspector.padded, inspector.plan.tile_px, boxes, (record.settings.seed, SEED, which), windows,
                on_board=area,
            )  # fmt: skip
            windows += len(places)
            touched = set(touched_tiles(inspector, places))
            seen = inspector.map_with_tiles(sorted(touched | before), gains)
            before = touched
            planted.append(_saved(folder / f"planted{which}.npy", seen))
            h, w = inspector.plan.frame_hw
            truths.append(_saved(folder / f"truth{which}.npy", truth[:h, :w]))
        on_board(number + 1, len(boards))
    shown = boards_among(record.held_out, record.same_board)
    held_out, keep = len(record.held_out), record.settings.keep_odd
    return Maps(tuple(good), held_out, tuple(planted), tuple(truths), tuple(shown), keep, tuple(boards), survey.model())


def _without_odd(scores: F32, record: RunRecord, path: str) -> F32:
    """The map (h, w) with 0 where the run found this picture to be the only one that looks so."""
    boxes = [place.box_xywh for place in record.odd if place.picture == path]
    if boxes:
        scores = scores.copy()
        for x, y, w, h in boxes:
            scores[y : y + h, x : x + w] = 0
    return scores


def padded_board(inspector: CpuInspector) -> Bool | None:
    """The board's area as pixels of the padded golden image; None: all of it."""
    board = board_pixels(inspector.bundle)
    if board is None:
        return None
    out: Bool = np.zeros(inspector.plan.padded_hw, np.bool_)
    out[: board.shape[0], : board.shape[1]] = board
    return out


def _saved(path: Path, values: F32 | U8) -> Path:
    try:
        np.save(path, values)
    except OSError as error:  # NumPy's own says how many bytes were written, and not where
        raise InputError(
            expected=f"room beside the bundle for the maps of the gate, such as {path} of {values.nbytes >> 20} MiB",
            received=error.strerror or str(error),
            fix="free some space, or build into another folder",
        ) from error
    return path


def _noise_boards(record: RunRecord) -> list[str]:
    """Training boards that are added to the held-out ones to have ``NOISE_BOARDS`` of them."""
    if record.taught:
        return []
    rng = np.random.default_rng([record.settings.seed, 64])
    wanted = max(NOISE_BOARDS - len(record.begun_with), 0)
    return [record.train[int(i)] for i in rng.permutation(len(record.train))[:wanted]]


def touched_tiles(inspector: CpuInspector, places: list[tuple[int, int]]) -> list[int]:
    """Tiles that see one of the windows."""
    t = inspector.plan.tile_px
    origins = np.array(inspector.plan.origins_yx)
    seen = [(np.abs(origins - place) < t).all(1) for place in places]
    return [int(i) for i in np.flatnonzero(np.any(seen, axis=0))] if seen else []
