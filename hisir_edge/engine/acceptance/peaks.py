"""Peaks of good boards less the noise of their places, as the other boards show it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

from hisir_edge.arrays import F32, F64, U8, Bool
from hisir_edge.bundle.load import Bundle
from hisir_edge.bundle.thresholds import OFF_THE_BOARD, Zone
from hisir_edge.engine.acceptance.alone import Alone
from hisir_edge.engine.acceptance.maps import Maps, boards_of
from hisir_edge.geometry.noise_shape import NOISE_CELL_PX, WIDE_NOISE_CELL_PX, noise_shape
from hisir_edge.images.kept import made_once
from hisir_edge.inspection.gain import inside_zone, noise_in_logits, sensitivity_map
from hisir_edge.inspection.score import logit_of_score
from hisir_edge.learn.evaluation.thresholds import (
    AREAS_NETWORK_PX,
    PEAK_BLOCK_PX,
    block_peaks,
    noise_from_peaks,
    peaks_by_area,
    spread_from_peaks,
)


@dataclass(frozen=True, slots=True)
class Peaks:
    """Per held-out board (not picture) the peaks of each minimum area; again with sensitive zones if there are any.

    ``others``: those of boards that the network has learnt. ``noises``: of each picture's map, the noise of the others.
    ``alone``: by board, what it alone shows, and what therefore is in none of them.
    """

    board: list[list[F64]]
    zoned: list[list[F64]] | None
    others: list[list[F64]]
    areas_px: tuple[int, ...]
    noise: U8
    noises: list[U8]
    alone: dict[int, list[Alone]]


def peaks_less_noise(bundle: Bundle, maps: Maps, known_alone: dict[int, list[Alone]] | None) -> Peaks:
    """The peaks of a run's good boards without what one is known to show alone, which is no noise of its place either.

    None: that is not known yet; noise is then what the spread of places says.
    """
    alone, cell_px = known_alone or {}, WIDE_NOISE_CELL_PX if known_alone is None else NOISE_CELL_PX
    scale, hw = bundle.recipe.scale, shape_of(maps)
    seen, seen_cells = _seen(bundle, hw, PEAK_BLOCK_PX), _seen(bundle, hw, cell_px)
    boards, sensitivity = boards_of(maps), sensitivity_map(hw, scale, bundle.zones)
    tops = _tops_by_board(maps.good, boards, sensitivity, cell_px)

    def noise_of(peaks: list[F64]) -> U8:
        if not peaks:  # photos of one board alone
            return np.zeros(noise_shape(hw, cell_px), np.uint8)
        by_spread = known_alone is None
        return spread_from_peaks(peaks, seen_cells) if by_spread else noise_from_peaks(peaks, seen_cells, len(tops))

    areas_px = tuple(round(area / scale**2) for area in AREAS_NETWORK_PX)
    peaks, zoned, others, noises = [], [], [], []
    for number, path in enumerate(maps.good):
        scores = scores_without(path, alone.get(boards[number], []))
        # the noise of the other boards: a new board has no say in it either
        noise = noise_of(_tops_of_others(tops, alone, boards[number]))
        noises.append(noise)
        noisy = noise_in_logits(noise, hw)
        if number >= maps.held_out:
            others.append(peaks_by_area(quiet_logits(path, scores, sensitivity) - noisy, AREAS_NETWORK_PX, seen))
            continue
        # what zones hide is not to set the threshold of the rest; what they magnify is the engineer's own choice
        peaks.append(peaks_by_area(quiet_logits(path, scores, sensitivity) - noisy, AREAS_NETWORK_PX, seen))
        if (sensitivity > 1).any():
            zoned.append(peaks_by_area(logits_of(scores * sensitivity) - noisy, AREAS_NETWORK_PX, seen))
    held_out = boards[: maps.held_out]
    whole = noise_of(_tops_of_others(tops, alone, None))
    by_board, by_zone = one_a_board(peaks, held_out), one_a_board(zoned, held_out) or None
    return Peaks(by_board, by_zone, others, areas_px, whole, noises, alone)


def scores_without(path: Path, places: list[Alone]) -> F32:
    """The scores of a map (h, w), 0 in these places."""
    scores: F32 = np.load(path)
    for x, y, w, h in (place.box_xywh for place in places):
        scores[y : y + h, x : x + w] = 0
    return scores


def _tops_by_board(paths: tuple[Path, ...], boards: tuple[int, ...], sensitivity: F32, cell_px: int) -> dict[int, F64]:
    """By board its highest peaks in the cells of the noise map; what zones hide is no noise of what lies beside it."""
    found = dict[int, F64]()
    for path, board in zip(paths, boards, strict=True):
        # of the highest scores: a logit rises with its score
        scores = block_peaks(np.load(path) * np.minimum(sensitivity, 1), cell_px)
        tops = logit_of_score(scores).astype(np.float32).astype(np.float64)
        found[board] = np.maximum(found.get(board, tops), tops)
    return found


def _tops_of_others(tops: dict[int, F64], alone: dict[int, list[Alone]], of: int | None) -> list[F64]:
    """Peaks by cell of every board but ``of``: what one alone shows is no higher than what the rest of them show."""
    rest = {board: top for board, top in tops.items() if board != of}
    capped = dict(rest)
    for board, places in alone.items():
        if board not in rest:
            continue
        highest = np.max([top for other, top in rest.items() if other != board], axis=0)
        capped[board] = np.array(rest[board])
        for cells in (_cells_of(place) for place in places):
            capped[board][cells] = np.minimum(rest[board][cells], highest[cells])
    return list(capped.values())


def _cells_of(place: Alone) -> tuple[slice, slice]:
    x, y, w, h = place.box_xywh
    rows = slice(y // NOISE_CELL_PX, (y + h - 1) // NOISE_CELL_PX + 1)
    return rows, slice(x // NOISE_CELL_PX, (x + w - 1) // NOISE_CELL_PX + 1)


def _seen(bundle: Bundle, hw: tuple[int, int], cell_px: int) -> Bool | None:
    """The cells (rows, columns) that show some of the board's area; None: all of them."""
    if bundle.area is None:
        return None
    board = inside_zone(hw, bundle.recipe.scale, Zone(OFF_THE_BOARD, bundle.area, 1.0))
    return np.asarray(block_peaks(board.astype(np.float32), cell_px) > 0)


def one_a_board(peaks: list[list[F64]], boards: tuple[int, ...]) -> list[list[F64]]:
    """Of several pictures of one board, for each minimum area the one with the highest peak: they are one board."""
    worst: dict[int, list[F64]] = {}
    for board, here in zip(boards, peaks, strict=False):
        known = worst.setdefault(board, here)
        worst[board] = [max(a, b, key=lambda found: float(found[0])) for a, b in zip(known, here, strict=True)]
    return list(worst.values())


def shape_of(maps: Maps) -> tuple[int, int]:
    """Height and width of the maps."""
    h, w = np.load(maps.good[0], mmap_mode="r").shape
    return int(h), int(w)


def quiet_logits(path: Path, scores: F32, sensitivity: F32) -> F32:
    """Logits of a map that is in a file, less what zones hide: asked for again in each round."""
    key = ("logits", path, crc32(scores.tobytes()), crc32(sensitivity.tobytes()))
    return made_once(key, lambda: logits_of(scores * np.minimum(sensitivity, 1)))


def logits_of(scores: F32) -> F32:
    """The gate's logits of its scores."""
    return np.asarray(logit_of_score(scores), np.float32)
