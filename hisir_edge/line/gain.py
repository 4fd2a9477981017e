"""Gain: what a raw score is multiplied by at each place of the board, so that 1.0 is the pixel threshold there.

Three things vary over a board: how noisy the network is on good boards (solder, print), zones that the
engineer does not want judged, and zones that matter more or less than the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hisir_edge.arrays import F32, U8, Bool
from hisir_edge.line.judge import Thresholds

NOISE_CELL_PX = 64
NOISE_STEPS_PER_LOGIT = 32


@dataclass(frozen=True, slots=True)
class Zone:
    """A named polygon in golden-image pixels (of the camera's frame size) and its sensitivity.

    ``sensitivity`` multiplies scores: 0 ignores the zone, 1 is the board's own, 2 alarms at half the score.
    Where zones overlap, the later one counts.
    """

    name: str
    polygon_xy: tuple[tuple[float, float], ...]
    sensitivity: float


def noise_shape(hw: tuple[int, int]) -> tuple[int, int]:
    """Cells (rows, columns) of the noise map of a frame of ``hw`` scaled pixels."""
    return -(-hw[0] // NOISE_CELL_PX), -(-hw[1] // NOISE_CELL_PX)


def noise_in_logits(noise: U8, hw: tuple[int, int]) -> F32:
    """The noise map (rows, columns), in steps, as logits per pixel (h, w), 0 where the board is quiet."""
    cells = noise.astype(np.float32) / NOISE_STEPS_PER_LOGIT
    height, width = (cells.shape[0] * NOISE_CELL_PX, cells.shape[1] * NOISE_CELL_PX)
    full = cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(full[: hw[0], : hw[1]], np.float32)


def score_of_logit(logit: F32 | float) -> F32:
    """Softplus: the raw score of a gate logit."""
    return np.asarray(np.logaddexp(np.float32(0), np.asarray(logit, np.float32)), np.float32)


def gain_map(hw: tuple[int, int], scale: float, thresholds: Thresholds, noise: U8, zones: tuple[Zone, ...]) -> F32:
    """Gain (h, w) over the scaled golden image.

    At a noisy place the threshold's logit lies higher by the noise there, so good boards call as
    seldom as elsewhere; a noisy place does not raise the threshold of the whole board.
    """
    quiet = thresholds.pixel * thresholds.region_peak
    logit = float(np.log(np.expm1(quiet))) if quiet < 30 else quiet
    raised = score_of_logit(logit + noise_in_logits(noise, hw))
    gain = np.asarray(np.float32(quiet / thresholds.pixel) / raised, np.float32)
    return gain * sensitivity_map(hw, scale, zones) if zones else gain


def inside_zone(hw: tuple[int, int], scale: float, zone: Zone) -> Bool:
    """Which pixels (h, w) of the scaled golden image a zone covers."""
    inside = np.zeros(hw, np.uint8)
    corners = (np.array(zone.polygon_xy, np.float64) + 0.5) * scale - 0.5
    cv2.fillPoly(inside, [np.round(corners).astype(np.int32)], 1)
    return np.asarray(inside > 0)


def sensitivity_map(hw: tuple[int, int], scale: float, zones: tuple[Zone, ...]) -> F32:
    """What scores are multiplied by for the zones' sake, (h, w) over the scaled golden image; 1 outside them."""
    out = np.ones(hw, np.float32)
    for zone in zones:
        out[inside_zone(hw, scale, zone)] = zone.sensitivity
    return out
