"""Finds a board that lies anywhere in the frame: landmarks first, then patches where they say it is."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from hisir_edge.arrays import F32, F64, U8, Bool
from hisir_edge.errors import InspectionError
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.registration.bend import bend_of, homography_of
from hisir_edge.inspection.registration.faults import (
    MOST_SCALE_ERROR,
    Outline,
    check_pose,
    fault,
    mirrored,
    outside,
)
from hisir_edge.inspection.registration.landmarks import (
    Landmarks,
    RoughPose,
    landmarks_of,
    matches_between,
    rough_pose,
    work_factor,
)
from hisir_edge.inspection.registration.pose import Pose, Registration, local_matrix
from hisir_edge.inspection.registration.refine import (
    AGREE_PX,
    FIRST_EACH,
    NEAR_PX,
    SEARCHES_PX,
    Patches,
    Seen,
    fine_grey,
    patches_from_golden,
    searched,
)

LEAST_SHARE = 0.3
"""Of the patches that are searched at least so many must be found where one pose puts them."""
SURE_SHARE, AGAIN_PX = 0.4, (12, 8, 4)
"""Where fewer agree, all are searched again from the rough pose, so far and then closer."""
LEAST_FIRST, LEAST_COUNT = 8, 12
LEAST_SECOND = 20
"""Landmarks that make a second board; fewer may be chance."""


@dataclass(frozen=True, slots=True)
class BoardModel:
    """What a board is found by; ``outline``: the polygon of its area, golden pixels."""

    golden_hw: tuple[int, int]
    landmarks: Landmarks = field(repr=False)
    patches: Patches = field(repr=False)
    outline: Outline = field(repr=False)
    bends: bool = True


def board_model(
    golden_rgb: U8, area: Bool, outline: Outline, steadiness: F32 | None = None, bends: bool = True
) -> BoardModel:
    """The model of a golden image (h, w, 3) whose board covers ``area`` (h, w)."""
    landmarks = landmarks_of(Pixels(golden_rgb), area)
    patches = patches_from_golden(golden_rgb, area, steadiness)
    return BoardModel((area.shape[0], area.shape[1]), landmarks, patches, outline, bends)


def find_board(model: BoardModel, image: Pixels) -> Registration:
    """Where a frame shows the board; InspectionError that says why it cannot be inspected."""
    seen = landmarks_of(image)
    rough = _rough(seen, model, image)
    share = 0.0
    try:
        if rough is None:
            raise fault("nothing that looks like it")
        found = refined(model, image, rough)
        share = found.inlier_share
        check_pose(found.pose, model.outline, image.hw)
    except InspectionError:
        # a board that is nearly symmetric agrees in part when it is turned over, too
        if _mirrored_share(model, image) > share:
            raise fault("a mirrored board", "turn the board over, or the camera's mirroring off") from None
        raise
    if _second(seen, model, image, found.pose):
        raise fault("two boards", "leave one board in the camera's view")
    return found


def _fitted(model: BoardModel, grey: U8, pose: Pose, search_px: int) -> tuple[Seen, tuple[F64, Bool] | None]:
    """The patches seen around a pose, and the homography that most of them agree on."""
    seen = searched(model.patches, grey, pose, search_px)
    return seen, homography_of(seen.golden_xy, seen.frame_xy, AGREE_PX * model.patches.factor)


def _agreeing(fitted: tuple[F64, Bool] | None) -> int:
    return 0 if fitted is None else int(fitted[1].sum())


def _searched_again(model: BoardModel, grey: U8, pose: Pose) -> tuple[Seen, tuple[F64, Bool]] | None:
    """All patches searched around a pose, so far and then closer around what they agree on; None where none do."""
    found = None
    for search_px in AGAIN_PX:
        seen, fitted = _fitted(model, grey, pose, search_px)
        if fitted is None:
            return found
        found, pose = (seen, fitted), Pose(fitted[0])
    return found


def _mirrored_share(model: BoardModel, image: Pixels) -> float:
    """The share of the patches that agree on a pose of the mirrored frame; 0 where there is none."""
    other = mirrored(image)
    rough = _rough(landmarks_of(other), model, other)
    if rough is None:
        return 0.0
    with suppress(InspectionError):
        return refined(model, other, rough).inlier_share
    return 0.0


def _rough(seen: Landmarks, model: BoardModel, image: Pixels) -> RoughPose | None:
    return rough_pose(matches_between(seen, model.landmarks), work_factor(image.hw))


def _second(seen: Landmarks, model: BoardModel, image: Pixels, pose: Pose) -> bool:
    """Whether landmarks off the board that was found show a second one."""
    off = seen.where(outside(model.outline, pose.to_golden(seen.points_xy)))
    second = _rough(off, model, image)
    if second is None or second.matched < LEAST_SECOND:
        return False
    scale = np.sqrt(abs(np.linalg.det(local_matrix(Pose(second.to_golden), model.outline.mean(0)))))
    return abs(float(scale) - 1) < MOST_SCALE_ERROR


def refined(model: BoardModel, image: Pixels, rough: RoughPose, again: bool = True) -> Registration:
    """The registration that patches give to a rough pose; InspectionError where they do not show this board.

    ``again``: search again where few agree at first, as boards with much of them missing need: a fit to the few that
    are searched first may have led past the others.
    """
    pose, grey = Pose(rough.to_golden), fine_grey(image, model.patches.factor)
    first = searched(model.patches, grey, pose, SEARCHES_PX[0], FIRST_EACH)
    fitted = homography_of(first.golden_xy, first.frame_xy, AGREE_PX * 2 * model.patches.factor)
    if fitted is not None and fitted[1].sum() >= LEAST_FIRST:
        pose = Pose(fitted[0])
    seen, fitted = _fitted(model, grey, pose, SEARCHES_PX[1])
    if again and _agreeing(fitted) < SURE_SHARE * seen.searched:
        other = _searched_again(model, grey, Pose(rough.to_golden))
        if other is not None and _agreeing(other[1]) > _agreeing(fitted):
            seen, fitted = other
    if fitted is None:
        raise fault(f"another board: 0 of {seen.searched} details agree")
    matrix = fitted[0]
    bend = bend_of(matrix, seen.golden_xy, seen.frame_xy, model.golden_hw) if model.bends else None
    pose = Pose(matrix, bend)
    error = np.linalg.norm(pose.to_golden(seen.frame_xy) - seen.golden_xy, axis=1)
    agree = error <= NEAR_PX * model.patches.factor
    count = int(agree.sum())
    if count < max(LEAST_SHARE * seen.searched, LEAST_COUNT):
        raise fault(f"another board: {count} of {seen.searched} details agree")
    residual = float(np.median(error[agree]))
    return Registration(pose=pose, residual_px=residual, inliers=count, inlier_share=count / seen.searched)
