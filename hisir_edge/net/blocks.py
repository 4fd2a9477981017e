"""Blocks that the backbones share, and the U shape that holds them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from torch import Tensor, nn

BlockMaker = Callable[[int, int, int], nn.Module]
"""(in_channels, out_channels, stride) -> a block."""


def conv_block(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch norm (folded at export), ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def stem_block(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Pixels to features: one strided convolution, twice as wide as its stride."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 2 * stride, stride, stride // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def pixel_head(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Features at 1/stride back to pixels."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels * stride * stride, 1), nn.PixelShuffle(stride))


class UShape(nn.Module):
    """(N, in_channels, H, W) -> (N, widths[0], H/out_stride, W/out_stride).

    Each level halves the resolution. Skips are added, not concatenated, which keeps the int8 scales of
    both branches in one tensor and the decoder as narrow as the encoder (U-Net: Ronneberger et al.
    2015, arXiv 1505.04597).
    """

    def __init__(
        self, in_channels: int, widths: Sequence[int], out_stride: int, down: BlockMaker, flat: BlockMaker
    ) -> None:
        super().__init__()
        self.out_stride = out_stride
        self.stem = stem_block(in_channels, widths[0], out_stride)
        steps = list(itertools.pairwise(widths))
        self.encoders = nn.ModuleList(nn.Sequential(down(a, b, 2), flat(b, b, 1)) for a, b in steps)
        self.laterals = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in steps)
        self.decoders = nn.ModuleList(flat(a, a, 1) for a in widths[:-1])
        self.up = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, tile: Tensor) -> Tensor:
        """Encode and decode."""
        levels: list[Tensor] = [self.stem(tile)]
        for encoder in self.encoders:
            levels.append(encoder(levels[-1]))
        out = levels.pop()
        for lateral, decoder in zip(reversed(self.laterals), reversed(self.decoders), strict=True):
            out = decoder(levels.pop() + self.up(lateral(out)))
        return out
