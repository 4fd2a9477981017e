"""How a frame was taken, beside what it shows: blur, brightness and lost white, measured at the registered board.

A lens that comes loose makes everything soft, and to a network that knows good boards soft is hardly a defect. So each
frame's edges are measured at places of the board that are rich in them, against the same places of the good boards.
There a ratio of gradient energies, of the picture and of a blurred copy, says how fine the picture is, whatever its
contrast. What a ratio means in pixels of blur the good boards say themselves: they were blurred when the bundle was
built (``engine/acceptance/optics.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, U8, Bool, u8
from hisir_edge.bundle.load import Bundle
from hisir_edge.bundle.manifest import OpticsModel
from hisir_edge.bundle.thresholds import Zone
from hisir_edge.geometry.tile import scaled_hw
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.gain import inside_zone
from hisir_edge.inspection.registration.pose import Pose, pose_from_affine, scaling
from hisir_edge.records import Optics, OpticsFault

Beyond = Literal["warning", "error", "off"]
"""What becomes of a frame beyond the good boards' limits."""
SIDE_PX, EDGE_PX = 64, 8
"""Side of the patch around a place, camera pixels; gradients of its outermost ones are of its neighbours'."""
COARSE_PX = 4.0
WHITE_POINTS = 12_000
"""The board is looked at for white at about so many points of a grid."""
WHITE = 255
LEAST_SEEN = 0.5
"""So many of the places lie in the frame, or nothing is said of its edges."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One frame: by place how fine (n,) and how bright (n,) it is, logarithms, NaN outside of the frame; white share.

    ``fineness`` is the logarithm of a ratio of energies: half of it that of a ratio of edges' widths.
    """

    fineness: F64 = field(repr=False)
    level: F64 = field(repr=False)
    white_share: float


class Places:
    """Where a product's frames are measured. ``probes_xy`` (n, 2): golden pixels of the camera's frame."""

    def __init__(self, bundle: Bundle, probes_xy: F64) -> None:
        recipe = bundle.recipe
        self.golden_xy = _scaled(probes_xy, recipe.scale)
        h, w = hw = scaled_hw(recipe.frame_hw, recipe.scale)
        board: Bool = np.ones(hw, np.bool_)
        if bundle.area is not None:
            board = inside_zone(hw, recipe.scale, Zone("board", bundle.area, 1.0))
        each = max(1, round(float(np.sqrt(board.sum() / WHITE_POINTS))))
        y, x = np.mgrid[each // 2 : h : each, each // 2 : w : each]
        on_board = board[y, x]
        self.grid_xy = np.stack([x[on_board], y[on_board]], 1).astype(np.float64)
        self.whole = pose_from_affine(scaling(recipe.scale))

    def measured(self, image: Pixels, pose: Pose | None) -> Measured:
        """A frame as its camera gave it; ``pose``: its pixels -> golden, scaled ones, None where they are the same."""
        where = (pose or self.whole).to_frame(self.golden_xy)
        patches, seen = patches_at(image, where, SIDE_PX)
        fineness, level = np.full(len(where), np.nan), np.full(len(where), np.nan)
        if seen.any():
            fineness[seen], level[seen] = fineness_of(patches), level_of(patches)
        return Measured(fineness, level, white_share(image, (pose or self.whole).to_frame(self.grid_xy)))


class OpticsWatch:
    """A bundle's places, and what good boards showed there."""

    def __init__(self, bundle: Bundle, model: OpticsModel) -> None:
        self.model = model
        self.places = Places(bundle, np.array([(p.x, p.y) for p in model.places], np.float64).reshape(-1, 2))
        self._fineness = np.array([p.fineness for p in model.places])
        self._level = np.array([p.level for p in model.places])
        self._drop = np.array([0.0, *(step.drop for step in model.blur)])
        self._blur_px = np.array([0.0, *(step.blur_px for step in model.blur)])

    def seen(self, image: Pixels, pose: Pose | None) -> Optics:
        """How a frame was taken, against the good boards."""
        measured = self.places.measured(image, pose)
        there = ~np.isnan(measured.fineness)
        if not len(there) or there.mean() < LEAST_SEEN:
            return Optics(blur_px=None, brightness=None, white_share=measured.white_share)
        drop = -float(np.median((measured.fineness - self._fineness)[there]))
        blur_px = float(np.interp(drop, self._drop, self._blur_px)) if self.model.blur else None
        brighter = float(np.median((measured.level - self._level)[there]))
        return Optics(blur_px=blur_px, brightness=float(np.exp(brighter)), white_share=measured.white_share)

    def faults(self, seen: Optics) -> tuple[OpticsFault, ...]:
        """What lies beyond the good boards' limits, in words."""
        m, out = self.model, list[OpticsFault]()
        if seen.blur_px is not None and m.most_blur_px is not None and seen.blur_px > m.most_blur_px:
            words = f"blurred by {seen.blur_px:.1f} px against the good boards (at most {m.most_blur_px:.1f})"
            out.append(OpticsFault("blur", words, "check focus, lens and working distance, and that the board stands"))
        if seen.brightness is not None and not m.least_brightness <= seen.brightness <= m.most_brightness:
            limits = f"{m.least_brightness:.2f} to {m.most_brightness:.2f}"
            words = f"{seen.brightness:.2f} times as bright as the good boards ({limits})"
            out.append(OpticsFault("brightness", words, "check lamp, aperture and exposure"))
        if seen.white_share > m.most_white_share:
            words = f"{seen.white_share:.1%} of the board white (at most {m.most_white_share:.1%})"
            out.append(OpticsFault("white", words, "lower the exposure, or check lamp and aperture"))
        return tuple(out)

    def is_lost(self, seen: Optics) -> bool:
        """Whether a frame is too far from the good boards to be judged, whatever a line makes of what is beyond."""
        lost_px = self.model.lost_blur_px
        return seen.blur_px is not None and lost_px is not None and seen.blur_px > lost_px


def patches_at(image: Pixels, where_xy: F64, side_px: int) -> tuple[U8, Bool]:
    """Grey patches (m, side, side) around those of the places (n, 2) that lie in the frame whole, and which (n,)."""
    h, w = image.hw
    corners = np.rint(where_xy).astype(np.int64) // 2 * 2 - side_px // 2  # even: a mosaic stays what it is
    seen = (corners >= 0).all(1) & (corners[:, 0] + side_px <= w) & (corners[:, 1] + side_px <= h)
    data = image.data
    pieces = [Pixels(u8(data[y : y + side_px, x : x + side_px]), image.pixel_format) for x, y in corners[seen]]
    patches = [piece.grey() for piece in pieces]
    return u8(np.stack(patches) if patches else np.empty((0, side_px, side_px), np.uint8)), seen


def fineness_of(patches: U8) -> F64:
    """By patch (m, side, side) the logarithm of its gradients' energy against that of its blurred copy, (m,)."""
    count, side, _ = patches.shape
    stacked = np.asarray(patches, np.float32).reshape(count * side, side)
    blurred = np.asarray(cv2.GaussianBlur(stacked, (0, 0), COARSE_PX), np.float32)
    return np.asarray(np.log((_energy(stacked, side) + 1) / (_energy(blurred, side) + 1)), np.float64)


def texture_of(patches: U8) -> F64:
    """By patch (m, side, side) the energy of its blurred gradients, squared levels, (m,): large where edges are."""
    count, side, _ = patches.shape
    stacked = np.asarray(patches, np.float32).reshape(count * side, side)
    return np.asarray(_energy(np.asarray(cv2.GaussianBlur(stacked, (0, 0), COARSE_PX), np.float32), side), np.float64)


def level_of(patches: U8) -> F64:
    """By patch (m, side, side) the logarithm of its mean level, (m,)."""
    return np.asarray(np.log(patches.reshape(len(patches), -1).mean(1) + 1), np.float64)


def white_share(image: Pixels, where_xy: F64) -> float:
    """The share of places (n, 2) of the frame, those in it, at which a colour is as bright as can be said."""
    h, w = image.hw
    x, y = np.rint(where_xy).astype(np.int64).T
    inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
    if not inside.any():
        return 0.0
    levels = image.data[y[inside], x[inside]]
    if levels.ndim == 2:
        levels = levels[:, :3].max(1)  # a fourth channel is no colour
    return float((levels >= WHITE).mean())


def _energy(stacked: F32, side: int) -> F32:
    across, down = cv2.Sobel(stacked, cv2.CV_32F, 1, 0), cv2.Sobel(stacked, cv2.CV_32F, 0, 1)
    energy = (across * across + down * down).reshape(-1, side, side)[:, EDGE_PX:-EDGE_PX, EDGE_PX:-EDGE_PX]
    return np.asarray(energy.mean((1, 2)), np.float32)


def _scaled(golden_xy: F64, scale: float) -> F64:
    return np.asarray((golden_xy + 0.5) * scale - 0.5, np.float64)


def watch_of(bundle: Bundle) -> OpticsWatch | None:
    """The watch of a bundle that says how its good boards were taken; None for one of before."""
    return None if bundle.manifest.optics is None else OpticsWatch(bundle, bundle.manifest.optics)
