"""A product's component list as an engineer has it: a CSV file, centres of parts in pixels or millimetres."""

from __future__ import annotations

import csv
from pathlib import Path

from pydantic import ValidationError

from hisir_edge.bundle.manifest import ComponentModel
from hisir_edge.errors import InputError

NAMES = ("x", "y", "width", "height")
FIX = "begin the file with the line designator,x_mm,y_mm,width_mm,height_mm (or _px), and part_number if you like"


def components_from_csv(path: Path, mm_per_px: float | None) -> tuple[ComponentModel, ...]:
    """Read ``designator, x, y, width, height[, part_number]``: x and y are the part's centre.

    Columns end in ``_px`` (pixels of the golden image, origin at its upper left corner) or ``_mm`` (the same origin and
    directions; needs ``mm_per_px``). InputError names the file's first fault.
    """
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(expected="a CSV list of components", received=f"{path} ({error})", fix=FIX) from error
    columns = set(rows[0]) if rows else set()
    unit = next((u for u in ("mm", "px") if {"designator", *(f"{n}_{u}" for n in NAMES)} <= columns), "")
    if not unit:
        raise InputError(
            expected="a CSV list of components",
            received=f"{path} with the columns {sorted(map(str, columns))}",
            fix=FIX,
        )
    if unit == "mm" and mm_per_px is None:
        raise InputError(expected="--mm-per-px with a list in mm", received="none", fix="measure a known distance")
    scale = 1 / mm_per_px if unit == "mm" and mm_per_px else 1.0
    found = []
    for number, row in enumerate(rows, 2):
        try:
            x, y, w, h = (float(row[f"{n}_{unit}"]) * scale for n in NAMES)
            found.append(
                ComponentModel(
                    designator=(row["designator"] or "").strip(), x=x - w / 2, y=y - h / 2, width=w, height=h,
                    part_number=(row.get("part_number") or "").strip(),
                )
            )  # fmt: skip
        except (TypeError, ValueError) as error:
            said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise InputError(
                expected="a component in each line", received=f"{path}:{number}: {said}", fix=FIX
            ) from error
    names = [part.designator for part in found]
    if twice := sorted({name for name in names if names.count(name) > 1}) if len(names) != len(set(names)) else []:
        raise InputError(
            expected="each designator once", received=f"{twice[0]} in {path}", fix="rename or take one out"
        )
    return tuple(found)
