"""What share of the planted defects a bundle must find (decision 0041)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hisir_edge.bundle.metrics import DEFAULT_LEAST_PLANTED_RECALL, MOST_LOST_SHARE, MetricsModel

FEWEST_SHARE = 0.05
"""However much good boards differ, a network that finds fewer has learnt nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The least share of planted defects, 0 to 1.

    ``usual``: what is asked for; ``or_as_a_difference``: less is enough where a golden-image difference finds less.
    ``difference``: the share that it finds; None: not measured, since the network finds what is usual. ``before``: what
    the same network found by the thresholds that it had; 0: it had none.
    """

    usual: float = 0.0
    or_as_a_difference: bool = False
    difference: float | None = None
    before: float = 0.0

    @property
    def share(self) -> float:
        """What must be found. What chance explains of the planted defects is taken from what others have found."""
        if self.difference is None:
            return self.usual
        found = max(self.difference, self.before)
        return min(self.usual, max(found - MOST_LOST_SHARE, FEWEST_SHARE))


NOTHING = Asked()


def asked_for(least: float | None, usual: float = DEFAULT_LEAST_PLANTED_RECALL, *, is_short: bool = False) -> Asked:
    """What ``--least-planted-recall`` says; without it the usual share, or what a difference finds.

    A network of a short training is not let off: it would find more.
    """
    return Asked(usual=usual, or_as_a_difference=not is_short) if least is None else Asked(usual=least)


def asked_again(metrics: MetricsModel | None, least: float | None, *, fewer_calls: bool) -> Asked:
    """What is asked for by other thresholds: what ``--least-planted-recall`` says, or what the bundle was built for.

    The network is the same: what it finds less than before, new boards hide, and one of them may be bad; or fewer false
    calls were asked for.
    """
    if metrics is None:  # a bundle without figures: there is nothing to hold them to, nor to measure beside them
        return NOTHING
    if least is not None:
        return asked_for(least)
    if not metrics.least_by_difference:
        return Asked(usual=metrics.least_planted_recall)
    return Asked(
        usual=metrics.usual_planted_recall, or_as_a_difference=True, before=0.0 if fewer_calls else metrics.recall
    )


def settled(asked: Asked, found: float, planted: int, difference: Callable[[], float]) -> Asked:
    """What is asked for beside what the network has found of so many planted defects.

    ``difference`` measures only where that is too little.
    """
    if not asked.or_as_a_difference or found >= asked.usual or not planted:
        return asked
    return replace(asked, difference=difference())
