"""Why a frame cannot be registered, in words for who stands at the line."""

from __future__ import annotations

import cv2
import numpy as np

from hisir_edge.arrays import F64, U8, Bool
from hisir_edge.errors import InspectionError
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.registration.pose import Pose, local_matrix

Outline = F64
"""Corners (n, 2) of the polygon around a board's area, golden pixels."""
MOST_TURN_DEG, MOST_SCALE_ERROR, MOST_SCALE_RATIO = 40.0, 0.1, 1.35
QUARTER_DEG, NEAR_QUARTER_DEG = 90, 15.0
MOST_OUTSIDE_PX = 2.0
"""A board may leave the frame by so much: nothing is seen there, and nothing is inspected."""


def fault(received: str, fix: str = "check the fixture and that the right product is loaded") -> InspectionError:
    """An error whose ``received`` says what was seen instead of the board."""
    return InspectionError(expected="the board of the golden image, whole and alone", received=received, fix=fix)


def check_pose(pose: Pose, outline: Outline, frame_hw: tuple[int, int], most_turn_deg: float = MOST_TURN_DEG) -> None:
    """InspectionError for a board that is turned, mirrored, too near, too oblique, or leaves the frame."""
    jacobians = np.array([local_matrix(pose, corner) for corner in (outline.mean(0), *_hull(outline))])
    scales = np.sqrt(np.abs(np.linalg.det(jacobians)))
    middle, scale = jacobians[0], float(scales[0])
    turn = float(np.rad2deg(np.arctan2(middle[1, 0] - middle[0, 1], middle[0, 0] + middle[1, 1])))
    if np.linalg.det(middle) < 0:
        raise fault("a mirrored board", "turn the board over, or the camera's mirroring off")
    if abs(turn) > most_turn_deg:
        nearest = round(turn / QUARTER_DEG) * QUARTER_DEG
        exact = nearest and abs(turn - nearest) <= NEAR_QUARTER_DEG
        raise fault(f"a board turned by {abs(nearest) if exact else abs(round(turn))} degrees", "lay it as the others")
    if abs(scale - 1) > MOST_SCALE_ERROR:
        raise fault(f"a board at {scale:.2f} times its size", "check the camera's distance and lens")
    if not np.isfinite(scales).all() or scales.max() > MOST_SCALE_RATIO * scales.min():
        raise fault("a board seen obliquely", "mount the camera above the board")
    check_inside(pose, outline, frame_hw)


def check_inside(pose: Pose, outline: Outline, frame_hw: tuple[int, int]) -> None:
    """InspectionError for a board that leaves the frame."""
    h, w = frame_hw
    corners = pose.to_frame(outline)
    beyond = float(np.maximum(-0.5 - corners, corners - (w - 0.5, h - 0.5)).max())
    if not beyond <= MOST_OUTSIDE_PX:
        raise fault(f"a board that leaves the frame by {beyond:.0f} px", "move the board or the camera")


def _hull(outline: Outline) -> F64:
    return np.asarray(cv2.convexHull(outline.astype(np.float32))[:, 0], np.float64)


def outside(outline: Outline, golden_xy: F64) -> Bool:
    """Which points (n, 2) of the golden image lie off the board, hull and all."""
    hull = _hull(outline).astype(np.float32)
    return np.array([cv2.pointPolygonTest(hull, (float(x), float(y)), False) < 0 for x, y in golden_xy], np.bool_)


def mirrored(image: Pixels) -> Pixels:
    """The frame, left and right exchanged, in grey."""
    grey: U8 = np.ascontiguousarray(image.grey()[:, ::-1])
    return Pixels(grey, "Mono8")
