"""Which pictures show the same board: photos of one board, or copies of one file, say nothing about other boards.

Two photos are aligned (OpenCV's ``findTransformECC``, Evangelidis and Psarakis 2008, PAMI 30), light and sharpness are
fitted away, and what is left is measured in units of the photo's own gradients. On rendered boards two photos of one
board leave 0.05 to 0.10 of it and two boards 0.37 and more; real boards of one kind 1.2 and more (docs/RESULTS.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, U8
from hisir_edge.images import Rules, read_rgb
from hisir_edge.images.read import IN_COLOUR

SMALL_PX, SMALLEST_PX = 416, 140
"""Sides of squares with as many pixels as a photo has when it is compared."""
NEIGHBOURS = 4
"""Each photo is compared with as many others, those that look most alike when all are aligned to the first one."""
LEAST_LIKENESS = 0.7
SAME_BOARD, PERHAPS = 0.2, 0.5
"""Below the first two photos show one board; above the second, in a smaller picture, they need no closer look."""
MARGIN_PX, LIGHT_PX = 8, 5.0
ROUNDS, FINE_ENOUGH = 60, 1e-5


@dataclass(frozen=True, slots=True)
class Look:
    """Features of a photo for the comparison: its pixels' hash, and grey pictures (h, w) of two sizes."""

    sha256: bytes
    small: F32 = field(repr=False)
    smallest: F32 = field(repr=False)


def look_of(rgb: U8) -> Look:
    """A photo (h, w, 3) as ``boards_of_looks`` compares it."""
    grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.float32)
    return Look(hashlib.sha256(rgb.tobytes()).digest(), _shrunk(grey, SMALL_PX), _shrunk(grey, SMALLEST_PX))


def _shrunk(grey: F32, side_px: int) -> F32:
    scale = min(1.0, side_px / float(np.sqrt(grey.size)))
    size = max(round(grey.shape[1] * scale), 1), max(round(grey.shape[0] * scale), 1)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)


def boards_of_pictures(
    paths: list[Path],
    frame_hw: tuple[int, int],
    on_done: Callable[[], None] = lambda: None,
    rules: Rules = IN_COLOUR,
) -> list[int]:
    """Per picture a number that all pictures of the same board share; InputError for one that cannot be read."""
    looks = []
    for path in paths:
        looks.append(look_of(read_rgb(path, frame_hw, rules)))
        on_done()
    return boards_of_looks(looks)


def boards_of_looks(looks: list[Look]) -> list[int]:
    """See ``boards_of_pictures``; the number is the first such picture's place."""
    first: dict[bytes, int] = {}
    boards = [first.setdefault(look.sha256, i) for i, look in enumerate(looks)]
    if not boards:
        return []
    unlike = sorted(set(boards))
    poses = [_pose(looks[unlike[0]].smallest, looks[i].smallest) for i in unlike]
    likeness = _likeness([looks[i].smallest for i in unlike], poses)
    for a, i in enumerate(unlike):
        for b in np.argsort(-likeness[a])[:NEIGHBOURS].tolist():
            j = unlike[b]
            known = boards[i] == boards[j] or likeness[a, b] < LEAST_LIKENESS
            if not known and _show_one_board(looks[i], looks[j], _from_to(poses[a], poses[b])):
                old, new = max(boards[i], boards[j]), min(boards[i], boards[j])
                boards = [new if board == old else board for board in boards]
    return boards


def _pose(reference: F32, photo: F32) -> F32:
    """(2, 3) matrix from the reference's pixels to a photo's, the identity where they cannot be aligned."""
    window = np.asarray(cv2.createHanningWindow(reference.shape[::-1], cv2.CV_32F))
    # with a window OpenCV 4.14 multiplies its own inputs by it where their size needs no padding: copies
    shift, _ = cv2.phaseCorrelate(reference.copy(), photo.copy(), window)
    found = _aligned(reference, photo, np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32))
    if found is None:
        found = _aligned(reference, photo, np.eye(2, 3, dtype=np.float32))
    return np.eye(2, 3, dtype=np.float32) if found is None else found


def _aligned(a: F32, b: F32, to_b: F32) -> F32 | None:
    """The matrix from a's pixels to b's, found from about where it is; None where it does not converge."""
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, ROUNDS, FINE_ENOUGH)
    try:
        _, found = cv2.findTransformECC(a, b, to_b.copy(), cv2.MOTION_AFFINE, stop, None, 5)  # type: ignore[call-overload]
    except cv2.error:
        return None
    return np.asarray(found, np.float32)


def _from_to(to_a: F32, to_b: F32) -> F32:
    """From a's pixels to b's, where both matrices begin at the reference."""
    whole = np.vstack([to_b, [0, 0, 1]]) @ np.linalg.inv(np.vstack([to_a, [0, 0, 1]]))
    return np.asarray(whole[:2], np.float32)


def _moved(photo: F32, to_photo: F32, hw: tuple[int, int]) -> F32:
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(photo, to_photo, hw[::-1], flags=how, borderMode=cv2.BORDER_REPLICATE))


def _likeness(photos: list[F32], poses: list[F32]) -> F64:
    """(n, n) correlation of each two photos, aligned and without what changes slowly, as light does; -1 with itself."""
    hw = photos[0].shape[0], photos[0].shape[1]
    rows = []
    for photo, pose in zip(photos, poses, strict=True):
        row = _moved(photo, pose, hw)
        row = (row - cv2.GaussianBlur(row, (0, 0), LIGHT_PX)).ravel()
        rows.append(row / max(float(np.linalg.norm(row)), 1e-9))
    likeness = np.asarray(np.stack(rows) @ np.stack(rows).T, np.float64)
    np.fill_diagonal(likeness, -1)
    return likeness


def _show_one_board(a: Look, b: Look, to_b: F32) -> bool:
    """Whether two photos do; ``to_b``: about where b's board lies against a's, in their smallest pictures."""
    if difference(a.smallest, b.smallest, to_b) > PERHAPS:
        return False
    larger = to_b.copy()
    larger[:, 2] *= a.small.shape[1] / a.smallest.shape[1]
    return difference(a.small, b.small, larger) < SAME_BOARD


def difference(a: F32, b: F32, to_b: F32) -> float:
    """Residual between two grey photos (h, w) after alignment, light and sharpness, in units of a's gradients.

    ``to_b``: about where b's board lies against a's. Infinite where they cannot be aligned.
    """
    margin = min(MARGIN_PX, min(a.shape) // 8)
    found = _aligned(a, b, to_b)
    if found is None or margin < 1:
        return float("inf")
    along_x, along_y = (np.asarray(cv2.Sobel(a, cv2.CV_32F, *way, scale=1 / 8)) for way in ((1, 0), (0, 1)))
    slope = np.hypot(along_x, along_y)
    inner = (slice(margin, -margin), slice(margin, -margin))
    moved = _moved(b, found, (a.shape[0], a.shape[1]))
    left = _unexplained(a[inner], moved[inner], np.asarray(cv2.Laplacian(a, cv2.CV_32F), np.float32)[inner])
    return float(np.quantile(np.abs(cv2.blur(left, (3, 3))), 0.995) / max(np.quantile(slope[inner], 0.95), 1e-6))


def _unexplained(a: F32, b: F32, laplacian: F32) -> F32:
    """B less its best fit by a, with light that changes evenly over the picture, and by a's sharpness."""
    y, x = (np.asarray(v, np.float32) for v in np.mgrid[-1 : 1 : a.shape[0] * 1j, -1 : 1 : a.shape[1] * 1j])
    terms = np.stack([a, a * x, a * y, np.ones_like(a), x, y, laplacian], -1).reshape(-1, 7)
    fit, *_ = np.linalg.lstsq(terms[::3], b.ravel()[::3], rcond=None)
    return np.asarray((b.ravel() - terms @ fit).reshape(a.shape), np.float32)


def same_boards(paths: list[Path], boards: list[int]) -> tuple[tuple[str, ...], ...]:
    """Groups of two and more pictures that show one board."""
    groups: dict[int, list[str]] = {}
    for path, board in zip(paths, boards, strict=True):
        groups.setdefault(board, []).append(str(path))
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def boards_among(paths: tuple[str, ...], groups: tuple[tuple[str, ...], ...]) -> list[int]:
    """Per picture the number of its board, from 0 on, by the groups of ``same_boards``."""
    group_of = {path: number for number, group in enumerate(groups) for path in group}
    numbers: dict[object, int] = {}
    return [numbers.setdefault(group_of.get(path, path), len(numbers)) for path in paths]
