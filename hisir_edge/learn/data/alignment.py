"""How good boards lie to each other: held by a fixture, or anywhere in the frame; and the area that they cover."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import cv2
import numpy as np

from hisir_edge.arrays import F64, U8, Bool
from hisir_edge.errors import InspectionError
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.registration.anywhere import BoardModel, refined
from hisir_edge.inspection.registration.faults import check_pose
from hisir_edge.inspection.registration.finder import Locate, Polygon, anywhere_model, inside_outline
from hisir_edge.inspection.registration.fixture import Anchors, anchors_from_golden, register_frame
from hisir_edge.inspection.registration.landmarks import (
    Landmarks,
    RoughPose,
    landmarks_of,
    matches_between,
    rough_pose,
    work_factor,
)
from hisir_edge.inspection.registration.pose import Pose, local_matrix, straightened
from hisir_edge.learn.data.area import board_area
from hisir_edge.learn.data.statistics import robust_memory

MAX_LOST_SHARE = 0.1
"""Share of boards that may fail to register (one always may); the others are used without them."""
REFERENCES = 3
STILL_PX, STILL_SHARE = 1.5, 0.6
LEAST_MOVING = 40
"""Landmarks that lie still in the frame while others move are not the board's, if so many others are left."""
LEAST_MOVED_PX = 8.0
SHOWN_MARGIN_PX, ALIKE_DEG, FIXTURE_AGREES_PX = 8, 12.0, 5.0
MOST_TURN_DEG = 15.0
"""Good boards that are turned more than so are no boards that lie alike, but loose objects."""
BOARDS_IN_TURN = (16, 16, 48)
"""Poses are measured against golden images of so many boards at most, each made by the poses before."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """``poses``: of each frame to the common golden image, None where the board was not found in it.

    ``area``: polygon around the board in golden pixels, None: all of the frame.
    """

    locate: Locate
    poses: list[Pose | None] = field(repr=False)
    area: Polygon | None = field(default=None, repr=False)

    @property
    def lost(self) -> int:
        """How many boards were not found."""
        return sum(pose is None for pose in self.poses)


def lost_allowed(boards: int) -> int:
    """How many of so many boards may fail to register before they count as not lying alike."""
    return min(max(1, int(MAX_LOST_SHARE * boards)), boards - 2) if boards > 2 else 0


def aligned_by_fixture(frames: list[U8], on_done: Callable[[], None]) -> Alignment | None:
    """Boards that lie within what a fixture allows; None when too many do not."""
    try:
        anchors = _mean_pose_anchors(frames)
    except InspectionError:  # too small a frame
        return None
    poses: list[Pose | None] = []
    for frame in frames:
        poses.append(_found(anchors, frame))
        on_done()
    if _lost(poses):
        return None
    return Alignment("fixture", poses)


def _lost(poses: list[Pose | None]) -> bool:
    return sum(pose is None for pose in poses) > lost_allowed(len(poses))


def _found(anchors: Anchors, frame: U8) -> Pose | None:
    with suppress(InspectionError):
        return register_frame(anchors, frame).pose
    return None


def _mean_pose_anchors(frames: list[U8]) -> Anchors:
    """Anchors of a frame that most others match, moved to the average pose so that no board turns far.

    Another frame is tried where one matches fewer than half: it may be the odd one out itself.
    """
    for reference in dict.fromkeys(len(frames) * i // REFERENCES for i in range(REFERENCES)):
        first = anchors_from_golden(frames[reference])
        found = [_found(first, frame) for number, frame in enumerate(frames) if number != reference]
        poses = [pose.affine for pose in found if pose is not None]
        if len(poses) >= len(frames) * 0.5:
            h, w = frames[0].shape[:2]
            moved = cv2.warpAffine(
                frames[reference], _to_mean(poses, (w / 2, h / 2)), (w, h),
                flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE,
            )  # fmt: skip
            return anchors_from_golden(moved.astype(np.uint8, copy=False))
    return anchors_from_golden(frames[0])


def _to_mean(poses: list[F64], centre: tuple[float, float]) -> F64:
    """Matrix (2, 3) that moves the reference, which ``poses`` map others to, to the mean pose of all of them."""
    boards = len(poses) + 1
    turn = float(np.sum([np.arctan2(m[1, 0], m[0, 0]) for m in poses])) / boards
    shift = np.sum([m @ (*centre, 1.0) - centre for m in poses], axis=0) / boards
    # the mean of "frame to first" says where the average board lies as seen from the first: undo it
    to_mean = np.asarray(cv2.getRotationMatrix2D(centre, np.rad2deg(turn), 1.0), np.float64)
    to_mean[:, 2] -= shift
    return to_mean


def aligned_anywhere(frames: list[U8], on_done: Callable[[], None]) -> Alignment | None:
    """Boards that lie anywhere in the frame; None when too many are not found.

    Landmarks of a reference give rough poses; their median image gives patches and the area; these give the poses.
    """
    rough = _rough_poses(frames)
    if rough is None:
        return None
    poses: list[Pose | None] = [None if one is None else Pose(one) for one in rough]
    area: Polygon | None = None
    for turn, boards in enumerate(BOARDS_IN_TURN):
        golden, deviation, area = _golden_and_area(frames, poses, boards)
        last = turn == len(BOARDS_IN_TURN) - 1
        # boards are too blurred at first to say where they are alike
        model = anywhere_model(golden, deviation if turn else None, area, bends=last)
        for number, (frame, pose) in enumerate(zip(frames, poses, strict=True)):
            poses[number] = None if pose is None else _refined(model, frame, pose)
            if last:
                on_done()
        if _lost(poses):
            return None
    return Alignment("anywhere", poses, area)


def _refined(model: BoardModel, frame: U8, pose: Pose) -> Pose | None:
    with suppress(InspectionError):
        found = refined(model, Pixels(frame), RoughPose(pose.matrix, 0), again=False).pose  # good boards miss nothing
        check_pose(found, model.outline, (frame.shape[0], frame.shape[1]), MOST_TURN_DEG)
        return found
    return None


def _golden_and_area(frames: list[U8], poses: list[Pose | None], most: int) -> tuple[U8, U8, Polygon | None]:
    """Golden image, deviation and area of boards with a pose, ``most`` of them."""
    hw = (frames[0].shape[0], frames[0].shape[1])
    known = [(frame, pose) for frame, pose in zip(frames, poses, strict=True) if pose is not None]
    used = known[:: -(-len(known) // most)]
    boards = [straightened(frame, pose, hw) for frame, pose in used]
    memory = robust_memory(lambda y0, y1: [board[y0:y1] for board in boards], hw)
    # of boards that lie still nothing shows which is mat: all that every frame shows is inspected
    moved = _moved_px([pose for _, pose in known], hw) >= LEAST_MOVED_PX
    shown = [_shown(pose, hw) for _, pose in known]
    area = board_area(memory.mean_rgb, boards if moved else [], shown, lost_allowed(len(known)))
    return memory.mean_rgb, memory.deviation, area


def _moved_px(poses: list[Pose], hw: tuple[int, int]) -> float:
    """By how much the frames show the golden image's corners in other places, at the most."""
    h, w = hw
    ends = np.array([(0, 0), (w, 0), (w, h), (0, h)], np.float64)
    return float(np.ptp([pose.to_frame(ends) for pose in poses], axis=0).max())


def _shown(pose: Pose, hw: tuple[int, int]) -> Bool:
    """The golden pixels (h, w) that a frame shows, less a margin: poses become better by some pixels later on."""
    h, w = hw
    m = SHOWN_MARGIN_PX
    ends = np.array([(m, m), (w - 1 - m, m), (w - 1 - m, h - 1 - m), (m, h - 1 - m)], np.float64)
    return inside_outline(hw, Pose(pose.matrix).to_golden(ends))


def _rough_poses(frames: list[U8]) -> list[F64 | None] | None:
    """Per frame a matrix (3, 3) to the mean pose of the boards, None where not found; None when too many are not."""
    marks = [landmarks_of(Pixels(frame)) for frame in frames]
    hw = (frames[0].shape[0], frames[0].shape[1])
    rough, _ = _best_rough(marks, hw)
    if not rough or sum(one is None for one in rough) > lost_allowed(len(frames)):
        return None
    return _to_mean_pose(rough, hw)


def _best_rough(marks: list[Landmarks], hw: tuple[int, int]) -> tuple[list[RoughPose | None], int]:
    """Rough poses to the reference that most boards match, and which board that is."""
    best: tuple[int, list[RoughPose | None]] = (0, [])
    chosen = 0
    for reference in dict.fromkeys(len(marks) * i // REFERENCES for i in range(REFERENCES)):
        golden = _moving(marks[reference], marks)
        found = [rough_pose(matches_between(one, golden), work_factor(hw)) for one in marks]
        matched = sum(one.matched for one in found if one is not None)
        found_boards = sum(one is not None for one in found)
        if (found_boards, matched) > (sum(one is not None for one in best[1]), best[0]):
            best, chosen = (matched, found), reference
    return best[1], chosen


def _moving(reference: Landmarks, marks: list[Landmarks]) -> Landmarks:
    """The reference's landmarks less those that lie still in the frame while boards move: mat, conveyor, fixture."""
    still, seen = np.zeros(len(reference.points_xy)), np.zeros(len(reference.points_xy))
    order = {tuple(point): number for number, point in enumerate(reference.points_xy.tolist())}
    for one in marks:
        if one is reference:
            continue
        matches = matches_between(one, reference)
        frame_xy, golden_xy = matches.frame_xy, matches.golden_xy
        at = [order[tuple(point)] for point in golden_xy.tolist()]
        near = np.abs(frame_xy - golden_xy).max(1) <= STILL_PX if at else np.zeros(0, np.bool_)
        np.add.at(seen, at, 1)
        np.add.at(still, at, near)
    moving: Bool = (seen == 0) | (still < STILL_SHARE * np.maximum(seen, 1))
    return reference.where(moving) if (moving & (seen > 0)).sum() >= LEAST_MOVING else reference


def _to_mean_pose(rough: list[RoughPose | None], hw: tuple[int, int]) -> list[F64 | None] | None:
    """The poses on the mean of all boards instead of the reference, without those that lie quite otherwise.

    None where too many do.
    """
    centre = np.array([hw[1] / 2, hw[0] / 2])
    around = [None if one is None else _around(Pose(one.to_golden), centre) for one in rough]
    turns = [None if m is None else float(np.rad2deg(np.arctan2(m[1, 0], m[0, 0]))) for m in around]
    alike = _most_alike(turns)
    rough = [one if near else None for one, near in zip(rough, alike, strict=True)]
    similar = [m for m, near in zip(around, alike, strict=True) if near and m is not None]
    if sum(one is None for one in rough) > lost_allowed(len(rough)):
        return None
    to_mean = np.vstack([_to_mean(similar, (float(centre[0]), float(centre[1]))), (0.0, 0.0, 1.0)])
    return [None if one is None else to_mean @ one.to_golden for one in rough]


def _around(pose: Pose, centre: F64) -> F64:
    """What a pose does around a place: frame -> golden, linear part and shift, (2, 3)."""
    back = np.linalg.inv(local_matrix(pose, centre))
    return np.column_stack([back, centre - back @ pose.to_frame(centre[None])[0]])


def _most_alike(turns_deg: list[float | None]) -> list[bool]:
    """Which boards are turned like most others, within ``ALIKE_DEG``."""
    best: list[bool] = [False] * len(turns_deg)
    for middle in turns_deg:
        if middle is not None:
            near = [t is not None and abs((t - middle + 180) % 360 - 180) <= ALIKE_DEG for t in turns_deg]
            best = near if sum(near) > sum(best) else best
    return best


def moves_otherwise(frames: list[U8], alignment: Alignment) -> bool:
    """Whether the boards move against what a fixture's anchors were found on, such as a mat that lies still.

    The landmarks that move must tell of other poses than the alignment, on more boards than may be lost.
    """
    marks = [landmarks_of(Pixels(frame)) for frame in frames]
    hw = (frames[0].shape[0], frames[0].shape[1])
    rough, reference = _best_rough(marks, hw)
    first = alignment.poses[reference] if rough else None
    if not rough or first is None:
        return False
    middle = np.array([[hw[1] / 2, hw[0] / 2]])
    apart = 0
    for one, pose in zip(rough, alignment.poses, strict=True):
        if one is not None and pose is not None:
            # both say where the frame shows what the reference shows in its middle
            held = pose.to_frame(first.to_golden(middle))
            apart += float(np.abs(held - Pose(one.to_golden).to_frame(middle)).max()) > FIXTURE_AGREES_PX
    return apart > lost_allowed(len(frames))
