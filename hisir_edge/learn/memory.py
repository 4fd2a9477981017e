"""Board memory: what good boards look like at each position, and how much they vary there.

The mean colour and the deviation of the registered good boards, uint8, are what the positional cue
is cropped from; the mean is also the golden image that registration works against.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hisir_edge.arrays import U8
from hisir_edge.errors import InputError, InspectionError
from hisir_edge.images import read_rgb
from hisir_edge.line.register import Anchors, anchors_from_golden, register_frame, warp_to_golden
from hisir_edge.line.tile import scaled_frame

DEVIATION_GAIN = 4
"""The deviation is stored as uint8 in quarters of a grey level."""
MAX_LOST_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class BoardMemory:
    """Mean (h, w, 3) and deviation (h, w) uint8 of the good boards, in golden coordinates."""

    mean_rgb: U8
    deviation: U8

    def cue(self) -> U8:
        """Both in one (h, w, 4) array, as tiles are cropped from it."""
        return np.dstack([self.mean_rgb, self.deviation])


@dataclass(frozen=True, slots=True)
class GoodBoards:
    """Good boards in golden coordinates: frames (h, w, 3) uint8 each, and the memory made of them."""

    frames: list[U8]
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


def _statistics(frames: list[U8]) -> BoardMemory:
    h, w = frames[0].shape[:2]
    mean = np.empty((h, w, 3), np.uint8)
    deviation = np.empty((h, w), np.uint8)
    for row in range(0, h, 64):
        strip = np.stack([f[row : row + 64] for f in frames]).astype(np.float32)
        mean[row : row + 64] = np.round(strip.mean(0))
        spread = strip.std(0).max(-1) * DEVIATION_GAIN
        deviation[row : row + 64] = np.clip(np.round(spread), 0, 255)
    return BoardMemory(mean, deviation)


def _register_all(frames: list[U8], on_done: Callable[[], None]) -> list[U8] | None:
    """The frames in golden coordinates (those found), or None when too many are not found."""
    anchors = _mean_pose_anchors(frames)
    moved, lost = [], 0
    for frame in frames:
        try:
            moved.append(warp_to_golden(frame, register_frame(anchors, frame)))
        except InspectionError:
            lost += 1
        on_done()
    return moved if lost <= MAX_LOST_SHARE * len(frames) and moved else None


def good_boards_from_frames(
    frames: list[U8], register: str = "auto", on_done: Callable[[], None] = lambda: None
) -> GoodBoards:
    """Register good frames (all of one shape) to their common golden image and average them.

    ``register``: "on" raises InputError when boards are not found, "off" skips it, "auto" tries and
    goes on without when more than a tenth of the boards cannot be found (loose objects).
    """
    moved = None
    if register != "off":
        try:
            moved = _register_all(frames, on_done)
        except InspectionError:
            moved = None
        if moved is None and register == "on":
            raise InputError(
                expected="good boards that lie alike (within 12 px and 1.2 degrees)",
                received="more than a tenth that do not match the others",
                fix="sort the images, or train with --register off",
            )
    aligned = frames if moved is None else moved
    return GoodBoards(aligned, _statistics(aligned), moved is not None)
