"""Thresholds of one engine from its own maps of good boards, and what it finds with them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain

import numpy as np

from hisir_edge.arrays import F32, F64, I32, U8
from hisir_edge.bundle.load import Bundle
from hisir_edge.bundle.manifest import OpticsModel
from hisir_edge.bundle.thresholds import MassRule, Thresholds
from hisir_edge.engine.acceptance.alone import Alone, places_alone
from hisir_edge.engine.acceptance.maps import Maps, boards_of
from hisir_edge.engine.acceptance.peaks import (
    Peaks,
    logits_of,
    one_a_board,
    peaks_less_noise,
    quiet_logits,
    scores_without,
    shape_of,
)
from hisir_edge.inspection.gain import gain_map, noise_in_logits, sensitivity_map
from hisir_edge.inspection.score import logit_of_score
from hisir_edge.learn.evaluation.evaluate import defects_in, open_regions
from hisir_edge.learn.evaluation.figures import SIZEABLE_PX
from hisir_edge.learn.evaluation.mass import Seen, rule_of_boards, seen_on, strengths
from hisir_edge.learn.evaluation.metrics import PixelTally
from hisir_edge.learn.evaluation.tails import without_highest
from hisir_edge.learn.evaluation.thresholds import (
    AREAS_NETWORK_PX,
    Derived,
    derived_from_peaks,
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
class _Judged:
    """Thresholds, and by held-out board what they come from: the strength of its regions, and quiet peaks.

    Neither holds what one board alone shows.
    """

    derived: Derived
    boards: list[F64]


def derived_from_maps(bundle: Bundle, maps: Maps, false_calls_per_board: float) -> tuple[Derived, U8]:
    """Noise map (all boards) and thresholds (held-out boards) of the engine that made the maps."""
    seen, judged = _seen_and_judged(bundle, maps, false_calls_per_board)
    return judged.derived, seen.noise


def _seen_and_judged(bundle: Bundle, maps: Maps, rate: float) -> tuple[Peaks, _Judged]:
    """Peaks less noise, and what they say, without what one board alone shows.

    What that is comes from the spread of places, which one board moves little: by the highest peaks a bad board would
    quieten the others, with which it is compared.
    """
    seen = peaks_less_noise(bundle, maps, None)
    judged = _judged(bundle, maps, seen, rate, maps.keep_alone)
    seen = peaks_less_noise(bundle, maps, _alone(bundle, maps, seen, judged))
    anew = _judged(bundle, maps, seen, rate, keep_alone=True)
    return seen, replace(anew, derived=replace(anew.derived, alone=judged.derived.alone))


def _alone(bundle: Bundle, maps: Maps, seen: Peaks, judged: _Judged) -> dict[int, list[Alone]]:
    """By board the places that it alone shows, judged as its peaks were: by the noise of the others."""
    hw, limits = shape_of(maps), of_network(judged.derived.thresholds, bundle.recipe.scale)
    zones = tuple(replace(zone, sensitivity=min(zone.sensitivity, 1.0)) for zone in bundle.zones)

    def gain_of(number: int) -> F32:
        return gain_map(hw, bundle.recipe.scale, judged.derived.thresholds, seen.noises[number], zones)

    return places_alone(maps, boards_of(maps), judged.derived.alone, gain_of, limits)


def _judged(bundle: Bundle, maps: Maps, seen: Peaks, rate: float, keep_alone: bool) -> _Judged:
    """By peaks alone, then with what the masses of the regions are worth that those thresholds show."""
    derived = derived_from_peaks(
        seen.board, rate, seen.areas_px, zoned=seen.zoned, others=seen.others, keep_alone=keep_alone
    )
    which = seen.areas_px.index(derived.thresholds.min_area_px)
    judged = _Judged(derived, without_highest([board[which] for board in seen.board], derived.alone[: len(seen.board)]))
    for _ in range(MASS_ROUNDS):
        judged = _with_mass(bundle, maps, seen, rate, judged, keep_alone)
    return judged


def _with_mass(bundle: Bundle, maps: Maps, seen: Peaks, rate: float, before: _Judged, keep_alone: bool) -> _Judged:
    limits, scale = before.derived.thresholds, bundle.recipe.scale
    which = seen.areas_px.index(limits.min_area_px)
    here = replace(limits, min_area_px=AREAS_NETWORK_PX[which])
    h, w = shape_of(maps)
    sensitivity = sensitivity_map((h, w), scale, bundle.zones)
    regions, zoned = [], []
    of = boards_of(maps)
    for number, (path, noise) in enumerate(zip(maps.good, seen.noises, strict=True)):
        scores = scores_without(path, seen.alone.get(of[number], []))
        gain = gain_map((h, w), scale, here, noise, ())
        noisy = noise_in_logits(noise, (h, w))
        quieter = scores * np.minimum(sensitivity, 1)
        regions.append(seen_on(quieter * gain, quiet_logits(path, scores, sensitivity) - noisy, here))
        if seen.zoned is not None and number < maps.held_out:
            magnified = scores * sensitivity
            zoned.append(seen_on(magnified * gain, logits_of(magnified) - noisy, here))
    rule = rule_of_boards(regions, maps.keep_alone)
    if rule is None:
        return before
    boards = of[: maps.held_out]
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
        keep_alone=keep_alone,
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
    by_board = one_a_board(found, boards)
    return [_falling(one[0], board[which]) for one, board in zip(by_board, peaks, strict=True)]


def _falling(regions: F64, peaks: F64) -> F64:
    return np.sort(np.concatenate([regions, peaks[peaks <= 0]]))[::-1]


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
    seen, judged = _seen_and_judged(bundle, maps, false_calls_per_board)
    derived, noise = judged.derived, seen.noise
    scale, found = bundle.recipe.scale, derived.thresholds
    here = of_network(found, scale)
    gain = gain_map(shape_of(maps), scale, found, noise, bundle.zones)
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
        alone=_as_shipped(list(chain(*seen.alone.values())), maps, gain, here),
    )


def _as_shipped(places: list[Alone], maps: Maps, gain: F32, here: Thresholds) -> tuple[Alone, ...]:
    """The places that one board alone shows, as strong as the bundle will find them; the strongest first."""
    of_picture = dict(zip(maps.pictures, maps.good, strict=False))

    @cache
    def regions(picture: str) -> tuple[I32, F64]:
        return open_regions(np.load(of_picture[picture]) * gain, here)

    def strength(place: Alone) -> float:
        if place.picture not in of_picture:
            return place.strength
        labels, tops = regions(place.picture)
        x, y, w, h = place.box_xywh
        return float(tops[np.unique(labels[y : y + h, x : x + w])].max(initial=0.0)) / here.region_peak

    found = [replace(place, strength=strength(place)) for place in places]
    return tuple(sorted(found, key=lambda place: -place.strength))


def of_network(found: Thresholds, scale: float) -> Thresholds:
    """Thresholds for maps, which lie in the network's pixels."""
    mass = None if found.mass is None else replace(found.mass, logits_per_root=found.mass.logits_per_root / scale)
    return replace(found, min_area_px=max(1, round(found.min_area_px * scale**2)), mass=mass)
