"""Plants defects of every class into a good board: what engines and loaded bundles are checked with."""

from __future__ import annotations

import numpy as np

from hisir_edge.arrays import I32, U8, Bool
from hisir_edge.corruption.corrupt import CLASSES, corrupt_tile_with
from hisir_edge.corruption.spots import largest_part, part_boxes

WINDOWS_PER_BOARD = 6
TRIES, MORE_TRIES = 12, 100
NAMES = tuple(CLASSES)
"""Class ``n`` of a truth map is ``NAMES[n - 1]``."""


def plant(
    board: U8,
    tile_px: int,
    boxes: I32 | None,
    seed: tuple[int, ...],
    first_class: int = 0,
    most: int = WINDOWS_PER_BOARD,
    on_board: Bool | None = None,
) -> tuple[U8, list[tuple[int, int]]]:
    """Plant defects into a board (h, w, 3) in place, one class a window of ``tile_px``, the classes in turn.

    Returns (truth (h, w) uint8: 0 or 1 + the class's place in ``NAMES``; upper left corners y, x of the windows). Up to
    ``most`` windows, which do not overlap. ``boxes`` (n, 4): parts of the board, None: they are looked for in each
    window, which takes a hundredth of the time on a large board; ``seed`` fixes everything.
    ``on_board`` (h, w): nothing is planted elsewhere, and the windows' middles lie on it.
    """
    rng = np.random.default_rng(list(seed))
    h, w = board.shape[:2]
    t = tile_px
    truth = np.zeros((h, w), np.uint8)
    places: list[tuple[int, int]] = []
    clean: U8 = board.copy()
    for _ in range(TRIES * most if on_board is None else MORE_TRIES * most):
        y, x = int(rng.integers(h - t + 1)), int(rng.integers(w - t + 1))
        if len(places) == most or any(abs(y - a) < t and abs(x - b) < t for a, b in places):
            continue
        if on_board is not None and not on_board[y + t // 2, x + t // 2]:
            continue
        donor_y, donor_x = int(rng.integers(h - t + 1)), int(rng.integers(w - t + 1))
        window = clean[y : y + t, x : x + t]
        number = (first_class + len(places)) % len(NAMES)
        made = corrupt_tile_with(
            rng,
            NAMES[number],
            window,
            clean[donor_y : donor_y + t, donor_x : donor_x + t],
            part_boxes(window, largest_px=largest_part(t)) if boxes is None else _within(boxes, y, x, t),
        )
        mask = made.mask > 0
        if on_board is not None:
            mask &= on_board[y : y + t, x : x + t]
        if mask.any():
            board[y : y + t, x : x + t] = made.tile
            truth[y : y + t, x : x + t] = np.where(mask, np.uint8(number + 1), np.uint8(0))
            places.append((y, x))
    return truth, places


def _within(boxes: I32, y: int, x: int, t: int) -> I32:
    """The boxes that lie whole in a window, in its pixels."""
    inside = (boxes[:, :2] >= (x, y)).all(1) & (boxes[:, :2] + boxes[:, 2:] <= (x + t, y + t)).all(1)
    return boxes[inside] - np.array([x, y, 0, 0], np.int32)


def words_of_classes(planted: dict[str, int], recall: dict[str, float]) -> str:
    """``missing 12 of 13, moved 9 of 9``."""
    return ", ".join(f"{name} {round(recall[name] * count)} of {count}" for name, count in planted.items())
