"""Gain: what a raw score is multiplied by at each place of the board, so that 1.0 is the pixel threshold there.

Three things vary over a board: how noisy the network is on good boards (solder, print), zones that the
engineer does not want judged, and zones that matter more or less than the rest.
"""

from __future__ import annotations

import copy

import cv2
import numpy as np

from hisir_edge.arrays import F32, U8, U16, Bool
from hisir_edge.bundle.thresholds import Thresholds, Zone
from hisir_edge.geometry.noise_shape import NOISE_CELL_PX
from hisir_edge.geometry.tile import REGION_PX
from hisir_edge.inspection.score import logit_of_score, score_of_logit

NOISE_STEPS_PER_LOGIT = 32


def noise_in_logits(noise: U8, hw: tuple[int, int]) -> F32:
    """The noise map (rows, columns), in steps, as logits per pixel (h, w), 0 where the board is quiet."""
    cells = noise.astype(np.float32) / NOISE_STEPS_PER_LOGIT
    height, width = (cells.shape[0] * NOISE_CELL_PX, cells.shape[1] * NOISE_CELL_PX)
    full = cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(full[: hw[0], : hw[1]], np.float32)


def gain_map(hw: tuple[int, int], scale: float, thresholds: Thresholds, noise: U8, zones: tuple[Zone, ...]) -> F32:
    """Gain (h, w) over the scaled golden image.

    At a noisy place the threshold's logit lies higher by the noise there, so good boards call as
    seldom as elsewhere; a noisy place does not raise the threshold of the whole board.
    """
    gain = _gain_of_noise(noise_in_logits(noise, hw), thresholds)
    return gain * sensitivity_map(hw, scale, zones) if zones else gain


def _gain_of_noise(noise_logits: F32, thresholds: Thresholds) -> F32:
    quiet = thresholds.pixel * thresholds.region_peak
    logits = float(logit_of_score(quiet)) + noise_logits
    return np.asarray(np.float32(quiet / thresholds.pixel) / score_of_logit(logits), np.float32)


class Gain:
    """The gain map piece by piece, so that a frame needs it only where something was seen.

    ``most`` (gh, gw): the highest gain in each region of 16 x 16 px of the padded golden image; outside the image,
    where nothing is judged, it is 0.
    """

    def __init__(
        self, hw: tuple[int, int], scale: float, thresholds: Thresholds, noise: U8, zones: tuple[Zone, ...]
    ) -> None:
        self.hw, self.scale, self.thresholds, self.noise = hw, scale, thresholds, noise
        self._sensitivities = np.array([1.0, *(zone.sensitivity for zone in zones)], np.float32)
        self._labels = _labels(hw, scale, zones) if zones else None
        self.most = np.empty((-(-hw[0] // REGION_PX), -(-hw[1] // REGION_PX)), np.float32)
        self._measure((0, self.most.shape[0], 0, self.most.shape[1]))

    def _measure(self, cells: tuple[int, int, int, int]) -> None:
        """``most`` of these regions (first and last row and column), a band at a time: no frame-sized map is made."""
        top, bottom, left, right = cells
        for row in range(top, bottom):
            band = self.window(row * REGION_PX, (row + 1) * REGION_PX, left * REGION_PX, right * REGION_PX)
            self.most[row, left:right] = band.reshape(REGION_PX, right - left, REGION_PX).max((0, 2))

    def with_thresholds(self, thresholds: Thresholds) -> Gain:
        """The gain under other thresholds, the zones shared."""
        other = copy.copy(self)
        other.thresholds, other.most = thresholds, np.empty_like(self.most)
        other._measure((0, self.most.shape[0], 0, self.most.shape[1]))
        return other

    def with_zones(self, zones: tuple[Zone, ...]) -> tuple[Gain, Bool]:
        """The gain under other zones, and in which regions (gh, gw) it differs; no more is computed than these."""
        other = copy.copy(self)
        other._sensitivities = np.array([1.0, *(zone.sensitivity for zone in zones)], np.float32)
        other._labels = _labels(self.hw, self.scale, zones) if zones else None
        before, after = (np.zeros(self.hw, np.uint16) if one._labels is None else one._labels for one in (self, other))
        differs = before != after
        top, bottom, left, right = _around(differs) if _same_numbers(self, other) else (0, self.hw[0], 0, self.hw[1])
        box = (slice(top, bottom), slice(left, right))
        differs[box] = self._sensitivities[before[box]] != other._sensitivities[after[box]]
        h, w = (side * REGION_PX for side in self.most.shape)
        padded = np.zeros((h, w), np.bool_)
        padded[: self.hw[0], : self.hw[1]] = differs
        cells: Bool = np.asarray(padded.reshape(h // REGION_PX, REGION_PX, w // REGION_PX, REGION_PX).any((1, 3)))
        other.most = self.most.copy()
        other._measure(_around(cells))
        return other, cells

    def window(self, y0: int, y1: int, x0: int, x1: int) -> F32:
        """``gain_map(...)[y0:y1, x0:x1]``, to the bit, with 0 beyond the image."""
        out = np.zeros((y1 - y0, x1 - x0), np.float32)
        y1, x1 = min(y1, self.hw[0]), min(x1, self.hw[1])
        # a cell more on each side, so that interpolation sees the neighbours that it sees in the whole map
        cy, cx = max(y0 // NOISE_CELL_PX - 1, 0), max(x0 // NOISE_CELL_PX - 1, 0)
        cells = self.noise[cy : -(-y1 // NOISE_CELL_PX) + 1, cx : -(-x1 // NOISE_CELL_PX) + 1]
        top, left = cy * NOISE_CELL_PX, cx * NOISE_CELL_PX
        logits = noise_in_logits(cells, (y1 - top, x1 - left))[y0 - top :, x0 - left :]
        gain = out[: y1 - y0, : x1 - x0]
        gain[:] = _gain_of_noise(logits, self.thresholds)
        if self._labels is not None:
            gain *= self._sensitivities[self._labels[y0:y1, x0:x1]]
        return out


def _same_numbers(a: Gain, b: Gain) -> bool:
    """Whether a pixel whose zone has the same number in both has the same sensitivity."""
    count = min(len(a._sensitivities), len(b._sensitivities))
    return bool((a._sensitivities[:count] == b._sensitivities[:count]).all())


def _around(where: Bool) -> tuple[int, int, int, int]:
    """First row, row behind the last, first column, column behind the last."""
    rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def inside_zone(hw: tuple[int, int], scale: float, zone: Zone) -> Bool:
    """Which pixels (h, w) of the scaled golden image a zone covers."""
    return np.asarray(_labels(hw, scale, (zone,)) > 0)


def sensitivity_map(hw: tuple[int, int], scale: float, zones: tuple[Zone, ...]) -> F32:
    """Factor of the zones on scores, (h, w) over the scaled golden image; 1 outside all zones."""
    return np.array([1.0, *(zone.sensitivity for zone in zones)], np.float32)[_labels(hw, scale, zones)]


def _labels(hw: tuple[int, int], scale: float, zones: tuple[Zone, ...]) -> U16:
    """Per pixel the number of its zone, from 1; 0 outside them all. The later zone counts."""
    out = np.zeros(hw, np.uint16)
    for number, zone in enumerate(zones, 1):
        corners = (np.array(zone.polygon_xy, np.float64) + 0.5) * scale - 0.5
        points = [np.round(corners).astype(np.int32)]
        if zone.outside:
            kept = np.zeros(hw, np.uint8)
            cv2.fillPoly(kept, points, 1)
            out[kept == 0] = number
        else:
            cv2.fillPoly(out, points, number)
    return out
