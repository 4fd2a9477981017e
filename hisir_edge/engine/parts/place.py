"""Parts of a pick-and-place file as a bundle's components: boxes in pixels of the camera's frame."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hisir_edge.arrays import F64, U8
from hisir_edge.bundle.manifest import ComponentModel
from hisir_edge.engine.parts.fit import Fit
from hisir_edge.engine.parts.packages import Size, size_of_package
from hisir_edge.engine.parts.placements import Placement
from hisir_edge.errors import InputError
from hisir_edge.images import jpeg_bytes

UNKNOWN_MM: Size = (1.5, 1.5)
"""A part whose size nobody knows, so that its name is not lost."""
GROW_MM = 0.15
"""Around each part: solder belongs to it."""
MOST_OUTSIDE, MOST_WITHIN = 0.2, 0.3
"""Shares of the parts that may lie beside the picture; whose centres may lie in another part's box."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Components, those of them whose size is not known (by designator), and parts beside the picture."""

    components: tuple[ComponentModel, ...]
    unsized: tuple[str, ...]
    outside: tuple[str, ...]


def upright_sizes_mm(parts: tuple[Placement, ...], table: dict[str, Size]) -> F64:
    """(n, 2): each part's size as it lies, NaN where nobody knows it."""
    sizes = [size_of_package(one.package, table) or (math.nan, math.nan) for one in parts]
    turns = np.radians([one.rotation_deg for one in parts])
    c, s = np.abs(np.cos(turns)), np.abs(np.sin(turns))
    w, h = np.array(sizes, np.float64).reshape(-1, 2).T
    return np.column_stack([c * w + s * h, s * w + c * h])


def placed(parts: tuple[Placement, ...], fit: Fit, table: dict[str, Size], frame_wh: tuple[int, int]) -> Placed:
    """InputError where the parts do not lie on the picture, or where they lie in each other: a wrong unit."""
    known = [size_of_package(one.package, table) for one in parts]
    centres = fit.to_px(np.array([(one.x_mm, one.y_mm) for one in parts], np.float64).reshape(-1, 2))
    made, unsized, outside = [], [], []
    for one, size, (x, y) in zip(parts, known, centres.tolist(), strict=True):
        w, h = _box_px(one, size or UNKNOWN_MM, fit)
        left, top = max(x - w / 2, 0.0), max(y - h / 2, 0.0)
        right, bottom = min(x + w / 2, frame_wh[0]), min(y + h / 2, frame_wh[1])
        if not (0 <= x < frame_wh[0] and 0 <= y < frame_wh[1]):
            outside.append(one.designator)
            continue
        if size is None:
            unsized.append(one.designator)
        made.append(
            ComponentModel(
                designator=one.designator, x=left, y=top, width=right - left, height=bottom - top,
                part_number=one.value[:64],
            )
        )  # fmt: skip
    if len(outside) > MOST_OUTSIDE * len(parts):
        raise InputError(
            expected="the parts on the picture", received=f"{len(outside)} of {len(parts)} beside it",
            fix="correct --at, --side or --unit",
        )  # fmt: skip
    within = _within_others(made, set(unsized))
    if within > MOST_WITHIN:
        raise InputError(
            expected="parts beside each other", received=f"{within:.0%} of them in the box of another",
            fix="name the file's unit: --unit mil, mm or inch; or the packages' sizes: --packages",
        )  # fmt: skip
    return Placed(tuple(made), tuple(unsized), tuple(outside))


def _box_px(one: Placement, size: Size, fit: Fit) -> Size:
    """Width and height of the upright box around a part as it lies in the picture."""
    angle = math.radians(one.rotation_deg)
    axes = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    across = np.abs(fit.matrix[:, :2] @ axes) @ np.array(size)
    grow = 2 * GROW_MM * fit.px_per_mm
    return float(across[0]) + grow, float(across[1]) + grow


def _within_others(made: list[ComponentModel], unsized: set[str]) -> float:
    """Share of parts whose centre lies in the box of another one that is not much larger (an area of 4 times)."""
    sized = [one for one in made if one.designator not in unsized]
    if len(sized) < 8:
        return 0.0
    boxes = np.array([(one.x, one.y, one.width, one.height) for one in sized])
    centres, area = boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2] * boxes[:, 3]
    count = 0
    for n, (x, y) in enumerate(centres):
        inside = (
            (boxes[:, 0] < x) & (x < boxes[:, 0] + boxes[:, 2]) & (boxes[:, 1] < y) & (y < boxes[:, 1] + boxes[:, 3])
        )
        inside[n] = False
        count += bool((inside & (area < 4 * area[n])).any())
    return count / len(sized)


def csv_of_components(components: tuple[ComponentModel, ...]) -> str:
    """As ``build-engine --components`` reads it."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n")
    write.writerow(("designator", "x_px", "y_px", "width_px", "height_px", "part_number"))
    for one in components:
        x, y = one.x + one.width / 2, one.y + one.height / 2
        write.writerow((one.designator, *(f"{v:.2f}" for v in (x, y, one.width, one.height)), one.part_number))
    return out.getvalue()


def overlay(picture: U8, made: Placed, points_px: F64, frame_px: float = 1.0) -> bytes:
    """A JPEG to look at: a box and a name for each part (yellow: of unknown size), a cross at each fiducial.

    ``frame_px``: pixels of the camera's frame, which components are in, that are one of the picture.
    """
    drawn = picture.copy()
    scale = max(drawn.shape[1] / 2400, 0.4)
    thin = max(round(1.5 * scale), 1)
    unsized = set(made.unsized)
    for one in made.components:
        colour = (255, 220, 0) if one.designator in unsized else (0, 230, 255)
        left, top, right, bottom = (v / frame_px for v in (one.x, one.y, one.x + one.width, one.y + one.height))
        a, b = (round(left), round(top)), (round(right), round(bottom))
        cv2.rectangle(drawn, a, b, colour, thin)
        text = 0.5 * scale
        cv2.putText(drawn, one.designator, (a[0], a[1] - thin), cv2.FONT_HERSHEY_SIMPLEX, text, (0, 0, 0), 3 * thin)
        cv2.putText(drawn, one.designator, (a[0], a[1] - thin), cv2.FONT_HERSHEY_SIMPLEX, text, colour, thin)
    for x, y in points_px.tolist():
        cv2.drawMarker(drawn, (round(x), round(y)), (255, 0, 255), cv2.MARKER_CROSS, round(60 * scale), 2 * thin)
    return jpeg_bytes(drawn, quality=85)


def write_text(path: Path, text: str) -> None:
    """InputError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            expected=f"to write {path}", received=str(error.strerror), fix="choose another --out"
        ) from error
