"""What the first look sees of a tile: eight planes of eight bits, made in the processor's cache."""

from __future__ import annotations

import cv2
import numpy as np

from hisir_edge.arrays import U8

PLANES = 8
MIDDLE = 128
"""Of the planes of differences: half a grey level a step, 128 is none."""


def planes_of_tiles(tiles: U8, cues: U8, out: U8) -> None:
    """Tiles (n, 3, t, t) and cues (n, 4, t, t) -> planes (n, 8, t, t), all uint8.

    Differences to the mean of the good boards (3), the mean itself (3), its deviation, and by how much the highest of
    the three differences exceeds the deviation.
    """
    for tile, cue, planes in zip(tiles, cues, out, strict=True):
        np.copyto(planes[3:7], cue)
        over = planes[7]
        for colour in range(3):
            # the middle is a whole number, so that no difference stays none
            cv2.addWeighted(tile[colour], 0.5, cue[colour], -0.5, MIDDLE, planes[colour])
        cv2.absdiff(tile[0], cue[0], over)
        for colour in (1, 2):
            cv2.max(over, cv2.absdiff(tile[colour], cue[colour]), over)
        cv2.subtract(over, cue[3], over)
