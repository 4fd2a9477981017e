"""What share of the planted defects a bundle must find (decision 0041)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hisir_edge.bundle.manifest import DEFAULT_LEAST_PLANTED_RECALL

FEWEST_SHARE = 0.05
"""However much good boards differ, a network that finds fewer has learnt nothing."""
CHANCE_DEVIATIONS = 2.0
"""By so many standard deviations of a share of the planted defects a network may fall behind a difference."""


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


def settled(asked: Asked, found: float, planted: int, difference: Callable[[], float]) -> Asked:
    """What is asked for beside what the network has found of so many planted defects.

    ``difference`` measures only where that is too little. What it finds is asked for but for chance: of 100 planted
    defects it may find 8 and a network that sees as much 6.
    """
    if not asked.or_as_a_difference or found >= asked.share or not planted:
        return asked
    measured = difference()
    if measured >= asked.share:
        return replace(asked, difference=measured)
    chance = CHANCE_DEVIATIONS * (measured * (1 - measured) / planted) ** 0.5
    return replace(asked, share=min(asked.share, max(measured - chance, FEWEST_SHARE)), difference=measured)
