"""Gain: what a raw score is multiplied by at each place of the board, so that 1.0 is the pixel threshold there.

Three things vary over a board: how noisy the network is on good boards (solder, print), zones that the
engineer does not want judged, and zones that matter more or less than the rest.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from hisir_edge.arrays import F32, U8, U16, Bool, u8
from hisir_edge.bundle.thresholds import Thresholds, Zone
from hisir_edge.geometry.noise_shape import NOISE_CELL_PX, noise_cell_px
from hisir_edge.geometry.tile import REGION_PX
from hisir_edge.inspection.score import logit_of_score, score_of_logit

T = TypeVar("T", bound=np.generic)
NOISE_STEPS_PER_LOGIT = 32
EVERY_STEP: U8 = np.arange(256, dtype=np.uint8)
ROUNDING = np.float32(1 + 2**-21)
"""Of float32 logarithms and exponentials that are monotone but for their last bits."""


def noise_in_logits(noise: U8, hw: tuple[int, int]) -> F32:
    """The noise map (rows, columns), in steps, as logits per pixel (h, w), 0 where the board is quiet.

    Between the middles of cells it is the nearest step, so that a gain is looked up, not reckoned, at each pixel.
    """
    return _logits(_enlarged(noise, noise_cell_px(noise.shape, hw) or NOISE_CELL_PX, hw))


def _logits(steps: U8) -> F32:
    return np.asarray(steps.astype(np.float32) / np.float32(NOISE_STEPS_PER_LOGIT), np.float32)


def _enlarged(noise: U8, cell_px: int, hw: tuple[int, int]) -> U8:
    height, width = noise.shape[0] * cell_px, noise.shape[1] * cell_px
    full = cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
    return u8(full[: hw[0], : hw[1]])


def gain_map(hw: tuple[int, int], scale: float, thresholds: Thresholds, noise: U8, zones: tuple[Zone, ...]) -> F32:
    """Gain (h, w) over the scaled golden image.

    At a noisy place the threshold's logit lies higher by the noise there, so good boards call as
    seldom as elsewhere; a noisy place does not raise the threshold of the whole board.
    """
    gain = _gain_of_noise(_enlarged(noise, noise_cell_px(noise.shape, hw) or NOISE_CELL_PX, hw), thresholds)
    return gain * sensitivity_map(hw, scale, zones) if zones else gain


def _gain_of_noise(steps: U8, thresholds: Thresholds) -> F32:
    """The gain (h, w) at places of so much noise."""
    quiet = thresholds.pixel * thresholds.region_peak
    logits = float(logit_of_score(quiet)) + _logits(EVERY_STEP)
    by_step = np.asarray(np.float32(quiet / thresholds.pixel) / score_of_logit(logits), np.float32)
    return np.asarray(cv2.LUT(steps, by_step), np.float32)


class Gain:
    """The gain map piece by piece, so that a frame needs it only where something was seen.

    ``most`` (gh, gw): what the gain in each region of 16 x 16 px of the padded golden image does not exceed; it is the
    highest, but for rounding and where the edge of a zone crosses a region. Outside the image, where nothing is judged,
    and in regions that zones ignore it is 0.
    """

    def __init__(
        self, hw: tuple[int, int], scale: float, thresholds: Thresholds, noise: U8, zones: tuple[Zone, ...]
    ) -> None:
        self.hw, self.scale, self.thresholds, self.noise = hw, scale, thresholds, noise
        self._cell_px = noise_cell_px(noise.shape, hw) or NOISE_CELL_PX
        self._zones(zones)
        self._least_noise = _least_noise(noise, self._cell_px, hw)
        regions = range(-(-hw[0] // REGION_PX))
        self._most_sensitive = np.stack([_by_region(self._sensitivity(row).max(0)).max(1) for row in regions])
        self.most = self._measured()

    def _zones(self, zones: tuple[Zone, ...]) -> None:
        self._sensitivities = np.array([1.0, *(zone.sensitivity for zone in zones)], np.float32)
        self._labels = _labels(self.hw, self.scale, zones) if zones else None

    def _sensitivity(self, row: int) -> F32:
        """The zones' factors of one row of regions, (up to 16, w)."""
        band = slice(row * REGION_PX, min((row + 1) * REGION_PX, self.hw[0]))
        if self._labels is None:
            return np.ones((band.stop - band.start, self.hw[1]), np.float32)
        return self._sensitivities[self._labels[band]]

    def _measured(self) -> F32:
        """``most``, from the least noise and the highest factor of each region: no map of the frame's size is made."""
        highest = _gain_of_noise(self._least_noise, self.thresholds) * self._most_sensitive
        return np.asarray(highest * ROUNDING, np.float32)

    def with_thresholds(self, thresholds: Thresholds) -> Gain:
        """The gain under other thresholds, the zones shared."""
        other = copy.copy(self)
        other.thresholds = thresholds
        other.most = other._measured()
        return other

    def with_zones(self, zones: tuple[Zone, ...]) -> tuple[Gain, Bool]:
        """The gain under other zones, and in which regions (gh, gw) it differs."""
        other = copy.copy(self)
        other._zones(zones)
        other._most_sensitive = np.empty_like(self._most_sensitive)
        cells: Bool = np.zeros(self.most.shape, np.bool_)
        for row in range(len(cells)):
            before, after = self._sensitivity(row), other._sensitivity(row)
            cells[row] = _by_region((before != after).any(0)).any(1)
            other._most_sensitive[row] = _by_region(after.max(0)).max(1)
        other.most = other._measured()
        return other, cells

    def inspected(self) -> Bool:
        """Where (h, w) the gain is above 0: it is nowhere 0 but in zones that are ignored."""
        if self._labels is None:
            return np.ones(self.hw, np.bool_)
        return np.asarray((self._sensitivities > 0)[self._labels])

    def window(self, y0: int, y1: int, x0: int, x1: int) -> F32:
        """``gain_map(...)[y0:y1, x0:x1]``, to the bit, with 0 beyond the image."""
        out = np.zeros((y1 - y0, x1 - x0), np.float32)
        y1, x1 = min(y1, self.hw[0]), min(x1, self.hw[1])
        steps = _noise_window(self.noise, self._cell_px, y0, y1, x0, x1)
        gain = out[: y1 - y0, : x1 - x0]
        gain[:] = _gain_of_noise(steps, self.thresholds)
        if self._labels is not None:
            gain *= self._sensitivities[self._labels[y0:y1, x0:x1]]
        return out


def _noise_window(noise: U8, cell_px: int, y0: int, y1: int, x0: int, x1: int) -> U8:
    """The steps of ``noise_in_logits(noise, hw)[y0:y1, x0:x1]``."""
    # a cell more on each side, so that interpolation sees the neighbours that it sees in the whole map
    cy, cx = max(y0 // cell_px - 1, 0), max(x0 // cell_px - 1, 0)
    cells = noise[cy : -(-y1 // cell_px) + 1, cx : -(-x1 // cell_px) + 1]
    top, left = cy * cell_px, cx * cell_px
    return _enlarged(cells, cell_px, (y1 - top, x1 - left))[y0 - top :, x0 - left :]


def _least_noise(noise: U8, cell_px: int, hw: tuple[int, int]) -> U8:
    """The least noise (gh, gw), in steps, of each region of 16 x 16 px."""
    rows = []
    for y in range(0, hw[0], REGION_PX):
        band = _noise_window(noise, cell_px, y, min(y + REGION_PX, hw[0]), 0, hw[1])
        rows.append(_by_region(band.min(0), 255).min(1))
    return np.stack(rows)


def _by_region(row: npt.NDArray[T], beyond: float = 0) -> npt.NDArray[T]:
    """A row (w,) of pixels as regions (gw, 16)."""
    out = np.full(-(-len(row) // REGION_PX) * REGION_PX, beyond, row.dtype)
    out[: len(row)] = row
    return out.reshape(-1, REGION_PX)


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
