"""Crops of a board laid on its golden image, so that they are inspected as a frame is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, U8, Bool, u8
from hisir_edge.bundle.load import Bundle
from hisir_edge.geometry.box import BoxXYWH
from hisir_edge.images.pixels import Pixels
from hisir_edge.records import Crop, Frame, GrabFault

SEARCH_PX = 24
"""A crop may lie so far from the coordinates that came with it."""
LEAST_LIKE, FLAT = 0.4, 4.0
"""Correlation below which a crop shows something else; standard deviation of grey below which nothing can be said."""
LEAST_SIDE_PX = 16
FINE_PX = 4.0
"""By so much a fine registration may move a corner of a crop against the whole shift that fits best."""
LEAST_GAIN, MOST_GAIN = 0.6, 1.6
RIM_PX = 4
"""Of a crop along its edges: what lies beside it on the golden image is another board's."""


def with_crops_laid(bundle: Bundle, item: Frame | GrabFault) -> Frame | GrabFault:
    """The item; where crops came instead of a board's picture, with the frame that they make on the golden image."""
    if isinstance(item, GrabFault) or item.sheet is None or not item.sheet.crops:
        return item
    image, crops = frame_of_crops(golden_frame(bundle), item.sheet.crops)
    return replace(item, image=Pixels(image), sheet=replace(item.sheet, crops=crops))


def frame_of_crops(golden_rgb: U8, crops: Sequence[Crop]) -> tuple[U8, tuple[Crop, ...]]:
    """(frame, crops as they were laid): the golden image (h, w, 3) of uint8 with each crop at its place.

    Each is looked for around its coordinates and has the golden image's light. One that does not look like its place,
    or lies off the frame, is left out and has a ``fault``.
    """
    frame = golden_rgb.copy()
    laid = tuple(_laid(frame, golden_rgb, crop) for crop in crops)
    return frame, laid


def moved_box(box: BoxXYWH, crop: Crop) -> BoxXYWH:
    """The upright box, on the frame that crops make, around a box of a crop, both in pixels of the frame."""
    if crop.moved is None:
        return box
    x, y, w, h = box
    corners = np.array([[x, y, 1.0], [x + w, y, 1.0], [x, y + h, 1.0], [x + w, y + h, 1.0]]) @ crop.moved.T
    (left, top), (right, bottom) = np.rint(corners.min(0)).astype(int), np.rint(corners.max(0)).astype(int)
    return int(left), int(top), max(int(right - left), 1), max(int(bottom - top), 1)


def golden_frame(bundle: Bundle) -> U8:
    """The golden image in the frame's own size, (h, w, 3) of uint8."""
    h, w = bundle.recipe.frame_hw
    golden = np.ascontiguousarray(bundle.memory_rgbd[..., :3])
    return golden if golden.shape[:2] == (h, w) else u8(cv2.resize(golden, (w, h), interpolation=cv2.INTER_CUBIC))


def _laid(frame: U8, golden: U8, crop: Crop) -> Crop:
    if crop.image is None:
        return replace(crop, fault="its crop was not read")
    rgb = crop.image.rgb
    (h, w), (x, y) = rgb.shape[:2], crop.at_xy
    if min(h, w) < LEAST_SIDE_PX:
        return replace(crop, fault=f"its crop has {w}x{h} px; {LEAST_SIDE_PX}x{LEAST_SIDE_PX} at least")
    if x < 0 or y < 0 or x + w > golden.shape[1] or y + h > golden.shape[0]:
        return replace(crop, fault="its crop reaches beyond the board's picture")
    x0, y0 = max(x - SEARCH_PX, 0), max(y - SEARCH_PX, 0)
    around = golden[y0 : y + h + SEARCH_PX, x0 : x + w + SEARCH_PX]
    seen, wanted = _grey(rgb), _grey(around)
    dx, dy = x - x0, y - y0
    if min(seen.std(), wanted.std()) >= FLAT:
        like = cv2.matchTemplate(wanted, seen, cv2.TM_CCOEFF_NORMED)
        _, best, _, (dx, dy) = cv2.minMaxLoc(like)
        if not best >= LEAST_LIKE:
            return replace(crop, fault="its crop does not look like that place of the board")
    elif max(seen.std(), wanted.std()) >= FLAT:
        return replace(crop, fault="its crop does not look like that place of the board")
    to_around = _fine(seen, wanted, (dx, dy))
    size = around.shape[1::-1]
    lies = cv2.warpAffine(np.full((h, w), 255, np.uint8), to_around, size, flags=cv2.INTER_NEAREST) > 0
    laid = u8(cv2.warpAffine(rgb, to_around, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    laid = _in_light_of(laid, around, lies)
    np.copyto(frame[y0 : y0 + around.shape[0], x0 : x0 + around.shape[1]], laid, where=lies[..., None])
    moved = to_around.copy()  # of crop pixels to those around; both begin elsewhere in the frame
    moved[:, 2] += np.array([x0, y0]) - to_around[:, :2] @ np.array([x, y])
    return replace(crop, moved=moved)


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
