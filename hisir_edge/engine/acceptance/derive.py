"""Thresholds of one engine from its own maps of good boards, and what it finds with them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from zlib import crc32

import numpy as np

from hisir_edge.arrays import F32, F64, U8, Bool
from hisir_edge.bundle.load import Bundle
from hisir_edge.bundle.manifest import OpticsModel
from hisir_edge.bundle.thresholds import OFF_THE_BOARD, MassRule, Thresholds, Zone
from hisir_edge.engine.acceptance.alone import Alone, places_alone
from hisir_edge.engine.acceptance.maps import Maps, boards_of
from hisir_edge.images.kept import made_once
from hisir_edge.inspection.gain import gain_map, inside_zone, noise_in_logits, sensitivity_map
from hisir_edge.inspection.score import logit_of_score
from hisir_edge.learn.evaluation.evaluate import defects_in, open_regions
from hisir_edge.learn.evaluation.figures import SIZEABLE_PX
from hisir_edge.learn.evaluation.mass import Seen, rule_of_boards, seen_on, strengths
from hisir_edge.learn.evaluation.metrics import PixelTally
from hisir_edge.learn.evaluation.tails import without_highest
from hisir_edge.learn.evaluation.thresholds import (
    AREAS_NETWORK_PX,
    Derived,
    block_peaks,
    derived_from_peaks,
    noise_from_peaks,
    peaks_by_area,
)

MOST_FPR = 0.3
NO_REGION = -99.0
MASS_ROUNDS = 2
"""Where a board is noisy, a region's extent depends on the threshold, which depends on the regions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """An engine's results on the boards at its own thresholds.

    ``auroc``, ``aupro``: of pixels of the boards with planted defects. ``peaks``: of each planted defect of 6 px or
    more (longer side), the highest region peak that touches it, in units of the region threshold: 1 and more is found.
    ``marks``: of the same ones the highest score in them in that unit, whether a region comes of it or not; ``kinds``:
    the number of their class.
    ``false_regions``: regions called on the held-out good boards, each half at the other half's thresholds.
    ``alone``: what one board alone shows, the strongest first. ``optics``: how the good boards were taken.
    """

    derived: Derived
    noise: U8 = field(repr=False)
    auroc: float
    aupro: float
    peaks: tuple[float, ...]
    marks: tuple[float, ...]
    false_regions: int
    kinds: tuple[int, ...] = ()
    alone: tuple[Alone, ...] = ()
    optics: OpticsModel | None = None


@dataclass(frozen=True, slots=True)
class _Peaks:
    """Per held-out board (not picture) the peaks of each minimum area; again with sensitive zones if there are any.

    ``others``: those of boards that the network has learnt. ``noises``: of each picture's map, the noise of the others.
    """

    board: list[list[F64]]
    zoned: list[list[F64]] | None
    others: list[list[F64]]
    areas_px: tuple[int, ...]
    noise: U8
    noises: list[U8]


@dataclass(frozen=True, slots=True)
class _Judged:
    """Thresholds, and by held-out board what they come from: the strength of its regions, and quiet peaks.

    Neither holds what one board alone shows.
    """

    derived: Derived
    boards: list[F64]


def derived_from_maps(bundle: Bundle, maps: Maps, false_calls_per_board: float) -> tuple[Derived, U8]:
    """Noise map (all boards) and thresholds (held-out boards) of the engine that made the maps."""
    seen = _peaks_of(bundle, maps)
    return _judged(bundle, maps, seen, false_calls_per_board).derived, seen.noise


def _judged(bundle: Bundle, maps: Maps, seen: _Peaks, rate: float) -> _Judged:
    """By peaks alone, then with what the masses of the regions are worth that those thresholds show."""
    derived = derived_from_peaks(
        seen.board, rate, seen.areas_px, zoned=seen.zoned, others=seen.others, keep_alone=maps.keep_alone
    )
    which = seen.areas_px.index(derived.thresholds.min_area_px)
    judged = _Judged(derived, without_highest([board[which] for board in seen.board], derived.alone[: len(seen.board)]))
    for _ in range(MASS_ROUNDS):
        judged = _with_mass(bundle, maps, seen, rate, judged)
    return judged


def _with_mass(bundle: Bundle, maps: Maps, seen: _Peaks, rate: float, before: _Judged) -> _Judged:
    limits, scale = before.derived.thresholds, bundle.recipe.scale
    which = seen.areas_px.index(limits.min_area_px)
    here = replace(limits, min_area_px=AREAS_NETWORK_PX[which])
    h, w = np.load(maps.good[0], mmap_mode="r").shape
    sensitivity = sensitivity_map((h, w), scale, bundle.zones)
    regions, zoned = [], []
    for number, (path, noise) in enumerate(zip(maps.good, seen.noises, strict=True)):
        scores, gain = np.load(path), gain_map((h, w), scale, here, noise, ())
        noisy = noise_in_logits(noise, (h, w))
        quieter = scores * np.minimum(sensitivity, 1)
        regions.append(seen_on(quieter * gain, _quiet_logits(path, scores, sensitivity) - noisy, here))
        if seen.zoned is not None and number < maps.held_out:
            magnified = scores * sensitivity
            zoned.append(seen_on(magnified * gain, _logits(magnified) - noisy, here))
    rule = rule_of_boards(regions, maps.keep_alone)
    if rule is None:
        return before
    boards = boards_of(maps)[: maps.held_out]
    held_out = _strongest(regions[: maps.held_out], rule, boards, seen.board, which)
    derived = derived_from_peaks(
        [[one] for one in held_out],
        rate,
        (limits.min_area_px,),
        zoned=None if seen.zoned is None else [[one] for one in _strongest(zoned, rule, boards, seen.zoned, which)],
        others=[
            [_falling(strengths(one, rule), board[which])]
            for one, board in zip(regions[maps.held_out :], seen.others, strict=True)
        ],
        keep_alone=maps.keep_alone,
    )
    in_frame = MassRule(rule.logits_per_root * scale, rule.logits_at_none)
    found = replace(derived, thresholds=replace(derived.thresholds, mass=in_frame))
    return _Judged(found, without_highest(held_out, derived.alone[: len(held_out)]))


def _strongest(
    pictures: list[Seen], rule: MassRule, boards: tuple[int, ...], peaks: list[list[F64]], which: int
) -> list[F64]:
    """By board the strength of its regions on its strongest picture, and its quiet peaks."""
    # a picture without a region has none that is strong
    found = [[np.append(np.sort(strengths(one, rule))[::-1], NO_REGION)] for one in pictures]
    by_board = _one_a_board(found, boards)
    return [_falling(one[0], board[which]) for one, board in zip(by_board, peaks, strict=True)]


def _falling(regions: F64, peaks: F64) -> F64:
    return np.sort(np.concatenate([regions, peaks[peaks <= 0]]))[::-1]


def _peaks_of(bundle: Bundle, maps: Maps) -> _Peaks:
    scale = bundle.recipe.scale
    hw = np.load(maps.good[0], mmap_mode="r").shape
    seen = _seen_cells(bundle, (hw[0], hw[1]))
    # of the highest scores: a logit rises with its score
    tops = [logit_of_score(block_peaks(np.load(path))).astype(np.float32).astype(np.float64) for path in maps.good]
    boards = boards_of(maps)
    areas_px = tuple(round(area / scale**2) for area in AREAS_NETWORK_PX)
    sensitivity = sensitivity_map(hw, scale, bundle.zones)
    peaks, zoned, others, noises = [], [], [], []
    for number, path in enumerate(maps.good):
        scores = np.load(path)
        # the noise of the other boards: a new board has no say in it either
        noise = noise_from_peaks([one for one, of in zip(tops, boards, strict=True) if of != boards[number]], seen)
        noises.append(noise)
        noisy = noise_in_logits(noise, hw)
        if number >= maps.held_out:
            others.append(peaks_by_area(_quiet_logits(path, scores, sensitivity) - noisy, AREAS_NETWORK_PX, seen))
            continue
        # what zones hide is not to set the threshold of the rest; what they magnify is the engineer's own choice
        peaks.append(peaks_by_area(_quiet_logits(path, scores, sensitivity) - noisy, AREAS_NETWORK_PX, seen))
        if (sensitivity > 1).any():
            zoned.append(peaks_by_area(_logits(scores * sensitivity) - noisy, AREAS_NETWORK_PX, seen))
    held_out = boards[: maps.held_out]
    whole = noise_from_peaks(tops, seen)
    return _Peaks(_one_a_board(peaks, held_out), _one_a_board(zoned, held_out) or None, others, areas_px, whole, noises)


def _seen_cells(bundle: Bundle, hw: tuple[int, int]) -> Bool | None:
    """The noise cells (rows, columns) that show some of the board's area; None: all of them."""
    if bundle.area is None:
        return None
    board = inside_zone(hw, bundle.recipe.scale, Zone(OFF_THE_BOARD, bundle.area, 1.0))
    return np.asarray(block_peaks(board.astype(np.float32)) > 0)


def _one_a_board(peaks: list[list[F64]], boards: tuple[int, ...]) -> list[list[F64]]:
    """Of several pictures of one board, for each minimum area the one with the highest peak: they are one board."""
    worst: dict[int, list[F64]] = {}
    for board, here in zip(boards, peaks, strict=False):
        known = worst.setdefault(board, here)
        worst[board] = [max(a, b, key=lambda found: float(found[0])) for a, b in zip(known, here, strict=True)]
    return list(worst.values())


def _false_regions(judged: _Judged, rate: float, keep_alone: bool) -> int:
    """Regions called on held-out boards at thresholds from the other half of them, which has not seen them.

    At its own thresholds a board has none, if the rate wanted is small: they are never below the highest peak seen.
    """
    halves = [list(range(start, len(judged.boards), 2)) for start in (0, 1)]
    if not all(halves):
        return 0
    count = 0
    for ours, theirs in (halves, halves[::-1]):
        their_boards = [[judged.boards[i]] for i in theirs]
        found = derived_from_peaks(their_boards, rate, (1,), keep_alone=keep_alone).thresholds
        logit = float(logit_of_score(np.array([found.pixel * found.region_peak]))[0])
        count += sum(int((judged.boards[i] >= logit).sum()) for i in ours)
    return count


def reading_from_maps(bundle: Bundle, maps: Maps, false_calls_per_board: float) -> Reading:
    """Derive the thresholds and read the maps with them."""
    seen = _peaks_of(bundle, maps)
    judged = _judged(bundle, maps, seen, false_calls_per_board)
    derived, noise = judged.derived, seen.noise
    scale, found = bundle.recipe.scale, derived.thresholds
    here = of_network(found, scale)
    gain = gain_map(np.load(maps.good[0], mmap_mode="r").shape, scale, found, noise, bundle.zones)
    tally, peaks, marks, kinds = PixelTally(), [], [], []
    for path, where in zip(maps.planted, maps.truth, strict=True):
        scores, classes = np.load(path), np.load(where)
        truth = (classes > 0) & (gain > 0)  # what a zone ignores is not to be found
        tally.add(scores, truth)
        calibrated = scores * gain
        labels, tops = open_regions(calibrated, here)
        for inside, size, _ in defects_in(truth):
            if size >= SIZEABLE_PX:
                kinds.append(int(np.bincount(classes[inside]).argmax()))
                peaks.append(float(tops[np.unique(labels[inside])].max(initial=0.0)) / here.region_peak)
                marks.append(float(calibrated[inside].max()) / here.region_peak)
    return Reading(
        derived=derived,
        noise=noise,
        auroc=tally.auroc() or 0.0,
        aupro=tally.aupro(MOST_FPR) or 0.0,
        peaks=tuple(peaks),
        marks=tuple(marks),
        false_regions=_false_regions(judged, false_calls_per_board, maps.keep_alone),
        kinds=tuple(kinds),
        optics=maps.optics,
        alone=places_alone(maps, boards_of(maps), derived.alone, gain, here),
    )


def of_network(found: Thresholds, scale: float) -> Thresholds:
    """Thresholds for maps, which lie in the network's pixels."""
    mass = None if found.mass is None else replace(found.mass, logits_per_root=found.mass.logits_per_root / scale)
    return replace(found, min_area_px=max(1, round(found.min_area_px * scale**2)), mass=mass)


def _quiet_logits(path: Path, scores: F32, sensitivity: F32) -> F32:
    """Logits of a map that is in a file, less what zones hide: asked for again in each round."""
    key = ("logits", path, crc32(scores.tobytes()), crc32(sensitivity.tobytes()))
    return made_once(key, lambda: _logits(scores * np.minimum(sensitivity, 1)))


def _logits(scores: F32) -> F32:
    return np.asarray(logit_of_score(scores), np.float32)
