"""From the CAD file's millimetres to the golden image's pixels: a similarity through fiducials or parts.

The file's y goes upwards, the image's downwards. The bottom side is seen from below: its x is mirrored, unless the file
has it as it is seen already (KiCad can negate it).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np

from hisir_edge.arrays import F64, U8
from hisir_edge.errors import InputError

CLEARLY = 3.0
"""Three or more points tell the sides apart where one fits so many times better than the other."""
AROUND_PX, ROUND = 60, 0.25
"""How far from a click a fiducial's disc is looked for; how far its shape may be from a disc's."""


@dataclass(frozen=True, slots=True)
class Fit:
    """``matrix`` (2, 3): millimetres of the file to pixels; ``residual_px``: of each point that it was made from."""

    matrix: F64 = field(repr=False)
    mirrored: bool
    residual_px: F64 = field(repr=False)

    @property
    def px_per_mm(self) -> float:
        """Pixels of a millimetre."""
        return math.sqrt(abs(float(np.linalg.det(self.matrix[:, :2]))))

    @property
    def turned_deg(self) -> float:
        """How the file's x axis lies in the image, clockwise."""
        return math.degrees(math.atan2(self.matrix[1, 0], self.matrix[0, 0])) % 360

    def to_px(self, points_mm: F64) -> F64:
        """(n, 2) -> (n, 2)."""
        return np.asarray(points_mm @ self.matrix[:, :2].T + self.matrix[:, 2], np.float64)


def fitted(points_mm: F64, points_px: F64, mirrored: bool) -> Fit:
    """The similarity through two or more pairs of points (n, 2), by least squares (Umeyama 1991, without mirroring).

    InputError for points of which fewer than two differ.
    """
    seen = points_mm * np.array([-1.0 if mirrored else 1.0, -1.0])
    a, b = seen - seen.mean(0), points_px - points_px.mean(0)
    spread = float((a**2).sum())
    if len(points_mm) < 2 or spread < 1e-6 or float((b**2).sum()) < 1e-6:
        raise InputError(
            expected="two or more fiducials in different places", received=f"{len(points_mm)}", fix="name more: --at"
        )
    along, across = float((a * b).sum()), float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum())
    c, s = along / spread, across / spread
    turn = np.array([[c, -s], [s, c]]) @ np.diag([-1.0 if mirrored else 1.0, -1.0])
    shift = points_px.mean(0) - turn @ points_mm.mean(0)
    residual = np.hypot(*(points_mm @ turn.T + shift - points_px).T)
    return Fit(np.column_stack([turn, shift]), mirrored, np.asarray(residual, np.float64))


def fit_of_points(points_mm: F64, points_px: F64, mirrored: bool, is_given: bool) -> Fit:
    """``fitted``, told by three points and more which side it is; ``is_given``: a person has said so.

    InputError where the points say that it is the other one.
    """
    this, other = (fitted(points_mm, points_px, side) for side in (mirrored, not mirrored))
    worst, others = (max(float(fit.residual_px.max()), 0.5) for fit in (this, other))
    if len(points_mm) < 3 or worst <= CLEARLY * others:
        return this
    if is_given:
        raise InputError(
            expected=f"points of a {'mirrored' if mirrored else 'side that is not mirrored'}",
            received=f"points that fit {worst / others:.0f} times better the other way",
            fix="leave out --mirrored or --not-mirrored, or correct --side",
        )
    return other


def disc_near(picture: U8, at_xy: tuple[float, float]) -> tuple[float, float] | None:
    """The centre of the bright or dark disc around or nearest a click, to a fraction of a pixel; None: there is none.

    ``picture`` (h, w, 3). A fiducial is a copper disc in an opening of the mask.
    """
    x, y = round(at_xy[0]), round(at_xy[1])
    left, top = max(x - AROUND_PX, 0), max(y - AROUND_PX, 0)
    window = picture[top : y + AROUND_PX + 1, left : x + AROUND_PX + 1]
    if min(window.shape[:2]) < 8:
        return None
    grey = cv2.cvtColor(window, cv2.COLOR_RGB2GRAY)
    best: tuple[float, tuple[float, float]] | None = None
    for flag in (cv2.THRESH_BINARY, cv2.THRESH_BINARY_INV):
        _, solid = cv2.threshold(grey, 0, 255, flag + cv2.THRESH_OTSU)
        count, _, stats, centres = cv2.connectedComponentsWithStats(solid)
        for label in range(1, count):
            bx, by, w, h, area = stats[label].tolist()
            touches = bx == 0 or by == 0 or bx + w == window.shape[1] or by + h == window.shape[0]
            filled = area / (math.pi / 4 * w * h)
            if touches or min(w, h) < 6 or abs(w / h - 1) > ROUND or abs(filled - 1) > ROUND:
                continue
            cx, cy = centres[label].tolist()
            away = math.hypot(cx + left - at_xy[0], cy + top - at_xy[1])
            if away < AROUND_PX / 2 + max(w, h) / 2 and (best is None or away < best[0]):
                best = (away, (cx + left, cy + top))
    return best[1] if best else None
