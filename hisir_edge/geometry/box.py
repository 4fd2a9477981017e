"""Boxes of the frame: x, y of the upper left pixel, width and height."""

from __future__ import annotations

BoxXYWH = tuple[int, int, int, int]


def meet(a: BoxXYWH, b: BoxXYWH) -> bool:
    """Whether two boxes have something in common."""
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]
