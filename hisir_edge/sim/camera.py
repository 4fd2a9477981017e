"""From board to frame: fixture error, light, lens and sensor, the same for picture and mask."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hisir_edge.arrays import F64, U8, u8

FIXTURE_SHIFT_PX = 3.0
FIXTURE_TURN_DEG = 0.3
STRIP_ROWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """The optical conditions of one exposure; lengths in pixels, light as factors."""

    seed: int
    shift_xy_px: tuple[float, float]
    turn_deg: float
    defocus_sigma_px: float
    gain_rgb: tuple[float, float, float]
    gradient_xy: tuple[float, float]
    noise_sigma: float


def shot_from_seed(seed: int) -> Shot:
    """Believable conditions: fixture within 3 px and 0.3 degrees, light within a few percent."""
    rng = np.random.default_rng([seed, 2])
    dx, dy = rng.uniform(-FIXTURE_SHIFT_PX, FIXTURE_SHIFT_PX, 2)
    gain = rng.normal(1.0, 0.035)
    r, g, b = gain * (1 + rng.normal(0, 0.012, 3))
    gx, gy = rng.uniform(-0.06, 0.06, 2)
    return Shot(
        seed=seed,
        shift_xy_px=(float(dx), float(dy)),
        turn_deg=float(rng.uniform(-FIXTURE_TURN_DEG, FIXTURE_TURN_DEG)),
        defocus_sigma_px=float(rng.uniform(0.45, 0.9)),
        gain_rgb=(float(r), float(g), float(b)),
        gradient_xy=(float(gx), float(gy)),
        noise_sigma=float(rng.uniform(1.2, 2.2)),
    )


def fixture_matrix(shot: Shot, size_wh: tuple[int, int]) -> F64:
    """2x3 matrix from board to frame pixels: a turn about the frame's centre, then a shift."""
    w, h = size_wh
    m = np.asarray(cv2.getRotationMatrix2D((w / 2, h / 2), shot.turn_deg, 1.0), np.float64)
    m[:, 2] += shot.shift_xy_px
    return m


def frame_from_board(board_rgb: U8, shot: Shot) -> U8:
    """The camera's picture of a drawn board: RGB uint8 of the same size."""
    h, w = board_rgb.shape[:2]
    moved = cv2.warpAffine(
        board_rgb, fixture_matrix(shot, (w, h)), (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    blurred = cv2.GaussianBlur(moved, (0, 0), shot.defocus_sigma_px)
    rng = np.random.default_rng([shot.seed, 5])
    across = (np.linspace(-1, 1, w, dtype=np.float32) * shot.gradient_xy[0])[None, :, None]
    gain = np.array(shot.gain_rgb, np.float32)
    out = np.empty_like(blurred)
    for row in range(0, h, STRIP_ROWS):
        piece = blurred[row : row + STRIP_ROWS].astype(np.float32)
        rows = np.arange(row, row + len(piece), dtype=np.float32)[:, None, None]
        piece *= gain * (1 + across + (rows / (h / 2) - 1) * shot.gradient_xy[1])
        noise = rng.standard_normal(piece.shape, dtype=np.float32)
        # shot noise grows with the root of the signal, read noise does not
        piece += noise * (shot.noise_sigma * np.sqrt(0.25 + np.maximum(piece, 0) / 170))
        out[row : row + STRIP_ROWS] = np.clip(np.round(piece), 0, 255).astype(np.uint8)
    return u8(out)


def mask_to_frame(mask: U8, shot: Shot) -> U8:
    """A board mask (0/255) moved as the frame was; a pixel belongs if at least half of it does."""
    h, w = mask.shape
    moved = cv2.warpAffine(mask, fixture_matrix(shot, (w, h)), (w, h), flags=cv2.INTER_LINEAR)
    return u8(np.where(np.asarray(moved) >= 128, 255, 0))
