"""The first look: a small network that expects how high the whole one's scores will be, at a twenty-fifth of its work.

It is distilled from one product's whole network (``engine/cascade/distil.py``). A convolution of the tile's pixels in
blocks of 4 x 4 comes first, so that a pixel that is unusual at its place is seen as such; what pools before it loses
what tells a glint from a defect (decision 0033).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hisir_edge.inspection.cascade.planes import MIDDLE, PLANES

SEEN, WIDTH = 24, 16
"""Channels of the first convolution, and of those that follow at its resolution; at half of it twice as many."""
STRIDE = 4
SPREAD = (32.0, 32.0, 32.0, 128.0, 128.0, 128.0, 64.0, 64.0)
"""What each plane is divided by."""
CENTRE = (MIDDLE,) * 6 + (0.0, 0.0)


def _per_plane(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, PLANES, 1, 1)


class FirstLookNet(nn.Module):
    """(N, 8, H, W) planes of eight bits (``inspection.cascade.planes``) -> logarithms of scores (N, H/16, W/16)."""

    def __init__(self, seen: int = SEEN, width: int = WIDTH) -> None:
        super().__init__()
        self.stem = nn.Conv2d(PLANES, seen, STRIDE, STRIDE)
        self.narrow = nn.Conv2d(seen, width, 1)
        self.fine = nn.Conv2d(width, width, 3, 1, 1)
        self.finer = nn.Conv2d(width, width, 3, 1, 1)
        self.down = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.coarse = nn.Conv2d(2 * width, 2 * width, 3, 1, 1)
        self.head = nn.Conv2d(2 * width, 1, 1)

    def forward(self, planes: Tensor) -> Tensor:
        """Logarithm of the highest score expected in each region of 16 x 16 px."""
        return self._rest(functional.conv2d(planes.float(), *self._stem(), stride=STRIDE))

    def _stem(self) -> tuple[Tensor, Tensor]:
        """Weight and bias for planes as they are: centre and spread inside, so that no plane is computed for them.

        Blocks of 4 x 4 do not overlap and no border is padded, so that the two are the same.
        """
        weight = self.stem.weight / _per_plane(SPREAD)
        return weight, self.stem.bias - (weight * _per_plane(CENTRE)).sum((1, 2, 3))  # type: ignore[operator]

    def _rest(self, features: Tensor) -> Tensor:
        features = functional.relu(features)
        for layer in (self.narrow, self.fine, self.finer, self.down, self.coarse):
            features = functional.relu(layer(features))
        highest: Tensor = functional.max_pool2d(self.head(features), 2)[:, 0]
        return highest

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """The same function with a plain convolution as its stem, for an engine."""
        stem = nn.Conv2d(PLANES, self.stem.out_channels, STRIDE, STRIDE)
        weight, bias = self._stem()
        stem.weight.copy_(weight)
        stem.bias.copy_(bias)  # type: ignore[union-attr]  # made with a bias
        return _Folded(stem, self)


class _Folded(nn.Module):
    def __init__(self, stem: nn.Conv2d, net: FirstLookNet) -> None:
        super().__init__()
        self.stem, self.net = stem, net

    def forward(self, planes: Tensor) -> Tensor:
        return self.net._rest(self.stem(planes.float()))
