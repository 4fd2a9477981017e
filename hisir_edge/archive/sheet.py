"""A sheet of boards to look at before they count as good: each whole, and the place that stands out most, as it is."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hisir_edge.arrays import U8, u8
from hisir_edge.geometry.tile import REGION_PX
from hisir_edge.inspection.windows import pose_of_evidence
from hisir_edge.records import Evidence

SIDE_PX, ROOM_PX, COLUMNS = 256, 24, 4
MARK = (255, 60, 60)


@dataclass(frozen=True, slots=True)
class Shown:
    """One board on the sheet, (SIDE_PX + ROOM_PX, 2 * SIDE_PX, 3); ``highest``: raw score, 0 where none is kept."""

    picture: U8
    highest: float


def shown_board(rgb: U8, evidence: Evidence | None, name: str) -> Shown:
    """A board's frame (h, w, 3)."""
    whole = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    h, w = rgb.shape[:2]
    share = SIDE_PX / max(h, w)
    small = cv2.resize(rgb, (max(round(w * share), 1), max(round(h * share), 1)), interpolation=cv2.INTER_AREA)
    whole[: small.shape[0], : small.shape[1]] = small
    crop, highest = np.zeros_like(whole), 0.0
    if evidence is not None and len(evidence.highest):
        number = int(evidence.highest.argmax())
        highest = float(evidence.highest[number])
        x, y = _in_frame(evidence, number)
        cv2.circle(whole, (round(x * share), round(y * share)), 10, MARK, 2, cv2.LINE_AA)
        left, top = (int(np.clip(round(at) - SIDE_PX // 2, 0, max(side - SIDE_PX, 0))) for at, side in ((x, w), (y, h)))
        piece = rgb[top : top + SIDE_PX, left : left + SIDE_PX]
        crop[: piece.shape[0], : piece.shape[1]] = piece
    title = np.full((ROOM_PX, 2 * SIDE_PX, 3), 255, np.uint8)
    cv2.putText(title, f"{name}   {highest:.2f}", (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return Shown(u8(np.vstack([title, np.hstack([whole, crop])])), highest)


def sheet_of(boards: list[Shown]) -> U8:
    """All of them in rows, what stands out most first."""
    ordered = [one.picture for one in sorted(boards, key=lambda one: -one.highest)]
    blank = np.full_like(ordered[0], 255)
    ordered += [blank] * (-len(ordered) % min(COLUMNS, len(ordered)))
    columns = min(COLUMNS, len(ordered))
    return u8(np.vstack([np.hstack(ordered[at : at + columns]) for at in range(0, len(ordered), columns)]))


def _in_frame(evidence: Evidence, number: int) -> tuple[float, float]:
    """Where the highest score of a region lies, in the camera's pixels."""
    inside = np.unravel_index(int(evidence.scores[number].argmax()), evidence.scores[number].shape)
    row, column = evidence.cells_yx[number] * REGION_PX + np.array(inside) - 1
    pose = pose_of_evidence(evidence)
    if pose is None:
        return float(column), float(row)
    x, y = pose.to_frame(np.array([[column, row]], np.float64))[0]
    return float(x), float(y)
