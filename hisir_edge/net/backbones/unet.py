"""U-Net backbone (Ronneberger et al. 2015, arXiv 1505.04597) on stem features, three levels deep.

Only 3x3 and 1x1 convolutions, ReLU, nearest upsampling and addition: every operator has an int8
kernel in TensorRT and ONNX Runtime. Skips are added, not concatenated, which keeps the int8 scales
of both branches in one tensor and the decoder as narrow as the encoder.
"""

from __future__ import annotations

from torch import Tensor, nn


def conv_block(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch norm (folded at export), ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """(N, width, h, w) -> (N, width, h, w); h and w multiples of ``stride``."""

    stride = 8

    def __init__(self, width: int) -> None:
        super().__init__()
        w1, w2, w3, w4 = width, width * 3 // 2, width * 2, width * 2
        self.enc1 = conv_block(w1, w1)
        self.enc2 = nn.Sequential(conv_block(w1, w2, 2), conv_block(w2, w2))
        self.enc3 = nn.Sequential(conv_block(w2, w3, 2), conv_block(w3, w3))
        self.enc4 = nn.Sequential(conv_block(w3, w4, 2), conv_block(w4, w4), conv_block(w4, w4))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.lat3, self.dec3 = nn.Conv2d(w4, w3, 1), conv_block(w3, w3)
        self.lat2, self.dec2 = nn.Conv2d(w3, w2, 1), conv_block(w2, w2)
        self.lat1, self.dec1 = nn.Conv2d(w2, w1, 1), conv_block(w1, w1)

    def forward(self, features: Tensor) -> Tensor:
        """Encode to an eighth of the stem's resolution and decode back."""
        e1 = self.enc1(features)
        e2 = self.enc2(e1)
        e3 = self.enc3(e2)
        d3 = self.dec3(e3 + self.up(self.lat3(self.enc4(e3))))
        d2 = self.dec2(e2 + self.up(self.lat2(d3)))
        out: Tensor = self.dec1(e1 + self.up(self.lat1(d2)))
        return out
