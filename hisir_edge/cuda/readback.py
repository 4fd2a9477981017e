"""Data that comes back from the GPU, and measurements before a frame goes there."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from hisir_edge.arrays import F64, I64, U8, u8
from hisir_edge.cuda.reference import fixed_point
from hisir_edge.geometry.tile import REGION_PX
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.light import (
    SAMPLE_EACH_PX,
    SAMPLE_FIRST_PX,
)
from hisir_edge.inspection.windows import MOST_WINDOWS, Box, apart


def windows_of_bits(bits: U8, frame_hw: tuple[int, int]) -> list[Box]:
    """Boxes around what is set in a mask of bits (h, ceil(w / 8)): none cuts a region, and no two touch."""
    h, w = frame_hw
    if not bits.any():
        return []
    rows, columns = -(-h // REGION_PX), -(-w // REGION_PX)
    padded = np.zeros((rows * REGION_PX, columns * 2), np.uint8)
    padded[:h, : bits.shape[1]] = bits
    cells = u8(padded.reshape(rows, REGION_PX, columns, 2).max((1, 3)) > 0)
    count, _, stats, _ = cv2.connectedComponentsWithStats(cells, connectivity=8)
    boxes = []
    for x, y, wide, high, _ in stats[1:count].tolist():
        bottom, right = min((y + high) * REGION_PX, h), min((x + wide) * REGION_PX, w)
        boxes.append((y * REGION_PX, bottom, x * REGION_PX, right))
    if len(boxes) > MOST_WINDOWS:
        tops, bottoms, lefts, rights = zip(*boxes, strict=True)
        boxes = [(min(tops), max(bottoms), min(lefts), max(rights))]
    return [frame for _, frame in apart(boxes, frame_hw, None, frame_hw)]


def fixed_matrix(matrix: Any) -> I64:
    """A matrix (2, 3) in the kernels' fixed point."""
    return fixed_point(np.asarray(matrix, np.float64))


def light_samples(work: Pixels, matrix: F64) -> U8:
    """The registered frame, RGB, at the pixels by which light is measured; ``matrix``: frame -> golden pixels."""
    (h, w), each, first = work.hw, SAMPLE_EACH_PX, SAMPLE_FIRST_PX
    size = (-(-(w - first) // each), -(-(h - first) // each))
    to_samples: Any = np.array([[1 / each, 0, -first / each], [0, 1 / each, -first / each]])
    whole: Any = to_samples @ np.vstack([matrix, (0.0, 0.0, 1.0)])
    picture = work.half_rgb() if work.is_mosaic else work.data
    if work.is_mosaic:  # pixel x of the half picture lies at 2 x + 0.5
        whole = whole @ np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])
    out = u8(cv2.warpAffine(picture, whole, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    return out if work.is_mosaic else Pixels(out, work.pixel_format).rgb
