"""Tile plan: a pure value that says how a frame is cut, and the cutting itself."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hisir_edge.arrays import F32, I64, U8, u8
from hisir_edge.errors import InputError
from hisir_edge.images.header import MAX_SIDE_PX

REGION_PX = 16
"""Side of a ROPS region. Tile sizes and tile origins are multiples of it."""
TILE_MULTIPLE_PX = 32


@dataclass(frozen=True, slots=True)
class TilePlan:
    """How a frame of ``frame_hw`` is cut into tiles of ``tile_px``, all the same shape.

    ``padded_hw`` is the frame size rounded up to whole regions; ``origins_yx`` (in row order) are
    the tiles' upper left corners in it. Every pixel of the padded frame lies in at least one tile.
    """

    frame_hw: tuple[int, int]
    padded_hw: tuple[int, int]
    tile_px: int
    origins_yx: tuple[tuple[int, int], ...]


def _starts(length: int, tile_px: int, overlap_px: int) -> list[int]:
    """Evenly spread starts on the region grid: first 0, last flush with the end, overlap at least as asked."""
    if length == tile_px:
        return [0]
    stride = tile_px - overlap_px
    count = 1 + -(-(length - tile_px) // stride)
    cells = (length - tile_px) // REGION_PX
    return [(i * cells // (count - 1)) * REGION_PX for i in range(count)]


def plan_from_size(frame_hw: tuple[int, int], tile_px: int, overlap_px: int) -> TilePlan:
    """Plan tiles for a frame of any size not smaller than a tile.

    ``tile_px`` is a multiple of 32; ``overlap_px`` a multiple of 16 from 16 to half a tile (0 is
    allowed where one tile covers the frame). InputError otherwise.
    """
    if tile_px % TILE_MULTIPLE_PX or tile_px <= 0:
        raise InputError(
            expected="a tile size that is a multiple of 32 px", received=str(tile_px), fix="change the tile size"
        )
    if overlap_px % REGION_PX or not REGION_PX <= overlap_px <= tile_px // 2:
        raise InputError(
            expected=f"an overlap of 16..{tile_px // 2} px in steps of 16",
            received=str(overlap_px),
            fix="change the overlap",
        )
    if max(frame_hw) > MAX_SIDE_PX:
        raise InputError(
            expected=f"at most {MAX_SIDE_PX} px a side for the network",
            received=f"{frame_hw[1]}x{frame_hw[0]}",
            fix="train with a smaller --scale",
        )
    if min(frame_hw) < tile_px:
        raise InputError(
            expected=f"a frame of at least {tile_px}x{tile_px} px (one tile)",
            received=f"{frame_hw[1]}x{frame_hw[0]}",
            fix="use larger frames, or train with a smaller --tile or a larger --scale",
        )
    h, w = padded_size(frame_hw)
    ys, xs = _starts(h, tile_px, overlap_px), _starts(w, tile_px, overlap_px)
    return TilePlan(frame_hw, (h, w), tile_px, tuple((y, x) for y in ys for x in xs))


def padded_size(hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width rounded up to whole regions."""
    return -(-hw[0] // REGION_PX) * REGION_PX, -(-hw[1] // REGION_PX) * REGION_PX


def scaled_hw(frame_hw: tuple[int, int], scale: float) -> tuple[int, int]:
    """The size a frame has for the network."""
    return round(frame_hw[0] * scale), round(frame_hw[1] * scale)


def scaled_frame(frame: U8, scale: float) -> U8:
    """Scale a frame (h, w, c) for the network by area averaging; scale 1 returns it unchanged."""
    if scale == 1.0:
        return frame
    h, w = scaled_hw((frame.shape[0], frame.shape[1]), scale)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(frame, (w, h), interpolation=how).astype(np.uint8, copy=False)


def padded_frame(plan: TilePlan, frame: U8, out: U8 | None = None) -> U8:
    """The frame (h, w, c) with its last row and column repeated up to the padded size, in ``out`` where given."""
    if frame.shape[:2] != plan.frame_hw:
        raise InputError(
            expected=f"a frame of {plan.frame_hw[1]}x{plan.frame_hw[0]}",
            received=f"{frame.shape[1]}x{frame.shape[0]}",
            fix="use the camera format that the bundle was built for, or rebuild the bundle",
        )
    bottom, right = (p - f for p, f in zip(plan.padded_hw, plan.frame_hw, strict=True))
    if not bottom and not right and out is None:
        return frame
    return u8(cv2.copyMakeBorder(frame, 0, bottom, 0, right, cv2.BORDER_REPLICATE, out))


def tiles_from_frame(plan: TilePlan, padded: U8, numbers: I64, out: U8, gains: F32 | None = None) -> None:
    """Copy tiles of a padded frame (h, w, c) into the first ``len(numbers)`` of out (n, c, t, t).

    ``gains`` (all tiles, c): what each tile's levels are multiplied by, on the way.
    """
    t = plan.tile_px
    tile = np.empty((t, t, padded.shape[2]), np.uint8)
    for number, slot in zip(numbers, out, strict=False):
        y, x = plan.origins_yx[number]
        # OpenCV splits what is contiguous sooner than what is not; a product takes a third of a look-up's time
        np.copyto(tile, padded[y : y + t, x : x + t])
        cv2.split(tile, list(slot))
        if gains is not None:
            for plane, gain in zip(slot, gains[number].tolist(), strict=True):
                cv2.convertScaleAbs(plane, plane, gain, 0)


def tiles_from_planes(plan: TilePlan, planes: U8, numbers: I64, out: U8) -> None:
    """Copy tiles of planes (c, h, w) of a padded frame into the first ``len(numbers)`` of out (n, c, t, t)."""
    t = plan.tile_px
    for number, slot in zip(numbers, out, strict=False):
        y, x = plan.origins_yx[number]
        np.copyto(slot, planes[:, y : y + t, x : x + t])
