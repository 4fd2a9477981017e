"""Which tiles int8 is calibrated on: good boards cut by position, so that the whole board is covered.

Half of them are corrupted, so that what a defect does to the activations, the gate's high range above all, is seen.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hisir_edge.arrays import I32, U8, Bool, u8
from hisir_edge.bundle.integrity import sha256_of
from hisir_edge.bundle.variants import Place
from hisir_edge.corruption.appearance import add_sensor_noise
from hisir_edge.corruption.corrupt import corrupt_tile
from hisir_edge.corruption.spots import largest_part, part_boxes
from hisir_edge.errors import HisirEdgeError, InputError
from hisir_edge.geometry.tile import plan_from_size
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.light import golden_light, light_of_frame, without_light
from hisir_edge.inspection.memory.shown import ShownMemory
from hisir_edge.inspection.memory.variants import Chooser, crop_of
from hisir_edge.inspection.registration.finder import (
    Finder,
    finder_from_memory,
    inside_outline,
    outline_of,
    scaled_polygon,
)
from hisir_edge.inspection.registration.pose import straightened
from hisir_edge.learn.data.datasets import load_scaled
from hisir_edge.learn.data.run import RunRecord
from hisir_edge.learn.data.tiles import places_on_board

DEFAULT_BOARDS = 8
MOST_TILES = 2048
CHECK_TILES = 16
LEAST_CONTRAST_LEVELS = 2.0
SEED = 4242


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Tiles (n, 3, t, t) and cues (n, 4, t, t) to take ranges from, and others to compare networks on.

    ``images``: path and SHA-256 of every board used, in order; ``list_sha256`` is the hash of that list. ``places``:
    for each tile its picture and its upper left corner there, in words.
    """

    images: tuple[tuple[str, str], ...]
    tiles: U8 = field(repr=False)
    cues: U8 = field(repr=False)
    check_tiles: U8 = field(repr=False)
    check_cues: U8 = field(repr=False)
    places: tuple[str, ...] = ()

    @property
    def list_sha256(self) -> str:
        """Hash of the images' hashes, whatever they are called."""
        return hashlib.sha256("\n".join(digest for _, digest in self.images).encode()).hexdigest()


def images_from_list(path: Path) -> tuple[str, ...]:
    """Pictures of a calibration list: a path a line, counted from the list's folder; ``#`` begins a comment."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            expected="a readable calibration list",
            received=f"{path} ({getattr(error, 'strerror', None) or error})",
            fix="check --calib",
        ) from error
    names = [_name_in(line.strip(), path.parent) for line in lines]
    found = tuple(str((path.parent / name).resolve()) for name in names if name)
    if not found:
        raise InputError(
            expected=f"pictures in the calibration list {path}", received="none", fix="write one path a line"
        )
    return found


def _name_in(line: str, folder: Path) -> str:
    """The path in a line, which may hold `` #`` itself (board #3.png); else that begins a comment."""
    if line.startswith("#") or (folder / line).is_file():
        return "" if line.startswith("#") else line
    return re.split(r"\s#", line, maxsplit=1)[0].strip()


def default_images(record: RunRecord) -> tuple[str, ...]:
    """Up to ``DEFAULT_BOARDS`` boards that the run was trained on, drawn by its seed; never held-out ones."""
    order = np.random.default_rng([record.settings.seed, SEED]).permutation(len(record.train))
    return tuple(record.train[int(i)] for i in order[:DEFAULT_BOARDS])


def calibration_from_images(
    record: RunRecord, memory: U8, images: tuple[str, ...], tiles: int, with_variants: tuple[Place, ...] = ()
) -> Calibration:
    """Cut calibration tiles; InputError names the first picture that cannot be used.

    memory (h, w, 4), ``with_variants``: the bundle's board memory. At least one tile lies at every place of the tile
    plan (of more than ``MOST_TILES`` places at every second, third, ...), and at least one comes from every picture.
    """
    t = record.settings.tile_px
    plan = plan_from_size(memory.shape[:2], t, record.settings.overlap_px)
    rng = np.random.default_rng([record.settings.seed, SEED, 1])
    if len(images) > MOST_TILES:
        raise InputError(
            expected=f"at most {MOST_TILES} calibration images", received=f"{len(images)}", fix="shorten the list"
        )
    area, on_board = scaled_polygon(record.area, record.scale), None
    origins = list(plan.origins_yx)
    if area is not None:
        on_board = inside_outline(plan.frame_hw, outline_of(plan.frame_hw, area))
        origins = [(y, x) for y, x in origins if on_board[y : y + t, x : x + t].any()]
    wanted = min(max(tiles, len(origins), len(images)), MOST_TILES)
    places = [origins[i * len(origins) // wanted % len(origins)] for i in range(wanted)]
    h, w = plan.padded_hw
    if on_board is None:
        checks = [(int(rng.integers(h - t + 1)), int(rng.integers(w - t + 1))) for _ in range(CHECK_TILES)]
    else:
        all_places = places_on_board(u8(on_board.astype(np.uint8)), t)
        checks = [(int(y), int(x)) for y, x in all_places[rng.integers(len(all_places), size=CHECK_TILES)]]
    boxes = part_boxes(memory[..., :3], largest_px=largest_part(t))
    padded = np.pad(memory, ((0, h - memory.shape[0]), (0, w - memory.shape[1]), (0, 0)), mode="edge")
    finder = finder_from_memory(record.locate, memory[..., :3], memory[..., 3], area)
    shown = ShownMemory(Chooser(with_variants, plan.frame_hw), u8(padded.transpose(2, 0, 1)))
    made: dict[int, tuple[U8, U8]] = {}
    digests = []
    everything = [*places, *checks]
    for board, path in enumerate(images):
        frame = _golden_frame(Path(path), record, memory, finder, on_board)
        digests.append((path, sha256_of(Path(path))))
        shown.show(crop_of(frame), None)
        frame = np.pad(frame, ((0, h - frame.shape[0]), (0, w - frame.shape[1]), (0, 0)), mode="edge")
        for number in range(board, len(everything), len(images)):
            # neighbours in the list go to different boards; of each place's visits every second one is corrupted
            corrupted = (number // len(images) + board) % 2 == 1
            made[number] = _tile_at(rng, frame, shown.planes, everything[number], t, boxes, corrupted)
    stacks = [np.stack([made[i][part] for i in range(len(everything))]) for part in (0, 1)]
    return Calibration(
        images=tuple(digests),
        tiles=stacks[0][:wanted],
        cues=stacks[1][:wanted],
        check_tiles=stacks[0][wanted:],
        check_cues=stacks[1][wanted:],
        places=tuple(f"at {x},{y} px of {images[n % len(images)]}" for n, (y, x) in enumerate(places)),
    )


def _tile_at(
    rng: np.random.Generator, frame: U8, planes: U8, origin: tuple[int, int], t: int, boxes: I32, corrupted: bool
) -> tuple[U8, U8]:
    y, x = origin
    tile = frame[y : y + t, x : x + t]
    if corrupted:
        inside = (boxes[:, :2] >= (x, y)).all(1) & (boxes[:, :2] + boxes[:, 2:] <= (x + t, y + t)).all(1)
        donor = np.roll(frame, (t // 2, t // 3), (0, 1))[y : y + t, x : x + t]
        tile = corrupt_tile(rng, tile, donor, boxes[inside] - np.array([x, y, 0, 0], np.int32)).tile
    noisy = add_sensor_noise(rng, tile).transpose(2, 0, 1)
    return np.ascontiguousarray(noisy), np.ascontiguousarray(planes[:, y : y + t, x : x + t])


def _golden_frame(path: Path, record: RunRecord, memory: U8, finder: Finder | None, on_board: Bool | None) -> U8:
    """A good board as the network is to see it; InputError names a picture that is none."""
    try:
        frame = load_scaled(path, record.frame_hw, record.scale, record.rules)
        if float(frame.std()) < LEAST_CONTRAST_LEVELS:
            raise InputError(expected="a picture of a board", received="one colour all over", fix="replace it")
        if finder is None:
            return frame
        golden = memory[..., :3]
        moved = straightened(frame, finder.find(Pixels(frame)).pose, (golden.shape[0], golden.shape[1]))
        return without_light(moved, light_of_frame(golden_light(golden, on_board), moved))
    except HisirEdgeError as error:
        raise InputError(
            expected=f"the calibration image {path} to show a good board",
            received=error.received if str(path) in error.received else f"{error.received} (expected {error.expected})",
            fix="replace the picture, or take it out of the calibration list",
        ) from error
