"""Each good board judged by what the others make: for boards that are all in the memory, none held out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hisir_edge.arrays import U8, u8
from hisir_edge.bundle.write import memory_as_shipped
from hisir_edge.errors import InputError, InspectionError
from hisir_edge.images import read_rgb
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.light import light_of_frame, without_light
from hisir_edge.inspection.variants import Chooser, ShownMemory
from hisir_edge.learn.data.distinct import boards_among
from hisir_edge.learn.data.left_out import LeftOut
from hisir_edge.learn.data.run import RunRecord
from hisir_edge.learn.data.statistics import BoardMemory, mean_memory, robust_memory

OWN_PICTURE_UPTO = 12
"""A group of a variant with so many others changes by the board that is left out."""


class LeftOutMemory(ShownMemory):
    """A board's memory without it; ``own``: by place the picture of the variant that it shows, without it."""

    def __init__(self, chooser: Chooser, planes: U8, own: dict[int, tuple[int, U8]]) -> None:
        self._own = own
        super().__init__(chooser, planes)

    def _picture(self, number: int, look: int) -> U8:
        whose, picture = self._own.get(number, (-1, None))
        return super()._picture(number, look) if picture is None or whose != look else picture


@dataclass(frozen=True, slots=True)
class Others:
    """What every board of a run is judged by: ``pictures`` (n, h, w, 3), straight and without their light.

    ``boards``: which board each of them shows.
    """

    pictures: U8
    boards: tuple[int, ...]
    left_out: LeftOut

    def memory_of(self, inspector: CpuInspector, number: int) -> LeftOutMemory:
        """The memory of all boards but the one that picture ``number`` shows; of all for one that came later."""
        if number >= len(self.boards):
            return LeftOutMemory(inspector.chooser, inspector.bundle.memory, {})
        same = [i for i, board in enumerate(self.boards) if board == self.boards[number]]
        quick = len(same) == 1 and inspector.bundle.recipe.registered
        memory = (
            self.left_out.memory_without(u8(self.pictures[number]))
            if quick
            else self._without(same, inspector.bundle.recipe.registered)
        )
        cue = memory_as_shipped(memory.mean_rgb, memory.deviation)
        padded_h, padded_w = inspector.plan.padded_hw
        around = ((0, padded_h - cue.shape[0]), (0, padded_w - cue.shape[1]), (0, 0))
        planes = np.ascontiguousarray(np.pad(cue, around, mode="edge").transpose(2, 0, 1))
        return LeftOutMemory(inspector.chooser, u8(planes), self._own_pictures(inspector, number, same))

    def _without(self, same: list[int], registered: bool) -> BoardMemory:
        others = [i for i in range(len(self.boards)) if i not in same]
        if not others:
            others = same  # all pictures show one board: there is nothing else to judge it by
        if not registered:  # loose objects: as their whole memory is made
            return mean_memory(u8(self.pictures[i]) for i in others)
        hw = self.pictures.shape[1:3]
        return robust_memory(lambda y0, y1: [self.pictures[i, y0:y1].copy() for i in others], (hw[0], hw[1]))

    def _own_pictures(self, inspector: CpuInspector, number: int, same: list[int]) -> dict[int, tuple[int, U8]]:
        own: dict[int, tuple[int, U8]] = {}
        for index, place in enumerate(inspector.chooser.places):
            looks = place.model.looks
            if len(looks) != len(self.boards):
                continue
            others = [i for i, look in enumerate(looks) if look == looks[number] and i not in same]
            if 0 < len(others) <= OWN_PICTURE_UPTO:
                crops = [self.pictures[i][place.rows, place.columns] for i in others]
                own[index] = looks[number], u8(np.median(np.stack(crops), 0).astype(np.uint8))
        return own


def others_of_run(inspector: CpuInspector, record: RunRecord, folder: Path) -> Others:
    """Put every board of the run straight, into a file in ``folder``; InputError names one that cannot be inspected."""
    h, w = inspector.plan.frame_hw
    file = folder / "boards.npy"
    pictures = np.lib.format.open_memmap(file, "w+", np.uint8, (len(record.begun_with), h, w, 3))
    for slot, path in zip(pictures, record.begun_with, strict=True):
        try:
            inspector.prepare(Pixels(read_rgb(Path(path))))
        except InspectionError as error:
            raise InputError(
                expected=f"the good board {path} to be inspected",
                received=str(error),
                fix="remove the picture and teach again",
            ) from error
        board = inspector.padded[:h, :w]
        slot[:] = board if inspector.light is None else without_light(board, light_of_frame(inspector.light, board))
    boards = tuple(boards_among(record.begun_with, record.same_board))
    left_out = LeftOut(lambda y0, y1: [one[y0:y1].copy() for one in pictures], (h, w), len(pictures))
    return Others(u8(pictures), boards, left_out)
