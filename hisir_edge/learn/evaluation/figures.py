"""Figures of an evaluation: what its scored boards come to."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import f1_score

from hisir_edge.learn.data.layouts import GOOD
from hisir_edge.learn.evaluation.evaluate import Evaluation, ScoredBoard, TrueDefect
from hisir_edge.learn.evaluation.metrics import image_auroc
from hisir_edge.records import Result

AUPRO_FPR = 0.3

SIZEABLE_PX = 6
AT_FALSE_REGIONS = 0.1


def recall_at(evaluation: Evaluation, false_regions_per_board: float, smallest_px: int) -> float | None:
    """Recall of defects of a size at the region threshold that leaves so many false regions a good board."""
    good = [one for one in evaluation.seen if one.item.kind == GOOD]
    defects = _sizeable(evaluation, smallest_px)
    if not good or not defects:
        return None
    allowed = int(false_regions_per_board * len(good) + 1e-9)
    peaks = sorted((p for one in good for p in one.false_peaks), reverse=True)
    limit = peaks[allowed] if len(peaks) > allowed else 1.0
    return float(np.mean([d.peak > limit if len(peaks) > allowed else d.peak >= limit for d in defects]))


def _sizeable(evaluation: Evaluation, smallest_px: int, kind: str | None = None) -> list[TrueDefect]:
    return [
        d
        for one in evaluation.seen
        if one.item.kind != GOOD and kind in (None, one.item.kind)
        for d in one.defects
        if d.size_px >= smallest_px
    ]


def figures(evaluation: Evaluation) -> dict[str, Any]:
    """The figures of an evaluation.

    ``pixel_auroc``, ``aupro`` (false-positive rate up to 0.3) and ``image_auroc`` rank scores; ``f1``
    (boards), ``false_calls_per_board`` (regions on good boards) and recalls (ground-truth defects
    touched by a called region) hold at the bundle's own thresholds, except the recall at 0.1 false regions,
    for which the region threshold is moved to what these good boards allow. A picture that cannot be
    judged is listed in ``errors`` and counts as failed, as it would on the line: a false call on a good
    board, a miss in recall and pixel figures on a defective one.
    """
    seen, limit = evaluation.seen, evaluation.thresholds.region_peak
    good = [one for one in seen if one.item.kind == GOOD]
    kinds = sorted({one.item.kind for one in seen} - {GOOD})
    defective = [one.item.kind != GOOD for one in seen]
    failed = [one.result is not Result.PASS for one in seen]
    false_calls = [sum(p >= limit for p in one.false_peaks) for one in good]
    pixels = evaluation.pixels()

    def recall(defects: list[TrueDefect]) -> float | None:
        return float(np.mean([d.peak >= limit for d in defects])) if defects else None

    return {
        "images": len(seen),
        "good_boards": len(good),
        "pixel_auroc": pixels.auroc(),
        "aupro": pixels.aupro(AUPRO_FPR),
        "aupro_fpr_limit": AUPRO_FPR,
        "image_auroc": image_auroc(_scores(seen), defective),
        "f1": float(f1_score(defective, failed, zero_division=0.0)),
        "false_calls_per_board": sum(false_calls) / len(good) if good else None,
        "good_boards_failed": sum(one.result is not Result.PASS for one in good),
        "recall": recall(_sizeable(evaluation, 1)),
        "recall_from_6px": recall(_sizeable(evaluation, SIZEABLE_PX)),
        "recall_from_6px_at_0.1_false_regions": recall_at(evaluation, AT_FALSE_REGIONS, SIZEABLE_PX),
        "recall_by_class": {k: recall(_sizeable(evaluation, 1, k)) for k in kinds},
        "defects_by_class": {k: len(_sizeable(evaluation, 1, k)) for k in kinds},
        "by_class": {k: _class_figures(evaluation, k) for k in kinds},
        "looked_share_good": float(np.mean([one.looked_share for one in good])) if good else None,
        "looked_share": float(np.mean([one.looked_share for one in seen])),
        "errors": [f"{one.item.image}: {one.reason}" for one in seen if one.result is Result.ERROR],
    }


def figures_in_words(values: dict[str, Any]) -> str:
    """One line of ``figures`` for a person: what would be called, and how well scores rank."""
    good, images = values["good_boards"], values["images"]
    words = [f"{images} pictures, {good} of them good: {values['good_boards_failed']} of {good} good ones not passed"]
    if values["recall"] is not None:
        total = sum(values["defects_by_class"].values())
        words.append(f"{round(values['recall'] * total)} of {total} defects found")
    named = (("pixel AUROC", "pixel_auroc"), ("AUPRO", "aupro"), ("image AUROC", "image_auroc"))
    words += [f"{name} {values[key]:.3f}" for name, key in named if values[key] is not None]
    return ", ".join(words)


def _scores(seen: list[ScoredBoard]) -> list[float]:
    """Board scores; a board that could not be judged ranks above all others."""
    highest = max((one.score for one in seen if one.score is not None), default=0.0)
    return [highest + 1 if one.score is None else one.score for one in seen]


def _class_figures(evaluation: Evaluation, kind: str) -> dict[str, float | None]:
    pixels = evaluation.pixels(kind)
    seen = [one for one in evaluation.seen if one.item.kind in (GOOD, kind)]
    return {
        "pixel_auroc": pixels.auroc(),
        "aupro": pixels.aupro(AUPRO_FPR),
        "image_auroc": image_auroc(_scores(seen), [one.item.kind == kind for one in seen]),
    }
