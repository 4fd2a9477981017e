"""Pose: where a frame shows the board, as a mapping between the frame's pixels and the golden image's.

A homography, and where the board supports it a bend: what a plane does not explain, such as warp of the board and the
height of parts. Both directions are exact to a few hundredths of a pixel (tests/unit/inspection/test_pose.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, U8, u8

BEND_PX = 128
"""Side of a cell of the bend, golden pixels; between the middles of cells it is interpolated."""
NODE_PX = 32
"""Positions in the frame are computed at every so many golden pixels and interpolated between."""
BAND_PX = 256
LEAST_SIZE = 1e-3
ROUNDS = 3
"""Of the inverse of the bend. Each makes its error smaller by the bend's slope, a few hundredths."""


@dataclass(frozen=True, slots=True)
class Pose:
    """``matrix`` (3, 3) float64: frame pixels -> golden pixels of a flat board.

    ``bend`` (rows, columns, 2) float32, x and y, at the middles of golden cells of ``BEND_PX``: a golden pixel g shows
    what a flat board would show at g + bend(g). None: the board is flat.
    """

    matrix: F64 = field(repr=False)
    bend: F32 | None = field(default=None, repr=False)

    @property
    def is_affine(self) -> bool:
        """Whether one (2, 3) matrix says all."""
        return self.bend is None and bool((self.matrix[2] == (0, 0, 1)).all())

    @property
    def affine(self) -> F64:
        """Frame pixels -> golden pixels, (2, 3), of an affine pose."""
        if not self.is_affine:
            raise ValueError("this pose is no (2, 3) matrix")
        return self.matrix[:2]

    def to_golden(self, frame_xy: F64) -> F64:
        """Points (n, 2) of the frame on the golden image."""
        flat = _projected(self.matrix, frame_xy)
        if self.bend is None:
            return flat
        golden: F64 = flat
        for _ in range(ROUNDS):
            golden = flat - bend_at(self.bend, golden)
        return golden

    def to_frame(self, golden_xy: F64) -> F64:
        """Points (n, 2) of the golden image in the frame."""
        flat = golden_xy if self.bend is None else golden_xy + bend_at(self.bend, golden_xy)
        return _projected(np.asarray(np.linalg.inv(self.matrix), np.float64), np.asarray(flat, np.float64))

    def of_frame(self, to_this: F64) -> Pose:
        """The pose for another picture of the frame; ``to_this`` (2, 3): its pixels -> this pose's frame pixels."""
        return replace(self, matrix=self.matrix @ np.vstack([to_this, (0.0, 0.0, 1.0)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """Where a frame shows the board, and how sure that is.

    ``residual_px``: distance of the patches that agree, RMS in a fixture, median anywhere; ``inliers``: how many agree;
    ``inlier_share``: of those that were looked for.
    """

    pose: Pose
    residual_px: float
    inliers: int
    inlier_share: float


def pose_from_affine(matrix: F64) -> Pose:
    """The pose of a (2, 3) matrix, frame pixels -> golden pixels."""
    return Pose(np.vstack([np.asarray(matrix, np.float64), (0.0, 0.0, 1.0)]))


def scaling(scale: float) -> F64:
    """Matrix (2, 3): the camera's pixels -> those of its picture scaled for the network."""
    half = 0.5 * scale - 0.5  # pixel centres sit at +0.5
    return np.array([[scale, 0, half], [0, scale, half]])


def local_matrix(pose: Pose, golden_xy: F64) -> F64:
    """What a small step on the golden image, (2,), is in the frame, (2, 2), around one place of it."""
    step = 4.0
    around = np.array([(0, 0), (step, 0), (0, step)]) + golden_xy
    at, right, down = pose.to_frame(around)
    return np.stack([right - at, down - at], 1) / step


def bend_shape(golden_hw: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a golden image's bend."""
    return -(-golden_hw[0] // BEND_PX), -(-golden_hw[1] // BEND_PX)


def bend_at(bend: F32, golden_xy: F64) -> F64:
    """The bend at points (n, 2) of the golden image, (n, 2)."""
    rows, columns = bend.shape[:2]
    at = (golden_xy + 0.5) / BEND_PX - 0.5
    x, y = np.clip(at[:, 0], 0, columns - 1), np.clip(at[:, 1], 0, rows - 1)
    left, top = np.minimum(x.astype(int), max(columns - 2, 0)), np.minimum(y.astype(int), max(rows - 2, 0))
    right, below = np.minimum(left + 1, columns - 1), np.minimum(top + 1, rows - 1)
    fx, fy = (x - left)[:, None], (y - top)[:, None]
    upper = bend[top, left] * (1 - fx) + bend[top, right] * fx
    lower = bend[below, left] * (1 - fx) + bend[below, right] * fx
    return np.asarray(upper * (1 - fy) + lower * fy, np.float64)


def straightened(frame: U8, pose: Pose, golden_hw: tuple[int, int], out: U8 | None = None) -> U8:
    """The frame (h, w, c) as if the board lay where the golden image shows it, (*golden_hw, c), in ``out`` where given.

    What lies outside of the frame repeats its edge.
    """
    h, w = golden_hw
    if pose.is_affine:
        how: Any = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REPLICATE}
        return u8(cv2.warpAffine(frame, pose.affine, (w, h), out, **how))
    if out is None:
        out = np.empty((h, w, *frame.shape[2:]), np.uint8)
    for y in range(0, h, BAND_PX):  # a band at a time: the positions stay in the processor's cache
        band = slice(y, min(y + BAND_PX, h))
        where = positions(pose.to_frame, (band.start, band.stop, 0, w))
        cv2.remap(frame, where, None, cv2.INTER_LINEAR, out[band], cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    return out


def straightened_rows(frame: U8, pose: Pose, golden_hw: tuple[int, int], y0: int, y1: int) -> U8:
    """Rows ``y0`` to ``y1`` of the straightened frame, (y1 - y0, w, c)."""
    up = np.array([[1.0, 0, 0], [0, 1.0, -y0], [0, 0, 1.0]])
    if pose.is_affine:
        return straightened(frame, Pose(up @ pose.matrix), (y1 - y0, golden_hw[1]))
    where = positions(pose.to_frame, (y0, y1, 0, golden_hw[1]))
    return u8(cv2.remap(frame, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))  # type: ignore[call-overload]


def positions(mapping: Callable[[F64], F64], box: tuple[int, int, int, int]) -> F32:
    """``mapping`` of each pixel of a box (y0, y1, x0, x1), as (y1 - y0, x1 - x0, 2) of x and y.

    Computed at every ``NODE_PX`` and interpolated between.
    """
    y0, y1, x0, x1 = box
    # a ring of nodes lies around the box, so that every pixel has neighbours on all sides
    rows, columns = (-(-(end - start) // NODE_PX) + 2 for start, end in ((y0, y1), (x0, x1)))
    y, x = np.mgrid[:rows, :columns]
    nodes = (np.stack([x, y], -1).reshape(-1, 2) - 0.5) * NODE_PX - 0.5 + (x0, y0)
    coarse = np.asarray(mapping(nodes), np.float32).reshape(rows, columns, 2)
    fine = cv2.resize(coarse, (columns * NODE_PX, rows * NODE_PX), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(fine[NODE_PX : NODE_PX + y1 - y0, NODE_PX : NODE_PX + x1 - x0], np.float32)


def is_usable(matrix: F64) -> bool:
    """Whether a matrix (3, 3) can be a pose: finite, and it shrinks or stretches nothing beyond all measure."""
    if not np.isfinite(matrix).all():
        return False
    size = abs(float(np.linalg.det(matrix[:2, :2])))
    return LEAST_SIZE < size < 1 / LEAST_SIZE and abs(float(np.linalg.det(matrix))) > LEAST_SIZE**2


def _projected(matrix: F64, xy: F64) -> F64:
    points = np.asarray(xy, np.float64) @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(points[:, :2] / points[:, 2:], np.float64)
