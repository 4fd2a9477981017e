"""What share of the planted defects a bundle must find (decision 0041)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hisir_edge.bundle.manifest import DEFAULT_LEAST_PLANTED_RECALL

FEWEST_SHARE = 0.05
"""However much good boards differ, a network that finds fewer has learnt nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The least share of planted defects, 0 to 1.

    ``or_as_a_difference``: less is enough where a golden-image difference finds less. ``difference``: the share that it
    finds; None: not measured, since the network finds what is asked for.
    """

    share: float = 0.0
    or_as_a_difference: bool = False
    difference: float | None = None


NOTHING = Asked()


def asked_for(least: float | None, usual: float = DEFAULT_LEAST_PLANTED_RECALL) -> Asked:
    """What ``--least-planted-recall`` says, or, without it, the usual share or what a difference finds."""
    return Asked(share=usual, or_as_a_difference=True) if least is None else Asked(share=least)


def settled(asked: Asked, found: float, difference: Callable[[], float]) -> Asked:
    """What is asked for beside what the network has found; ``difference`` measures only where that is too little."""
    if not asked.or_as_a_difference or found >= asked.share:
        return asked
    measured = difference()
    return replace(asked, share=min(asked.share, max(measured, FEWEST_SHARE)), difference=measured)
