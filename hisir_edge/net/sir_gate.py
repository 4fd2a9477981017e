"""SIR-Gate: decides per pixel how far to trust the reconstruction and how far the input.

The gate sees the tile, what the reconstruction changed, and the decoded features. Its logit says
"the reconstruction is right here, the input is not"; the restored tile is
``input + sigmoid(logit) * (reconstruction - input)``. Where reconstruction error is irrelevant
(print, shine, lighting) the gate learns to keep the input, so the error raises no alarm
(HiSIR-Net, arXiv 2512.17296, of which the abstract is public; the form is ours, decision 0002).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hisir_edge.net.backbones.unet import conv_block


class SirGate(nn.Module):
    """(tile, reconstruction, features) -> gate logits (N, 1, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.look = nn.Sequential(nn.Conv2d(6, width, 4, 4, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.mix = nn.Conv2d(2 * width, width, 1)
        self.fine = conv_block(width, width)
        self.coarse = nn.Sequential(conv_block(width, width * 3 // 2, 2), conv_block(width * 3 // 2, width))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.head = nn.Sequential(conv_block(width, width), nn.Conv2d(width, 16, 1), nn.PixelShuffle(4))

    def forward(self, tile: Tensor, reconstruction: Tensor, features: Tensor) -> Tensor:
        """Gate logits at the tile's full resolution."""
        seen = self.look(torch.cat((tile, tile - reconstruction), 1))
        fine = self.fine(self.mix(torch.cat((seen, features), 1)))
        logits: Tensor = self.head(fine + self.up(self.coarse(fine)))
        return logits
