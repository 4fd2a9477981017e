"""HiSIR-Net: positional stem, backbone, reconstruction and SIR-Gate in one module."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hisir_edge.net.backbones import backbone_from_name
from hisir_edge.net.position import CueStem
from hisir_edge.net.sir_gate import SirGate

REGION_PX = 16
"""Side of one ROPS region: the network reports its fit per region of this many pixels."""


class HisirOutput(NamedTuple):
    """reconstruction (N, 3, H, W) and gate logits (N, 1, H, W); colours centred on 0."""

    reconstruction: Tensor
    logits: Tensor


class HisirNet(nn.Module):
    """Tile and cue as colours in 0..255 -> what the tile should look like and where it does not.

    H and W must be multiples of 32 (stem stride 4, backbone stride 8).
    """

    def __init__(self, backbone: str, width: int) -> None:
        super().__init__()
        self.stem = CueStem(width)
        self.backbone = backbone_from_name(backbone, width)
        self.restore = nn.Sequential(nn.Conv2d(width, 48, 1), nn.PixelShuffle(4))
        self.gate = SirGate(width)

    def forward(self, tile: Tensor, cue: Tensor) -> HisirOutput:
        """tile (N, 3, H, W), cue (N, 4, H, W) -> HisirOutput."""
        tile, cue = tile / 255.0 - 0.5, cue / 255.0 - 0.5
        features = self.backbone(self.stem(tile, cue))
        reconstruction = cue[:, :3] + self.restore(features)
        return HisirOutput(reconstruction, self.gate(tile, reconstruction, features))


class DeployedNet(nn.Module):
    """What an engine computes: uint8 tiles in, anomaly scores and ROPS fit out.

    Inputs: ``tile`` uint8 (N, 3, H, W), ``cue`` uint8 (N, 4, H, W).
    Outputs: ``score`` float32 (N, H, W), softplus of the gate logit, 0 = sure it is normal;
    ``misfit`` float32 (N, H/16, W/16), mean reconstruction error of each region over the pixels
    that the gate itself trusts: how badly this tile sees the region, whatever it alarms.
    """

    def __init__(self, net: HisirNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, tile: Tensor, cue: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and misfit of a batch of tiles."""
        tile = tile.to(torch.float32)
        out = self.net(tile, cue.to(torch.float32))
        trust = torch.sigmoid(-functional.avg_pool2d(out.logits, 4))
        error = (tile / 255.0 - 0.5 - out.reconstruction).abs().mean(1, keepdim=True)
        error = functional.avg_pool2d(error, 4)
        pooled = functional.avg_pool2d(torch.cat((trust * error, trust), 1), REGION_PX // 4)
        misfit = pooled[:, 0] / (pooled[:, 1] + 1e-3)
        return functional.softplus(out.logits[:, 0]), misfit
