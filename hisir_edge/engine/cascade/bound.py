"""From where on the whole network looks: measured on planted defects of every class that it calls, on other boards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import cv2
import numpy as np

from hisir_edge.arrays import F32, Bool
from hisir_edge.corruption.plant import NAMES
from hisir_edge.engine.acceptance.derive import of_network
from hisir_edge.engine.cascade.spoilt import Spoilt
from hisir_edge.geometry.tile import REGION_PX
from hisir_edge.inspection.cascade.first_look import FirstLook, beside, calibrated_on_board, suspicious
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.regions import regions_in_window
from hisir_edge.inspection.windows import calibrated_windows

BESIDE = np.ones((9, 9), np.uint8)
"""A region that lies so near a defect is a call of it."""
MARGIN = 0.7
"""The whole network looks from this share of the least that was expected of any call."""


@dataclass(slots=True)
class Proof:
    """What was expected of each planted defect that the whole network calls, in units of the region threshold.

    ``kinds``: its class. Of a defect that is called in pieces the highest counts. ``good``: by good board what is
    expected of each of its regions.
    """

    expected: list[float] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    planted: int = 0
    most_residual_px: float = 0.0
    good: list[F32] = field(default_factory=list, repr=False)

    @property
    def look_from(self) -> float:
        """Share of the region threshold; at most that itself."""
        return min(MARGIN * min(self.expected, default=0.0), 1.0)

    @property
    def upper_bound_95(self) -> float:
        """The highest share of calls that could be lost, with 95 % confidence, where none of those seen was."""
        return float(1 - 0.05 ** (1 / max(len(self.expected), 1)))

    def by_class(self) -> dict[str, int]:
        """How many defects of each class are called."""
        return {name: self.kinds.count(number) for number, name in enumerate(NAMES)}


def proven(inspector: CpuInspector, look: FirstLook, boards: Iterable[Spoilt]) -> Proof:
    """Compare the two on boards, good and spoilt, as they inspect them: merged map, the product's own regions."""
    proof, clean = Proof(), np.empty(0, np.float32)
    every = inspector.numbers
    before = np.empty(0, np.int64)
    for board in boards:
        proof.most_residual_px = max(proof.most_residual_px, board.residual_px)
        if not board.planted:
            inspector.map_with_tiles(every, board.gains)
            clean = inspector.workers.expect(inspector.padded, board.gains, inspector.memory, every, look)
            proof.good.append(_share_of_threshold(inspector, clean))
            before = np.empty(0, np.int64)
            continue
        touched = np.intersect1d(board.numbers, every)
        scores = inspector.map_with_tiles(np.union1d(touched, before), board.gains)
        before, now = touched, clean.copy()
        where = np.searchsorted(every, touched)
        now[where] = inspector.workers.expect(inspector.padded, board.gains, inspector.memory, touched, look)
        shares = _share_of_threshold(inspector, now)
        proof.planted += board.planted
        found: dict[int, tuple[float, int]] = {}
        for cells, defect, kind in _calls(inspector, scores, board):
            found[defect] = max(found.get(defect, (0.0, kind)), (float(shares[beside(cells)].max()), kind))
        proof.expected += [expected for expected, _ in found.values()]
        proof.kinds += [kind for _, kind in found.values()]
    return proof


def looked_share(inspector: CpuInspector, proof: Proof) -> float:
    """The mean share of the good boards' tiles that the whole network has to see."""
    plan, numbers = inspector.plan, inspector.numbers
    seen = [len(suspicious(plan, numbers, shares, proof.look_from)) for shares in proof.good]
    return float(np.mean(seen)) / max(len(numbers), 1)


def _share_of_threshold(inspector: CpuInspector, expected: F32) -> F32:
    board = calibrated_on_board(inspector.plan, inspector.numbers, expected, inspector.gain.most)
    return np.asarray(board / np.float32(inspector.bundle.thresholds.region_peak), np.float32)


def _calls(inspector: CpuInspector, scores: F32, board: Spoilt) -> list[tuple[Bool, int, int]]:
    """Each region that the whole network calls on a planted defect: its regions of 16 x 16 px, the defect, its class.

    What it calls elsewhere is no defect.
    """
    h, w = inspector.plan.frame_hw
    mask = np.zeros((h, w), np.bool_)
    cell_max = inspector.merger.cell_max
    for y, x, window in calibrated_windows(scores, cell_max, inspector.gain, None, (h, w)):
        regions_in_window(window, of_network(inspector.bundle.thresholds, inspector.bundle.recipe.scale), (y, x), mask)
    defects = cv2.dilate(board.defects[:h, :w], BESIDE)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    found = []
    for label in range(1, count):
        x, y, wide, high, _ = stats[label].tolist()
        inside = labels[y : y + high, x : x + wide] == label
        defect = int(defects[y : y + high, x : x + wide][inside].max())
        if not defect:
            continue
        cells = np.zeros(cell_max.shape, np.bool_)
        rows, columns = np.nonzero(inside)
        cells[(rows + y) // REGION_PX, (columns + x) // REGION_PX] = True
        found.append((cells, defect, int(board.truth[board.defects == defect].max()) - 1))
    return found
