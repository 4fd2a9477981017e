"""Pick-and-place files as CAD programs write them: KiCad, Altium, Eagle, and tables in general.

There is no standard for them. Common is a designator, the part's centre, a rotation counter-clockwise, a side, y
upwards; everything else differs: separators, decimal commas, units (in the head, in a column's name, behind each
number), lines before the table, columns of fixed width, no head at all (Eagle).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from hisir_edge.engine.parts.table import Row, lines_of_file, rows_of_table
from hisir_edge.errors import InputError

MM = {"mm": 1.0, "mil": 0.0254, "mils": 0.0254, "in": 25.4, "inch": 25.4, "inches": 25.4, "um": 0.001, "cm": 10.0}
"""Millimetres of each unit."""
SIDES = {  # also of tools that write Chinese
    "top": "top", "t": "top", "toplayer": "top", "topside": "top", "front": "top", "f": "top", "fcu": "top",
    "componentside": "top", "primary": "top", "顶层": "top", "正面": "top",
    "bottom": "bottom", "b": "bottom", "bot": "bottom", "back": "bottom", "bottomlayer": "bottom",
    "bottomside": "bottom", "bcu": "bottom", "solderside": "bottom", "secondary": "bottom", "底层": "bottom",
    "反面": "bottom",
}  # fmt: skip
NUMBER = re.compile(r"([-+]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][-+]?\d+)?)\s*([a-zA-Z]*)")
ANGLE = re.compile(r"(M?)R?([-+]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][-+]?\d+)?)\s*(?:°|deg)?")
EAGLE = re.compile(r"(\S+)\s+(\S+)\s+(\S+)\s+(M?R?[-+]?[\d.,]+)(?:\s+(.*?))??\s+(\S+)")
UNIT_LINE = re.compile(r"^\W*units?(?:\s+used)?\s*[:=]\s*([a-z]+)", re.IGNORECASE)
BOTTOM = re.compile(r"(?<![a-z])(?:bottom|bot|back)(?![a-z])|\.mnb$")
MOST_PARTS = 100_000
FIX = "name the columns Designator, X, Y, Rotation, Side, Package, or export as KiCad, Altium or Eagle does"


@dataclass(frozen=True, slots=True)
class Placement:
    """A part: its centre in mm, x to the right and y upwards as the file has them; rotation counter-clockwise."""

    designator: str
    x_mm: float
    y_mm: float
    rotation_deg: float = 0.0
    side: str = "top"
    package: str = ""
    value: str = ""


def placements_from_file(path: Path, unit: str = "") -> tuple[tuple[Placement, ...], str]:
    """All parts of a file, in its order, and the unit that was taken, with why.

    ``unit``: what numbers are in that say nothing themselves; empty: what the file says, else mm. InputError for what
    is no such file, and for a part that cannot be read.
    """
    lines = lines_of_file(path)
    said = next((told[1].lower() for _, line in lines if (told := UNIT_LINE.match(line))), "")
    given = unit or said or "mm"
    if given not in MM:
        raise InputError(expected=f"a unit of {', '.join(MM)}", received=given, fix="name it with --unit")
    try:
        rows = rows_of_table(lines)
        rows = _rows_of_eagle(lines) if rows is None else rows
        if rows is None:
            raise InputError(expected="a table of parts", received=f"none in {path}", fix=FIX)
        side = "bottom" if BOTTOM.search(path.name.lower()) else "top"
        _check_commas(rows)
        parts = tuple(_placement(row, given, side) for row in rows)
    except ValueError as error:
        raise InputError(expected="a part in each line", received=f"{path}:{error}", fix=FIX) from error
    if not 0 < len(parts) <= MOST_PARTS:
        raise InputError(expected=f"1 to {MOST_PARTS} parts", received=f"{len(parts)} in {path}", fix=FIX)
    name, count = Counter(one.designator for one in parts).most_common(1)[0]
    if count > 1:
        raise InputError(
            expected="each designator once", received=f"{name} {count} times in {path}",
            fix="export one board of the panel",
        )  # fmt: skip
    of_row = _unit_of_row(rows[0])
    return parts, of_row or (given if unit or said else f"{given} (the file says nothing: --unit)")


def _unit_of_row(row: Row) -> str:
    """What a row says of its own numbers; empty: nothing."""
    number = NUMBER.fullmatch(row.cells["x"].strip())
    return str(number[2] if number else "") or row.units.get("x", "")


def _placement(row: Row, unit: str, side: str) -> Placement:
    """ValueError, with the line's number, for a row that is no part."""
    cells = row.cells
    angle = ANGLE.fullmatch(cells.get("rotation", "").strip() or "0")
    told = re.sub(r"[\s._-]", "", cells.get("side", "").lower())
    if angle is None or (told and told not in SIDES) or not cells["designator"]:
        wrong = f"rotation {cells.get('rotation')!r}" if angle is None else f"side {cells.get('side')!r}"
        raise ValueError(f"{row.number}: {wrong if cells['designator'] else 'no designator'}")
    return Placement(
        designator=cells["designator"][:64],
        x_mm=_mm(row, "x", unit),
        y_mm=_mm(row, "y", unit),
        rotation_deg=_turn(row, angle[2]),
        side="bottom" if angle[1] else SIDES.get(told, side),
        package=cells.get("package", ""),
        value=cells.get("value", ""),
    )


def _turn(row: Row, text: str) -> float:
    degrees = float(text.replace(",", "."))
    if not abs(degrees) < 1e6:
        raise ValueError(f"{row.number}: rotation {text!r}")
    return degrees % 360


def _check_commas(rows: list[Row]) -> None:
    """ValueError where some numbers have points and some commas: a comma may then stand for thousands."""
    places = [row.cells[what] for row in rows for what in ("x", "y")]
    if any("." in cell for cell in places) and (comma := next((c for c in places if "," in c), "")):
        number = next(row.number for row in rows if comma in (row.cells["x"], row.cells["y"]))
        raise ValueError(f"{number}: {comma!r}, where other numbers have a point")


def _mm(row: Row, what: str, unit: str) -> float:
    """A coordinate in mm: by the unit behind it, by its column's, by the file's."""
    found = NUMBER.fullmatch(row.cells[what].strip())
    if found is None or (found[2] and found[2].lower() not in MM):
        raise ValueError(f"{row.number}: {what} {row.cells[what]!r}")
    millimetres = float(found[1].replace(",", ".")) * MM[(found[2] or row.units.get(what) or unit).lower()]
    if not abs(millimetres) < 10_000:
        raise ValueError(f"{row.number}: {what} {row.cells[what]!r} is no place on a board")
    return millimetres


def _rows_of_eagle(lines: list[tuple[int, str]]) -> list[Row] | None:
    """``NAME X Y ANGLE VALUE PACKAGE`` without a head, as Eagle's mountsmd writes; None where it is not that."""
    rows = []
    for number, line in lines:
        found = EAGLE.fullmatch(line.strip())
        if found is None or not all(NUMBER.fullmatch(found[n]) for n in (2, 3)):
            return None
        names = ("designator", "x", "y", "rotation", "value", "package")
        rows.append(Row(number, dict(zip(names, (cell or "" for cell in found.groups()), strict=True)), {}))
    return rows or None
