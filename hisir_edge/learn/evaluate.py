"""Accuracy of a bundle on labelled pictures, through the line's own inspector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sklearn.metrics import f1_score

from hisir_edge.arrays import Bool
from hisir_edge.engine.bundle import load_bundle
from hisir_edge.engine.load import engine_from_bundle
from hisir_edge.errors import InputError
from hisir_edge.images import read_mask, read_rgb
from hisir_edge.learn.datasets import GOOD, TestItem, test_items
from hisir_edge.learn.metrics import PixelTally, image_auroc
from hisir_edge.line.inspect import Inspector
from hisir_edge.records import Judgement, Result

AUPRO_FPR = 0.3


@dataclass(slots=True)
class _Tally:
    """What is counted over the test pictures."""

    pixels: PixelTally = field(default_factory=PixelTally)
    scores: list[float] = field(default_factory=list)
    defective: list[bool] = field(default_factory=list)
    failed: list[bool] = field(default_factory=list)
    found: dict[str, list[int]] = field(default_factory=dict)
    false_regions: int = 0
    good_boards: int = 0
    errors: list[str] = field(default_factory=list)


def evaluate(
    bundle_folder: Path, data: Path, threads: int = 0, on_done: Callable[[int, int], None] = lambda d, t: None
) -> dict[str, Any]:
    """Inspect every test picture and return the figures.

    ``pixel_auroc``, ``aupro`` (false-positive rate up to 0.3) and ``image_auroc`` rank raw scores; ``f1``
    (boards), ``false_calls_per_board`` (regions on good boards) and ``recall_by_class`` (ground-truth
    regions touched by a called region) hold at the bundle's own thresholds. A picture that cannot be
    judged is listed in ``errors`` and counts as failed, as it would on the line.
    """
    bundle = load_bundle(bundle_folder)
    inspector = Inspector(bundle, engine_from_bundle(bundle, threads))
    items = test_items(data)
    tally = _Tally()
    for number, item in enumerate(items):
        _count(tally, inspector, item)
        on_done(number + 1, len(items))
    return _figures(tally, len(items))


def _count(tally: _Tally, inspector: Inspector, item: TestItem) -> None:
    frame = read_rgb(item.image)
    truth = np.zeros(frame.shape[:2], np.bool_) if item.mask is None else read_mask(item.mask)
    if truth.shape != frame.shape[:2]:
        raise InputError(
            expected=f"a mask of {frame.shape[1]}x{frame.shape[0]}",
            received=f"{item.mask} of {truth.shape[1]}x{truth.shape[0]}",
            fix="replace the mask",
        )
    judgement, scores = inspector.inspect_with_map(frame)
    tally.defective.append(item.kind != GOOD)
    tally.failed.append(judgement.result is not Result.PASS)
    tally.scores.append(judgement.score if judgement.score is not None else float("inf"))
    if scores is None:
        tally.errors.append(f"{item.image}: {judgement.reason}")
    else:
        tally.pixels.add(scores, truth)
    _count_regions(tally, judgement, item, truth)


def _count_regions(tally: _Tally, judgement: Judgement, item: TestItem, truth: Bool) -> None:
    if item.kind == GOOD:
        tally.good_boards += 1
        tally.false_regions += judgement.regions_total if judgement.result is Result.FAIL else 0
        return
    hit, total = _hits(judgement, truth)
    counts = tally.found.setdefault(item.kind, [0, 0])
    counts[0], counts[1] = counts[0] + hit, counts[1] + total


def _hits(judgement: Judgement, truth: Bool) -> tuple[int, int]:
    """(found, all) ground-truth defects of a board; fragments within 12 px are one defect."""
    joined = cv2.dilate(truth.astype(np.uint8), np.ones((13, 13), np.uint8))
    count, labels = cv2.connectedComponents(joined)
    if judgement.mask is None:
        return 0, count - 1
    touched = np.unique(labels[judgement.mask & truth])
    return int((touched > 0).sum()), count - 1


def _figures(tally: _Tally, images: int) -> dict[str, Any]:
    finite = [s for s in tally.scores if np.isfinite(s)]
    highest = max(finite, default=0.0)
    scores = [s if np.isfinite(s) else highest + 1 for s in tally.scores]
    return {
        "images": images,
        "pixel_auroc": tally.pixels.auroc(),
        "aupro": tally.pixels.aupro(AUPRO_FPR),
        "aupro_fpr_limit": AUPRO_FPR,
        "image_auroc": image_auroc(scores, tally.defective),
        "f1": float(f1_score(tally.defective, tally.failed, zero_division=0.0)),
        "false_calls_per_board": tally.false_regions / tally.good_boards if tally.good_boards else None,
        "recall_by_class": {k: hit / total for k, (hit, total) in sorted(tally.found.items()) if total},
        "defects_by_class": {k: total for k, (_, total) in sorted(tally.found.items())},
        "errors": tally.errors,
    }
