"""The gate of reviewed boards: what people called good is not called any more, each defect that they know is found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from hisir_edge.archive.judge_again import JudgeAgain
from hisir_edge.arrays import Bool
from hisir_edge.backends import onnxruntime_engine
from hisir_edge.bundle.load import Bundle, bundle_from_manifest
from hisir_edge.bundle.manifest import Manifest
from hisir_edge.bundle.revised import MOST_LISTED, ReviewedModel
from hisir_edge.engine.task import OnStage
from hisir_edge.errors import InputError
from hisir_edge.images import read_rgb
from hisir_edge.inspection.board import BoardInspector
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.learn.data.run import RunRecord
from hisir_edge.learn.review.boards import ReviewedBoard, ReviewedPlace, load_reviewed, picture_of
from hisir_edge.machine.cpu import available_threads
from hisir_edge.records import Evidence, Result
from hisir_edge.revisions.change import expected_calls

MOST_TOLD = 6
LEAST_SHARE = 0.05
MOST_EVIDENCE_BYTES = 1_000_000_000
"""Beyond them what becomes of a board at another strength is not known."""
STEP, STEPS = 1.1, 14
"""Strengths that are tried: the present one times and by powers of it, the nearest first."""


def with_reviewed(
    manifest: Manifest, staged: Path, network: Path, run: Path, record: RunRecord, despite: bool, on_stage: OnStage
) -> Manifest:
    """What became of the run's reviewed boards, for the manifest; as it is where the run has none.

    ``network``: what the gate ran. InputError, which names the places, where one is not as people said; ``despite``:
    they are listed instead.
    """
    boards = load_reviewed(run)
    if not boards and not record.settings.of:
        return manifest
    if not boards:
        raise InputError(
            expected=f"the reviewed boards that {run} was trained with",
            received="none in its folder",
            fix="put its folder reviewed back, or train again",
        )
    on_stage(f"{len(boards)} reviewed boards")
    bundle = bundle_from_manifest(staged, manifest, "")
    inspector = CpuInspector(bundle, onnxruntime_engine(network, bundle.recipe, available_threads()))
    seen = seen_with(inspector, run, boards, record)
    found = told_of(seen)
    on_stage(
        f"  {found.gone} of {found.false_calls} false calls gone, {found.found} of {found.defects} confirmed defects "
        "and escapes found"
    )
    if found.not_so and not despite:
        raise InputError(
            expected="every false call that people rejected gone, and every defect that they confirmed or drew found",
            received="; ".join(found.not_so[:MOST_TOLD]) + ("; ..." if len(found.not_so) > MOST_TOLD else ""),
            fix="train longer (--max-minutes), look whether the reviews are right, or take it so: --despite-reviewed"
            + _another_rate(seen, bundle, on_stage),
        )
    return manifest.model_copy(update={"reviewed": found})


@dataclass(frozen=True, slots=True)
class SeenBoard:
    """A reviewed board as the bundle judges it: of each decided place whether it is as people said, else why.

    ``reason``: of an ERROR. No mask of it is kept: there may be hundreds of boards.
    """

    board: ReviewedBoard
    not_so: tuple[str, ...]
    reason: str
    evidence: Evidence | None


def seen_with(
    inspector: BoardInspector, run: Path, boards: tuple[ReviewedBoard, ...], record: RunRecord
) -> list[SeenBoard]:
    """Inspect the reviewed boards."""
    inspector.keep_evidence()
    out, room = [], MOST_EVIDENCE_BYTES
    for board in boards:
        judged = inspector.inspect(read_rgb(picture_of(run, board), rules=record.rules))
        mask: Bool = np.zeros(record.frame_hw, np.bool_) if judged.mask is None else judged.mask
        reason = judged.reason or "an ERROR" if judged.result is Result.ERROR else ""
        not_so = tuple(_why_not(mask, place, reason) for place in decided(board))
        kept = judged.evidence if room > 0 else None
        room -= 0 if kept is None else kept.scores.nbytes
        out.append(SeenBoard(board, not_so, reason, kept))
    return out


def decided(board: ReviewedBoard) -> list[ReviewedPlace]:
    """The places of a board of which people have said what is there."""
    return [place for place in board.places if place.kind != "open"]


def _why_not(mask: Bool, place: ReviewedPlace, reason: str = "") -> str:
    """In what a place is not as people said, with this mask of the frame (h, w); empty: it is."""
    seen = where(mask, place)
    if reason or seen is None:
        return reason or "lies outside of the frame"
    if place.is_defect:
        return "" if seen.found else "not found"
    return "called" if seen.any else ""


def told_of(boards: list[SeenBoard]) -> ReviewedModel:
    """What became of each place, for the manifest."""
    told = [
        (place, why, f"{one.board.unit or one.board.name}: {place.kind} at {place.box_xywh[0]:.0f}, "
         f"{place.box_xywh[1]:.0f}: {why}"[:200])
        for one in boards
        for place, why in zip(decided(one.board), one.not_so, strict=True)
    ]  # fmt: skip
    defects, others = ([one for one in told if one[0].is_defect == is_defect] for is_defect in (True, False))
    return ReviewedModel(
        boards=len(boards),
        false_calls=len(others), gone=sum(not why for _, why, _ in others),
        defects=len(defects), found=sum(not why for _, why, _ in defects),
        not_so=tuple(text for _, why, text in told if why)[:MOST_LISTED],
    )  # fmt: skip


def _another_rate(boards: list[SeenBoard], bundle: Bundle, on_stage: OnStage) -> str:
    """The rate of false calls at which most places would be as people said, where that is more of them; else empty."""
    on_stage("strengths at which more of them are as people said")
    so, strength = most_as_said(boards, bundle)
    rate = expected_calls(bundle.manifest, strength)
    if strength == 1 or not 0 < rate <= 1:
        return ""
    every = sum(len(one.not_so) for one in boards)
    return f". With --false-calls-per-board {rate:.2g} {so} of these {every} places would be as people said"


def most_as_said(boards: list[SeenBoard], bundle: Bundle) -> tuple[int, float]:
    """How many places are as people said at the best strength, in units of the present one, and that strength.

    1 where none is better, or where what was kept of a map does not tell.
    """
    judge, limits = JudgeAgain(bundle), bundle.thresholds
    best = (sum(not why for one in boards for why in one.not_so), 1.0)
    for step in range(1, STEPS + 1):
        for strength in (STEP**-step, STEP**step):
            if limits.region_peak * strength < 1:
                continue
            try:
                other = judge.with_thresholds(replace(limits, region_peak=limits.region_peak * strength))
            except InputError:  # what was kept does not tell
                continue
            best = max(best, (sum(_as_said(one, other) for one in boards), strength), key=lambda one: one[0])
    return best


def _as_said(one: SeenBoard, judge: JudgeAgain) -> int:
    """How many places of a board are as people said, judged again."""
    if one.evidence is None or one.reason:
        return sum(not why for why in one.not_so)
    mask = judge.found(one.evidence).mask
    return sum(not _why_not(mask, place) for place in decided(one.board))


@dataclass(frozen=True, slots=True)
class Where:
    """What is called in a place: ``any`` of it; ``found``: enough to say that what is there was seen."""

    any: bool
    found: bool


def where(mask: Bool, place: ReviewedPlace) -> Where | None:
    """What of a mask (h, w) lies in a place of the frame; None where none of the place lies in it.

    A defect is found where a twentieth of the place is called, or most of a called region lies in it: a place may be
    drawn generously, and a region that only reaches into it is another one.
    """
    polygon = np.round(np.array(place.polygon)).astype(np.int32)
    (left, top), (right, bottom) = np.clip(polygon.min(0), 0, None), np.minimum(polygon.max(0) + 1, mask.shape[::-1])
    box = (slice(int(top), int(max(bottom, top))), slice(int(left), int(max(right, left))))
    inside = np.zeros(mask[box].shape, np.uint8)
    if inside.size:
        cv2.fillPoly(inside, [polygon - (int(left), int(top))], 1)
    area = int(inside.sum())
    if not area:
        return None
    both = mask[box] & (inside > 0)
    if not both.any():
        return Where(False, False)
    if both.sum() >= LEAST_SHARE * area:
        return Where(True, True)
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    whole, part = np.bincount(labels.ravel(), minlength=count), np.bincount(labels[box][both], minlength=count)
    return Where(True, bool((part[1:] * 2 >= whole[1:])[part[1:] > 0].any()))
