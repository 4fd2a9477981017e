"""What needs no network: how much a board differs from the golden image, in units of what good boards differ by.

Where good boards differ so much that few planted defects can be told from them, this says how many can be asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from hisir_edge.arrays import F32, U8
from hisir_edge.bundle.load import Bundle
from hisir_edge.engine.acceptance.derive import reading_from_maps
from hisir_edge.engine.acceptance.gate import recall_of
from hisir_edge.engine.acceptance.left_out import Others
from hisir_edge.engine.acceptance.maps import maps_from_inspector
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.rops import Rops
from hisir_edge.inspection.score import score_of_logit
from hisir_edge.learn.data.run import RunRecord
from hisir_edge.net.position import DEVIATION_GAIN

LEAST_DEVIATION_LEVELS = 4.0
BLUR_SIGMA_PX = 1.5
ORDINARY_DEVIATIONS = 3.0
"""So many are logit 0, as the gate's boundary is: what is below is no region."""


class GoldenDifference:
    """|tile - golden image| in units of the deviation there, as scores of logits; an engine without a network."""

    batch = 8
    callers = 1

    def infer(self, tiles: U8, cues: U8, scores: F32, misfit: F32) -> None:
        """Fill ``scores`` (n, t, t) from ``tiles`` (n, 3, t, t) and the memory in ``cues`` (n, 4, t, t)."""
        for tile, cue, score in zip(tiles, cues, scores, strict=True):
            difference = np.abs(tile.astype(np.float32) - cue[:3]).max(0)
            deviation = cue[3].astype(np.float32) / DEVIATION_GAIN + np.float32(LEAST_DEVIATION_LEVELS)
            unusual = cv2.GaussianBlur(difference / deviation, (0, 0), BLUR_SIGMA_PX)
            score[:] = score_of_logit(unusual - np.float32(ORDINARY_DEVIATIONS))
        misfit[:] = 0


def recall_of_difference(
    bundle: Bundle,
    record: RunRecord,
    folder: Path,
    rate: float,
    compared: int,
    others: Others | None = None,
    on_board: Callable[[int, int], None] = lambda done, total: None,
) -> float:
    """The share of the planted defects that a golden-image difference finds, with thresholds made as a network's are.

    Boards, defects and rules are those of ``maps_from_inspector`` and ``reading_from_maps``; ``folder`` is made.
    """
    inspector = CpuInspector(bundle, GoldenDifference(), Rops, record.each_left_out)
    maps = maps_from_inspector(inspector, record, folder, on_board, others, compared)
    return recall_of(reading_from_maps(bundle, maps, rate))
