"""How large a part is, by its package's name, or by a table; millimetres of the body with its leads."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from hisir_edge.errors import InputError

Size = tuple[float, float]
CHIPS = {
    "01005": (0.4, 0.2), "0201": (0.6, 0.3), "0402": (1.0, 0.5), "0603": (1.6, 0.8), "0805": (2.0, 1.25),
    "1206": (3.2, 1.6), "1210": (3.2, 2.5), "1806": (4.5, 1.6), "1808": (4.5, 2.0), "1812": (4.5, 3.2),
    "2010": (5.0, 2.5), "2220": (5.7, 5.0), "2512": (6.3, 3.2), "2917": (7.3, 4.3),
}  # fmt: skip
"""Chips by their size in hundredths of an inch, as IPC-7352 and makers name them."""
BODIES = {
    "sot23": (3.0, 2.5), "sot323": (2.2, 2.1), "sc70": (2.2, 2.1), "sot363": (2.2, 2.1), "sot523": (1.7, 1.7),
    "sot89": (4.5, 4.2), "sot223": (6.7, 7.0), "dpak": (6.7, 10.0), "to252": (6.7, 10.0), "d2pak": (10.3, 15.5),
    "to263": (10.3, 15.5), "sod123": (3.8, 1.8), "sod323": (2.6, 1.4), "sod523": (1.7, 0.9), "sod80": (3.6, 1.6),
    "minimelf": (3.6, 1.6), "melf": (5.9, 2.5), "sma": (5.2, 2.7), "smb": (5.5, 3.8), "smc": (8.1, 6.2),
    "do214ac": (5.2, 2.7), "do214aa": (5.5, 3.8), "do214ab": (8.1, 6.2), "casea": (3.2, 1.6), "caseb": (3.5, 2.8),
    "casec": (6.0, 3.2), "cased": (7.3, 4.3), "casee": (7.3, 4.3), "hc49": (11.4, 4.8),
}  # fmt: skip
ROWS = {
    "soic": (1.27, 3.9, 6.0), "sop": (1.27, 4.4, 6.5), "soj": (1.27, 7.6, 8.5), "ssop": (0.65, 5.3, 7.8),
    "tssop": (0.65, 4.4, 6.4), "msop": (0.65, 3.0, 4.9), "vssop": (0.5, 2.3, 3.1), "dip": (2.54, 6.35, 7.62),
}  # fmt: skip
"""Two rows of leads: usual pitch, width of the body, width over the leads."""
FAMILIES = ("tssop", "ssop", "msop", "vssop", "soic", "soj", "sop", "dip")
"""Of ``ROWS``, a name before those that it holds."""
SMALLEST_MM, LARGEST_MM = 0.1, 200.0
IPC_ROWS = re.compile(r"[a-z]+?\d{2,3}p(\d{3,4})x\d+-(\d{1,3})")
"""SOIC127P600X175-8N: pitch, span over the leads in hundredths of a millimetre, height, pins (IPC-7351)."""
IPC_CHIP = re.compile(r"(?:cap|res|ind|led|dio|bead|fuse|xtal)[a-z]*?(\d{4})x(\d+)")
SIDES_OF_NAME = re.compile(
    r"(?<!pad)(?<!ep)(?<![\d.,])(\d+(?:[.,]\d+)?)\s*(?:mm)?\s*x\s*(\d+(?:[.,]\d+)?)\s*(?:x\s*\d+(?:[.,]\d+)?\s*)?mm"
)
METRIC = re.compile(r"(?<!\d)(\d\d)(\d\d)metric")
DIAMETER = re.compile(r"[_-]d(\d+(?:[.,]\d+)?)(?:mm)?(?:[_-]|$)")
PINS = re.compile(r"(?:tssop|vssop|msop|ssop|soic|soj|sop|so|dip)[-_ ]?(\d{1,2})(?![\dp])|-(\d{1,3})[a-z]?$")


def sizes_from_csv(path: Path) -> dict[str, Size]:
    """A table ``package,width_mm,height_mm``: by name, lower case. InputError names the first fault."""
    fix = "begin it with the line package,width_mm,height_mm"
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
        sizes = {row["package"].strip().lower(): (float(row["width_mm"]), float(row["height_mm"])) for row in rows}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(expected="a table of packages", received=f"{path} ({error})", fix=fix) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(expected="a package in each line", received=f"{path}: {error}", fix=fix) from error
    if wrong := next((name for name, size in sizes.items() if not all(0 < side <= 1000 for side in size)), None):
        raise InputError(expected="sizes above 0 mm", received=f"{wrong}: {sizes[wrong]}", fix=f"correct {path}")
    return sizes


def size_of_package(name: str, table: dict[str, Size]) -> Size | None:
    """Width and height at a rotation of 0, mm; None where nobody knows. What the table has counts first."""
    low = name.strip().lower()
    for known in (low, low.rpartition(":")[2]):
        if known in table:
            return table[known]
    low = low.rpartition(":")[2]
    found = _of_ipc_rows(low) or _of_sides(low) or _of_chip(low) or _of_body(low) or _of_rows(low)
    return found if found and all(SMALLEST_MM <= side <= LARGEST_MM for side in found) else None


def _of_sides(low: str) -> Size | None:
    """``5x5mm``, ``D10.0mm``: what the name says; of a package with leads over them."""
    sides = SIDES_OF_NAME.search(low)
    if sides is not None:
        a, b = (float(sides[n].replace(",", ".")) for n in (1, 2))
        family = next((one for one in FAMILIES if low.startswith(one)), "")
        if family:  # KiCad: width of the body across the leads first
            _, body, over = ROWS[family]
            return a + over - body, b
        lead = 2.0 if re.match(r"[ltv]?qfp|pqfp", low) else 0.0
        return a + lead, b + lead
    round_ = DIAMETER.search(low)
    return (d, d) if round_ and (d := float(round_[1].replace(",", "."))) else None


def _of_chip(low: str) -> Size | None:
    ipc = IPC_CHIP.match(low)
    if ipc is not None:  # CAPC2013X70: 2.0 x 1.3 mm
        return int(ipc[1][:2]) / 10, int(ipc[1][2:]) / 10
    metric = METRIC.search(low)
    if metric is not None:
        return int(metric[1]) / 10, int(metric[2]) / 10
    code = next((one for one in re.findall(r"(?<!\d)\d{4,5}(?!\d)", low) if one in CHIPS), None)
    return CHIPS[code] if code else None


def _of_body(low: str) -> Size | None:
    words = re.split(r"[_ ]", low)
    plain = re.sub(r"[^a-z0-9]", "", words[0])
    names = sorted((one for one in BODIES if re.fullmatch(rf"{one}(?:\d{{1,2}}[a-z]?)?", plain)), key=len)
    return BODIES[names[-1]] if names and (len(words) == 1 or words[1] not in ("connector", "socket", "jack")) else None


def _of_ipc_rows(low: str) -> Size | None:
    found = IPC_ROWS.match(low)
    if found is None:
        return None
    pitch, pins = int(re.search(r"(\d{2,3})p", low)[1]) / 100, int(found[2])  # type: ignore[index]  # as it matched
    return int(found[1]) / 100, max(pins / 2 * pitch + 0.4, 1.0)


def _of_rows(low: str) -> Size | None:
    """Two rows of leads, upright: pins on the left and on the right, as pick-and-place files count from."""
    family = next((one for one in FAMILIES if one in low), None)
    if family is None and re.match(r"so-?\d", low):
        family = "soic"
    pins = PINS.search(low)
    if family is None or pins is None:
        return None
    count = int(pins[1] or pins[2])
    pitch, _, over = ROWS[family]
    return (over, max(count / 2 * pitch + 0.4, 1.0)) if count >= 4 else None
