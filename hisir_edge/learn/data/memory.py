"""Board memory: what good boards look like at each position, and how much they vary there.

The golden image and the deviation of the registered good boards, uint8, are what the positional cue is cropped from;
registration works against the same golden image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from hisir_edge.arrays import F64, U8, u8
from hisir_edge.bundle.write import memory_as_shipped
from hisir_edge.errors import InputError, InspectionError
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.light import GoldenLight, golden_light, light_of_frame, without_light
from hisir_edge.inspection.registration.finder import (
    Finder,
    Locate,
    Polygon,
    finder_from_memory,
    inside_outline,
    outline_of,
)
from hisir_edge.inspection.registration.pose import Pose, pose_from_affine, straightened, straightened_rows
from hisir_edge.learn.data.alignment import (
    Alignment,
    aligned_anywhere,
    aligned_by_fixture,
    lost_allowed,
    moves_otherwise,
)
from hisir_edge.learn.data.looks import Variants
from hisir_edge.learn.data.statistics import BoardMemory, mean_memory, robust_memory

FLAT = pose_from_affine(np.array([[1.0, 0, 0], [0, 1.0, 0]]))
LIGHT_BOARDS = 24
"""The image that light is measured against at first is made of so many boards at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodBoards:
    """Good boards as the camera gave them, (h, w, 3) uint8 each, and where they lie.

    ``poses`` map frame pixels to golden pixels, one a frame; the identity where ``locate`` is "off". ``lights`` (3, 3)
    are each frame's log gain planes against the golden image (see ``inspection/light.py``), zero there. Frames are not
    changed here: each crop of them is interpolated once and its light taken out, as on the line. ``area``: polygon
    around the board in golden pixels, None: all of the frame. ``kept``: which of the frames offered these are.
    ``boards``: which board each frame shows, empty: each another. ``variants``: what each shows where they differ.
    ``ignored``: places, as number of the frame and box in golden pixels, that nothing is learnt from.
    """

    frames: list[U8] = field(repr=False)
    poses: list[Pose] = field(repr=False)
    lights: list[F64] = field(repr=False)
    memory: BoardMemory = field(repr=False)
    locate: Locate
    area: Polygon | None = None
    kept: tuple[int, ...] = ()
    ignored: tuple[tuple[int, tuple[int, int, int, int]], ...] = ()
    boards: tuple[int, ...] = ()
    variants: Variants = field(default_factory=Variants, repr=False)

    @property
    def registered(self) -> bool:
        """Whether the boards were found in the frames."""
        return self.locate != "off"


def light_of_golden(golden_rgb: U8, area: Polygon | None) -> GoldenLight:
    """The light of a golden image (h, w, 3), measured on the board alone."""
    hw = (golden_rgb.shape[0], golden_rgb.shape[1])
    return golden_light(golden_rgb, None if area is None else inside_outline(hw, outline_of(hw, area)))


def good_boards_from_frames(
    frames: list[U8],
    register: str = "auto",
    on_done: Callable[[], None] = lambda: None,
    area: Polygon | None = None,
) -> GoodBoards:
    """Register good frames (all of one shape) to their common golden image.

    ``register``: "fixture" or "anywhere" is how boards are found, "on" either; InputError when they are not. "off":
    they are not looked for. "auto": either way, or not at all where more than a tenth cannot be found (loose objects).
    Up to a tenth, and always one, may be lost: they are left out, see ``kept``. ``area``: a person's own polygon.
    """
    alignment = _aligned(frames, register, on_done)
    if alignment is None:
        return unregistered_boards(frames)
    boards = _found_again(_lit_alike(frames, alignment, alignment.area if area is None else area), len(frames))
    if boards is not None:
        return boards
    if register == "auto":
        return unregistered_boards(frames)
    raise _not_alike(register)


WAYS = {"fixture": ("fixture",), "anywhere": ("anywhere",), "on": ("fixture", "anywhere"), "off": ()}


def _aligned(frames: list[U8], register: str, on_done: Callable[[], None]) -> Alignment | None:
    """The first way that finds every board, else the one that finds the most; None where neither finds enough."""
    ways = WAYS.get(register, WAYS["on"])
    best: Alignment | None = None
    still = False
    for way in ways:
        align = aligned_by_fixture if way == "fixture" else aligned_anywhere
        alignment = align(frames, on_done)
        if alignment is not None and (best is None or alignment.lost < best.lost or still):
            best = alignment
        still = way == "fixture" and len(ways) > 1 and best is not None and moves_otherwise(frames, best)
        if best is not None and not best.lost and not still:
            break
    if best is not None:
        return best
    if ways and register != "auto":
        raise _not_alike(register)
    return None


def _found_again(boards: GoodBoards, offered: int) -> GoodBoards | None:
    """The boards that the line finds by their own golden image; None where too many are lost with the others."""
    finder = _finder_as_shipped(boards)
    kept = [number for number, frame in enumerate(boards.frames) if finder is not None and _finds(finder, frame)]
    if offered - len(kept) > lost_allowed(offered):
        return None
    return some_of(boards, kept)


def _finder_as_shipped(boards: GoodBoards) -> Finder | None:
    """The finder that the line will have: its golden image has been through a bundle's pictures."""
    if not boards.registered:
        return None
    cue = memory_as_shipped(boards.memory.mean_rgb, boards.memory.deviation)
    return finder_from_memory(boards.locate, u8(cue[..., :3]), u8(cue[..., 3]), boards.area)


def _finds(finder: Finder, frame: U8) -> bool:
    with suppress(InspectionError):
        finder.find(Pixels(frame))
        return True
    return False


def _not_alike(register: str) -> InputError:
    how = "within 12 px and 1.2 degrees" if register == "fixture" else "anywhere in the frame, whole and alone"
    return InputError(
        expected=f"good boards of one kind that lie {how}",
        received="more than a tenth that do not match the others",
        fix="sort the images, or train with --register off",
    )


def _lit_alike(frames: list[U8], alignment: Alignment, area: Polygon | None) -> GoodBoards:
    """Take each frame's light against the golden image of all out, then make the golden image of what is left.

    A board whose light is too far off is left out like one that is not found.
    """
    hw = (frames[0].shape[0], frames[0].shape[1])
    found = [(i, frames[i], pose) for i, pose in enumerate(alignment.poses) if pose is not None]
    sample = found[:: -(-len(found) // LIGHT_BOARDS)]
    first = robust_memory(lambda y0, y1: [straightened_rows(frame, pose, hw, y0, y1) for _, frame, pose in sample], hw)
    golden = light_of_golden(first.mean_rgb, area)
    lights = [_light_or_none(golden, straightened(frame, pose, hw)) for _, frame, pose in found]
    used = [(*one, light) for one, light in zip(found, lights, strict=True) if light is not None]
    if len(found) - len(used) > lost_allowed(len(found)):
        raise InputError(
            expected="good boards in about the same light",
            received=f"{len(found) - len(used)} of {len(found)} too bright or too dark",
            fix="sort the images, or set the camera's exposure and take them again",
        )

    def rows(y0: int, y1: int) -> list[U8]:
        return [without_light(straightened_rows(f, pose, hw, y0, y1), light, hw, y0) for _, f, pose, light in used]

    return GoodBoards(
        frames=[frame for _, frame, _, _ in used],
        poses=[pose for _, _, pose, _ in used],
        lights=[light for _, _, _, light in used],
        memory=robust_memory(rows, hw),
        locate=alignment.locate,
        area=area,
        kept=tuple(number for number, _, _, _ in used),
    )


def _light_or_none(golden: GoldenLight, board: U8) -> F64 | None:
    with suppress(InspectionError):
        return light_of_frame(golden, board)
    return None


def _unregistered(frames: list[U8], memory: BoardMemory) -> GoodBoards:
    return GoodBoards(
        frames=frames,
        poses=[FLAT] * len(frames),
        lights=[np.zeros((3, 3))] * len(frames),
        memory=memory,
        locate="off",
        kept=tuple(range(len(frames))),
    )


def rows_of_board(boards: GoodBoards, number: int, y0: int, y1: int) -> U8:
    """Rows y0..y1 (y1 - y0, w, 3) of a board in golden coordinates, its light taken out."""
    hw = (boards.memory.mean_rgb.shape[0], boards.memory.mean_rgb.shape[1])
    rows = straightened_rows(boards.frames[number], boards.poses[number], hw, y0, y1)
    return without_light(rows, boards.lights[number], hw, y0)


def some_of(boards: GoodBoards, numbers: Sequence[int]) -> GoodBoards:
    """Some of the boards, with all that is known of them; their memory stays that of all."""
    variants, at = boards.variants, {number: place for place, number in enumerate(numbers)}
    own = {(at[board], place): one for (board, place), one in variants.own.items() if board in at}
    looks = variants.looks[list(numbers)] if variants.places else variants.looks
    return replace(
        boards,
        frames=[boards.frames[n] for n in numbers],
        poses=[boards.poses[n] for n in numbers],
        lights=[boards.lights[n] for n in numbers],
        kept=tuple(boards.kept[n] for n in numbers),
        boards=tuple(boards.boards[n] for n in numbers) if boards.boards else (),
        ignored=tuple((at[board], box) for board, box in boards.ignored if board in at),
        variants=Variants(variants.places, looks, own),
    )


def unregistered_boards(frames: list[U8]) -> GoodBoards:
    """Frames in which no board is looked for, and their mean."""
    return _unregistered(frames, mean_memory(frames))


def good_boards_like(boards: GoodBoards, frames: list[U8]) -> GoodBoards:
    """More good frames, placed and lit as the line would see them against these boards' memory.

    Frames that the line could not judge are left out, see ``kept``.
    """
    memory = boards.memory
    finder = _finder_as_shipped(boards)
    if finder is None:
        return _unregistered(frames, memory)
    golden = light_of_golden(memory.mean_rgb, boards.area)
    hw = (memory.mean_rgb.shape[0], memory.mean_rgb.shape[1])
    seen = []
    for number, frame in enumerate(frames):
        with suppress(InspectionError):
            pose = finder.find(Pixels(frame)).pose
            seen.append((frame, pose, light_of_frame(golden, straightened(frame, pose, hw)), number))
    like, poses, lights, kept = (list(column) for column in zip(*seen, strict=True)) if seen else ([], [], [], [])
    return GoodBoards(
        frames=like,
        poses=poses,
        lights=lights,
        memory=memory,
        locate=boards.locate,
        area=boards.area,
        kept=tuple(kept),
    )
