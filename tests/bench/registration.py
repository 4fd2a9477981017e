"""Time and accuracy of registration on 4096x3000 frames of rendered boards at known poses.

    python tests/bench/registration.py [--frames 20] [--threads 2]

Prints one JSON: medians of the milliseconds to find the board anywhere and in a fixture, to straighten the frame, and
how far places of the board are put beside where they are. Fixture and anywhere are timed in turn, in one process.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace

import cv2
import numpy as np

from hisir_edge.arrays import F64, U8
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.registration.finder import finder_from_memory
from hisir_edge.inspection.registration.pose import Pose, straightened
from hisir_edge.sim.camera import frame_from_board, shot_from_seed
from hisir_edge.sim.mat import Loose, board_on_mat, lay_matrix, mat_picture
from hisir_edge.sim.render import board_from_seed, draw_board

FRAME_WH = (4096, 3000)
FAR, NEAR = Loose(shift_px=300, turn_deg=10, scale_share=0.05, tilt_share=0.05), Loose(shift_px=8, turn_deg=0.5)


def picture(board: U8, mat: U8, to_frame: F64, seed: int) -> U8:
    """A frame of a drawn board laid on a mat."""
    shot = replace(shot_from_seed(seed), shift_xy_px=(0.0, 0.0), turn_deg=0.0)
    return frame_from_board(board_on_mat(board, mat, to_frame), shot)


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    cv2.setNumThreads(given.threads)
    size = FAR.board_wh(FRAME_WH)
    mat = mat_picture(7, FRAME_WH)
    middle = np.array([[1, 0, (FRAME_WH[0] - size[0]) / 2], [0, 1, (FRAME_WH[1] - size[1]) / 2], [0, 0, 1.0]])
    first = draw_board(board_from_seed(7, 1, size))
    golden = picture(first, mat, middle, 1)
    ends = np.array([(0, 0), (size[0] - 1, 0), (size[0] - 1, size[1] - 1), (0, size[1] - 1)], np.float64)
    to_golden = Pose(np.asarray(np.linalg.inv(middle), np.float64))
    area = tuple((float(x), float(y)) for x, y in to_golden.to_frame(ends))
    steady = np.zeros(golden.shape[:2], np.uint8)
    anywhere = finder_from_memory("anywhere", golden, steady, area)
    fixture = finder_from_memory("fixture", golden, steady, None)
    assert anywhere is not None
    assert fixture is not None
    centred = np.array([[1, 0, -(size[0] - 1) / 2], [0, 1, -(size[1] - 1) / 2], [0, 0, 1.0]])
    x, y = np.meshgrid(np.linspace(20, size[0] - 20, 9), np.linspace(20, size[1] - 20, 7))
    places = np.stack([x.ravel(), y.ravel()], 1)
    spent: dict[str, list[float]] = {"anywhere_ms": [], "fixture_ms": [], "straighten_ms": [], "warp_affine_ms": []}
    errors = []
    for seed in range(given.frames):
        board = draw_board(board_from_seed(7, seed + 2, size))
        to_frame = lay_matrix(seed, FAR, FRAME_WH)
        far = Pixels(picture(board, mat, to_frame, seed))
        near_lay = _about_middle(seed, NEAR) @ centred
        near = Pixels(picture(board, mat, np.asarray(near_lay, np.float64), seed))
        t0 = time.perf_counter()
        found = anywhere.find(far)
        t1 = time.perf_counter()
        held = fixture.find(near)
        t2 = time.perf_counter()
        straightened(far.rgb, found.pose, (FRAME_WH[1], FRAME_WH[0]))
        t3 = time.perf_counter()
        straightened(near.rgb, held.pose, (FRAME_WH[1], FRAME_WH[0]))
        t4 = time.perf_counter()
        for name, seconds in zip(spent, (t1 - t0, t2 - t1, t3 - t2, t4 - t3), strict=True):
            spent[name].append(seconds * 1e3)
        seen = found.pose.to_frame(to_golden.to_frame(places))
        really = Pose(np.asarray(np.linalg.inv(to_frame), np.float64)).to_frame(places)
        errors.append(np.linalg.norm(seen - really, axis=1))
    off = np.stack(errors)
    figures = {name: round(float(np.median(values)), 1) for name, values in spent.items()}
    figures |= {"error_median_px": round(float(np.median(off)), 3), "error_highest_px": round(float(off.max()), 3)}
    print(json.dumps({"frames": given.frames, "threads": given.threads, "board_px": size, **figures}))


def _about_middle(seed: int, loose: Loose) -> F64:
    """Turned and shifted by up to ``loose`` about the frame's middle, from centred board pixels."""
    rng = np.random.default_rng([seed, 3])
    turn = np.deg2rad(rng.uniform(-1, 1) * loose.turn_deg)
    x, y = rng.uniform(-1, 1, 2) * loose.shift_px
    c, s = np.cos(turn), np.sin(turn)
    return np.array([[c, -s, (FRAME_WH[0] - 1) / 2 + x], [s, c, (FRAME_WH[1] - 1) / 2 + y], [0, 0, 1]])


if __name__ == "__main__":
    main()
