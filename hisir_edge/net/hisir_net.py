"""HiSIR-Net: positional cue, backbone, reconstruction and SIR-Gate in one module."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hisir_edge.errors import InputError
from hisir_edge.net.backbones import backbone_from_name
from hisir_edge.net.blocks import pixel_head
from hisir_edge.net.position import CUE_CHANNELS
from hisir_edge.net.sir_gate import SirGate

REGION_PX = 16
"""Side of one ROPS region: the network reports its fit per region of this many pixels."""


class HisirOutput(NamedTuple):
    """What the tile should look like, (N, 3, H, W), how far that is from it, (N, 3, H, W), gate logits (N, 1, H, W).

    Colours are centred on 0; ``departure`` is ``reconstruction - tile``.
    """

    reconstruction: Tensor
    departure: Tensor
    logits: Tensor


MIDDLE_LEVEL = 128.0
"""The grey level that is 0 for the network: a whole one, so that an eight-bit engine takes pixels in as they are."""
PARTS = ("cue", "gate")
"""Parts that can be left out of a network, for an ablation."""
ERROR_GAIN = 20.0


def centred(levels: Tensor) -> Tensor:
    """Grey levels 0..255 as the network sees them, about -0.5..0.5."""
    return (levels - MIDDLE_LEVEL) * (1 / 255)


class HisirNet(nn.Module):
    """Tile and cue as colours in 0..255 -> what the tile should look like and where it does not.

    H and W must be multiples of 32. ``without`` leaves parts out for comparison: without "cue" the
    network does not know where it is, without "gate" the reconstruction error itself is the logit.
    """

    def __init__(self, backbone: str, width: int, without: tuple[str, ...] = ()) -> None:
        super().__init__()
        unknown = sorted(set(without) - set(PARTS))
        if unknown:
            raise InputError(
                expected=f"parts to leave out of {', '.join(PARTS)}",
                received=", ".join(unknown),
                fix="correct --without",
            )
        self.with_cue = "cue" not in without
        self.backbone = backbone_from_name(backbone, 3 + CUE_CHANNELS, width)
        self.restore = pixel_head(width, 3, self.backbone.out_stride)
        self.gate = SirGate(backbone, width) if "gate" not in without else None

    def forward(self, tile: Tensor, cue: Tensor) -> HisirOutput:
        """Tile (N, 3, H, W), cue (N, 4, H, W) -> HisirOutput."""
        return self.of_centred(centred(tile), centred(cue))

    def of_centred(self, tile: Tensor, cue: Tensor) -> HisirOutput:
        """As ``forward``, of colours that are centred already."""
        if not self.with_cue:
            cue = torch.zeros_like(cue)
        from_mean = tile - cue[:, :3]
        departure = self.restore(self.backbone(torch.cat((tile, cue), 1))) - from_mean
        if self.gate is None:
            error = departure.abs().mean(1, keepdim=True)
            logits = ERROR_GAIN * functional.avg_pool2d(error, 5, 1, 2) - ERROR_GAIN / 4
        else:
            logits = self.gate(tile, departure, cue, from_mean)
        return HisirOutput(tile + departure, departure, logits)


class DeployedNet(nn.Module):
    """The computation of an engine: uint8 tiles in, anomaly scores and ROPS misfit out.

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
        return score_and_misfit(self.net(tile.to(torch.float32), cue.to(torch.float32)))


class PlanesNet(nn.Module):
    """``DeployedNet`` for tile and cue as seven planes of colours about 0, (N, 7, H, W), in the network's own type."""

    def __init__(self, net: HisirNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and misfit of a batch of tiles, float32."""
        out = self.net.of_centred(planes[:, :3], planes[:, 3:])
        return score_and_misfit(HisirOutput(*(part.float() for part in out)))


def score_and_misfit(out: HisirOutput) -> tuple[Tensor, Tensor]:
    """The outputs that the line needs of a network; see ``DeployedNet``."""
    trust = torch.sigmoid(-functional.avg_pool2d(out.logits, 4))
    error = functional.avg_pool2d(out.departure.abs().mean(1, keepdim=True), 4)
    pooled = functional.avg_pool2d(torch.cat((trust * error, trust), 1), REGION_PX // 4)
    misfit = pooled[:, 0] / (pooled[:, 1] + 1e-3)
    return functional.softplus(out.logits[:, 0]), misfit
