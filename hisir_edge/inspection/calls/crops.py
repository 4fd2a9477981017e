"""Crops of a board laid on its golden image, so that they are inspected as a frame is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, U8, Bool, u8
from hisir_edge.bundle.load import Bundle
from hisir_edge.geometry.box import BoxXYWH, meet
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.selftest import golden_picture
from hisir_edge.records import Crop, Frame, GrabFault

SEARCH_PX = 24
"""A crop may lie so far from the coordinates that came with it."""
LEAST_LIKE, FLAT = 0.4, 4.0
"""Correlation below which a crop shows something else; standard deviation of grey below which nothing can be said."""
LEAST_SIDE_PX = 16
FINE_PX = 4.0
"""By so much a fine registration may move a corner of a crop against the whole shift that fits best."""
OTHERWISE = "its crop does not look like that place of the board"
APART_PX, MOST_LAYERS = 32, 8
"""Crops nearer to each other, or on each other, are laid on frames of their own, so many at most."""
LEAST_GAIN, MOST_GAIN = 0.6, 1.6
RIM_PX = 4
"""Of a crop along its edges: what lies beside it on the golden image is another board's."""


def with_crops_laid(bundle: Bundle, item: Frame | GrabFault) -> Frame | GrabFault:
    """The item; where crops came instead of a board's picture, with the frames that they make on its golden image."""
    if isinstance(item, GrabFault) or item.sheet is None or not item.sheet.crops:
        return item
    frames, crops = frames_of_crops(golden_picture(bundle), item.sheet.crops)
    first, *more = map(Pixels, frames)
    return replace(item, image=first, layers=tuple(more), sheet=replace(item.sheet, crops=crops))


def frames_of_crops(golden_rgb: U8, crops: Sequence[Crop]) -> tuple[list[U8], tuple[Crop, ...]]:
    """(frames, crops as they were laid): the golden image (h, w, 3) of uint8 with each crop at its place.

    Each is looked for around its coordinates and has the golden image's light. One that does not look like its place,
    or lies off the frame, is left out and has a ``fault``. What lies on another one, or near it, is laid on a frame of
    its own: each is judged by its own pixels.
    """
    frames, taken = [golden_rgb.copy()], list[list[BoxXYWH]]([[]])
    laid = []
    for crop in crops:
        placed = _placed(golden_rgb, crop)
        if isinstance(placed, str):
            laid.append(replace(crop, fault=placed))
            continue
        x, y, w, h = placed.box
        around = (x - APART_PX, y - APART_PX, w + 2 * APART_PX, h + 2 * APART_PX)
        layer = next((n for n, boxes in enumerate(taken) if not any(meet(around, box) for box in boxes)), len(taken))
        if layer == MOST_LAYERS:
            laid.append(replace(crop, fault=f"its crop is the {MOST_LAYERS + 1}th that lies on one place"))
            continue
        if layer == len(taken):
            frames.append(golden_rgb.copy())
            taken.append([])
        taken[layer].append(placed.box)
        np.copyto(frames[layer][y : y + h, x : x + w], placed.rgb, where=placed.lies[..., None])
        laid.append(replace(crop, moved=placed.moved, layer=layer))
    return frames, tuple(laid)


def moved_box(box: BoxXYWH, crop: Crop) -> BoxXYWH:
    """The upright box, on the frame that crops make, around a box of a crop, both in pixels of the frame."""
    if crop.moved is None:
        return box
    x, y, w, h = box
    corners = np.array([[x, y, 1.0], [x + w, y, 1.0], [x, y + h, 1.0], [x + w, y + h, 1.0]]) @ crop.moved.T
    (left, top), (right, bottom) = np.rint(corners.min(0)).astype(int), np.rint(corners.max(0)).astype(int)
    return int(left), int(top), max(int(right - left), 1), max(int(bottom - top), 1)


@dataclass(frozen=True, slots=True)
class _Placed:
    """A crop around its place: box on the frame, pixels (h, w, 3), which of them are the crop's, and ``Crop.moved``."""

    box: BoxXYWH
    rgb: U8
    lies: Bool
    moved: F64


def _placed(golden: U8, crop: Crop) -> _Placed | str:
    """A crop laid on its place, or why it cannot be."""
    if crop.image is None:
        return "its crop was not read"
    rgb = crop.image.rgb
    (h, w), (x, y) = rgb.shape[:2], crop.at_xy
    if fault := _wrong_place(x, y, w, h, golden.shape):
        return fault
    x0, y0 = max(x - SEARCH_PX, 0), max(y - SEARCH_PX, 0)
    around = golden[y0 : y + h + SEARCH_PX, x0 : x + w + SEARCH_PX]
    seen, wanted = _grey(rgb), _grey(around)
    dx, dy = x - x0, y - y0
    if min(seen.std(), wanted.std()) >= FLAT:
        _, best, _, (dx, dy) = cv2.minMaxLoc(cv2.matchTemplate(wanted, seen, cv2.TM_CCOEFF_NORMED))
        if not best >= LEAST_LIKE:
            return OTHERWISE
    elif max(seen.std(), wanted.std()) >= FLAT:
        return OTHERWISE
    to_around, size = _fine(seen, wanted, (dx, dy)), around.shape[1::-1]
    lies = cv2.warpAffine(np.full((h, w), 255, np.uint8), to_around, size, flags=cv2.INTER_NEAREST) > 0
    if not lies.any():
        return OTHERWISE
    laid = u8(cv2.warpAffine(rgb, to_around, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    moved = to_around.copy()  # of crop pixels to those around; both begin elsewhere in the frame
    moved[:, 2] += np.array([x0, y0]) - to_around[:, :2] @ np.array([x, y])
    # what is around it belongs to no crop; the box is what it covers
    ys, xs = np.flatnonzero(lies.any(1)), np.flatnonzero(lies.any(0))
    rows, columns = slice(ys[0], ys[-1] + 1), slice(xs[0], xs[-1] + 1)
    box = (x0 + int(xs[0]), y0 + int(ys[0]), int(xs[-1] - xs[0]) + 1, int(ys[-1] - ys[0]) + 1)
    return _Placed(box, _in_light_of(laid, around, lies)[rows, columns], lies[rows, columns], moved)


def _wrong_place(x: int, y: int, w: int, h: int, shape: tuple[int, ...]) -> str:
    """Why a crop of this size cannot lie there; empty: it can."""
    if min(h, w) < LEAST_SIDE_PX:
        return f"its crop has {w}x{h} px; {LEAST_SIDE_PX}x{LEAST_SIDE_PX} at least"
    within = x >= 0 and y >= 0 and x + w <= shape[1] and y + h <= shape[0]
    return "" if within else "its crop reaches beyond the board's picture"


def _fine(seen: F32, wanted: F32, at_xy: tuple[int, int]) -> F64:
    """Matrix (2, 3) of a crop's pixels on those around its place: shifted and turned, by a fraction of a pixel.

    The whole shift stays where nothing better is found: what differs, a defect perhaps, is not to move the crop far.
    """
    whole: F64 = np.array([[1.0, 0, at_xy[0]], [0, 1.0, at_xy[1]]])
    stop: Any = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-4)
    begin: Any = cv2.invertAffineTransform(whole).astype(np.float32)
    try:
        _, found = cv2.findTransformECC(wanted, seen, begin, cv2.MOTION_EUCLIDEAN, stop)
    except cv2.error:
        return whole
    fine: F64 = np.asarray(cv2.invertAffineTransform(found), np.float64)
    corners = np.array([[x, y, 1.0] for x in (0, seen.shape[1]) for y in (0, seen.shape[0])])
    near = np.abs(corners @ (fine - whole).T).max() <= FINE_PX
    return fine if near else whole


def _grey(rgb: U8) -> F32:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.float32)


def _in_light_of(rgb: U8, golden: U8, lies: Bool) -> U8:
    """A crop as bright as its place, channel by channel: by the median of its pixels, where a defect counts little."""
    ratio: Any = np.median((golden[lies] + 1.0) / (rgb[lies] + 1.0), 0)
    return u8(np.clip(np.rint(rgb * np.clip(ratio, LEAST_GAIN, MOST_GAIN)), 0, 255).astype(np.uint8))
