"""Accuracy figures. areas and F1 are scikit-learn's; the PRO curve (no light library has one) is ours.

Pixel figures are computed from histograms of scores, so that a hundred 12-megapixel maps need no
more memory than one: scores are binned on a logarithmic scale, which the ranking figures survive
unchanged to about 1e-4.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from sklearn.metrics import auc, roc_auc_score

from hisir_edge.arrays import F32, F64, I64, Bool

BINS = 8192
LOWEST, HIGHEST = 1e-7, 1e9


def bin_of_score(scores: F32) -> I64:
    """Bin numbers 0..BINS-1 of raw scores, rising with the score."""
    span = np.log(HIGHEST / LOWEST)
    clipped = np.clip(scores, LOWEST, HIGHEST)
    return np.asarray(np.minimum(np.log(clipped / LOWEST) * (BINS / span), BINS - 1), np.int64)


@dataclass(slots=True)
class PixelTally:
    """Histograms of pixel scores over many maps, and one histogram per ground-truth region."""

    normal: F64 = field(default_factory=lambda: np.zeros(BINS))
    defective: F64 = field(default_factory=lambda: np.zeros(BINS))
    regions: list[F32] = field(default_factory=list)

    def add(self, scores: F32, truth: Bool) -> None:
        """Count one map (h, w) and its mask (h, w)."""
        bins = bin_of_score(scores)
        self.normal += np.bincount(bins[~truth], minlength=BINS)
        if not truth.any():
            return
        self.defective += np.bincount(bins[truth], minlength=BINS)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(truth.astype(np.uint8), connectivity=8)
        for label in range(1, count):
            x, y, w, h, _area = stats[label]
            inside = labels[y : y + h, x : x + w] == label
            histogram = np.bincount(bins[y : y + h, x : x + w][inside], minlength=BINS)
            self.regions.append(histogram.astype(np.float32))

    def joined(self, other: PixelTally) -> PixelTally:
        """Both tallies as one."""
        return PixelTally(self.normal + other.normal, self.defective + other.defective, [*self.regions, *other.regions])

    def roc(self) -> tuple[F64, F64] | None:
        """(false-positive rate, true-positive rate) of pixels, rising; None without both kinds."""
        if not self.defective.sum() or not self.normal.sum():
            return None
        fpr = np.cumsum(self.normal[::-1]) / self.normal.sum()
        tpr = np.cumsum(self.defective[::-1]) / self.defective.sum()
        return np.r_[0.0, fpr], np.r_[0.0, tpr]

    def auroc(self) -> float | None:
        """Area under the pixel ROC curve; None without defective pixels."""
        curve = self.roc()
        return None if curve is None else float(auc(*curve))

    def pro(self) -> tuple[F64, F64] | None:
        """(false-positive rate, mean per-region overlap), rising; None without regions or normal pixels."""
        if not self.regions or not self.normal.sum():
            return None
        fpr = np.r_[0.0, np.cumsum(self.normal[::-1]) / self.normal.sum()]
        overlap = np.zeros(BINS)
        for histogram in self.regions:
            overlap += np.cumsum(histogram[::-1]) / histogram.sum()
        return fpr, np.r_[0.0, overlap / len(self.regions)]

    def aupro(self, fpr_limit: float = 0.3) -> float | None:
        """Area under the per-region-overlap curve up to a false-positive rate, divided by that rate.

        Bergmann et al. 2021, The MVTec Anomaly Detection Dataset, IJCV 129: every region counts
        alike, whatever its size. None without defective regions.
        """
        curve = self.pro()
        if curve is None:
            return None
        fpr, pro = curve
        at_limit = np.interp(fpr_limit, fpr, pro)
        inside = fpr < fpr_limit
        return float(auc(np.r_[fpr[inside], fpr_limit], np.r_[pro[inside], at_limit]) / fpr_limit)


def image_auroc(scores: list[float], defective: list[bool]) -> float | None:
    """Area under the ROC curve of whole boards; None unless both kinds are there."""
    if len(set(defective)) < 2:
        return None
    return float(roc_auc_score(defective, scores))
