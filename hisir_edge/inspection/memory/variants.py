"""Which of its variants a board shows at each place where good boards differ.

Each place asks which of its pictures comes closest; what it answers must agree with its neighbours: how often good
boards showed two variants beside each other counts as evidence, too (iterated conditional modes, Besag 1986).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, I64, U8, max_of_channels, u8
from hisir_edge.bundle.variants import Place
from hisir_edge.inspection.light import gains_at, tables_of_gains

BLUR_PX = 5
DIFFERENT_LEVELS = 8
"""Pixels count where the blurred variants are so far apart."""
FURTHEST_LEVELS = 60.0
"""A pixel is off by so much at most: a defect must not outvote the rest of its place."""
EVIDENCE = 20.0
"""A variant that fits worse by the usual difference of a good board is exp(EVIDENCE) times less likely."""
MOST_COMPARED = 512
"""Pixels of a place that are compared, evenly spread over it."""
NEIGHBOUR_PX = 24
SWEEPS = 4

Crop = Callable[[tuple[int, int, int, int]], U8]
"""The board's pixels RGB (h, w, 3) in a box (x, y, w, h) of the golden image."""


def crop_of(picture: U8) -> Crop:
    """Crops of a picture in golden coordinates (h, w, 3)."""

    def crop(box_xywh: tuple[int, int, int, int]) -> U8:
        x, y, w, h = box_xywh
        return picture[y : y + h, x : x + w]

    return crop


@dataclass(frozen=True, slots=True)
class _Known:
    """``pictures`` (k, n, 3): the blurred variants at the pixels ``where`` (rows, columns), n each."""

    box_xywh: tuple[int, int, int, int]
    pictures: F32 = field(repr=False)
    where: tuple[I64, I64] = field(repr=False)
    usual_levels: float


class Chooser:
    """The places of a product; has no state, may be asked by several threads."""

    def __init__(
        self, places: tuple[Place, ...], golden_hw: tuple[int, int], looked_at: Iterable[int] | None = None
    ) -> None:
        """``looked_at``: numbers of the places that are chosen at all, the others keep variant 0; None: every one."""
        self.places, self.golden_hw = places, golden_hw
        self._known = [_known(place) for place in places]
        self._looked_at = tuple(looked_at) if looked_at is not None else tuple(range(len(places)))
        self._beside = _neighbours(places)

    def choose(self, crop: Crop, light: F64 | None) -> tuple[int, ...]:
        """The variant of each place; ``light`` (3, 3): the log gain planes to take out first."""
        costs = [np.arange(place.model.variants, dtype=np.float64) * FURTHEST_LEVELS for place in self.places]
        for number in self._looked_at:
            costs[number] = self._costs(self._known[number], crop, light)
        chosen = [int(cost.argmin()) for cost in costs]
        for _ in range(SWEEPS):
            before = list(chosen)
            for number in self._looked_at:
                beside = self._beside.get(number, [])
                cost = costs[number].copy()
                for other, unlikely in beside:
                    cost += unlikely[:, chosen[other]]
                chosen[number] = int(cost.argmin())
            if chosen == before:
                break
        return tuple(chosen)

    def _costs(self, one: _Known, crop: Crop, light: F64 | None) -> F64:
        """How unlikely each variant is by its picture alone, (k,)."""
        x, y, w, h = one.box_xywh
        board = crop(one.box_xywh)
        if light is not None:
            middle = np.array([[y + h / 2, x + w / 2]])
            board = u8(cv2.LUT(board, tables_of_gains(gains_at(light, self.golden_hw, middle))[0]))
        off = max_of_channels(np.abs(one.pictures - blurred(board)[one.where]))
        levels = np.minimum(off, FURTHEST_LEVELS).mean(1)
        return np.asarray(EVIDENCE / one.usual_levels * levels, np.float64)


def blurred(picture: U8) -> F32:
    """As pictures are compared, float32."""
    return np.asarray(cv2.blur(picture.astype(np.float32), (BLUR_PX, BLUR_PX)), np.float32)


def _known(place: Place) -> _Known:
    pictures = np.stack([blurred(u8(one)) for one in place.pictures])
    apart = max_of_channels(pictures.max(0) - pictures.min(0))
    rows, columns = np.nonzero(apart >= min(DIFFERENT_LEVELS, float(apart.max())))
    step = -(-len(rows) // MOST_COMPARED)
    rows, columns = rows[::step], columns[::step]
    m = place.model
    return _Known((m.x, m.y, m.width, m.height), pictures[:, rows, columns], (rows, columns), m.usual_levels)


def _neighbours(places: tuple[Place, ...]) -> dict[int, list[tuple[int, F64]]]:
    """Of each place those beside it, and how unlikely (own variants, the other's) are together."""
    found: dict[int, list[tuple[int, F64]]] = {}
    for a, one in enumerate(places):
        for b, other in enumerate(places):
            if a != b and len(one.model.looks) == len(other.model.looks) and _beside(one, other):
                found.setdefault(a, []).append((b, _unlikely(one, other)))
    return found


def _beside(one: Place, other: Place) -> bool:
    a, b, gap = one.model, other.model, NEIGHBOUR_PX
    across = a.x > b.x + b.width + gap or b.x > a.x + a.width + gap
    return not (across or a.y > b.y + b.height + gap or b.y > a.y + a.height + gap)


def _unlikely(one: Place, other: Place) -> F64:
    counts = np.full((one.model.variants, other.model.variants), 0.5)
    np.add.at(counts, (np.array(one.model.looks, int), np.array(other.model.looks, int)), 1)
    return np.asarray(-np.log(counts / counts.sum(0)), np.float64)


def tiles_of_places(places: tuple[Place, ...], origins_yx: tuple[tuple[int, int], ...], tile_px: int) -> list[I64]:
    """Numbers of the tiles that see each place."""
    y, x = np.array(origins_yx, np.int64).reshape(-1, 2).T
    return [
        np.flatnonzero((y < m.y + m.height) & (m.y < y + tile_px) & (x < m.x + m.width) & (m.x < x + tile_px))
        for m in (place.model for place in places)
    ]
