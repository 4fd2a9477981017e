"""SIR-Gate: decides per pixel how far to trust the reconstruction and how far the input.

The gate sees the tile, what the reconstruction would change, and the positional cue. Its logit says
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
from hisir_edge.net.position import CUE_CHANNELS


class SirGate(nn.Module):
    """(tile, reconstruction, cue) -> gate logits (N, 1, H, W)."""

    def __init__(self, backbone: str, width: int) -> None:
        super().__init__()
        self.backbone = backbone_from_name(backbone, 6 + CUE_CHANNELS, width)
        self.head = pixel_head(width, 1, self.backbone.out_stride)

    def forward(self, tile: Tensor, reconstruction: Tensor, cue: Tensor) -> Tensor:
        """Gate logits at the tile's full resolution."""
        logits: Tensor = self.head(self.backbone(torch.cat((tile, reconstruction - tile, cue), 1)))
        return logits
