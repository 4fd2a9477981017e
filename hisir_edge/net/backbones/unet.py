"""``unet``: plain convolutions from half the tile's resolution down to a 32nd; the accurate one."""

from __future__ import annotations

from hisir_edge.net.blocks import UShape, conv_block

LEVELS = (1.0, 1.5, 2.0, 3.0, 3.0)


def unet(in_channels: int, width: int) -> UShape:
    """Levels of ``LEVELS`` times ``width`` channels; level 0 is at half resolution."""
    return UShape(in_channels, [round(width * level) for level in LEVELS], 2, conv_block, conv_block)
