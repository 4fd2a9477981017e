"""Board memory: what good boards look like at each position, and how much they vary there.

The mean colour and the deviation of the registered good boards, uint8, are what the positional cue
is cropped from; the mean is also the golden image that registration works against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, U8
from hisir_edge.errors import InputError, InspectionError
from hisir_edge.images import read_rgb
from hisir_edge.line.light import golden_light, light_of_frame, without_light
from hisir_edge.line.register import Anchors, anchors_from_golden, register_frame, warp_by_matrix
from hisir_edge.line.tile import scaled_frame

DEVIATION_GAIN = 4
"""The deviation is stored as uint8 in quarters of a grey level."""
MAX_LOST_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class BoardMemory:
    """Mean (h, w, 3) and deviation (h, w) uint8 of the good boards, in golden coordinates."""

    mean_rgb: U8
    deviation: U8


@dataclass(frozen=True, slots=True)
class GoodBoards:
    """Good boards as the camera gave them, (h, w, 3) uint8 each, and where they lie.

    ``matrices`` (2, 3) map frame pixels to golden pixels, one a frame; the identity when not
    ``registered``. ``lights`` (3, 3) are each frame's log gain planes against the golden image (see
    ``line/light.py``), zero when not registered. Frames are not changed here: each crop of them is
    interpolated once and its light taken out, as on the line.
    """

    frames: list[U8]
    matrices: list[F64]
    lights: list[F64]
    memory: BoardMemory
    registered: bool


def load_scaled(path: Path, frame_hw: tuple[int, int], scale: float) -> U8:
    """Read one picture of the expected size and scale it for the network."""
    frame = read_rgb(path)
    if frame.shape[:2] != frame_hw:
        raise InputError(
            expected=f"images of {frame_hw[1]}x{frame_hw[0]}",
            received=f"{path} of {frame.shape[1]}x{frame.shape[0]}",
            fix="crop or sort the images to one size",
        )
    return scaled_frame(frame, scale)


def _mean_pose_anchors(frames: list[U8]) -> Anchors:
    """Anchors of the first frame, moved to the average pose so that no board needs to turn far."""
    first = anchors_from_golden(frames[0])
    poses = []
    for frame in frames[1:]:
        try:
            poses.append(register_frame(first, frame).matrix)
        except InspectionError:
            continue
    if len(poses) < len(frames) * 0.5:
        return first
    h, w = frames[0].shape[:2]
    centre = np.array([w / 2, h / 2, 1.0])
    turn = np.mean([np.arctan2(m[1, 0], m[0, 0]) for m in poses]) * len(poses) / len(frames)
    shift = np.sum([m @ centre - centre[:2] for m in poses], axis=0) / len(frames)
    # the mean of "frame to first" says where the average board lies as seen from the first: undo it
    to_mean = cv2.getRotationMatrix2D((w / 2, h / 2), np.rad2deg(turn), 1.0)
    to_mean[:, 2] -= shift
    moved = cv2.warpAffine(frames[0], to_mean, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
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


def _registered_boards(frames: list[U8], matrices: list[F64]) -> GoodBoards:
    """Take each frame's light against the mean of all out, then average what is left."""
    average = _statistics(warp_by_matrix(f, m) for f, m in zip(frames, matrices, strict=True))
    golden = golden_light(average.mean_rgb)
    lights = [light_of_frame(golden, warp_by_matrix(f, m)) for f, m in zip(frames, matrices, strict=True)]
    memory = _statistics(
        without_light(warp_by_matrix(f, m), light) for f, m, light in zip(frames, matrices, lights, strict=True)
    )
    return GoodBoards(frames, matrices, lights, memory, True)


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
    return found if lost <= MAX_LOST_SHARE * len(frames) and lost < len(frames) else None


def good_boards_from_frames(
    frames: list[U8], register: str = "auto", on_done: Callable[[], None] = lambda: None
) -> GoodBoards:
    """Register good frames (all of one shape) to their common golden image and average them.

    ``register``: "on" raises InputError when boards are not found, "off" skips it, "auto" tries and
    goes on without when more than a tenth of the boards cannot be found (loose objects).
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
        identity, even = np.array([[1.0, 0, 0], [0, 1.0, 0]]), np.zeros((3, 3))
        return GoodBoards(frames, [identity] * len(frames), [even] * len(frames), _statistics(frames), False)
    kept = [(frame, matrix) for frame, matrix in zip(frames, found, strict=True) if matrix is not None]
    return _registered_boards([frame for frame, _ in kept], [matrix for _, matrix in kept])


def good_boards_like(boards: GoodBoards, frames: list[U8]) -> GoodBoards:
    """More good frames, placed and lit as the line would see them against these boards' memory.

    InspectionError where a frame cannot be registered.
    """
    if not boards.registered:
        identity, even = np.array([[1.0, 0, 0], [0, 1.0, 0]]), np.zeros((3, 3))
        return GoodBoards(frames, [identity] * len(frames), [even] * len(frames), boards.memory, False)
    anchors, golden = anchors_from_golden(boards.memory.mean_rgb), golden_light(boards.memory.mean_rgb)
    matrices = [register_frame(anchors, frame).matrix for frame in frames]
    lights = [light_of_frame(golden, warp_by_matrix(f, m)) for f, m in zip(frames, matrices, strict=True)]
    return GoodBoards(frames, matrices, lights, boards.memory, True)
