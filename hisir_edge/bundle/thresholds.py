"""When a board fails, and where it is judged otherwise: what a bundle says of both."""

from __future__ import annotations

from dataclasses import dataclass

OFF_THE_BOARD = "off the board"
"""Name of the zone around the board's area."""


@dataclass(frozen=True, slots=True)
class MassRule:
    """The peak, in logits, that a region's mass is worth: ``logits_per_root`` times its root, and ``logits_at_none``.

    The mass is the sum of the logits of its pixels, those of the frame.
    """

    logits_per_root: float
    logits_at_none: float


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a board fails. In the calibrated map 1.0 is the pixel threshold.

    ``pixel``: raw score of the pixel threshold; ``region_peak``: least peak (calibrated), or what its mass is worth
    where there is such a rule, and ``min_area_px``: least area (frame pixels) of a region that is called a defect.
    """

    pixel: float
    region_peak: float
    min_area_px: int
    mass: MassRule | None = None


@dataclass(frozen=True, slots=True)
class Zone:
    """A named polygon in golden-image pixels (of the camera's frame size) and its sensitivity.

    ``sensitivity`` multiplies scores: 0 ignores the zone, 1 is the board's own, 2 alarms at half the score.
    Where zones overlap, the later one counts. ``outside``: the zone is all that the polygon leaves out.
    """

    name: str
    polygon_xy: tuple[tuple[float, float], ...]
    sensitivity: float
    outside: bool = False
