"""Accuracy of a bundle on labelled pictures, through the line's own inspector."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, I32, U8, Bool
from hisir_edge.backends import engine_from_bundle
from hisir_edge.bundle.load import load_bundle
from hisir_edge.bundle.thresholds import Thresholds
from hisir_edge.errors import InputError
from hisir_edge.images import Rules, header_of_picture, read_rgb, read_truth
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.regions import strength_of
from hisir_edge.inspection.verdict import error_judgement, fail_closed
from hisir_edge.learn.data.datasets import TestItem, test_items
from hisir_edge.learn.data.layouts import GOOD
from hisir_edge.learn.evaluation.merge_baselines import merge_from_name
from hisir_edge.learn.evaluation.metrics import PixelTally
from hisir_edge.learn.evaluation.shifts import Shift, shifted
from hisir_edge.records import Judgement, Result

JOIN_PX = 13
"""Defective pixels that lie closer than this are one defect."""


@dataclass(frozen=True, slots=True)
class TrueDefect:
    """A ground-truth defect: its longer side, the highest peak of the regions that touch it (0: none), its middle."""

    size_px: int
    peak: float
    centre_yx: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredBoard:
    """One inspected test picture, without its map: what the figures and the report need of it.

    ``number`` is its place in the data set. ``score`` is None for an ERROR; ``false_peaks`` are the peaks of
    regions that touch no truth, one without end for a good board that could not be judged: it stops the line.
    """

    number: int

    item: TestItem
    result: Result
    reason: str
    score: float | None
    looked_share: float
    defects: tuple[TrueDefect, ...]
    false_peaks: tuple[float, ...]
    pixels: PixelTally = field(repr=False)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything seen, the thresholds it was judged with, and how it was seen."""

    seen: list[ScoredBoard]
    thresholds: Thresholds
    inspector: CpuInspector
    shifts: tuple[Shift, ...] = ()

    def pixels(self, kind: str | None = None) -> PixelTally:
        """Pixel tally of good pictures and those of one class, or of all."""
        total = PixelTally()
        for one in self.seen:
            if kind is None or one.item.kind in (GOOD, kind):
                total = total.joined(one.pixels)
        return total


def evaluate(
    bundle_folder: Path,
    data: Path,
    threads: int = 0,
    on_done: Callable[[int, int], None] = lambda d, t: None,
    shifts: tuple[Shift, ...] = (),
    merge: str = "rops",
    recursive: bool = False,
    first_look: bool = False,
) -> Evaluation:
    """Inspect every test picture of a data set, under ``shifts`` where asked for; ``recursive``: folders below, too.

    ``first_look``: as a line does that leaves out what the bundle's first look waves through; there the map is 0.
    InputError where the bundle has none.
    """
    bundle = load_bundle(bundle_folder)
    inspector = CpuInspector(bundle, engine_from_bundle(bundle, threads), merge_from_name(merge))
    inspector.watch_optics()
    if first_look and not inspector.look_first():
        raise InputError(
            expected="a bundle with a first look, and --merge rops",
            received=f"{bundle_folder} {'without one' if bundle.first_look is None else f'and --merge {merge}'}",
            fix="build it with build-engine --cascade, or leave --first-look out",
        )
    return evaluate_inspector(inspector, data, on_done, shifts, recursive)


def evaluate_inspector(
    inspector: CpuInspector,
    data: Path,
    on_done: Callable[[int, int], None] = lambda d, t: None,
    shifts: tuple[Shift, ...] = (),
    recursive: bool = False,
) -> Evaluation:
    """As ``evaluate``, with an inspector of any engine."""
    items = test_items(data, recursive)
    for item in items:
        _check_mask(item, inspector.bundle.recipe.frame_hw)
    thresholds = inspector.bundle.thresholds
    seen = []
    for number, item in enumerate(items):
        judgement, scores, truth = _inspected(inspector, item, number, shifts)
        seen.append(_seen(number, item, judgement, scores, truth, thresholds))
        on_done(number + 1, len(items))
    return Evaluation(seen, thresholds, inspector, shifts)


def _check_mask(item: TestItem, wanted_hw: tuple[int, int]) -> None:
    """InputError for a mask that cannot be meant: before the work, not in the middle of it."""
    sizes = [wanted_hw]
    with suppress(InputError):  # a picture that cannot be read is an ERROR later on
        sizes.insert(0, header_of_picture(item.image).upright_hw)
    _truth(item, *sizes)


def _inspected(
    inspector: CpuInspector, item: TestItem, number: int, shifts: tuple[Shift, ...]
) -> tuple[Judgement, F32 | None, Bool]:
    """The line's judgement of a picture, its map and its truth.

    A picture that cannot be read, or has another size than bundle and mask have, is an ERROR there.
    """
    wanted_hw = inspector.bundle.recipe.frame_hw
    rules = inspector.bundle.recipe.rules
    frame: U8 | Judgement = fail_closed(partial(read_rgb, item.image, None, rules), error_judgement)
    if isinstance(frame, Judgement):
        return frame, None, _truth(item, wanted_hw)
    truth = _truth(item, frame.shape[:2], wanted_hw)
    if truth.shape != frame.shape[:2]:
        return inspector.inspect(frame), None, truth
    frame, truth = _shifted(frame, truth, number, shifts)
    return *inspector.inspect_with_map(frame), truth


def shifted_frame_and_truth(item: TestItem, number: int, shifts: tuple[Shift, ...], rules: Rules) -> tuple[U8, Bool]:
    """A test picture (h, w, 3) and its truth (h, w) under ``shifts``; ``number`` fixes what is random in them."""
    frame = read_rgb(item.image, rules=rules)
    return _shifted(frame, _truth(item, frame.shape[:2]), number, shifts)


def _shifted(frame: U8, truth: Bool, number: int, shifts: tuple[Shift, ...]) -> tuple[U8, Bool]:
    for shift in shifts:
        frame, truth = shifted(shift, frame, truth, number)
    return frame, truth


def _truth(item: TestItem, *sizes_hw: tuple[int, ...]) -> Bool:
    """Where a picture is defective (h, w); InputError for a mask of none of these sizes, or without a defect."""
    if item.mask is None:
        return np.zeros(sizes_hw[0], np.bool_)
    truth = read_truth(item.mask)
    if truth.shape not in sizes_hw:
        h, w = sizes_hw[0]
        raise InputError(
            expected=f"a mask of {w}x{h}, as {item.image}",
            received=f"{item.mask} of {truth.shape[1]}x{truth.shape[0]}",
            fix="replace whichever of the two is wrong",
        )
    if not truth.any():
        raise InputError(
            expected=f"a mask with defective pixels for {item.image}",
            received=f"{item.mask} all black",
            fix="replace the mask, or move the picture to the good ones",
        )
    return truth


def _seen(
    number: int, item: TestItem, judgement: Judgement, scores: F32 | None, truth: Bool, thresholds: Thresholds
) -> ScoredBoard:
    tally = PixelTally()
    if scores is None:
        return _not_judged(number, item, judgement, truth)
    tally.add(scores, truth)
    labels, peaks = open_regions(scores, thresholds)
    hit = np.zeros(len(peaks), np.bool_)
    defects = []
    for inside, size, centre in defects_in(truth):
        touching = np.unique(labels[inside])
        hit[touching] = True
        defects.append(TrueDefect(size, float(peaks[touching].max(initial=0.0)), centre))
    false_peaks = tuple(sorted((float(p) for p in peaks[~hit] if p > 0), reverse=True))
    return ScoredBoard(
        number=number,
        item=item,
        result=judgement.result,
        reason=judgement.reason,
        score=judgement.score,
        looked_share=judgement.looked_share,
        defects=tuple(defects),
        false_peaks=false_peaks,
        pixels=tally,
    )


def _not_judged(number: int, item: TestItem, judgement: Judgement, truth: Bool) -> ScoredBoard:
    """An ERROR: its defects are missed in every figure, and on a good board it counts as a false call."""
    tally = PixelTally()
    tally.add(np.zeros(truth.shape, np.float32), truth)
    tally.normal[:] = 0  # normal pixels that nobody looked at are no success
    missed = tuple(TrueDefect(size, 0.0, centre) for _, size, centre in defects_in(truth))
    false_peaks = (float("inf"),) if item.kind == GOOD else ()
    return ScoredBoard(
        number=number,
        item=item,
        result=judgement.result,
        reason=judgement.reason,
        score=None,
        looked_share=1.0,
        defects=missed,
        false_peaks=false_peaks,
        pixels=tally,
    )


def open_regions(scores: F32, thresholds: Thresholds) -> tuple[I32, F64]:
    """Labels (h, w) of all regions over the pixel threshold, and how strong each is; 0: too small, and the ground."""
    over = (scores >= 1.0).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(over, connectivity=8)
    peaks = np.zeros(count)
    for label in range(1, count):
        x, y, w, h, area = (int(v) for v in stats[label])
        if area >= thresholds.min_area_px:
            inside = labels[y : y + h, x : x + w] == label
            peaks[label] = strength_of(scores[y : y + h, x : x + w][inside], thresholds)
    return np.asarray(labels, np.int32), peaks


def defects_in(truth: Bool) -> list[tuple[tuple[Any, ...], int, tuple[int, int]]]:
    """Ground-truth defects as (pixel indices, longer side, middle y, x); fragments within 12 px are one defect."""
    joined = cv2.dilate(truth.astype(np.uint8), np.ones((JOIN_PX, JOIN_PX), np.uint8))
    count, labels = cv2.connectedComponents(joined)
    out = []
    for label in range(1, count):
        ys, xs = np.nonzero((labels == label) & truth)
        if len(ys):  # not where a shift moved all of it out of the picture
            out.append(((ys, xs), int(max(np.ptp(ys), np.ptp(xs))) + 1, (int(np.median(ys)), int(np.median(xs)))))
    return out
