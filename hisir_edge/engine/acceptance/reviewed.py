"""The gate of reviewed boards: what people called good is not called any more, each defect that they know is found."""

from __future__ import annotations

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


def with_reviewed(
    manifest: Manifest, staged: Path, network: Path, run: Path, record: RunRecord, despite: bool, on_stage: OnStage
) -> Manifest:
    """What became of the run's reviewed boards, for the manifest; as it is where the run has none.

    ``network``: what the gate ran. InputError, which names the places, where one is not as people said; ``despite``:
    they are listed instead.
    """
    boards = load_reviewed(run)
    if not boards:
        return manifest
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
        for place in board.places:
            if place.kind == "open":
                continue
            called = judged.result is Result.FAIL and touches(judged.mask, place)
            as_said = judged.result is not Result.ERROR and called == place.is_defect
            false_calls, gone = false_calls + (not place.is_defect), gone + (not place.is_defect and as_said)
            defects, found = defects + place.is_defect, found + (place.is_defect and as_said)
            if not as_said:
                word = judged.reason if judged.result is Result.ERROR else "called" if called else "not found"
                x, y, _, _ = place.box_xywh
                not_so.append(f"{board.unit or board.name}: {place.kind} at {x:.0f}, {y:.0f}: {word}"[:200])
    return ReviewedModel(
        boards=len(boards), false_calls=false_calls, gone=gone, defects=defects, found=found,
        not_so=tuple(not_so[:MOST_LISTED]),
    )  # fmt: skip


def touches(mask: Bool | None, place: ReviewedPlace) -> bool:
    """Whether something of a mask (h, w) lies in a place of the frame."""
    if mask is None:
        return False
    inside = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(inside, [np.round(np.array(place.polygon)).astype(np.int32)], 1)
    return bool((mask & (inside > 0)).any())
