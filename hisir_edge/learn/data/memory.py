"""Board memory: what good boards look like at each position, and how much they vary there.

The mean colour and the deviation of the registered good boards, uint8, are what the positional cue
is cropped from; the mean is also the golden image that registration works against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, U8
from hisir_edge.errors import InputError, InspectionError
from hisir_edge.geometry.tile import scaled_frame
from hisir_edge.images import read_rgb
from hisir_edge.inspection.light import GoldenLight, golden_light, light_of_frame, without_light
from hisir_edge.inspection.register import Anchors, anchors_from_golden, register_frame, warp_by_matrix
from hisir_edge.net.position import DEVIATION_GAIN

MAX_LOST_SHARE = 0.1
"""Share of boards that may fail to register (one always may); the others are used without them."""
REFERENCES = 3


@dataclass(frozen=True, slots=True)
class BoardMemory:
    """Mean (h, w, 3) and deviation (h, w) uint8 of the good boards, in golden coordinates."""

    mean_rgb: U8
    deviation: U8


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodBoards:
    """Good boards as the camera gave them, (h, w, 3) uint8 each, and where they lie.

    ``matrices`` (2, 3) map frame pixels to golden pixels, one a frame; the identity when not
    ``registered``. ``lights`` (3, 3) are each frame's log gain planes against the golden image (see
    ``line/light.py``), zero when not registered. Frames are not changed here: each crop of them is
    interpolated once and its light taken out, as on the line. ``kept``: which of the frames offered these
    are.
    """

    frames: list[U8]
    matrices: list[F64]
    lights: list[F64]
    memory: BoardMemory
    registered: bool
    kept: tuple[int, ...] = ()


def lost_allowed(boards: int) -> int:
    """How many of so many boards may fail to register before they count as not lying alike."""
    return min(max(1, int(MAX_LOST_SHARE * boards)), boards - 2) if boards > 2 else 0


def load_scaled(path: Path, frame_hw: tuple[int, int], scale: float) -> U8:
    """Read one picture of the expected size and scale it for the network."""
    return scaled_frame(read_rgb(path, frame_hw), scale)


def _mean_pose_anchors(frames: list[U8]) -> Anchors:
    """Anchors of a frame that most others match, moved to the average pose so that no board turns far.

    Another frame is tried where one matches fewer than half: it may be the odd one out itself.
    """
    for reference in dict.fromkeys(len(frames) * i // REFERENCES for i in range(REFERENCES)):
        first = anchors_from_golden(frames[reference])
        poses = []
        for number, frame in enumerate(frames):
            with suppress(InspectionError):
                if number != reference:
                    poses.append(register_frame(first, frame).matrix)
        if len(poses) >= len(frames) * 0.5:
            return _moved_anchors(frames[reference], poses)
    return anchors_from_golden(frames[0])


def _moved_anchors(frame: U8, poses: list[F64]) -> Anchors:
    """Anchors of a frame moved to the mean pose of itself and ``poses``, which map others to it."""
    h, w = frame.shape[:2]
    boards = len(poses) + 1
    centre = np.array([w / 2, h / 2, 1.0])
    turn = float(np.sum([np.arctan2(m[1, 0], m[0, 0]) for m in poses])) / boards
    shift = np.sum([m @ centre - centre[:2] for m in poses], axis=0) / boards
    # the mean of "frame to first" says where the average board lies as seen from the first: undo it
    to_mean = cv2.getRotationMatrix2D((w / 2, h / 2), np.rad2deg(turn), 1.0)
    to_mean[:, 2] -= shift
    moved = cv2.warpAffine(frame, to_mean, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return anchors_from_golden(moved.astype(np.uint8, copy=False))


def _statistics(frames: Iterable[U8]) -> BoardMemory:
    """Mean and deviation over frames in golden coordinates, gathered one by one."""
    total: F32 | None = None
    count = 0
    for frame in frames:
        golden = frame.astype(np.float32)
        if total is None:
            total, squares = np.zeros_like(golden), np.zeros_like(golden)
        total += golden
        squares += golden * golden
        count += 1
    if total is None:
        raise InputError(expected="at least one good board", received="none", fix="add good images")
    mean = total / count
    spread = np.sqrt(np.maximum(squares / count - mean * mean, 0)).max(-1) * DEVIATION_GAIN
    return BoardMemory(np.round(mean).astype(np.uint8), np.clip(np.round(spread), 0, 255).astype(np.uint8))


def _registered_boards(frames: list[U8], matrices: list[F64], kept: list[int]) -> GoodBoards:
    """Take each frame's light against the mean of all out, then average what is left.

    A board whose light is too far off is left out like one that is not found.
    """
    average = _statistics(warp_by_matrix(f, m) for f, m in zip(frames, matrices, strict=True))
    golden = golden_light(average.mean_rgb)
    lit = [_light_or_none(golden, f, m) for f, m in zip(frames, matrices, strict=True)]
    used = [i for i, light in enumerate(lit) if light is not None]
    if len(lit) - len(used) > lost_allowed(len(lit)):
        raise InputError(
            expected="good boards in about the same light",
            received=f"{len(lit) - len(used)} of {len(lit)} too bright or too dark",
            fix="sort the images, or set the camera's exposure and take them again",
        )
    frames, matrices, kept = ([column[i] for i in used] for column in (frames, matrices, kept))  # type: ignore[assignment]
    lights = [light for light in lit if light is not None]
    memory = _statistics(
        without_light(warp_by_matrix(f, m), light) for f, m, light in zip(frames, matrices, lights, strict=True)
    )
    return GoodBoards(frames=frames, matrices=matrices, lights=lights, memory=memory, registered=True, kept=tuple(kept))


def _light_or_none(golden: GoldenLight, frame: U8, matrix: F64) -> F64 | None:
    try:
        return light_of_frame(golden, warp_by_matrix(frame, matrix))
    except InspectionError:
        return None


def _register_all(frames: list[U8], on_done: Callable[[], None]) -> list[F64 | None] | None:
    """Per frame its matrix to golden pixels or None where not found; None when too many are not found."""
    anchors = _mean_pose_anchors(frames)
    found: list[F64 | None] = []
    for frame in frames:
        try:
            found.append(register_frame(anchors, frame).matrix)
        except InspectionError:
            found.append(None)
        on_done()
    lost = sum(matrix is None for matrix in found)
    return found if lost <= lost_allowed(len(frames)) else None


def _unregistered(frames: list[U8], memory: BoardMemory) -> GoodBoards:
    identity, even = np.array([[1.0, 0, 0], [0, 1.0, 0]]), np.zeros((3, 3))
    everyone = tuple(range(len(frames)))
    return GoodBoards(
        frames=frames,
        matrices=[identity] * len(frames),
        lights=[even] * len(frames),
        memory=memory,
        registered=False,
        kept=everyone,
    )


def good_boards_from_frames(
    frames: list[U8], register: str = "auto", on_done: Callable[[], None] = lambda: None
) -> GoodBoards:
    """Register good frames (all of one shape) to their common golden image and average them.

    ``register``: "on" raises InputError when boards are not found, "off" skips it, "auto" tries and
    goes on without when more than a tenth of the boards cannot be found (loose objects). Up to a tenth,
    and always one, may be lost: they are left out, see ``kept``.
    """
    found = None
    if register != "off":
        try:
            found = _register_all(frames, on_done)
        except InspectionError:
            found = None
        if found is None and register == "on":
            raise InputError(
                expected="good boards that lie alike (within 12 px and 1.2 degrees)",
                received="more than a tenth that do not match the others",
                fix="sort the images, or train with --register off",
            )
    if found is None:
        return _unregistered(frames, _statistics(frames))
    kept = [i for i, matrix in enumerate(found) if matrix is not None]
    return _registered_boards([frames[i] for i in kept], [m for m in found if m is not None], kept)


def good_boards_like(boards: GoodBoards, frames: list[U8]) -> GoodBoards:
    """More good frames, placed and lit as the line would see them against these boards' memory.

    Frames that the line could not judge are left out, see ``kept``.
    """
    if not boards.registered:
        return _unregistered(frames, boards.memory)
    anchors, golden = anchors_from_golden(boards.memory.mean_rgb), golden_light(boards.memory.mean_rgb)
    seen = []
    for number, frame in enumerate(frames):
        with suppress(InspectionError):
            matrix = register_frame(anchors, frame).matrix
            seen.append((frame, matrix, light_of_frame(golden, warp_by_matrix(frame, matrix)), number))
    like, matrices, lights, kept = (list(column) for column in zip(*seen, strict=True)) if seen else ([], [], [], [])
    return GoodBoards(
        frames=like, matrices=matrices, lights=lights, memory=boards.memory, registered=True, kept=tuple(kept)
    )
