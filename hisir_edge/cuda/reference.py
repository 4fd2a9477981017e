"""The kernels of ``kernels.cu`` in plain NumPy, equal to the bit.

ROPS has its reference in ``line/rops.py``, which the CPU line runs. Positions are whole multiples of 1/256 pixel and
colours are mixed in integers, so that no compiler's rounding shows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hisir_edge.arrays import F32, F64, I32, I64, U8
from hisir_edge.images.pixels import rgb_from_pixels
from hisir_edge.inspection.light import BRIGHTER_LEVEL, BRIGHTEST_LEVEL, WHITE_FROM
from hisir_edge.inspection.rops import KEPT_FROM

LAYOUTS = ("Mono8", "RGB8", "BGR8", "RGBa8", "BayerRG8", "BayerGR8", "BayerGB8", "BayerBG8")
"""Pixel formats by the kernels' numbers."""


def fixed_point(matrix: F64) -> I64:
    """A matrix (2, 3) of pixels as the kernels take it: whole multiples of 1/2^32."""
    return np.round(np.asarray(matrix, np.float64) * 2.0**32).astype(np.int64)


def _positions(matrix: I64, x: I64, y: I64) -> tuple[I64, I64, I64, I64]:
    """Whole pixels and 256ths of where x, y lie under a fixed-point matrix: (px, py, fx, fy)."""
    at = [row[0] * x + row[1] * y + row[2] + (1 << 23) for row in matrix.reshape(2, 3)]
    return at[0] >> 32, at[1] >> 32, (at[0] >> 24) & 255, (at[1] >> 24) & 255


def registered(rgb: U8, matrix: I64, x: I64, y: I64) -> U8:
    """Colours (..., 3) of a frame (h, w, 3) at golden pixels x, y (arrays of one shape)."""
    h, w = rgb.shape[:2]
    px, py, fx, fy = _positions(matrix, x, y)
    left, right = np.clip(px, 0, w - 1), np.clip(px + 1, 0, w - 1)
    top, bottom = np.clip(py, 0, h - 1), np.clip(py + 1, 0, h - 1)
    fx, fy, wide = fx[..., None], fy[..., None], rgb.astype(np.int64)
    above = (256 - fx) * wide[top, left] + fx * wide[top, right]
    below = (256 - fx) * wide[bottom, left] + fx * wide[bottom, right]
    return np.asarray(((256 - fy) * above + fy * below + 32768) >> 16, np.uint8)


def tiles_u8(
    raw: U8,
    pixel_format: str,
    frame_hw: tuple[int, int],
    matrix: I64,
    origins_yx: I32,
    tables: U8 | None,
    golden_hw: tuple[int, int],
    tile_px: int,
    cues: U8 | None = None,
) -> U8:
    """Tiles (n, 3, t, t) of a raw frame, flat: demosaiced, registered, with ``tables`` (n, 1, 256, 3) of light.

    ``cues`` (n, 4, t, t): the board memory, by which what went white in brighter light is explained.
    """
    rgb = rgb_from_pixels(pixel_format, raw, frame_hw[1], frame_hw[0])
    out = np.empty((len(origins_yx), 3, tile_px, tile_px), np.uint8)
    for n, (y0, x0) in enumerate(origins_yx):
        y, x = np.mgrid[y0 : y0 + tile_px, x0 : x0 + tile_px].astype(np.int64)
        tile = registered(rgb, matrix, np.minimum(x, golden_hw[1] - 1), np.minimum(y, golden_hw[0] - 1))
        if tables is not None:
            tile = np.stack([tables[n, 0, :, c][tile[..., c]] for c in range(3)], -1)
            if cues is not None:
                table, memory = tables[n, 0], cues[n, :3].transpose(1, 2, 0)
                top = table[255]
                white = (top <= BRIGHTER_LEVEL) & (top >= BRIGHTEST_LEVEL) & (tile >= table[WHITE_FROM])
                tile = np.where(white, np.maximum(tile, memory), tile)
        out[n] = tile.transpose(2, 0, 1)
    return out


def tiles_f16(tiles: U8, memory: U8, origins_yx: I32) -> npt.NDArray[np.float16]:
    """Tiles (n, 3, t, t) with the board memory (4, h, w) at their places, as half floats about 0: (n, 7, t, t)."""
    t = tiles.shape[-1]
    cues = np.stack([memory[:, y : y + t, x : x + t] for y, x in origins_yx])
    centred = (np.concatenate([tiles, cues], 1).astype(np.int32) - 128).astype(np.float32) / np.float32(255)
    return np.asarray(centred, np.float16)


def region_scores(scores: F32, gain: F32, peak: F32, most_gain: F32) -> F32:
    """Highest calibrated score of each region of 16 x 16 px of a map and a gain (h, w).

    Where ``peak * most_gain`` (gh, gw), the region's highest score and gain, is below ``KEPT_FROM`` it is that product.
    """
    h, w = gain.shape
    padded = np.zeros((-(-h // 16) * 16, -(-w // 16) * 16), np.float32)
    padded[:h, :w] = scores * gain
    most = padded.reshape(padded.shape[0] // 16, 16, -1, 16).max((1, 3))
    bound = peak * most_gain
    return np.asarray(np.where(bound < KEPT_FROM, bound, most), np.float32)


def warped_scores(scores: F32, gain: F32, matrix: I64, frame_hw: tuple[int, int]) -> F32:
    """The calibrated map (h, w) warped to the camera's pixels; ``matrix``: frame -> golden pixels. The mask is >= 1."""
    h, w = gain.shape
    calibrated = scores * gain
    y, x = np.mgrid[: frame_hw[0], : frame_hw[1]].astype(np.int64)
    px, py, fx, fy = _positions(matrix, x, y)
    left, right = np.clip(px, 0, w - 1), np.clip(px + 1, 0, w - 1)
    top, bottom = np.clip(py, 0, h - 1), np.clip(py + 1, 0, h - 1)
    u, v = (f.astype(np.float32) / np.float32(256) for f in (fx, fy))
    one = np.float32(1)
    above = calibrated[top, left] * (one - u) + calibrated[top, right] * u
    below = calibrated[bottom, left] * (one - u) + calibrated[bottom, right] * u
    return np.asarray(above * (one - v) + below * v, np.float32)
