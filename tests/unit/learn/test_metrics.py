"""Figures from histograms against the definitions, computed pixel by pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from hisir_edge.learn.evaluation.metrics import PixelTally, image_auroc


def _scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.zeros((60, 80), bool)
    for _ in range(int(rng.integers(1, 4))):
        x, y = int(rng.integers(0, 66)), int(rng.integers(0, 46))
        truth[y : y + int(rng.integers(3, 14)), x : x + int(rng.integers(3, 14))] = True
    scores = rng.gamma(2.0, 0.2, truth.shape) + truth * rng.uniform(0, 1.5)
    return scores.astype(np.float32), truth


def _pro_by_definition(scenes: list[tuple[np.ndarray, np.ndarray]], limit: float) -> float:
    """Bergmann et al.: mean overlap of regions over the false-positive rate, every threshold, trapezoids."""
    everything = np.unique(np.concatenate([s.ravel() for s, _ in scenes]))[::-1]
    regions = []
    for scores, truth in scenes:
        count, labels = cv2.connectedComponents(truth.astype(np.uint8), connectivity=8)
        regions += [np.sort(scores[labels == label]) for label in range(1, count)]
    normal = np.sort(np.concatenate([s[~t] for s, t in scenes]))
    fpr = [0.0] + [1 - np.searchsorted(normal, v) / len(normal) for v in everything]
    pro = [0.0] + [float(np.mean([1 - np.searchsorted(r, v) / len(r) for r in regions])) for v in everything]
    fpr, pro = np.array(fpr), np.array(pro)  # type: ignore[assignment]
    at = np.interp(limit, fpr, pro)
    keep = fpr < limit
    return float(np.trapezoid(np.r_[pro[keep], at], np.r_[fpr[keep], limit]) / limit)


@given(st.integers(0, 10**6))
@settings(max_examples=12, deadline=None)
def test_pixel_figures_match_their_definitions(seed):
    scenes = [_scene(seed), _scene(seed + 1)]
    tally = PixelTally()
    for scores, truth in scenes:
        tally.add(scores, truth)
    labels = np.concatenate([t.ravel() for _, t in scenes])
    values = np.concatenate([s.ravel() for s, _ in scenes])
    assert tally.auroc() == pytest.approx(roc_auc_score(labels, values), abs=2e-3)
    assert tally.aupro(0.3) == pytest.approx(_pro_by_definition(scenes, 0.3), abs=6e-3)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e5])
def test_figures_do_not_depend_on_the_unit_of_the_scores(scale):
    scores, truth = _scene(3)
    plain, scaled = PixelTally(), PixelTally()
    plain.add(scores, truth)
    scaled.add(scores * np.float32(scale), truth)
    assert scaled.auroc() == pytest.approx(plain.auroc(), abs=2e-3)
    assert scaled.aupro() == pytest.approx(plain.aupro(), abs=2e-3)


def test_perfect_and_useless_maps():
    truth = np.zeros((50, 50), bool)
    truth[10:20, 10:20] = True
    perfect, useless = PixelTally(), PixelTally()
    perfect.add(truth.astype(np.float32), truth)
    useless.add(np.random.default_rng(1).random((50, 50)).astype(np.float32), truth)
    assert perfect.auroc() == pytest.approx(1.0)
    assert perfect.aupro(0.3) == pytest.approx(1.0, abs=1e-6)
    assert useless.aupro(0.3) == pytest.approx(0.15, abs=0.06)


def test_without_both_kinds_there_is_no_figure():
    tally = PixelTally()
    tally.add(np.zeros((4, 4), np.float32), np.zeros((4, 4), bool))
    assert tally.auroc() is None
    assert tally.aupro() is None
    assert image_auroc([1.0, 2.0], [False, False]) is None
    assert image_auroc([1.0, 2.0, 3.0], [False, True, True]) == 1.0
