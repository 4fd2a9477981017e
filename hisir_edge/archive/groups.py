"""What was kept of a map, in groups of regions that touch: bounds tell of most that nothing in them is called.

A region that is called lies within one group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, I32, Bool
from hisir_edge.bundle.thresholds import Thresholds
from hisir_edge.geometry.tile import REGION_PX
from hisir_edge.inspection.score import logit_of_score, score_of_logit
from hisir_edge.inspection.windows import RIM_PX, Box
from hisir_edge.records import Evidence

ROUNDING = np.float32(1.0001)
MORE_PIXELS = 1.5
"""Of a group, in the frame's pixels, at most: the pose enlarges, and interpolation adds a rim."""
RIM_PIXELS = 64.0


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of one frame's evidence, number 0: what may not reach the pixel threshold.

    ``hot`` (gh, gw): regions of 16 x 16 px that may reach it; ``labels`` (gh, gw): the group of each region and of its
    neighbours; ``of`` (n,): that of each region kept; ``gains`` (n,): what the gain there does not exceed.
    """

    evidence: Evidence
    hot: Bool
    labels: I32
    of: I32
    gains: F32
    count: int

    def reach(self, limits: Thresholds, scale: float) -> F64:
        """What the strength of a region in each group (count,) does not exceed.

        No peak is higher than the group's highest score, and no mass larger than its pixels over the pixel threshold
        would make with that score each; at the golden image's edge, which goes on in the frame beyond it, there is no
        bound of the mass. ``scale``: golden, scaled pixels to one of the frame.
        """
        inner = self.evidence.scores[:, RIM_PX:-RIM_PX, RIM_PX:-RIM_PX]
        highest = np.zeros(self.count, np.float32)
        np.maximum.at(highest, self.of, inner.max((1, 2), initial=0) * self.gains)
        if limits.mass is None:
            return np.asarray(highest * ROUNDING, np.float64)
        over = inner * self.gains[:, None, None] >= 1 / ROUNDING
        pixels = np.bincount(self.of, over.sum((1, 2)), self.count)
        logits = np.maximum(logit_of_score(highest * limits.pixel), 0)
        mass = (pixels * MORE_PIXELS + RIM_PIXELS) / scale**2 * logits
        worth = score_of_logit(limits.mass.logits_per_root * np.sqrt(mass) + limits.mass.logits_at_none) / limits.pixel
        bound = np.asarray(np.maximum(highest, worth) * ROUNDING, np.float64)
        edge = np.concatenate([self.labels[[0, -1]].ravel(), self.labels[:, [0, -1]].ravel()])
        bound[np.unique(edge)] = np.inf
        return bound

    def part(self, wanted: Bool) -> Evidence:
        """The evidence of some of the groups (count,)."""
        here, kept = wanted[self.of], self.evidence
        return replace(kept, cells_yx=kept.cells_yx[here], scores=kept.scores[here], highest=kept.highest[here])

    def strongest_first(self, reach: F64, least: float) -> Iterator[tuple[Box, Evidence]]:
        """Each group that may reach so much: the golden, scaled pixels (y0, y1, x0, x1) it covers, and its evidence."""
        for group in np.argsort(-reach, kind="stable"):
            if reach[group] < least:
                return
            if group > 0:
                part = self.part(np.arange(self.count) == group)
                (top, left), (bottom, right) = part.cells_yx.min(0) * REGION_PX, (part.cells_yx.max(0) + 1) * REGION_PX
                yield (int(top), int(bottom), int(left), int(right)), part


def groups_of(evidence: Evidence, most: F32) -> Groups:
    """Groups under gains that ``most`` (gh, gw) bounds."""
    rows, columns = evidence.cells_yx.T
    hot = np.zeros(most.shape, np.uint8)
    hot[rows, columns] = evidence.highest * most[rows, columns] >= 1.0
    count, labels = cv2.connectedComponents(cv2.dilate(hot, np.ones((3, 3), np.uint8)), connectivity=8)
    of_each: I32 = np.asarray(labels, np.int32)
    return Groups(evidence, hot.view(np.bool_), of_each, of_each[rows, columns], most[rows, columns], count)
