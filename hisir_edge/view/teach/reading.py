"""What is read out of the page's requests, verdicts and bundles, for trials."""

from __future__ import annotations

import json
from typing import Any

from hisir_edge.bundle.files import DEVIATION, GOLDEN, MODEL, NOISE, VARIANTS
from hisir_edge.bundle.load import Bundle
from hisir_edge.bundle.thresholds import Zone
from hisir_edge.errors import InputError

MOST_ZONES, MOST_CORNERS, MOST_NAME = 100, 200, 64


def zones_from_json(raw: Any) -> tuple[Zone, ...]:
    """Zones as the page sends them; InputError for anything else."""
    try:
        if not isinstance(raw, list) or len(raw) > MOST_ZONES:
            raise ValueError(f"a list of up to {MOST_ZONES}")
        out = []
        for one in raw:
            corners = [(float(x), float(y)) for x, y in one["polygon"]]
            sensitivity = float(one["sensitivity"])
            if not 3 <= len(corners) <= MOST_CORNERS or not 0 <= sensitivity <= 100:
                raise ValueError(f"3 to {MOST_CORNERS} corners, a sensitivity of 0 to 100")
            if any(not abs(value) < 1e5 for corner in corners for value in corner):
                raise ValueError("corners on the board")
            if not isinstance(outside := one.get("outside", False), bool):
                raise TypeError("outside as true or false")
            out.append(Zone(str(one["name"])[:MOST_NAME], tuple(corners), sensitivity, outside))
        if len({zone.name for zone in out}) < len(out):
            raise ValueError("different names")
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(
            expected="zones of name, polygon and sensitivity", received=str(error)[:200], fix="draw them again"
        ) from error
    return tuple(out)


def bundle_of(body: str | bytes, camera: str) -> str:
    """Manifest of the bundle that a camera's frame of a verdict was inspected with; empty where it has no such one."""
    for inspection in json.loads(body)["InspectedUnits"][0]["Inspections"]:
        if inspection["InspectionName"] == camera:
            return str(inspection["vision"]["bundle_sha256"])
    return ""


def same_network(one: Bundle, other: Bundle) -> bool:
    """Whether two bundles give the same maps: what differs is zones and thresholds alone."""
    a, b = one.manifest, other.manifest
    named = (MODEL, GOLDEN, DEVIATION, NOISE, VARIANTS)
    same_files = all(a.files.get(name) == b.files.get(name) for name in named)
    return same_files and a.recipe == b.recipe and a.thresholds.pixel == b.thresholds.pixel
