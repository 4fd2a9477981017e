"""The noise map's grid: one cell for each square of the scaled frame."""

from __future__ import annotations

NOISE_CELL_PX = 32
WIDE_NOISE_CELL_PX = 64
"""Of bundles from before; such a map is told by its shape."""


def noise_shape(hw: tuple[int, int], cell_px: int = NOISE_CELL_PX) -> tuple[int, int]:
    """Cells (rows, columns) of the noise map of a frame of ``hw`` scaled pixels."""
    return -(-hw[0] // cell_px), -(-hw[1] // cell_px)


def noise_cell_px(shape: tuple[int, ...], hw: tuple[int, int]) -> int | None:
    """The side of the cells of a noise map of such a shape for a frame of ``hw`` scaled pixels; None: no such map."""
    return next((px for px in (NOISE_CELL_PX, WIDE_NOISE_CELL_PX) if shape == noise_shape(hw, px)), None)
