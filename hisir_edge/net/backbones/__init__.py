"""Backbones: each a file here, and a line of ``registry.BACKBONES``.

A backbone maps a tile with its cue, (N, in_channels, H, W), to features (N, width, H/s, W/s) where s
is its ``out_stride``; H and W are multiples of 32. The network uses it twice: to reconstruct, and as
the SIR-Gate.
"""

from __future__ import annotations

from hisir_edge.by_name import part
from hisir_edge.errors import InputError
from hisir_edge.net.blocks import UShape
from hisir_edge.registry import BACKBONES, Backbone


def _registered(name: str) -> Backbone:
    if name not in BACKBONES:
        raise InputError(
            expected=f"a backbone out of {', '.join(sorted(BACKBONES))}",
            received=repr(name),
            fix="pass one of these to --backbone",
        )
    return BACKBONES[name]


def backbone_from_name(name: str, in_channels: int, width: int) -> UShape:
    """Build a registered backbone of ``width`` channels; InputError names the known ones."""
    made: UShape = part(_registered(name).maker)(in_channels, width)
    return made


def default_width(name: str) -> int:
    """The width a backbone has unless another is asked for; InputError names the known ones."""
    return _registered(name).default_width
