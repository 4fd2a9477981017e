"""``rep``: re-parameterised 3x3 convolutions from a quarter of the resolution; the fastest one.

In training each block is the sum of a 3x3, a 1x1 and (where shapes allow) an identity branch; for
the engine they are folded into one 3x3 convolution (RepVGG, Ding et al. 2021, arXiv 2101.03697).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hisir_edge.net.blocks import UShape

LEVELS = (1.0, 1.5, 2.0, 2.0)


class RepConv(nn.Module):
    """3x3 + 1x1 + identity, each with its batch norm, then ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.wide = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.wide_norm = nn.BatchNorm2d(out_channels)
        self.point = nn.Conv2d(in_channels, out_channels, 1, stride, 0, bias=False)
        self.point_norm = nn.BatchNorm2d(out_channels)
        keeps = in_channels == out_channels and stride == 1
        self.same_norm = nn.BatchNorm2d(out_channels) if keeps else None

    def forward(self, features: Tensor) -> Tensor:
        """Sum of the branches."""
        out: Tensor = self.wide_norm(self.wide(features)) + self.point_norm(self.point(features))
        if self.same_norm is not None:
            out = out + self.same_norm(features)
        return functional.relu(out)

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """The same function in evaluation mode as one 3x3 convolution and ReLU."""
        channels_out, channels_in = self.wide.weight.shape[:2]
        kernel, bias = _folded(self.wide.weight, self.wide_norm)
        point, point_bias = _folded(functional.pad(self.point.weight, (1, 1, 1, 1)), self.point_norm)
        kernel, bias = kernel + point, bias + point_bias
        if self.same_norm is not None:
            unit = functional.pad(torch.eye(channels_out)[:, :, None, None], (1, 1, 1, 1))
            same, same_bias = _folded(unit.to(kernel), self.same_norm)
            kernel, bias = kernel + same, bias + same_bias
        conv = nn.Conv2d(channels_in, channels_out, 3, self.stride, 1)
        conv.weight.copy_(kernel)
        conv.bias.copy_(bias)  # type: ignore[union-attr]  # made with a bias above
        return nn.Sequential(conv, nn.ReLU(inplace=True))


def _folded(kernel: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Kernel and bias of a bias-free convolution followed by this batch norm."""
    if norm.running_var is None or norm.running_mean is None:
        raise RuntimeError("a batch norm without running statistics cannot be folded")
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return kernel * gain[:, None, None, None], norm.bias - norm.running_mean * gain


def rep(in_channels: int, width: int) -> UShape:
    """Levels of ``LEVELS`` times ``width`` channels; level 0 is at a quarter of the resolution."""
    return UShape(in_channels, [round(width * level) for level in LEVELS], 4, RepConv, RepConv)
