"""Losses: restore the clean tile, and gate exactly the pixels that were corrupted."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hisir_edge.net.hisir_net import HisirOutput

INSIDE_WEIGHT = 4.0


class Losses(NamedTuple):
    """The terms of one batch, scalars; ``total`` is what is minimised."""

    total: Tensor
    restore: Tensor
    gate: Tensor
    dice: Tensor


def focal_loss(logits: Tensor, mask: Tensor, weight: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal binary cross-entropy (Lin et al. 2017, arXiv 1708.02002), plus a plain share for calibration.

    ``weight`` (N, 1, H, W): how much each pixel counts.
    """
    plain = functional.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    wrong = torch.abs(mask - torch.sigmoid(logits))
    return (plain * (0.25 + 0.75 * wrong**gamma) * (1.0 + 3.0 * mask) * weight).mean()


def dice_loss(logits: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """1 - soft Dice over the batch, pixels counted by ``weight``."""
    gate = torch.sigmoid(logits) * weight
    return 1 - (2 * (gate * mask).sum() + 1.0) / (gate.sum() + (mask * weight).sum() + 1.0)


def losses_from_output(out: HisirOutput, tile: Tensor, clean: Tensor, mask: Tensor, weight: Tensor) -> Losses:
    """All terms; tile and clean (N, 3, H, W) centred colours, mask and weight (N, 1, H, W) floats, mask of 0/1.

    Where the weight is 0 nothing counts.
    """
    reconstruction, logits = out.reconstruction.float(), out.logits.float()
    inside = (1.0 + INSIDE_WEIGHT * mask) * (weight > 0)
    error = (torch.abs(reconstruction - clean).mean(1, keepdim=True) * inside).mean()
    restored = tile + torch.sigmoid(logits) * (reconstruction - tile)
    kept = (torch.abs(restored - clean).mean(1, keepdim=True) * inside).mean()
    gate, dice = focal_loss(logits, mask, weight), dice_loss(logits, mask, weight)
    return Losses(error + kept + 2.0 * gate + 0.25 * dice, error, gate, dice)
