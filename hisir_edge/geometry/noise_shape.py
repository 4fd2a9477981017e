"""The noise map's grid: one cell for each square of the scaled frame."""

from __future__ import annotations

NOISE_CELL_PX = 64


def noise_shape(hw: tuple[int, int]) -> tuple[int, int]:
    """Cells (rows, columns) of the noise map of a frame of ``hw`` scaled pixels."""
    return -(-hw[0] // NOISE_CELL_PX), -(-hw[1] // NOISE_CELL_PX)
