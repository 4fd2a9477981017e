"""A pose maps both ways, straightens a frame, and puts a map's windows back where the frame shows them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hisir_edge.inspection.registration.pose import (
    BEND_PX,
    Pose,
    bend_shape,
    is_usable,
    pose_from_affine,
    positions,
    scaling,
    straightened,
    straightened_rows,
)

HW = (500, 700)
seeds = st.integers(0, 2**32 - 1)


def some_pose(seed: int, bent: bool = True) -> Pose:
    """Up to 10 degrees, 60 px, 5 %, mild perspective, and a bend of up to 3 px."""
    rng = np.random.default_rng(seed)
    a, s = np.deg2rad(rng.uniform(-10, 10)), rng.uniform(0.95, 1.05)
    x, y = rng.uniform(-60, 60, 2)
    matrix = np.array([[s * np.cos(a), -s * np.sin(a), x], [s * np.sin(a), s * np.cos(a), y], [0, 0, 1.0]])
    matrix[2, :2] = rng.uniform(-1, 1, 2) * 5e-5
    rows, columns = bend_shape(HW)
    bend = np.asarray(cv2.resize(rng.uniform(-3, 3, (2, 3, 2)).astype(np.float32), (columns, rows)), np.float32)
    return Pose(matrix, bend if bent else None)


@given(seeds, st.booleans())
@settings(max_examples=60, deadline=None)
def test_both_directions_agree(seed, bent):
    pose = some_pose(seed, bent)
    golden = np.random.default_rng(seed).uniform(0, HW[::-1], (200, 2))
    assert np.abs(pose.to_golden(pose.to_frame(golden)) - golden).max() < 0.01


@given(seeds, st.booleans())
@settings(max_examples=20, deadline=None)
def test_positions_are_interpolated_closely(seed, bent):
    pose = some_pose(seed, bent)
    y0, x0 = (int(v) for v in np.random.default_rng(seed).integers(0, 300, 2))
    y, x = np.mgrid[y0 : y0 + 150, x0 : x0 + 190]
    points = np.stack([x, y], -1).reshape(-1, 2).astype(float)
    for mapping in (pose.to_frame, pose.to_golden):
        made = positions(mapping, (y0, y0 + 150, x0, x0 + 190)).reshape(-1, 2)
        off = np.abs(made - mapping(points))
        assert off.max() < 0.3, "where cells of a steep bend meet"
        assert np.median(off) < 0.03


@pytest.mark.parametrize("bent", [False, True])
def test_a_straightened_frame_shows_each_golden_pixel(bent):
    pose = some_pose(3, bent)
    y, x = np.mgrid[0 : HW[0], 0 : HW[1]].astype(np.float32)
    frame = np.stack([x / 3, y / 3, (x + y) / 6], -1).astype(np.uint8)
    at = pose.to_frame(np.array([[350.0, 250.0], [100, 60], [600, 400]]))
    seen = straightened(frame, pose, HW)
    for (gx, gy), (fx, fy) in zip([(350, 250), (100, 60), (600, 400)], at, strict=True):
        if 0 <= fx < HW[1] - 1 and 0 <= fy < HW[0] - 1:
            assert abs(int(seen[gy, gx, 0]) - fx / 3) < 1.1
            assert abs(int(seen[gy, gx, 1]) - fy / 3) < 1.1


@pytest.mark.parametrize("pose", [some_pose(5), pose_from_affine(np.array([[1.0, 0.02, 7], [-0.02, 1, -3]]))])
def test_rows_of_a_straightened_frame_are_rows_of_the_whole(pose):
    frame = np.random.default_rng(1).integers(0, 256, (*HW, 3), np.uint8)
    frame = np.asarray(cv2.GaussianBlur(frame, (0, 0), 3), np.uint8)
    whole = straightened(frame, pose, HW)
    for y0, y1 in ((0, 100), (130, 400), (480, 500)):
        rows = straightened_rows(frame, pose, HW, y0, y1)
        assert np.abs(rows.astype(int) - whole[y0:y1]).max() <= 2


def test_a_scaled_frame_has_the_pose_of_its_own_pixels():
    pose = some_pose(9)
    camera = pose.of_frame(scaling(0.5))
    points = np.array([[10.0, 20.0], [900, 500]])
    assert np.allclose(camera.to_golden(points), pose.to_golden((points + 0.5) * 0.5 - 0.5))


def test_the_bend_is_what_its_cells_say():
    bend = np.zeros((*bend_shape(HW), 2), np.float32)
    bend[1, 2] = (2, -1)
    pose = Pose(np.eye(3), bend)
    middle = np.array([[2.5 * BEND_PX - 0.5, 1.5 * BEND_PX - 0.5]])
    assert np.allclose(pose.to_frame(middle) - middle, (2, -1))
    assert not pose.is_affine
    with pytest.raises(ValueError, match="no"):
        pose.affine  # noqa: B018  # the access is what fails


@pytest.mark.parametrize(
    "matrix",
    [np.zeros((3, 3)), np.full((3, 3), np.nan), np.diag([1e-4, 1, 1.0]), np.array([[1, 2, 0], [2, 4, 0], [0, 0, 1.0]])],
)
def test_a_matrix_that_is_no_pose_is_none(matrix):
    """OpenCV gives such homographies where matches agree by chance; inverting one raises."""
    assert not is_usable(matrix)
    assert is_usable(np.eye(3))
    assert is_usable(some_pose(4).matrix)
