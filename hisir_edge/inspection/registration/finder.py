"""The one way by which a board is found in a frame: as its bundle says, held by a fixture or anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, U8, Bool
from hisir_edge.bundle.load import Bundle
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.registration.anywhere import BoardModel, board_model, find_board
from hisir_edge.inspection.registration.faults import check_inside
from hisir_edge.inspection.registration.fixture import Anchors, anchors_from_golden, register_frame
from hisir_edge.inspection.registration.pose import Registration

Locate = Literal["off", "fixture", "anywhere"]
Polygon = tuple[tuple[float, float], ...]
STEADY_LEVELS = 10.0
"""Patches with so much deviation between good boards count half."""
LEVELS_PER_STEP = 0.25


class Finder(Protocol):
    """Finds a product's board in frames; one may be asked by several threads."""

    def find(self, image: Pixels) -> Registration:
        """Where a frame shows the board; InspectionError that says why it cannot be inspected."""
        ...


@dataclass(frozen=True, slots=True)
class FixtureFinder:
    """For boards that a fixture holds within 12 px and 1.2 degrees; ``outline``: of an area that must be seen whole."""

    anchors: Anchors
    outline: F64 | None = None

    def find(self, image: Pixels) -> Registration:
        """See ``Finder``."""
        found = register_frame(self.anchors, image)
        if self.outline is not None:
            check_inside(found.pose, self.outline, image.hw)
        return found


@dataclass(frozen=True, slots=True)
class AnywhereFinder:
    """For boards that lie anywhere in the frame, whole."""

    model: BoardModel

    def find(self, image: Pixels) -> Registration:
        """See ``Finder``."""
        return find_board(self.model, image)


def finder_from_memory(locate: Locate, golden_rgb: U8, deviation: U8, area: Polygon | None) -> Finder | None:
    """The finder of a golden image (h, w, 3) with its deviation (h, w) in quarters of a level; None for "off".

    ``area``: polygon around the board, golden pixels; None: all of the frame.
    """
    if locate == "off":
        return None
    if locate == "fixture":
        hw = (golden_rgb.shape[0], golden_rgb.shape[1])
        return FixtureFinder(anchors_from_golden(golden_rgb), None if area is None else outline_of(hw, area))
    return AnywhereFinder(anywhere_model(golden_rgb, deviation, area))


def anywhere_model(golden_rgb: U8, deviation: U8 | None, area: Polygon | None, bends: bool = True) -> BoardModel:
    """See ``finder_from_memory``; without ``deviation`` all places count alike."""
    hw = (golden_rgb.shape[0], golden_rgb.shape[1])
    steadiness: F32 | None = None
    if deviation is not None:
        off = deviation.astype(np.float32) * np.float32(LEVELS_PER_STEP / STEADY_LEVELS)
        steadiness = np.asarray(1 / (1 + off * off), np.float32)
    outline = outline_of(hw, area)
    return board_model(np.ascontiguousarray(golden_rgb), inside_outline(hw, outline), outline, steadiness, bends)


def outline_of(hw: tuple[int, int], area: Polygon | None) -> F64:
    """Corners (n, 2) of a board's area, golden pixels."""
    h, w = hw
    return np.array(area or ((0, 0), (w - 1, 0), (w - 1, h - 1), (0, h - 1)), np.float64)


def scaled_polygon(polygon: Polygon | None, scale: float) -> Polygon | None:
    """A polygon in pixels of the frame as one in pixels of the frame scaled by ``scale``."""
    if polygon is None or scale == 1.0:
        return polygon
    return tuple(((x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5) for x, y in polygon)


def inside_outline(hw: tuple[int, int], outline: F64) -> Bool:
    """Which pixels (h, w) a polygon covers."""
    covered = np.zeros(hw, np.uint8)
    cv2.fillPoly(covered, [np.round(outline).astype(np.int32)], 1)
    return covered > 0


def finder_from_bundle(bundle: Bundle) -> Finder | None:
    """The finder of a bundle's frames, scaled for the network; None where they are not registered."""
    recipe, memory = bundle.recipe, bundle.memory_rgbd
    area = scaled_polygon(bundle.area, recipe.scale)
    return finder_from_memory(recipe.locate, memory[..., :3], memory[..., 3], area)
