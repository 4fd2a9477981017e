"""Tables in text files of which nobody knows how they are separated: rows as cells under known column names."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hisir_edge.errors import InputError

COLUMNS = {
    "designator": ("designator", "refdes", "ref", "referencedesignator", "reference", "component", "name", "part",
                   "id"),
    "x": ("centerx", "midx", "xmid", "posx", "xcenter", "centroidx", "x", "xpos", "xcoordinate", "xcoord", "xlocation",
          "locationx", "refx", "padx"),
    "y": ("centery", "midy", "ymid", "posy", "ycenter", "centroidy", "y", "ypos", "ycoordinate", "ycoord", "ylocation",
          "locationy", "refy", "pady"),
    "rotation": ("rotation", "rot", "angle", "orientation", "theta"),
    "side": ("layer", "side", "tb", "boardside", "mountside", "topbottom"),
    "package": ("footprint", "package", "pattern", "packagename", "footprintname", "decal", "symname"),
    "value": ("val", "value", "comment", "partnumber", "partno", "mpn", "device", "description"),
}  # fmt: skip
"""What columns are called, letters alone; the first that is there counts: the centre before a reference point."""
UNIT_OF_NAME = re.compile(r"[(\[_ ](mm|mils?|in|inch|inches|um|cm)[)\]]?\s*$", re.IGNORECASE)
MOST_BYTES, MOST_BEFORE = 64 * 2**20, 200
"""Of a file; lines before the table at most."""
Split = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the file: by column its text; ``units``: what the columns' names say of their numbers."""

    number: int
    cells: dict[str, str]
    units: dict[str, str]


def lines_of_file(path: Path) -> list[tuple[int, str]]:
    """Lines with something in them, by their numbers; UTF-8, UTF-16 with its mark, or what Windows writes else."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(
            expected="a pick-and-place file", received=f"{path}: {error.strerror}", fix="name one"
        ) from error
    if len(raw) > MOST_BYTES:
        raise InputError(
            expected=f"at most {MOST_BYTES} bytes", received=f"{path}: {len(raw)}", fix="name another file"
        )
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = raw.decode("utf-16", "replace")
    else:
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = raw.decode("cp1252", "replace")
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip(" \t,;")]


def rows_of_table(lines: list[tuple[int, str]]) -> list[Row] | None:
    """The rows below the first line that names designator, x and y; None where no line does.

    ValueError, with the line's number, for a row that is too short.
    """
    for at, (_, line) in enumerate(lines[:MOST_BEFORE]):
        head, below = re.sub(r"^\s*#", " ", line), lines[at + 1 :]
        for split in (*map(_separated_by, ",;\t|"), _between_columns_of(head), str.split):
            names = split(head)
            known = _known(names)
            if known is not None and all(split(row) for _, row in below):  # fixed width cuts through no cell
                units = {what: _unit_of(names[n]) for what, n in known.items()}
                return list(_rows(below, split, known, units, len(names)))
    return None


def _rows(
    lines: list[tuple[int, str]], split: Split, known: dict[str, int], units: dict[str, str], count: int
) -> Iterator[Row]:
    for number, line in lines:
        cells = split(line)
        if line.lstrip().startswith("#") or not any(re.search(r"\d", cell) for cell in cells):
            continue  # a remark, a line of dashes
        if split is str.split and len(cells) > count:  # blanks within a value, which is the second column
            extra = len(cells) - count
            cells = [cells[0], " ".join(cells[1 : 2 + extra]), *cells[2 + extra :]]
        if len(cells) <= max(known["designator"], known["x"], known["y"]):
            raise ValueError(f"{number}: {len(cells)} cells where the table has {count} columns")
        if not any(cells[known[what]].strip() for what in ("x", "y")) and not cells[known["designator"]].strip():
            continue
        yield Row(number, {what: cells[n].strip() if n < len(cells) else "" for what, n in known.items()}, units)


def _known(names: list[str]) -> dict[str, int] | None:
    """Which column is what; None where this is no head of such a table."""
    plain = [_plain(name) for name in names]
    found = {
        what: next(plain.index(name) for name in known if name in plain)
        for what, known in COLUMNS.items()
        if any(name in plain for name in known)
    }
    return found if {"designator", "x", "y"} <= set(found) else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]", "", UNIT_OF_NAME.sub("", name.strip().strip('"').lower()))


def _unit_of(name: str) -> str:
    found = UNIT_OF_NAME.search(name.strip().strip('"'))
    return found[1].lower() if found else ""


def _separated_by(sign: str) -> Split:
    def split(line: str) -> list[str]:
        try:
            return next(csv.reader([line], delimiter=sign, skipinitialspace=True), [])
        except csv.Error:  # a cell of more than 128 kB
            return []

    return split


def _between_columns_of(head: str) -> Split:
    """Cells of fixed width: each begins where its name does."""
    starts = [found.start() for found in re.finditer(r"\S+", head)]

    def split(line: str) -> list[str]:
        if not starts:
            return []
        ends = [*starts[1:], max(len(line), *starts)]
        cells = [line[a:b] for a, b in zip(starts, ends, strict=True)]
        cut = any(0 < a < len(line) and not line[a - 1].isspace() and not line[a].isspace() for a in starts)
        return [] if cut else [cell.strip() for cell in cells]

    return split
