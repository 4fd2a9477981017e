"""The board memory as it would be without one board, for each of them: what a board is judged by that nobody has seen.

Of the sorted values at a place only the middle and the trimmed ends can change when one is taken away, so that all
these memories come from one sort: ``robust_memory`` of the others, to the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from hisir_edge.arrays import F32, U8, max_of_channels, u8
from hisir_edge.errors import InputError
from hisir_edge.learn.data.memory import GoodBoards, rows_of_board
from hisir_edge.learn.data.statistics import (
    BAND_PX,
    BoardMemory,
    deviation_steps,
    robust_memory,
    sort_boards,
    trimmed_of,
)

FEWEST_BOARDS = 4
RowsOf = Callable[[int, int, int], U8]
"""(number of the picture, y0, y1) -> those rows (y1 - y0, w, 3) of it, put straight, without its light."""


class Memories:
    """The memory of all boards but the one that a picture shows, for every picture.

    ``boards``: which board each picture shows. InputError for fewer than ``FEWEST_BOARDS`` pictures.
    """

    def __init__(self, rows_of: RowsOf, hw: tuple[int, int], boards: tuple[int, ...]) -> None:
        self.rows_of, self.hw, self.boards = rows_of, hw, boards
        self._left_out = LeftOut(lambda y0, y1: self._rows(range(len(boards)), y0, y1), hw, len(boards))

    def same_board(self, number: int) -> list[int]:
        """The pictures of the board that a picture shows, itself among them."""
        return [i for i, board in enumerate(self.boards) if board == self.boards[number]]

    def memory_without(self, number: int) -> BoardMemory:
        """Golden image and deviation of the other boards; of the other pictures where all show one board."""
        same = self.same_board(number)
        others = [i for i in range(len(self.boards)) if i not in same]
        if len(same) == 1 or not others:
            return self._left_out.memory_without(self.rows_of(number, 0, self.hw[0]))
        return robust_memory(lambda y0, y1: self._rows(others, y0, y1), self.hw)

    def memory_after(self, first: int, number: int) -> BoardMemory:
        """``memory_without`` the one that is ``number`` places behind ``first``."""
        return self.memory_without(first + number)

    def memory_beside(self, memory: BoardMemory, count: int, number: int) -> BoardMemory:
        """``memory_without`` one of the first ``count``; ``memory``, of all, for others behind them: not in it."""
        return self.memory_without(number) if number < count else memory

    def _rows(self, numbers: Iterable[int], y0: int, y1: int) -> list[U8]:
        return [self.rows_of(i, y0, y1) for i in numbers]


class LeftOut:
    """Memories without one board each; ``bands(y0, y1)``: those rows (y1 - y0, w, 3) of each of ``count`` boards."""

    def __init__(self, bands: Callable[[int, int], list[U8]], hw: tuple[int, int], count: int) -> None:
        if count < FEWEST_BOARDS:
            raise InputError(
                expected=f"at least {FEWEST_BOARDS} good boards to judge each by the others",
                received=str(count),
                fix="take more good boards",
            )
        n, cut = count, trimmed_of(count - 1)
        self.count, self.cut = n, cut
        # the values around the middle, and the ends of what is not trimmed away
        self.middle = np.empty((3, *hw, 3), np.uint8)
        self.low, self.high = np.empty((*hw, 3), np.uint8), np.empty((*hw, 3), np.uint8)
        self.total, self.squares = np.empty((*hw, 3), np.float32), np.empty((*hw, 3), np.float32)
        around = (n // 2 - 1, n // 2, min(n // 2 + 1, n - 1))
        for y in range(0, hw[0], BAND_PX):
            rows = slice(y, min(y + BAND_PX, hw[0]))
            stack = np.stack(bands(rows.start, rows.stop))
            sort_boards(stack)
            for which, rank in enumerate(around):
                self.middle[which, rows] = stack[rank]
            self.low[rows], self.high[rows] = stack[cut], stack[n - 1 - cut]
            total, squares = self.total[rows], self.squares[rows]
            total[:] = squares[:] = 0
            for board in stack[cut : n - cut]:
                value = board.astype(np.float32)
                total += value
                squares += value * value

    def memory_without(self, board: U8) -> BoardMemory:
        """Golden image and deviation of all boards but this one (h, w, 3), which must be one of them."""
        hw = board.shape[:2]
        golden, deviation = np.empty((*hw, 3), np.uint8), np.empty(hw, np.uint8)
        for y in range(0, hw[0], BAND_PX):
            rows = slice(y, min(y + BAND_PX, hw[0]))
            golden[rows], deviation[rows] = self._rows_without(u8(board[rows]), rows)
        return BoardMemory(golden, deviation)

    def _rows_without(self, one: U8, rows: slice) -> tuple[U8, U8]:
        below, at, above = self.middle[:, rows]
        if self.count % 2:  # an even number is left, the middle is between two
            first = np.where(one > below, below, at).astype(np.uint16)
            second = np.where(one > at, at, above)
        else:
            first = np.where(one > below, below, at).astype(np.uint16)
            second = first.astype(np.uint8)
        golden = ((first + second + 1) // 2).astype(np.float32)
        gone = np.clip(one, self.low[rows], self.high[rows]).astype(np.float32)
        kept = self.count - 1 - 2 * self.cut
        total, squares = self.total[rows] - gone, self.squares[rows] - gone * gone
        mean_square: F32 = (squares - 2 * golden * total) / np.float32(kept) + golden * golden
        spread = np.sqrt(np.maximum(max_of_channels(mean_square), 0))
        return u8(golden.astype(np.uint8)), deviation_steps(spread, self.count - 1, self.cut)


def memories_of_boards(boards: GoodBoards) -> Memories:
    """The memories of registered boards without one of them each."""
    hw = (boards.memory.mean_rgb.shape[0], boards.memory.mean_rgb.shape[1])
    return Memories(partial(rows_of_board, boards), hw, boards.boards)
