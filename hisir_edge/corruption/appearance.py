"""Changes from board to board that are no defects: light, colour, sharpness, sensor noise, compression."""

from __future__ import annotations

import cv2
import numpy as np

from hisir_edge.arrays import U8, u8

NOISE_BANK = np.random.default_rng(20).standard_normal(2**20, dtype=np.float32)
"""Unit noise that sensor noise is cut from at random places: drawing it anew was a sixth of the work."""


def vary_appearance(rng: np.random.Generator, tile: U8, drift: float = 1.0) -> U8:
    """Light, colour and sharpness as they drift on a line: none of it is a defect.

    ``drift`` scales the light's share: 1 for frames as they come.
    """
    side = tile.shape[0]
    gain = rng.normal(1.0, 0.045 * drift) * (1 + rng.normal(0, 0.015 * drift, 3))
    slope = rng.uniform(-0.03, 0.03, 2) * drift
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    field = 1 + ramp[None, :, None] * slope[0] + ramp[:, None, None] * slope[1]
    out = tile.astype(np.float32) * (field * gain).astype(np.float32) + float(rng.normal(0, 1.5 * drift))
    if rng.random() < 0.35:
        out = cv2.GaussianBlur(out, (0, 0), float(rng.uniform(0.3, 0.9)))
    return u8(np.clip(np.round(out), 0, 255))


def add_sensor_noise(rng: np.random.Generator, tile: U8) -> U8:
    """A little more noise than the camera gave, so that the network does not live on one sensor."""
    sigma = np.float32(rng.uniform(0, 2.5) * rng.choice([-1, 1]))
    start = int(rng.integers(NOISE_BANK.size - tile.size))
    noise = NOISE_BANK[start : start + tile.size].reshape(tile.shape) * sigma
    noise += tile
    return u8(np.clip(np.rint(noise, noise), 0, 255).astype(np.uint8))


def compressed(tile: U8, quality: int) -> U8:
    """As a JPEG of a quality leaves it, RGB."""
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(tile[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return u8(np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]))
