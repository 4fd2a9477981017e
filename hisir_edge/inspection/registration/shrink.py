"""Frames shrunk by a whole number, in grey, for registration."""

from __future__ import annotations

import cv2
import numpy as np

from hisir_edge.arrays import U8
from hisir_edge.images.pixels import Pixels

BAND_ROWS = 64


def shrunk(grey: U8, factor: int) -> U8:
    """A picture (h, w) by area averaging, (h // factor, w // factor)."""
    if factor == 1:
        return grey
    h, w = grey.shape
    return cv2.resize(grey, (w // factor, h // factor), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def grey_shrunk(image: Pixels, factor: int) -> U8:
    """``shrunk`` of a frame in grey; a band at a time where that is the same, for no grey frame is made."""
    h, w = (side // factor for side in image.hw)
    if factor == 1 or image.is_mosaic or (h * factor, w * factor) != image.hw:
        return shrunk(image.grey(), factor)
    out = np.empty((h, w), np.uint8)
    for y in range(0, h, BAND_ROWS):
        band = Pixels(image.data[y * factor : (y + BAND_ROWS) * factor], image.pixel_format)
        out[y : y + BAND_ROWS] = shrunk(band.grey(), factor)
    return out
