"""Registry of backbones: a new one is one file and one line here.

A backbone maps a tile with its cue, (N, in_channels, H, W), to features (N, width, H/s, W/s) where s
is its ``out_stride``; H and W are multiples of 32. The network uses it twice: to reconstruct, and as
the SIR-Gate.
"""

from __future__ import annotations

from collections.abc import Callable

from hisir_edge.errors import InputError
from hisir_edge.net.backbones.nafnet import nafnet
from hisir_edge.net.backbones.rep import rep
from hisir_edge.net.backbones.unet import unet
from hisir_edge.net.blocks import UShape

BACKBONES: dict[str, tuple[Callable[[int, int], UShape], int]] = {
    "unet": (unet, 24),
    "nafnet": (nafnet, 48),
    "rep": (rep, 48),
}
"""Name -> (maker of (in_channels, width), width if none is asked for)."""


def _registered(name: str) -> tuple[Callable[[int, int], UShape], int]:
    if name not in BACKBONES:
        raise InputError(
            expected=f"a backbone out of {', '.join(sorted(BACKBONES))}",
            received=repr(name),
            fix="pass one of these to --backbone",
        )
    return BACKBONES[name]


def backbone_from_name(name: str, in_channels: int, width: int) -> UShape:
    """Build a registered backbone of ``width`` channels; InputError names the known ones."""
    return _registered(name)[0](in_channels, width)


def default_width(name: str) -> int:
    """The width a backbone has unless another is asked for; InputError names the known ones."""
    return _registered(name)[1]
