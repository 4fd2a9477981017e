"""What a frame says of itself, its leader (GigE Vision and GenTL): format, size and place on the sensor.

A region that moved, or another format of as many bytes, would pass by its length alone; a board would be inspected
where it does not lie.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

PIXEL_FORMAT_CODES = {
    0x01080001: "Mono8", 0x01080008: "BayerGR8", 0x01080009: "BayerRG8", 0x0108000A: "BayerGB8",
    0x0108000B: "BayerBG8", 0x02180014: "RGB8", 0x02180015: "BGR8", 0x02200016: "RGBa8", 0x02200017: "BGRa8",
    0x01100003: "Mono10", 0x01100005: "Mono12", 0x01100007: "Mono16", 0x010C0006: "Mono12Packed",
    0x0210001F: "YUV422_8_UYVY", 0x02100032: "YUV422_8",
}  # fmt: skip
"""Of the Pixel Format Naming Convention (GenICam PFNC 2.4), as GigE Vision's leaders have them."""


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


def name_of_format(code: int) -> str:
    """A pixel format by its number; the number itself where it has no name here."""
    return PIXEL_FORMAT_CODES.get(code, f"0x{code:08x}")
