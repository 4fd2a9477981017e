"""The gate of reviewed boards: what people called good is not called any more, each defect that they know is found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hisir_edge.arrays import Bool
from hisir_edge.backends import onnxruntime_engine
from hisir_edge.bundle.load import bundle_from_manifest
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
from hisir_edge.records import Result

MOST_TOLD = 6
LEAST_SHARE = 0.05


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
    found = reviewed_with(inspector, run, boards, record)
    on_stage(
        f"  {found.gone} of {found.false_calls} false calls gone, {found.found} of {found.defects} confirmed defects "
        "and escapes found"
    )
    if found.not_so and not despite:
        raise InputError(
            expected="every false call that people rejected gone, and every defect that they confirmed or drew found",
            received="; ".join(found.not_so[:MOST_TOLD]) + ("; ..." if len(found.not_so) > MOST_TOLD else ""),
            fix="train longer (--max-minutes), look whether the reviews are right, or take it so: --despite-reviewed",
        )
    return manifest.model_copy(update={"reviewed": found})


def reviewed_with(
    inspector: BoardInspector, run: Path, boards: tuple[ReviewedBoard, ...], record: RunRecord
) -> ReviewedModel:
    """Inspect the reviewed boards, and compare with what people said."""
    false_calls = gone = defects = found = 0
    not_so: list[str] = []
    for board in boards:
        judged = inspector.inspect(read_rgb(picture_of(run, board), rules=record.rules))
        mask: Bool = np.zeros(record.frame_hw, np.bool_) if judged.mask is None else judged.mask
        for place in board.places:
            if place.kind == "open":
                continue
            seen = where(mask, place)
            called = judged.result is Result.FAIL and seen is not None and (seen.found if place.is_defect else seen.any)
            as_said = judged.result is not Result.ERROR and seen is not None and called == place.is_defect
            false_calls, gone = false_calls + (not place.is_defect), gone + (not place.is_defect and as_said)
            defects, found = defects + place.is_defect, found + (place.is_defect and as_said)
            if not as_said:
                word = "called" if called else "not found" if seen is not None else "lies outside of the frame"
                word = judged.reason if judged.result is Result.ERROR else word
                x, y, _, _ = place.box_xywh
                not_so.append(f"{board.unit or board.name}: {place.kind} at {x:.0f}, {y:.0f}: {word}"[:200])
    return ReviewedModel(
        boards=len(boards), false_calls=false_calls, gone=gone, defects=defects, found=found,
        not_so=tuple(not_so[:MOST_LISTED]),
    )  # fmt: skip


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
    inside = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(inside, [np.round(np.array(place.polygon)).astype(np.int32)], 1)
    area = int(inside.sum())
    if not area:
        return None
    both = mask & (inside > 0)
    if not both.any():
        return Where(False, False)
    if both.sum() >= LEAST_SHARE * area:
        return Where(True, True)
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    whole, part = np.bincount(labels.ravel(), minlength=count), np.bincount(labels[both], minlength=count)
    return Where(True, bool((part[1:] * 2 >= whole[1:])[part[1:] > 0].any()))
