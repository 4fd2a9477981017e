"""Positional cue: the board memory at the tile's place enters the network beside the tile.

The memory is what the good boards look like at each position: mean colour (3 channels) and
deviation (1 channel), uint8, frame-sized. A tile's cue is the crop of the memory at the tile's
origin, so that the network compares a place with its own past: a missing part does not pass as the
empty pad that is normal elsewhere (decision 0003).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CUE_CHANNELS = 4
STEM_STRIDE = 4


class CueStem(nn.Module):
    """Tile (N, 3, H, W) and cue (N, 4, H, W), both centred on 0 -> features (N, width, H/4, W/4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fuse = nn.Sequential(
            nn.Conv2d(3 + CUE_CHANNELS, width, 2 * STEM_STRIDE, STEM_STRIDE, STEM_STRIDE // 2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )

    def forward(self, tile: Tensor, cue: Tensor) -> Tensor:
        """Fuse the tile with what its place normally looks like."""
        features: Tensor = self.fuse(torch.cat((tile, cue), 1))
        return features
