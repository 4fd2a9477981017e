"""Boards that lie anywhere on a mat, at a pose that is known: shifted, turned, nearer or farther, a little oblique."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, U8, u8

EDGE_PX = 24
"""So much of the mat is seen around a board at least."""
LAY_SEED, MAT_SEED = 11, 12


@dataclass(frozen=True, slots=True)
class Loose:
    """How far boards lie from the frame's middle: pixels, degrees, shares of their size and of the picture's depth."""

    shift_px: float = 0.0
    turn_deg: float = 0.0
    scale_share: float = 0.0
    tilt_share: float = 0.0

    def board_wh(self, frame_wh: tuple[int, int]) -> tuple[int, int]:
        """The size of a board that stays in a frame whatever its pose."""
        w, h = frame_wh
        turn = np.deg2rad(self.turn_deg)
        grown = (1 + self.scale_share) * (1 + self.tilt_share)
        room_w, room_h = (side - 2 * (self.shift_px + EDGE_PX) for side in (w, h))
        # a turned board of the frame's proportions reaches so much farther
        wide = room_w / grown / (np.cos(turn) + h / w * np.sin(turn))
        high = room_h / grown / (np.cos(turn) + w / h * np.sin(turn))
        share = min(wide / w, high / h)
        return int(w * share), int(h * share)


def lay_matrix(seed: int, loose: Loose, frame_wh: tuple[int, int]) -> F64:
    """Matrix (3, 3) from the pixels of a board of ``loose.board_wh`` to the frame's; the seed fixes it."""
    rng = np.random.default_rng([seed, LAY_SEED])
    (bw, bh), (w, h) = loose.board_wh(frame_wh), frame_wh
    turn = np.deg2rad(rng.uniform(-1, 1) * loose.turn_deg)
    scale = 1 + rng.uniform(-1, 1) * loose.scale_share
    shift = rng.uniform(-1, 1, 2) * loose.shift_px
    tilt = rng.uniform(-1, 1, 2) * loose.tilt_share / np.hypot(bw, bh)
    c, s = scale * np.cos(turn), scale * np.sin(turn)
    centred = np.array([[1, 0, -(bw - 1) / 2], [0, 1, -(bh - 1) / 2], [0, 0, 1]])
    tilted = np.array([[1, 0, 0], [0, 1, 0], [*tilt, 1]])
    laid = np.array([[c, -s, (w - 1) / 2 + shift[0]], [s, c, (h - 1) / 2 + shift[1]], [0, 0, 1]])
    return np.asarray(laid @ tilted @ centred, np.float64)


def mat_picture(product: int, frame_wh: tuple[int, int]) -> U8:
    """The mat (h, w, 3) that all boards of a product lie on: grain, stains and a few crumbs; it does not move."""
    w, h = frame_wh
    rng = np.random.default_rng([product, MAT_SEED])
    colour = rng.uniform(60, 150, 3)
    stains = cv2.resize(rng.standard_normal((h // 96 + 2, w // 96 + 2)).astype(np.float32), (w, h))
    grain = cv2.GaussianBlur(rng.standard_normal((h, w), dtype=np.float32), (0, 0), 1.2)
    levels: F32 = np.asarray(stains * 6 + grain * 9, np.float32)
    out = np.clip(colour + levels[..., None], 0, 255).astype(np.uint8)
    for _ in range(20):
        x, y = int(rng.integers(w)), int(rng.integers(h))
        cv2.circle(out, (x, y), int(rng.integers(1, 4)), [int(v) for v in rng.integers(30, 230, 3)], -1, cv2.LINE_AA)
    return u8(out)


def board_on_mat(board_rgb: U8, mat: U8, to_frame: F64) -> U8:
    """The mat (h, w, 3) with a drawn board (bh, bw, 3) laid on it."""
    h, w = mat.shape[:2]
    laid = cv2.warpPerspective(board_rgb, to_frame, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    cover = np.full(board_rgb.shape[:2], 255, np.uint8)
    alpha = cv2.warpPerspective(cover, to_frame, (w, h), flags=cv2.INTER_LINEAR).astype(np.float32)[..., None] / 255
    return u8(np.round(laid * alpha + mat * (1 - alpha)).astype(np.uint8))


def mask_on_mat(mask: U8, to_frame: F64, frame_wh: tuple[int, int]) -> U8:
    """A board mask (0/255) laid as the board was; a pixel belongs if at least half of it does."""
    moved = cv2.warpPerspective(mask, to_frame, frame_wh, flags=cv2.INTER_LINEAR)
    return u8(np.where(np.asarray(moved) >= 128, 255, 0).astype(np.uint8))
