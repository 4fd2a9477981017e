"""Self-supervised corruption: turns a good tile into a defective one with an exact mask.

A corruption is a region (a primitive shape, a part found in the good boards, or an object that
stands out in the tile itself) and what happens to it: it goes missing, moves, turns, bends, is covered by
something foreign, changes its light. The mask is where the tile visibly differs afterwards, with the
gaps closed that chance leaves where old and new look alike. In the spirit of DRAEM (Zavrtanik et al.
2021, arXiv 2108.07610), CutPaste (Li et al. 2021, arXiv 2104.04015) and NSA (Schlueter et al. 2022,
arXiv 2109.15222), aimed at parts and leads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from hisir_edge.arrays import I32, U8, u8
from hisir_edge.corruption.changes import (
    bend,
    elsewhere,
    foreign,
    laid_in,
    move,
    relight,
    scratch,
    slip,
    solder,
    vanish,
)
from hisir_edge.corruption.ground import fitting_ground, twin_under
from hisir_edge.corruption.spots import (
    Objects,
    Spot,
    highest_channel,
    object_spot,
    random_box,
    rare_object_spot,
    salient_objects,
    shape_spot,
)

VISIBLE_LEVELS = 10
CLOSE_PX = 7
CLEAN_SHARE = 0.15
MOST_PLACES = 8
TWINS_SHARE = 0.5
MOST_TWINS = 4
WEIGHT_GAIN = 16
ORDINARY_AREA_PX, LEAST_WEIGHT, MOST_WEIGHT = 1000, 0.5, 4.0
LONE_SHARE, LONE_TRIES, UNIQUE_SHARE = 0.25, 6, 0.8


@dataclass(frozen=True, slots=True)
class Corruption:
    """A corrupted tile (t, t, 3) uint8, the clean one it came from, and the mask (t, t) of 0/1."""

    tile: U8
    clean: U8
    mask: U8


Corrupter = Callable[[np.random.Generator, U8, U8, Spot], U8]
CORRUPTERS: tuple[tuple[Corrupter, float], ...] = (
    (elsewhere, 0.11),
    (slip, 0.09),
    (vanish, 0.30),
    (move, 0.16),
    (bend, 0.08),
    (foreign, 0.12),
    (scratch, 0.08),
    (solder, 0.12),
    (relight, 0.11),
)
_WEIGHTS = np.array([w for _, w in CORRUPTERS]) / sum(w for _, w in CORRUPTERS)


def _spot(rng: np.random.Generator, side: int, boxes: I32, objects: Objects) -> Spot:
    """Where the next corruption happens: an object of the tile, a part of the board, or anywhere."""
    way = rng.random()
    if way < 0.55 and len(objects.boxes):
        return object_spot(rng, side, objects)
    if way < 0.76 and len(boxes):
        x, y, w, h = (int(v) for v in boxes[int(rng.integers(len(boxes)))])
        grow = int(rng.integers(0, 4))
        return shape_spot(rng, (x - grow, y - grow, w + 2 * grow, h + 2 * grow), side)
    return shape_spot(rng, random_box(rng, side), side)


def _with_twins(rng: np.random.Generator, clean: U8, boxes: I32, objects: Objects) -> U8:
    """A clean tile in which a few places were replaced by others of the same kind.

    They have the seams of a corruption and are none: what counts is what stands there, not how it came there.
    """
    for _ in range(int(rng.integers(1, MOST_TWINS + 1))):
        spot = _spot(rng, clean.shape[0], boxes, objects)
        twin = twin_under(rng, clean, spot)
        if twin is not None:
            clean = laid_in(clean, spot, twin)
    return clean


def _one_missing(rng: np.random.Generator, clean: U8, objects: Objects) -> U8:
    """A tile that is whole but for one thing or a part of one, gone without a trace; where nothing fits, still whole.

    Mostly a thing that nothing else in the tile is like: a lead rather than one of its twenty holes.
    """
    for _ in range(LONE_TRIES):
        spot = rare_object_spot(rng, clean.shape[0], objects)
        if rng.random() < UNIQUE_SHARE and twin_under(rng, clean, spot) is not None:
            continue
        ground = fitting_ground(rng, clean, spot)
        if ground is not None:
            return laid_in(clean, spot, ground)
    return clean


def visible_change(tile: U8, clean: U8) -> U8:
    """Mask (t, t) of 0/1: where two pictures differ by ``VISIBLE_LEVELS`` or more, small gaps closed."""
    seen = (highest_channel(u8(cv2.absdiff(tile, clean))) >= VISIBLE_LEVELS).astype(np.uint8)
    round_brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (CLOSE_PX, CLOSE_PX))
    padded = cv2.copyMakeBorder(seen, CLOSE_PX, CLOSE_PX, CLOSE_PX, CLOSE_PX, cv2.BORDER_CONSTANT, value=0)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, round_brush)
    return u8(np.ascontiguousarray(closed[CLOSE_PX:-CLOSE_PX, CLOSE_PX:-CLOSE_PX]))


def region_weights(mask: U8) -> U8:
    """How much each pixel of a mask (h, w) of 0/1 counts, in units of 1 / ``WEIGHT_GAIN``; normal pixels count 1.

    A region counts as the root of its area, not as its area: a scratch is no less a defect than a wrong part.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    area = np.maximum(stats[:, cv2.CC_STAT_AREA], 1)
    weight = np.clip(np.sqrt(ORDINARY_AREA_PX / area), LEAST_WEIGHT, MOST_WEIGHT)
    weight[0] = 1.0
    return u8(np.round(weight * WEIGHT_GAIN).astype(np.uint8)[labels])


CLASSES: dict[str, Corrupter | None] = {
    "missing": vanish,
    "moved": move,
    "foreign_object": foreign,
    "wrong_part": elsewhere,
    "discoloured": relight,
    "shifted": slip,
    "bent": bend,
    "scratch": scratch,
    "solder": solder,
    "missing_lead": None,
}
"""Classes of planted defects; None: one thing of the tile gone without a trace."""
MOST_OF_ONE_CLASS = 3


def corrupt_tile_with(rng: np.random.Generator, kind: str, clean: U8, donor: U8, boxes: I32) -> Corruption:
    """Corrupt a clean tile (t, t, 3) in 1..3 places with defects of one class out of ``CLASSES``.

    The mask is empty where chance has made nothing that can be seen. ``boxes``: as for ``corrupt_tile``.
    """
    objects, change = salient_objects(rng, clean), CLASSES[kind]
    tile = clean
    if change is None:
        tile = _one_missing(rng, clean, objects) if len(objects.boxes) else clean
        return Corruption(tile, clean, visible_change(tile, clean))
    for _ in range(int(rng.integers(1, MOST_OF_ONE_CLASS + 1))):
        tile = change(rng, tile, donor, _spot(rng, clean.shape[0], boxes, objects))
    return Corruption(tile, clean, visible_change(tile, clean))


def corrupt_tile(rng: np.random.Generator, clean: U8, donor: U8, boxes: I32) -> Corruption:
    """Corrupt a clean tile (t, t, 3) in 1..8 places, take one thing away, or leave it clean (``CLEAN_SHARE``).

    ``clean`` of the result is the tile itself, or one in which a few places show others of their kind.

    ``boxes`` (n, 4): parts in this tile's pixels, which a third of the changes are aimed at.
    """
    objects = salient_objects(rng, clean)
    if rng.random() < TWINS_SHARE:
        clean = _with_twins(rng, clean, boxes, objects)
    if rng.random() < CLEAN_SHARE:
        return Corruption(clean, clean, np.zeros(clean.shape[:2], np.uint8))
    tile = clean
    if rng.random() < LONE_SHARE and len(objects.boxes):
        tile = _one_missing(rng, clean, objects)
        return Corruption(tile, clean, visible_change(tile, clean))
    for _ in range(min(int(rng.geometric(0.3)), MOST_PLACES)):
        change = CORRUPTERS[int(rng.choice(len(CORRUPTERS), p=_WEIGHTS))][0]
        tile = change(rng, tile, donor, _spot(rng, clean.shape[0], boxes, objects))
    return Corruption(tile, clean, visible_change(tile, clean))
