"""What good boards look like at each place: the median, and a deviation that a few odd boards cannot blur."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hisir_edge.arrays import F32, I16, U8, max_of_channels, u8
from hisir_edge.errors import InputError
from hisir_edge.net.position import DEVIATION_GAIN

TRIMMED_SHARE = 0.05
"""At each place so many of the lowest and so many of the highest values count nothing, at least one of each."""
FEWEST_TO_TRIM = 5
BAND_PX = 128
ROWS_AT_ONCE = 16
SAMPLES = 20000


@dataclass(frozen=True, slots=True)
class BoardMemory:
    """Golden image (h, w, 3) and deviation (h, w), uint8, of the good boards, in golden coordinates."""

    mean_rgb: U8
    deviation: U8


def robust_memory(bands: Callable[[int, int], list[U8]], hw: tuple[int, int]) -> BoardMemory:
    """Median and trimmed deviation of registered boards.

    ``bands(y0, y1)``: those rows of each board, (y1 - y0, w, 3) each.
    """
    golden = np.empty((*hw, 3), np.uint8)
    deviation = np.empty(hw, np.uint8)
    for y in range(0, hw[0], BAND_PX):
        end = min(y + BAND_PX, hw[0])
        golden[y:end], deviation[y:end] = memory_of_stack(np.stack(bands(y, end)))
    return BoardMemory(golden, deviation)


def memory_of_stack(stack: U8) -> tuple[U8, U8]:
    """Median (h, w, 3) and deviation (h, w) in steps of a stack (n, h, w, 3), which is sorted in place."""
    n = len(stack)
    sort_boards(stack)
    middle = (stack[(n - 1) // 2].astype(np.uint16) + stack[n // 2] + 1) // 2
    cut = trimmed_of(n)
    return u8(middle.astype(np.uint8)), _deviation(stack[cut : n - cut], middle.astype(np.int16), n, cut)


def deviation_of_stack(off: I16) -> U8:
    """Trimmed deviation (h, w), in steps, of differences (n, h, w, 3), which are sorted in place."""
    n = len(off)
    sort_boards(off)
    cut = trimmed_of(n)
    return _deviation(off[cut : n - cut], np.zeros(off.shape[1:], np.int16), n, cut)


def sort_boards(stack: U8 | I16) -> None:
    """Sort a stack (n, h, w, 3) along its first axis, in place, as ``stack.sort(axis=0)`` does in 20 times as long.

    A sorting network (Batcher's odd-even merges; Knuth, The Art of Computer Programming, volume 3, 5.2.2): whole rows
    of two boards are compared at a time, which a processor does 32 values at once.
    """
    network = _comparisons(len(stack))
    for y in range(0, stack.shape[1], ROWS_AT_ONCE):
        boards = stack[:, y : y + ROWS_AT_ONCE]
        lower = np.empty(boards.shape[1:], boards.dtype)
        for one, other in network:
            np.minimum(boards[one], boards[other], out=lower)
            np.maximum(boards[one], boards[other], out=boards[other])
            boards[one] = lower


@lru_cache
def _comparisons(count: int) -> tuple[tuple[int, int], ...]:
    out: list[tuple[int, int]] = []
    merged = 1
    while merged < count:
        step = merged
        while step >= 1:
            for first in range(step % merged, count - step, 2 * step):
                pairs = ((one, one + step) for one in range(first, min(first + step, count - step)))
                out += [(a, b) for a, b in pairs if a // (2 * merged) == b // (2 * merged)]
            step //= 2
        merged *= 2
    return tuple(out)


def _deviation(kept: U8 | I16, middle: I16, n: int, cut: int) -> U8:
    """Of what is not trimmed away, (k, h, w, 3), around the middle; the sums are whole numbers and exact."""
    total = np.zeros(middle.shape, np.float32)
    for board in kept:
        off = (board - middle).astype(np.float32)
        off *= off
        total += off
    return deviation_steps(np.sqrt(max_of_channels(total / np.float32(len(kept)))), n, cut)


def deviation_steps(spread: F32, boards: int, cut: int) -> U8:
    """The deviation as it is stored, of a spread in grey levels from so many boards, ``cut`` trimmed at each end."""
    steps = spread * np.float32(_consistency(boards, cut) * DEVIATION_GAIN)
    return u8(np.clip(np.round(steps), 0, 255).astype(np.uint8))


def trimmed_of(boards: int) -> int:
    """How many values are left out at each end, of so many boards."""
    return 0 if boards < FEWEST_TO_TRIM else max(round(boards * TRIMMED_SHARE), 1)


@lru_cache
def _consistency(boards: int, cut: int) -> float:
    """By how much trimming makes the deviation of normally distributed values smaller, undone."""
    if not cut:
        return 1.0
    values = np.sort(np.random.default_rng(boards).standard_normal((SAMPLES // boards + 1, boards)), axis=1)
    kept = values[:, cut : boards - cut] - np.median(values, axis=1, keepdims=True)
    return float(1 / np.sqrt((kept**2).mean()))


def mean_memory(frames: Iterable[U8]) -> BoardMemory:
    """Mean and standard deviation of frames (h, w, 3) that nothing registers, gathered one by one."""
    total: F32 | None = None
    count = 0
    for frame in frames:
        values = frame.astype(np.float32)
        if total is None:
            total, squares = np.zeros_like(values), np.zeros_like(values)
        total += values
        squares += values * values
        count += 1
    if total is None:
        raise InputError(expected="at least one good board", received="none", fix="add good images")
    mean = total / count
    spread = np.sqrt(np.maximum(max_of_channels(squares / count - mean * mean), 0)) * DEVIATION_GAIN
    return BoardMemory(np.round(mean).astype(np.uint8), np.clip(np.round(spread), 0, 255).astype(np.uint8))
