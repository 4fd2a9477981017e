"""How a frame was taken, beside what it shows: blur, brightness and lost white, measured at the registered board.

A lens that comes loose makes everything soft, and to a network that knows good boards soft is hardly a defect. So each
frame's edges are measured at places of the board that are rich in them, against the same places of the good boards: how
fine they are (a ratio of gradient energies, of the picture and of a blurred copy, whatever its contrast), and how
strong the edges are that are left in the blurred copy: a picture without edges has noise alone, which is fine. The
good boards themselves say what either means in pixels of blur: they were blurred when the bundle was built
(``engine/acceptance/optics.py``). Everything is measured in the pixels of the network.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, I64, U8, Bool, u8
from hisir_edge.bundle.load import Bundle
from hisir_edge.bundle.manifest import BlurModel, OpticsModel
from hisir_edge.bundle.thresholds import Zone
from hisir_edge.geometry.tile import scaled_hw
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.gain import inside_zone
from hisir_edge.inspection.registration.pose import Pose, pose_from_affine, scaling
from hisir_edge.records import Optics, OpticsFault

Beyond = Literal["warning", "error", "off"]
"""What becomes of a frame beyond the good boards' limits."""
SIDE_PX, EDGE_PX = 64, 8
"""Side of the patch around a place, network pixels; gradients of its outermost ones are of its neighbours'."""
COARSE_PX = 4.0
WHITE_POINTS = 12_000
"""The board is looked at for white at about so many points of a grid."""
WHITE = 255
LEAST_ENERGY = 0.05
"""Of a plain patch, squared levels; its logarithm is to stay one."""
LEAST_SEEN = 0.5
"""So many of the places lie in the frame, or nothing is said of its edges."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One frame: by place (n,) how fine, how strong in edges, how bright; logarithms, NaN outside of the frame.

    ``fineness`` is the logarithm of a ratio of energies: half of it that of a ratio of edges' widths. ``strength``: of
    the energy of the blurred copy against the level's square, so that light changes nothing.
    """

    fineness: F64 = field(repr=False)
    strength: F64 = field(repr=False)
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
        self.side_px = round(SIDE_PX / recipe.scale / 2) * 2

    def measured(self, image: Pixels, pose: Pose | None) -> Measured:
        """A frame as its camera gave it; ``pose``: its pixels -> golden, scaled ones, None where they are the same."""
        where = (pose or self.whole).to_frame(self.golden_xy)
        patches, seen = patches_at(image, where, self.side_px)
        found = np.full((3, len(where)), np.nan)
        if seen.any():
            found[:, seen] = measures_of(patches)
        white = white_share(image, (pose or self.whole).to_frame(self.grid_xy))
        return Measured(found[0], found[1], found[2], white)


class OpticsWatch:
    """A bundle's places, and what good boards showed there."""

    def __init__(self, bundle: Bundle, model: OpticsModel) -> None:
        self.model = model
        self.places = Places(bundle, np.array([(p.x, p.y) for p in model.places], np.float64).reshape(-1, 2))
        self._usual = np.array([(p.fineness, p.strength, p.level) for p in model.places]).reshape(-1, 3).T

    def seen(self, image: Pixels, pose: Pose | None) -> Optics:
        """How a frame was taken, against the good boards."""
        measured, m = self.places.measured(image, pose), self.model
        there = ~np.isnan(measured.fineness)
        if not len(there) or there.mean() < LEAST_SEEN:
            return Optics(blur_px=None, brightness=None, white_share=measured.white_share)
        found = np.stack([measured.fineness, measured.strength, measured.level])
        finer, stronger, brighter = np.median((found - self._usual)[:, there], 1).tolist()
        blur_px = None
        if m.blur or m.weakening:
            # strength differs among good boards, too: what is within that says nothing
            weaker = -stronger if -stronger > m.most_weaker else 0.0
            blur_px = max(blur_of_drop(m.blur, -finer), blur_of_drop(m.weakening, weaker))
        return Optics(blur_px=blur_px, brightness=float(np.exp(brighter)), white_share=measured.white_share)

    def faults(self, seen: Optics) -> tuple[OpticsFault, ...]:
        """What lies beyond the good boards' limits, in words."""
        m, out = self.model, list[OpticsFault]()
        if seen.blur_px is None and m.most_blur_px is not None:
            words = "blur and brightness cannot be said: most places for it lie outside of the frame"
            out.append(OpticsFault("blur", words, "see that the whole board is in the frame"))
        if seen.blur_px is not None and m.most_blur_px is not None and seen.blur_px > m.most_blur_px:
            limit = f"not judged beyond {m.lost_blur_px:.1f}" if self.is_lost(seen) else f"at most {m.most_blur_px:.1f}"
            words = f"blurred by {seen.blur_px:.1f} px against the good boards ({limit})"
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
    """Grey patches (m, SIDE_PX, SIDE_PX) around those of the places (n, 2) that lie in the frame whole, and which (n,).

    ``side_px`` of the frame are what the network sees as ``SIDE_PX``.
    """
    corners, seen = corners_at(image.hw, where_xy, side_px)
    patches = [grey_patch(image, int(x), int(y), side_px) for x, y in corners[seen]]
    return u8(np.stack(patches) if patches else np.empty((0, SIDE_PX, SIDE_PX), np.uint8)), seen


def corners_at(hw: tuple[int, int], where_xy: F64, side_px: int) -> tuple[I64, Bool]:
    """Upper left corners (n, 2) of patches around places, even so that a mosaic stays what it is, and which fit."""
    h, w = hw
    near = np.clip(np.nan_to_num(where_xy, nan=-1e6), -1e6, 1e6)
    corners = np.rint(near).astype(np.int64) // 2 * 2 - side_px // 4 * 2
    seen = (corners >= 0).all(1) & (corners[:, 0] + side_px <= w) & (corners[:, 1] + side_px <= h)
    return corners, np.asarray(seen, np.bool_)


def grey_patch(image: Pixels, x: int, y: int, side_px: int) -> U8:
    """One patch in grey, (SIDE_PX, SIDE_PX)."""
    piece = Pixels(u8(image.data[y : y + side_px, x : x + side_px]), image.pixel_format).grey()
    return piece if side_px == SIDE_PX else u8(cv2.resize(piece, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA))


def measures_of(patches: U8) -> F64:
    """By patch (m, side, side): fineness, strength and level, (3, m); see ``Measured``."""
    count, side, _ = patches.shape
    stacked = np.asarray(patches, np.float32).reshape(count * side, side)
    blurred = np.asarray(cv2.GaussianBlur(stacked, (0, 0), COARSE_PX), np.float32)
    fine, coarse = np.log(_energy(stacked, side) + 1), np.log(_energy(blurred, side) + LEAST_ENERGY)
    level = np.log(patches.reshape(count, -1).mean(1) + 1)
    return np.stack([fine - np.log(_energy(blurred, side) + 1), coarse - 2 * level, level]).astype(np.float64)


def blur_of_drop(steps: tuple[BlurModel, ...], drop: float) -> float:
    """Pixels of blur that make good boards drop by so much; 0 where there are no steps."""
    known = [0.0, *(step.drop for step in steps)], [0.0, *(step.blur_px for step in steps)]
    return float(np.interp(drop, *known))


def white_share(image: Pixels, where_xy: F64) -> float:
    """The share of places (n, 2) of the frame, those in it, at which a colour is as bright as can be said."""
    h, w = image.hw
    x, y = np.rint(np.clip(np.nan_to_num(where_xy, nan=-1e6), -1e6, 1e6)).astype(np.int64).T
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
