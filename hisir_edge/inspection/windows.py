"""Where on a frame something may be seen: from bounds per region of the map to a few windows of the frame.

A good board ends here: where no region's highest score times the highest gain in it reaches 1.0, no pixel can, and
neither gain nor warp of twelve million pixels is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, I32
from hisir_edge.geometry.tile import REGION_PX
from hisir_edge.inspection.gain import Gain
from hisir_edge.inspection.registration.pose import Pose, positions
from hisir_edge.inspection.rops import KEPT_FROM
from hisir_edge.records import Evidence

Box = tuple[int, int, int, int]
"""y0, y1, x0, x1: half-open, in pixels."""
RIM_PX = 1
PATCH_PX = REGION_PX + 2 * RIM_PX
"""Side of what is kept of a region as evidence."""
MOST_EVIDENCE = 8000
"""Regions of 16 x 16 px: a sixth of a frame of 12 Mpx, 10 MB."""
MOST_WINDOWS = 64
"""Of more, one window around all is quicker: each costs a gain and a warp, and is compared with the others."""


def highest_calibrated(raw: F32, cell_max: F32, gain: Gain) -> float:
    """The highest of ``raw * gain`` in the golden image; ``raw`` (h, w), ``cell_max`` (gh, gw) of its regions.

    Below ``KEPT_FROM``, where a merger need not keep the pixels, it is what their region cannot exceed. NaN where a
    score is NaN: ``max`` would drop it.
    """
    bound = cell_max * gain.most
    if np.isnan(bound).any():
        return float("nan")
    best = -np.inf
    for flat in np.argsort(bound, axis=None)[::-1]:
        row, column = divmod(int(flat), bound.shape[1])
        if bound[row, column] <= best:
            break
        if bound[row, column] < KEPT_FROM:
            return max(best, float(bound[row, column]))
        y, x = row * REGION_PX, column * REGION_PX
        box = (y, min(y + REGION_PX, gain.hw[0]), x, min(x + REGION_PX, gain.hw[1]))
        best = max(best, float((raw[y : box[1], x : box[3]] * gain.window(*box)).max()))
    return best


def calibrated_windows(
    raw: F32, cell_max: F32, gain: Gain, pose: Pose | None, frame_hw: tuple[int, int]
) -> Iterator[tuple[int, int, F32]]:
    """(y, x, window): parts of the frame's calibrated map, upper left corners first; all else of it is below 1.

    ``raw`` (h, w) and ``cell_max`` (gh, gw): scores of the golden image; ``pose``: the camera's pixels -> golden,
    scaled pixels, None where they are the same. No region of the map is in two windows, none is cut by one.
    """
    hot = (cell_max * gain.most >= 1.0).astype(np.uint8)
    near = cv2.dilate(hot, np.ones((3, 3), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(near, connectivity=8)
    golden = []
    for x, y, w, h, _ in stats[1:count].tolist():
        bottom, right = min((y + h) * REGION_PX, gain.hw[0]), min((x + w) * REGION_PX, gain.hw[1])
        golden.append((y * REGION_PX, bottom, x * REGION_PX, right))
    if len(golden) > MOST_WINDOWS:
        tops, bottoms, lefts, rights = zip(*golden, strict=True)
        golden = [(min(tops), max(bottoms), min(lefts), max(rights))]
    for (y0, y1, x0, x1), frame in apart(golden, gain.hw, pose, frame_hw):
        window = raw[y0:y1, x0:x1] * gain.window(y0, y1, x0, x1)
        if pose is not None:
            window = warped_window(window, (y0, x0), frame, pose)
        yield frame[0], frame[2], window


def evidence_of_map(raw: F32, cell_max: F32, gain: Gain, pose: Pose | None) -> Evidence | None:
    """The regions of a map (h, w) that may reach ``KEPT_FROM`` in calibrated score, each with a rim, and the pose.

    That is enough for ``calibrated_windows`` to find the same in it, to the bit, also where gains are up to
    1 / ``KEPT_FROM`` times as high: between two pixels nothing is higher than both. None where a board alarms over
    more than ``MOST_EVIDENCE`` regions, and where memory lacks: it is kept beside a verdict, never instead of one.
    """
    cells: I32 = np.argwhere(cell_max * gain.most >= KEPT_FROM).astype(np.int32)
    if len(cells) > MOST_EVIDENCE:
        return None
    try:
        return _evidence(raw, cells, cell_max[cells[:, 0], cells[:, 1]], pose)
    except MemoryError:
        return None


def _evidence(raw: F32, cells: I32, highest: F32, pose: Pose | None) -> Evidence:
    around = np.arange(-RIM_PX, REGION_PX + RIM_PX)
    rows, columns = cells[:, :1] * REGION_PX + around, cells[:, 1:] * REGION_PX + around
    h, w = raw.shape
    scores = raw[np.clip(rows, 0, h - 1)[:, :, None], np.clip(columns, 0, w - 1)[:, None, :]]
    scores *= ((rows >= 0) & (rows < h))[:, :, None] & ((columns >= 0) & (columns < w))[:, None, :]
    matrix, bend = (None, None) if pose is None else (pose.matrix, pose.bend)
    return Evidence(cells_yx=cells, scores=np.asarray(scores, np.float32), highest=highest, matrix=matrix, bend=bend)


def pose_of_evidence(evidence: Evidence) -> Pose | None:
    """The pose, None where camera and golden image have the same pixels."""
    return None if evidence.matrix is None else Pose(evidence.matrix, evidence.bend)


def fill_map(evidence: Evidence, raw: F32, cell_max: F32) -> None:
    """Write evidence into a map (h, w) and the highest score of its regions (gh, gw), all 0; ``wipe_map`` undoes it."""
    cell_max[evidence.cells_yx[:, 0], evidence.cells_yx[:, 1]] = evidence.highest
    for (y0, y1, x0, x1), scores in zip(_patches(evidence, raw.shape), evidence.scores, strict=True):
        raw[max(y0, 0) : y1, max(x0, 0) : x1] = scores[max(-y0, 0) : y1 - y0, max(-x0, 0) : x1 - x0]


def wipe_map(evidence: Evidence, raw: F32, cell_max: F32) -> None:
    """Undo ``fill_map``."""
    cell_max[evidence.cells_yx[:, 0], evidence.cells_yx[:, 1]] = 0
    for y0, y1, x0, x1 in _patches(evidence, raw.shape):
        raw[max(y0, 0) : y1, max(x0, 0) : x1] = 0


def _patches(evidence: Evidence, hw: tuple[int, ...]) -> list[Box]:
    """Where each patch lies in a map, cut at its lower and right edge."""
    out = []
    for row, column in evidence.cells_yx.tolist():
        y0, x0 = row * REGION_PX - RIM_PX, column * REGION_PX - RIM_PX
        out.append((y0, min(y0 + PATCH_PX, hw[0]), x0, min(x0 + PATCH_PX, hw[1])))
    return out


def apart(
    golden: list[Box], golden_hw: tuple[int, int], pose: Pose | None, frame_hw: tuple[int, int]
) -> list[tuple[Box, Box]]:
    """Boxes of the golden image, each with that of the frame, joined until no two of the frame's touch."""
    out: list[tuple[Box, Box]] = []
    for one in golden:
        box = one
        while True:
            frame = box if pose is None else box_in_frame(box, golden_hw, pose, frame_hw)
            meeting = [other for other in out if _meet(frame, other[1])]
            if not meeting:
                break
            out = [other for other in out if other not in meeting]
            tops, bottoms, lefts, rights = zip(box, *(other[0] for other in meeting), strict=True)
            box = (min(tops), max(bottoms), min(lefts), max(rights))
        if frame[0] < frame[1] and frame[2] < frame[3]:
            out.append((box, frame))
    return out


def _meet(a: Box, b: Box) -> bool:
    return a[0] <= b[1] and b[0] <= a[1] and a[2] <= b[3] and b[2] <= a[3]


def box_in_frame(box: Box, golden_hw: tuple[int, int], pose: Pose, frame_hw: tuple[int, int]) -> Box:
    """The frame's pixels that may take their value from a box of the golden image; empty where there are none.

    ``pose``: frame pixels -> golden, scaled pixels.
    """
    y0, y1, x0, x1 = box
    h, w = frame_hw
    edges = pose.to_golden(_corners(0, w - 1, 0, h - 1))
    (low_x, low_y), (high_x, high_y) = edges.min(0), edges.max(0)
    # what lies outside of the golden image takes its value from the nearest edge: a window there reaches out
    left, right = min(x0, low_x) if x0 <= 0 else x0, max(x1, high_x) if x1 >= golden_hw[1] else x1
    top, bottom = min(y0, low_y) if y0 <= 0 else y0, max(y1, high_y) if y1 >= golden_hw[0] else y1
    corners = pose.to_frame(_corners(left, right, top, bottom))
    bent = 0 if pose.bend is None else int(np.ceil(2 * np.abs(pose.bend).max() / _golden_px_per_frame_px(pose)))
    (left, top), (right, bottom) = np.floor(corners.min(0)) - 2 - bent, np.ceil(corners.max(0)) + 3 + bent
    return int(np.clip(top, 0, h)), int(np.clip(bottom, 0, h)), int(np.clip(left, 0, w)), int(np.clip(right, 0, w))


def _corners(left: float, right: float, top: float, bottom: float) -> F64:
    return np.array([[x, y] for x in (left, right) for y in (top, bottom)], np.float64)


def _golden_px_per_frame_px(pose: Pose) -> float:
    return float(np.sqrt(abs(np.linalg.det(pose.matrix[:2, :2]))))


def warped_window(window: F32, at_yx: tuple[int, int], box: Box, pose: Pose) -> F32:
    """The frame's box of a map whose golden window (h, w) lies at ``at_yx``."""
    y0, y1, x0, x1 = box
    how: Any = {"borderMode": cv2.BORDER_REPLICATE}
    if pose.is_affine:
        matrix = np.array(pose.affine)
        matrix[:, 2] += matrix[:, :2] @ (x0, y0) - (at_yx[1], at_yx[0])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(window, matrix, (x1 - x0, y1 - y0), flags=flags, **how), np.float32)
    where = positions(pose.to_golden, box) - np.array((at_yx[1], at_yx[0]), np.float32)
    return np.asarray(cv2.remap(window, where, None, cv2.INTER_LINEAR, **how), np.float32)  # type: ignore[call-overload]
