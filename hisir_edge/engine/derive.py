"""Thresholds of one engine from its own maps of good boards, and what it finds with them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from hisir_edge.arrays import F32, U8
from hisir_edge.engine.bundle import Bundle
from hisir_edge.engine.maps import Maps
from hisir_edge.learn.evaluate import SIZEABLE_PX, defects_in, open_regions
from hisir_edge.learn.metrics import PixelTally
from hisir_edge.learn.thresholds import (
    AREAS_NETWORK_PX,
    Derived,
    block_peaks,
    derived_from_peaks,
    logit_of_score,
    noise_from_peaks,
    peaks_by_area,
)
from hisir_edge.line.gain import gain_map, noise_in_logits, sensitivity_map
from hisir_edge.line.judge import Thresholds

MOST_FPR = 0.3


@dataclass(frozen=True, slots=True)
class Reading:
    """What an engine makes of the boards at its own thresholds.

    ``auroc``, ``aupro``: of pixels of the boards with planted defects. ``peaks``: of each planted defect of 6 px or
    more (longer side), the highest region peak that touches it, in units of the region threshold: 1 and more is found.
    ``false_regions``: regions called on the held-out good boards.
    """

    derived: Derived
    noise: U8 = field(repr=False)
    auroc: float
    aupro: float
    peaks: tuple[float, ...]
    false_regions: int


def derived_from_maps(bundle: Bundle, maps: Maps, false_calls_per_board: float) -> tuple[Derived, U8]:
    """Noise map (all boards) and thresholds (held-out boards) of the engine that made the maps."""
    noise = noise_from_peaks([block_peaks(_logits(np.load(path, mmap_mode="r"))) for path in maps.good])
    scale = bundle.recipe.scale
    hw = np.load(maps.good[0], mmap_mode="r").shape
    areas_px = tuple(round(area / scale**2) for area in AREAS_NETWORK_PX)
    noisy, sensitivity = noise_in_logits(noise, hw), sensitivity_map(hw, scale, bundle.zones)
    peaks, zoned = [], []
    for path in maps.good[: maps.held_out]:
        scores = np.load(path)
        # what zones hide is not to set the threshold of the rest; what they magnify is the engineer's own choice
        peaks.append(peaks_by_area(_logits(scores * np.minimum(sensitivity, 1)) - noisy, AREAS_NETWORK_PX))
        if (sensitivity > 1).any():
            zoned.append(peaks_by_area(_logits(scores * sensitivity) - noisy, AREAS_NETWORK_PX))
    return derived_from_peaks(peaks, false_calls_per_board, areas_px, zoned=zoned or None), noise


def reading_from_maps(bundle: Bundle, maps: Maps, false_calls_per_board: float) -> Reading:
    """Derive the thresholds and read the maps with them."""
    derived, noise = derived_from_maps(bundle, maps, false_calls_per_board)
    scale, found = bundle.recipe.scale, derived.thresholds
    # the maps lie in the network's pixels
    here = replace(found, min_area_px=max(1, round(found.min_area_px * scale**2)))
    gain = gain_map(np.load(maps.good[0], mmap_mode="r").shape, scale, found, noise, bundle.zones)
    tally, peaks = PixelTally(), []
    for path, where in zip(maps.planted, maps.truth, strict=True):
        scores, truth = np.load(path), np.load(where)
        tally.add(scores, truth)
        labels, tops = open_regions(scores * gain, here)
        for inside, size, _ in defects_in(truth):
            if size >= SIZEABLE_PX:
                peaks.append(float(tops[np.unique(labels[inside])].max(initial=0.0)) / here.region_peak)
    false = sum(_called(np.load(path) * gain, here) for path in maps.good[: maps.held_out])
    return Reading(derived, noise, tally.auroc() or 0.0, tally.aupro(MOST_FPR) or 0.0, tuple(peaks), false)


def _called(calibrated: F32, thresholds: Thresholds) -> int:
    return int((open_regions(calibrated, thresholds)[1] >= thresholds.region_peak).sum())


def _logits(scores: F32) -> F32:
    return np.asarray(logit_of_score(scores), np.float32)
