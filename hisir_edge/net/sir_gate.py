"""SIR-Gate: decides per pixel how far to trust the reconstruction and how far the input.

The gate sees the tile, what the reconstruction would change, the positional cue, and how unusual each pixel is at its
place: its distance to the mean of the good boards in units of their deviation there, which convolutions cannot divide
out themselves. Its logit says
"the reconstruction is right here, the input is not"; the restored tile is
``input + sigmoid(logit) * (reconstruction - input)``. Where reconstruction error is irrelevant
(print, shine, lighting) the gate learns to keep the input, so the error raises no alarm
(HiSIR-Net, arXiv 2512.17296, of which the abstract is public; the form is ours, decision 0002).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hisir_edge.net.backbones import backbone_from_name
from hisir_edge.net.blocks import pixel_head
from hisir_edge.net.position import CUE_CHANNELS, DEVIATION_GAIN

LEAST_DEVIATION_LEVELS = 4.0
MOST_UNUSUAL = 8.0


class SirGate(nn.Module):
    """(tile, departure, cue, from_mean) -> gate logits (N, 1, H, W)."""

    def __init__(self, backbone: str, width: int) -> None:
        super().__init__()
        self.backbone = backbone_from_name(backbone, 7 + CUE_CHANNELS, width)
        self.head = pixel_head(width, 1, self.backbone.out_stride)

    def forward(self, tile: Tensor, departure: Tensor, cue: Tensor, from_mean: Tensor) -> Tensor:
        """Gate logits at the tile's full resolution; ``from_mean``: the tile less the mean of the good boards."""
        seen = torch.cat((tile, departure, cue, unusual(from_mean, cue[:, 3:])), 1)
        logits: Tensor = self.head(self.backbone(seen))
        return logits


def unusual(from_mean: Tensor, deviation: Tensor) -> Tensor:
    """|tile - mean| / (deviation + 4 levels), the highest channel's, up to 8, as -0.5..0.5: (N, 1, H, W) float32.

    from_mean (N, 3, H, W): differences of colours; deviation (N, 1, H, W): the cue's last channel, centred on 0.
    """
    difference = from_mean.abs().amax(1, keepdim=True)
    spread = deviation * (1 / DEVIATION_GAIN) + (128 / DEVIATION_GAIN + LEAST_DEVIATION_LEVELS) / 255
    return torch.clamp(difference / spread, max=MOST_UNUSUAL) * (1 / MOST_UNUSUAL) - 0.5
