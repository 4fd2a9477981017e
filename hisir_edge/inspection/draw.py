"""A fresh draw of planted defects of every class into a bundle's own good board, and how many of them are found.

The defects are not chosen by what this network finds, as those of ``engine/plants.py`` are: a network that sees nothing
does not pass here.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hisir_edge.arrays import U8, Bool, u8
from hisir_edge.corruption.plant import NAMES, plant
from hisir_edge.geometry.tile import scaled_frame
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.board import BoardInspector
from hisir_edge.inspection.windows import warped_window
from hisir_edge.records import Judgement, Result

SMALLEST_PX = 6
"""Longer side, in the network's pixels, from which a planted defect counts."""
MOST_BOARDS = len(NAMES) + 3
"""Inspections a round at most: a board of one tile has room for one window, and a few plant nothing that is seen."""
SIGMAS = 3
DRAW = 1984
JOIN_PX = 13


@dataclass(frozen=True, slots=True)
class Draw:
    """Planted and found defects by class."""

    planted: dict[str, int]
    found: dict[str, int]

    @property
    def total(self) -> int:
        """Planted defects of all classes."""
        return sum(self.planted.values())

    @property
    def recall(self) -> float:
        """Share of all that was found; 0 where nothing could be planted."""
        return sum(self.found.values()) / max(self.total, 1)

    def least_recall(self, promised: float) -> float:
        """The recall below which a draw of this size lies once in a thousand times, if ``promised`` is the true one."""
        return max(promised - SIGMAS * float(np.sqrt(promised * (1 - promised) / max(self.total, 1))), 0.0)

    def words(self) -> str:
        """``missing 12 of 13, moved 9 of 9``."""
        return ", ".join(f"{name} {self.found[name]} of {count}" for name, count in self.planted.items())


def draw_defects(inspector: BoardInspector, picture: U8, seed: int, rounds: int = 1) -> Draw:
    """Plant defects of every class ``rounds`` times into a good picture (h, w, 3) of the camera, and inspect it.

    Where a small board has no room for a window of each class, it is inspected again with the others.
    """
    planted, found = dict.fromkeys(NAMES, 0), dict.fromkeys(NAMES, 0)
    scale, tile = inspector.bundle.recipe.scale, inspector.plan.tile_px
    small = scaled_frame(picture, scale)
    inspected = _inspected(inspector, small)
    on_board = None if inspector.bundle.area is None else inspected
    windows = board = 0
    while windows < rounds * len(NAMES) and board < rounds * MOST_BOARDS:
        left = rounds * len(NAMES) - windows
        changed: U8 = small.copy()
        truth, places = plant(changed, tile, None, (seed, DRAW, board), windows, min(left, len(NAMES)), on_board)
        windows, board = windows + len(places), board + 1
        if places:
            seen = _seen(inspector.inspect(_enlarged(picture, small, changed)), (small.shape[0], small.shape[1]))
            for y, x in places:
                here = np.s_[y : y + tile, x : x + tile]
                _count(inspected[here], seen[here], truth[here], planted, found)
    return Draw({k: n for k, n in planted.items() if n}, {k: found[k] for k, n in planted.items() if n})


def _inspected(inspector: BoardInspector, small: U8) -> Bool:
    """The pixels of a picture in the network's size that are inspected, where it shows the board, (h, w)."""
    h, w = small.shape[:2]
    inspected = inspector.gain.inspected()
    if inspector.finder is None:
        return inspected
    pose = inspector.finder.find(Pixels(small)).pose
    return np.asarray(warped_window(inspected.astype(np.float32), (0, 0), (0, h, 0, w), pose) > 0)


def _enlarged(picture: U8, small: U8, changed: U8) -> U8:
    """The camera's picture with what was changed in its scaled one."""
    if small is picture or small.shape == picture.shape:
        return changed
    h, w = picture.shape[:2]
    difference = cv2.resize(changed.astype(np.int16) - small, (w, h), interpolation=cv2.INTER_LINEAR)
    return u8(np.clip(picture.astype(np.int16) + difference, 0, 255).astype(np.uint8))


def _count(inspected: Bool, seen: Bool, truth: U8, planted: dict[str, int], found: dict[str, int]) -> None:
    """Add the defects of one window."""
    joined = cv2.dilate((truth > 0).astype(np.uint8), np.ones((JOIN_PX, JOIN_PX), np.uint8))
    count, labels = cv2.connectedComponents(joined)
    for label in range(1, count):
        ys, xs = np.nonzero((labels == label) & (truth > 0) & inspected)
        if len(ys) and max(np.ptp(ys), np.ptp(xs)) + 1 >= SMALLEST_PX:
            name = NAMES[int(np.bincount(truth[ys, xs]).argmax()) - 1]
            planted[name] += 1
            found[name] += bool(seen[ys, xs].any())


def _seen(judged: Judgement, hw: tuple[int, int]) -> Bool:
    """The called pixels in the network's size."""
    if judged.result is not Result.FAIL or judged.mask is None:
        return np.zeros(hw, np.bool_)
    return np.asarray(cv2.resize(judged.mask.view(np.uint8), hw[::-1], interpolation=cv2.INTER_AREA)) > 0
