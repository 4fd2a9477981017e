"""Registry of backbones: a new one is one file and one line here.

A backbone maps stem features (N, width, h, w) to decoded features of the same shape; h and w are
multiples of ``stride``. The positional cue enters before it, the SIR-Gate reads what it returns.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from hisir_edge.errors import InputError
from hisir_edge.net.backbones.unet import UNet

BACKBONES: dict[str, Callable[[int], nn.Module]] = {
    "unet": UNet,
}


def backbone_from_name(name: str, width: int) -> nn.Module:
    """Build a registered backbone of ``width`` channels; InputError names the known ones."""
    if name not in BACKBONES:
        raise InputError(
            expected=f"a backbone out of {', '.join(sorted(BACKBONES))}",
            received=repr(name),
            fix="pass one of these to --backbone",
        )
    return BACKBONES[name](width)
