"""Sheets of boards to look at before they count as good: each whole, and the place that stands out most, as it is."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hisir_edge.archive.judge_again import JudgeAgain
from hisir_edge.arrays import U8, u8
from hisir_edge.inspection.windows import pose_of_evidence
from hisir_edge.records import Evidence

SIDE_PX, ROOM_PX, COLUMNS = 256, 24, 4
MARK = (255, 60, 60)


@dataclass(frozen=True, slots=True)
class Highest:
    """Where a board stands out most, in the camera's pixels, and how far: 1 is what is called."""

    x: float
    y: float
    reached: float


def highest_of(judge: JudgeAgain, evidence: Evidence) -> Highest | None:
    """The highest place of a calibrated map; None where none of it came near the threshold."""
    calibrated = judge.calibrated(evidence)
    row, column = np.unravel_index(int(calibrated.argmax()), calibrated.shape)
    value = float(calibrated[row, column])
    if value <= 0:
        return None
    pose, at = pose_of_evidence(evidence), np.array([[column, row]], np.float64)
    x, y = (at if pose is None else pose.to_frame(at))[0]
    h, w = judge.bundle.recipe.frame_hw
    return Highest(float(np.clip(x, 0, w - 1)), float(np.clip(y, 0, h - 1)), value / judge.thresholds.region_peak)


def shown_board(rgb: U8, highest: Highest | None, name: str) -> U8:
    """A board's frame (h, w, 3) as one picture of a sheet, (SIDE_PX + ROOM_PX, 2 * SIDE_PX, 3)."""
    whole = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    h, w = rgb.shape[:2]
    share = SIDE_PX / max(h, w)
    small = cv2.resize(rgb, (max(round(w * share), 1), max(round(h * share), 1)), interpolation=cv2.INTER_AREA)
    whole[: small.shape[0], : small.shape[1]] = small
    crop = np.zeros_like(whole)
    if highest is not None:
        cv2.circle(whole, (round(highest.x * share), round(highest.y * share)), 10, MARK, 2, cv2.LINE_AA)
        left, top = (
            int(np.clip(round(at) - SIDE_PX // 2, 0, max(side - SIDE_PX, 0)))
            for at, side in ((highest.x, w), (highest.y, h))
        )
        piece = rgb[top : top + SIDE_PX, left : left + SIDE_PX]
        crop[: piece.shape[0], : piece.shape[1]] = piece
    title = np.full((ROOM_PX, 2 * SIDE_PX, 3), 255, np.uint8)
    words = f"{name}   " + ("quiet" if highest is None else f"{highest.reached:.2f}")
    cv2.putText(title, words, (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return u8(np.vstack([title, np.hstack([whole, crop])]))


def sheet_of(boards: list[U8]) -> U8:
    """Pictures of ``shown_board`` in rows."""
    columns = min(COLUMNS, len(boards))
    every = [*boards, *[np.full_like(boards[0], 255)] * (-len(boards) % columns)]
    return u8(np.vstack([np.hstack(every[at : at + columns]) for at in range(0, len(every), columns)]))
