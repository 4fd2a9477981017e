"""What a frame says of itself, its leader (GigE Vision and GenTL): format, size and place on the sensor.

A region that moved, or another format of as many bytes, would pass by its length alone; a board would be inspected
where it does not lie.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Leader:
    """None for what is not said."""

    pixel_format: str | None = None
    width: int | None = None
    height: int | None = None
    offset_x: int | None = None
    offset_y: int | None = None


FEATURES = {
    "pixel_format": "PixelFormat", "width": "Width", "height": "Height", "offset_x": "OffsetX", "offset_y": "OffsetY"
}  # fmt: skip


def leader_of_camera(node_map: Any) -> Leader:
    """What each frame of a camera has to say, as it is set up now."""
    found: dict[str, Any] = {}
    for name, feature in FEATURES.items():
        try:
            value = getattr(node_map, feature).value
            found[name] = str(value) if name == "pixel_format" else int(value)
        except Exception:  # a camera without it
            found[name] = None
    return Leader(**found)


def unlike(wanted: Leader, said: Leader | None) -> str:
    """Where a frame is not as its camera was set up, with both; empty: nowhere, as far as both are known."""
    if said is None:
        return ""
    differing = [
        f"{FEATURES[part.name]} {getattr(said, part.name)} instead of {getattr(wanted, part.name)}"
        for part in fields(Leader)
        if None not in (getattr(said, part.name), getattr(wanted, part.name))
        and getattr(said, part.name) != getattr(wanted, part.name)
    ]
    return f"frame of another kind: {', '.join(differing)}" if differing else ""
