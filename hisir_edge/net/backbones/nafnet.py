"""``nafnet``: blocks after NAFNet (Chen et al. 2022, arXiv 2204.04676) from a quarter of the resolution.

A block is depthwise convolution, simple gate (one half of the channels times the other) and simplified
channel attention, then a gated pointwise layer, both added to their input. Batch norm takes the place of
layer norm: it folds into the convolutions, which int8 engines need. Unlike layer norm it does not hold back features
far from those of the training, and a product of two of them grows with their square, block after block, up to NaN: so
every factor is held within ``MOST``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hisir_edge.net.blocks import UShape, conv_block

LEVELS = (1.0, 1.5, 2.0, 3.0)
MOST = 8.0
"""Largest magnitude of a factor of a product; features of the training have a deviation near 1 there."""


def _held(factor: Tensor) -> Tensor:
    return factor.clamp(-MOST, MOST)


def _gated(features: Tensor) -> Tensor:
    a, b = _held(features).chunk(2, 1)
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
        features = features + self.first * self.gather(seen * _held(self.attend(seen)))
        out: Tensor = features + self.second * self.out(_gated(self.mix(features)))
        return out

    def folded(self) -> nn.Module:
        """The same function of convolutions, products and sums alone."""
        return FoldedNafBlock(self)


class FoldedNafBlock(nn.Module):
    """A ``NafBlock`` for engines: norms and residual factors in the weights, each half of a gate a branch of its own.

    Cutting channels in two costs an int8 engine a copy and two changes of number format each time.
    """

    def __init__(self, block: NafBlock) -> None:
        super().__init__()
        self.spread = nn.ModuleList(_halves(_with_norm_before(block.spread)))
        self.look = nn.ModuleList(_halves(block.look))
        self.attend = block.attend
        self.gather = _times(block.gather, block.first)
        self.mix = nn.ModuleList(_halves(_with_norm_before(block.mix)))
        self.out = _times(block.out, block.second)

    def forward(self, features: Tensor) -> Tensor:
        """As ``NafBlock.forward``."""
        seen = _held(self.look[0](self.spread[0](features))) * _held(self.look[1](self.spread[1](features)))
        features = features + self.gather(seen * _held(self.attend(seen)))
        out: Tensor = features + self.out(_held(self.mix[0](features)) * _held(self.mix[1](features)))
        return out


def _convolution(weight: Tensor, bias: Tensor, groups: int = 1) -> nn.Conv2d:
    """A convolution of stride 1 that keeps the size."""
    size, around = weight.shape[2], weight.shape[2] // 2
    out = nn.Conv2d(weight.shape[1] * groups, weight.shape[0], size, 1, around, groups=groups)
    out.load_state_dict({"weight": weight.detach(), "bias": bias.detach()})
    return out


def _with_norm_before(layers: nn.Module) -> nn.Conv2d:
    """A 1x1 convolution that does what (batch norm, 1x1 convolution) does."""
    norm, conv = layers.children()
    if (
        not isinstance(norm, nn.BatchNorm2d)
        or not isinstance(conv, nn.Conv2d)
        or norm.running_var is None
        or norm.running_mean is None
        or conv.bias is None
    ):
        raise RuntimeError("expected a batch norm with running statistics before a convolution with bias")
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * factor
    bias = conv.bias + conv.weight[:, :, 0, 0] @ shift
    return _convolution(conv.weight * factor[None, :, None, None], bias)


def _halves(conv: nn.Conv2d) -> list[nn.Conv2d]:
    """Two convolutions, each with half of the output channels; of a depthwise one, also half of the input."""
    half = conv.out_channels // 2
    if conv.bias is None:
        raise RuntimeError("a convolution without bias cannot be cut in two here")
    groups = 1 if conv.groups == 1 else half
    return [_convolution(conv.weight[part], conv.bias[part], groups) for part in (slice(half), slice(half, None))]


def _times(conv: nn.Conv2d, factor: Tensor) -> nn.Conv2d:
    """The convolution whose output is that of ``conv`` times a factor a channel, (1, C, 1, 1)."""
    if conv.bias is None:
        raise RuntimeError("a convolution without bias cannot be scaled here")
    return _convolution(conv.weight * factor.view(-1, 1, 1, 1), conv.bias * factor.view(-1))


def _flat(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    return NafBlock(in_channels)


def nafnet(in_channels: int, width: int) -> UShape:
    """Levels of ``LEVELS`` times ``width`` channels; level 0 is at a quarter of the resolution."""
    return UShape(in_channels, [round(width * level) for level in LEVELS], 4, conv_block, _flat)
