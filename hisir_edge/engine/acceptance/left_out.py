"""Each good board judged by what the others make: for boards that are in the memory themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hisir_edge.arrays import U8, u8
from hisir_edge.bundle.write import memory_as_shipped
from hisir_edge.errors import InputError, InspectionError
from hisir_edge.images import picture_file, read_rgb
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.light import light_of_frame, without_light
from hisir_edge.inspection.memory.shown import ShownTiles
from hisir_edge.inspection.memory.variants import Chooser
from hisir_edge.learn.data.distinct import boards_among
from hisir_edge.learn.data.left_out import Memories
from hisir_edge.learn.data.run import RunRecord
from hisir_edge.learn.data.statistics import BoardMemory, mean_memory

OWN_PICTURE_UPTO = 12
"""A group of a variant with so many others changes by the board that is left out."""


class LeftOutMemory(ShownTiles):
    """A board's memory without it; ``own``: by place the picture of the variant that it shows, without it."""

    def __init__(self, chooser: Chooser, planes: U8, own: dict[int, tuple[int, U8]]) -> None:
        self._own = own
        super().__init__(chooser, planes)

    def _picture(self, number: int, look: int) -> U8:
        whose, picture = self._own.get(number, (-1, None))
        return super()._picture(number, look) if picture is None or whose != look else picture


@dataclass(frozen=True, slots=True)
class Others:
    """What every board in a run's memory is judged by: ``pictures`` (n, h, w, 3), straight and without their light.

    ``numbers``: by path which of them it is.
    """

    pictures: U8
    numbers: dict[str, int]
    memories: Memories

    def memory_of(self, inspector: CpuInspector, path: str) -> LeftOutMemory:
        """The memory of all boards but the one that a picture shows; of all for one that is not in it."""
        number = self.numbers.get(path)
        if number is None:
            return LeftOutMemory(inspector.chooser, inspector.bundle.memory, {})
        same = self.memories.same_board(number)
        registered = inspector.bundle.recipe.registered
        memory = self.memories.memory_without(number) if registered else self._mean_without(number, same)
        cue = memory_as_shipped(memory.mean_rgb, memory.deviation)
        padded_h, padded_w = inspector.plan.padded_hw
        around = ((0, padded_h - cue.shape[0]), (0, padded_w - cue.shape[1]), (0, 0))
        planes = np.ascontiguousarray(np.pad(cue, around, mode="edge").transpose(2, 0, 1))
        return LeftOutMemory(inspector.chooser, u8(planes), self._own_pictures(inspector, number, same))

    def _mean_without(self, number: int, same: list[int]) -> BoardMemory:
        """Of loose objects, as their whole memory is made."""
        others = [i for i in range(len(self.numbers)) if i not in same]
        others = others or [i for i in same if i != number]
        return mean_memory(u8(self.pictures[i]) for i in others)

    def _own_pictures(self, inspector: CpuInspector, number: int, same: list[int]) -> dict[int, tuple[int, U8]]:
        own: dict[int, tuple[int, U8]] = {}
        for index, place in enumerate(inspector.chooser.places):
            looks = place.model.looks
            if len(looks) != len(self.numbers):
                continue
            others = [i for i, look in enumerate(looks) if look == looks[number] and i not in same]
            if 0 < len(others) <= OWN_PICTURE_UPTO:
                crops = [self.pictures[i][place.rows, place.columns] for i in others]
                own[index] = looks[number], u8(np.median(np.stack(crops), 0).astype(np.uint8))
        return own


def others_of_run(inspector: CpuInspector, record: RunRecord, folder: Path) -> Others:
    """Put every board in the memory straight, into a file in ``folder``; InputError names one that is not inspected."""
    h, w = inspector.plan.frame_hw
    file = folder / "boards.npy"
    pictures = picture_file(file, (len(record.in_memory), h, w, 3))
    for slot, path in zip(pictures, record.in_memory, strict=True):
        try:
            inspector.prepare(Pixels(read_rgb(Path(path), rules=record.rules)))
        except InspectionError as error:
            raise InputError(
                expected=f"the good board {path} to be inspected",
                received=str(error),
                fix="remove the picture, and train or teach again",
            ) from error
        board = inspector.padded[:h, :w]
        slot[:] = board if inspector.light is None else without_light(board, light_of_frame(inspector.light, board))
    boards = tuple(boards_among(record.in_memory, record.same_board))
    memories = Memories(lambda number, y0, y1: u8(pictures[number, y0:y1].copy()), (h, w), boards)
    return Others(u8(pictures), {path: number for number, path in enumerate(record.in_memory)}, memories)
