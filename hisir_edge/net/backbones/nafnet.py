"""``nafnet``: blocks after NAFNet (Chen et al. 2022, arXiv 2204.04676) from a quarter of the resolution.

A block is depthwise convolution, simple gate (one half of the channels times the other) and simplified
channel attention, then a gated pointwise layer, both added to their input. Batch norm takes the place of
layer norm: it folds into the convolutions, which int8 engines need.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hisir_edge.net.blocks import UShape, conv_block

LEVELS = (1.0, 1.5, 2.0, 3.0)


def _gated(features: Tensor) -> Tensor:
    a, b = features.chunk(2, 1)
    return a * b


class NafBlock(nn.Module):
    """(N, C, H, W) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        twice = 2 * channels
        self.spread = nn.Sequential(nn.BatchNorm2d(channels), nn.Conv2d(channels, twice, 1))
        self.look = nn.Conv2d(twice, twice, 3, 1, 1, groups=twice)
        self.attend = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1))
        self.gather = nn.Conv2d(channels, channels, 1)
        self.mix = nn.Sequential(nn.BatchNorm2d(channels), nn.Conv2d(channels, twice, 1))
        self.out = nn.Conv2d(channels, channels, 1)
        self.first = nn.Parameter(torch.full((1, channels, 1, 1), 0.2))
        self.second = nn.Parameter(torch.full((1, channels, 1, 1), 0.2))

    def forward(self, features: Tensor) -> Tensor:
        """Two residual steps."""
        seen = _gated(self.look(self.spread(features)))
        features = features + self.first * self.gather(seen * self.attend(seen))
        out: Tensor = features + self.second * self.out(_gated(self.mix(features)))
        return out


def _flat(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    return NafBlock(in_channels)


def nafnet(in_channels: int, width: int) -> UShape:
    """Levels of ``LEVELS`` times ``width`` channels; level 0 is at a quarter of the resolution."""
    return UShape(in_channels, [round(width * level) for level in LEVELS], 4, conv_block, _flat)
