"""The acceptance gate: whether an engine still inspects as the float32 network did.

Both are run over the same held-out boards, good and with planted defects, each with thresholds derived for
itself (decision 0012).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from hisir_edge.bundle.metrics import MOST_LOST_SHARE, MetricsModel
from hisir_edge.corruption.plant import NAMES, words_of_classes
from hisir_edge.engine.acceptance.asked import NOTHING, Asked
from hisir_edge.engine.acceptance.derive import Reading
from hisir_edge.engine.acceptance.maps import Maps
from hisir_edge.errors import InputError

CLEAR = 1.5
"""A planted defect that float32 finds with this many times the region threshold must be found by every engine."""
SEEN, ENOUGH = 0.5, 3.0
"""Planted defects with this many times the region threshold in float32 are compared; what is above is enough."""
LEAST_STANDING = 0.8
MORE_FALSE_REGIONS = 1
"""False regions beyond float32's that chance explains, and one more for each ten boards."""
COMPARED_MAPS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """An engine against float32. Map errors are of raw scores, ``p999`` on the worst board, good or planted.

    ``planted_by_class``, ``recall_by_class``: the planted defects of each class and the share that this engine finds,
    ``planted_strengths`` in units of the region threshold;
    ``least_planted_recall``: the share of all that a bundle must find, ``least_by_difference``: or what a golden-image
    difference finds, ``difference_recall`` where that was asked. ``standing``: how far planted defects stand out
    in the engine's maps in units of its own region threshold, against float32: the geometric mean over those that
    float32 sees, 1 = alike; ``seen``: how many these are.
    """

    map_error_max: float
    map_error_p999: float
    pixel_auroc_fp32: float
    pixel_auroc: float
    aupro_fp32: float
    aupro: float
    planted: int
    recall_fp32: float
    recall: float
    clear: int
    clear_missed: int
    seen: int
    standing: float
    held_out_boards: int
    false_regions_fp32: int
    false_regions: int
    max_drop: float
    planted_by_class: dict[str, int] = field(default_factory=dict)
    recall_by_class: dict[str, float] = field(default_factory=dict)
    planted_strengths: dict[str, tuple[float, ...]] = field(default_factory=dict)
    least_planted_recall: float = 0.0
    least_by_difference: bool = False
    difference_recall: float | None = None
    usual_planted_recall: float = 0.0

    def refusals(self) -> list[str]:
        """The figures that are over their limits; empty: the engine passes."""
        out = []
        if not self.planted:
            out.append("no planted defect of 6 px or more to compare on (boards too plain or too few)")
        elif not self.seen:
            out.append(
                f"float32 itself sees none of {self.planted} planted defects: nothing to compare on; train longer"
            )
        if not np.isfinite([self.map_error_max, self.pixel_auroc, self.aupro]).all():
            out.append("scores that are no numbers")
        if not self.aupro_fp32 - self.aupro <= self.max_drop:
            out.append(f"AUPRO drops by {self.aupro_fp32 - self.aupro:.4f} (at most {self.max_drop:g})")
        if not self.pixel_auroc_fp32 - self.pixel_auroc <= self.max_drop:
            out.append(
                f"pixel AUROC drops by {self.pixel_auroc_fp32 - self.pixel_auroc:.4f} (at most {self.max_drop:g})"
            )
        if self.clear_missed:
            out.append(f"{self.clear_missed} of {self.clear} planted defects that float32 clearly finds are missed")
        if self.recall < self.least_planted_recall:
            least = f"at least {percent(self.least_planted_recall)}{words_of_difference(self)}"
            out.append(f"{percent(self.recall)} of the planted defects found ({least})")
        lost = round((self.recall_fp32 - self.recall) * self.planted)
        if lost > self.most_lost:
            out.append(f"{lost} more planted defects missed than by float32 (at most {self.most_lost})")
        if self.seen and not self.standing >= LEAST_STANDING:
            out.append(f"planted defects stand out {self.standing:.2f} times as far (at least {LEAST_STANDING:g})")
        if self.false_regions > self.false_regions_fp32 + MORE_FALSE_REGIONS + self.held_out_boards // 10:
            out.append(f"{self.false_regions} false regions on good boards, float32 has {self.false_regions_fp32}")
        return out

    @property
    def most_lost(self) -> int:
        """Planted defects that an engine may miss beyond those that float32 misses."""
        return max(1, int(MOST_LOST_SHARE * self.planted))

    def as_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return asdict(self)


def drift_between(
    reference: Maps,
    reference_reading: Reading,
    maps: Maps,
    reading: Reading,
    max_drop: float,
    asked: Asked = NOTHING,
) -> Drift:
    """Compare two engines' maps and readings of the same boards."""
    worst, p999 = 0.0, 0.0
    good, planted = zip(maps.good, reference.good, strict=True), zip(maps.planted, reference.planted, strict=True)
    for ours, theirs in [*list(good)[:COMPARED_MAPS], *list(planted)[:COMPARED_MAPS]]:
        error = np.abs(np.load(ours) - np.load(theirs))
        # NumPy's maximum keeps what is no number, Python's drops it
        worst, p999 = float(np.maximum(worst, error.max())), float(np.maximum(p999, np.quantile(error, 0.999)))
    clear = [i for i, peak in enumerate(reference_reading.peaks) if peak >= CLEAR]
    pairs = [(a, b) for a, b in zip(reference_reading.marks, reading.marks, strict=True) if a >= SEEN]
    drift = Drift(
        map_error_max=worst,
        map_error_p999=p999,
        pixel_auroc_fp32=reference_reading.auroc,
        pixel_auroc=reading.auroc,
        aupro_fp32=reference_reading.aupro,
        aupro=reading.aupro,
        planted=len(reading.peaks),
        recall_fp32=recall_of(reference_reading),
        recall=recall_of(reading),
        clear=len(clear),
        clear_missed=sum(reading.peaks[i] < 1 for i in clear),
        seen=len(pairs),
        standing=_standing(pairs),
        held_out_boards=maps.held_out,
        false_regions_fp32=reference_reading.false_regions,
        false_regions=reading.false_regions,
        max_drop=max_drop,
        planted_by_class={name: len(peaks) for name, peaks in by_class(reading).items()},
        recall_by_class={name: float(np.mean([p >= 1 for p in peaks])) for name, peaks in by_class(reading).items()},
        planted_strengths=strengths_by_class(reading),
    )
    return with_asked(drift, asked)


def with_asked(drift: Drift, asked: Asked) -> Drift:
    """A comparison that says what share of the planted defects was asked for."""
    return replace(
        drift,
        least_planted_recall=asked.share,
        least_by_difference=asked.or_as_a_difference,
        difference_recall=asked.difference,
        usual_planted_recall=asked.usual,
    )


def with_final(drift: Drift, reading: Reading, boards: int) -> Drift:
    """A comparison with what the engine finds at the thresholds that it ships with, which come from more boards."""
    classes = by_class(reading)
    return replace(
        drift,
        recall=recall_of(reading),
        recall_by_class={name: float(np.mean([p >= 1 for p in peaks])) for name, peaks in classes.items()},
        planted_strengths=strengths_by_class(reading),
        held_out_boards=boards,
        false_regions=reading.false_regions,
    )


def by_class(reading: Reading) -> dict[str, list[float]]:
    """The peaks of the planted defects of each class that there are any of, classes in their usual order."""
    found: dict[str, list[float]] = {}
    for number, peak in sorted(zip(reading.kinds, reading.peaks, strict=False)):
        found.setdefault(NAMES[number - 1], []).append(peak)
    return found


def strengths_by_class(reading: Reading) -> dict[str, tuple[float, ...]]:
    """``by_class``, rounded down so that what is not found stays so."""
    return {name: tuple(float(p) for p in np.floor(np.array(of) * 1e3) / 1e3) for name, of in by_class(reading).items()}


def _standing(pairs: list[tuple[float, float]]) -> float:
    """Geometric mean of engine / float32, both up to ``ENOUGH``: a score that saturates far above counts as whole."""
    if not pairs:
        return 0.0
    ratios = [max(min(ours, ENOUGH), 1e-3) / min(theirs, ENOUGH) for theirs, ours in pairs]
    return float(np.exp(np.mean(np.log(ratios))))


def recall_of(reading: Reading) -> float:
    """The share of the planted defects that are found."""
    return float(np.mean([peak >= 1 for peak in reading.peaks])) if reading.peaks else 0.0


LOWERS = "--least-planted-recall lowers the limit, and defects of these kinds will pass"
TRAIN_MORE = "train, or repeat the train command with more --max-minutes or --steps, or take more good boards"


def check_recall(drift: Drift, whose: str, fix: str = TRAIN_MORE) -> None:
    """InputError where a network, ``whose`` in words, finds too few of the planted defects."""
    if drift.recall >= drift.least_planted_recall:
        return
    if not drift.planted:
        raise InputError(
            expected="planted defects of 6 px or more to check the network with",
            received="none: boards too plain or too few, or zones that ignore nearly everything",
            fix="take more good boards, or lower --least-planted-recall to 0",
        )
    found = words_of_classes(drift.planted_by_class, drift.recall_by_class)
    beside = words_of_difference(drift)
    raise InputError(
        expected=f"at least {percent(drift.least_planted_recall)} of the planted defects to be found",
        received=f"{percent(drift.recall)} of {drift.planted} ({found}) by {whose}{beside}",
        fix=f"{fix}; {LOWERS}",
    )


def percent(share: float) -> str:
    """``80%``; ``5.9%`` where a planted defect more or less shows in the tenths."""
    return f"{share:.1%}" if 0 < share < 0.2 else f"{share:.0%}"


def words_of_difference(figures: Drift | MetricsModel) -> str:
    """``; a golden-image difference finds 5%``, or nothing where that was not measured."""
    found = figures.difference_recall
    return "" if found is None else f"; a golden-image difference finds {percent(found)}"


def table_of_drift(drift: Drift) -> str:
    """The comparison as a text table."""
    rows = [
        ("", "float32", "engine", "limit"),
        (
            "pixel AUROC, planted defects",
            f"{drift.pixel_auroc_fp32:.4f}",
            f"{drift.pixel_auroc:.4f}",
            f"-{drift.max_drop:g}",
        ),
        ("AUPRO@0.3, planted defects", f"{drift.aupro_fp32:.4f}", f"{drift.aupro:.4f}", f"-{drift.max_drop:g}"),
        (
            f"recall of {drift.planted} planted defects",
            f"{drift.recall_fp32:.3f}",
            f"{drift.recall:.3f}",
            f"-{drift.most_lost / max(drift.planted, 1):.3f}",
        ),
        *_class_rows(drift),
        ("  of them clearly found", f"{drift.clear}", f"{drift.clear - drift.clear_missed}", "all"),
        (f"how far {drift.seen} of them stand out", "1", f"{drift.standing:.3f}", f"{LEAST_STANDING:g}"),
        _false_regions_row(drift),
        ("map error, max", "", f"{drift.map_error_max:.4g}", ""),
        ("map error, p99.9", "", f"{drift.map_error_p999:.4g}", ""),
    ]
    return "\n".join(f"  {a:38s} {b:>9s} {c:>9s} {d:>8s}".rstrip() for a, b, c, d in rows)


def _class_rows(drift: Drift) -> list[tuple[str, str, str, str]]:
    return [
        (f"  {name}, {count} planted", "", f"{drift.recall_by_class[name]:.3f}", "")
        for name, count in drift.planted_by_class.items()
    ]


def _false_regions_row(drift: Drift) -> tuple[str, str, str, str]:
    if drift.held_out_boards < 2:
        return "false regions (one good board: none)", "", "", "unchecked"
    counts = f"{drift.false_regions_fp32}", f"{drift.false_regions}"
    limit = f"+{MORE_FALSE_REGIONS + drift.held_out_boards // 10}"
    return f"false regions, halves of {drift.held_out_boards} good boards", *counts, limit
