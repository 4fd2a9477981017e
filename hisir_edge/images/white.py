"""How much of a picture is as bright as can be said."""

from __future__ import annotations

import numpy as np

from hisir_edge.arrays import U8

COUNTED = 1 << 20
"""So many components are counted; counting them all would cost as much as copying them."""
BLOCK, EACH = 2048, 8


def white_in(components: U8) -> float:
    """How many components are at 255; of many counted in each ``EACH``-th block, and reckoned for all."""
    if components.size < COUNTED or not components.flags.c_contiguous:
        return float(np.count_nonzero(components == 255))
    flat = components.reshape(-1)
    blocks = flat[: flat.size // BLOCK * BLOCK].reshape(-1, BLOCK)[::EACH]
    return float(np.count_nonzero(blocks == 255)) * flat.size / blocks.size
