"""Camera pixel formats (GenICam PFNC names) -> RGB."""

from __future__ import annotations

import cv2

from hisir_edge.arrays import U8, u8
from hisir_edge.errors import InspectionError

# PFNC names a Bayer format by its first row's first two pixels; OpenCV's four-letter names do, too
CONVERSIONS: dict[str, tuple[int, int | None]] = {
    "Mono8": (1, cv2.COLOR_GRAY2RGB),
    "RGB8": (3, None),
    "BGR8": (3, cv2.COLOR_BGR2RGB),
    "RGBa8": (4, cv2.COLOR_RGBA2RGB),
    "BayerRG8": (1, cv2.COLOR_BayerRGGB2RGB),
    "BayerGR8": (1, cv2.COLOR_BayerGRBG2RGB),
    "BayerGB8": (1, cv2.COLOR_BayerGBRG2RGB),
    "BayerBG8": (1, cv2.COLOR_BayerBGGR2RGB),
}


def rgb_from_pixels(pixel_format: str, data: U8, width: int, height: int) -> U8:
    """A new RGB array (h, w, 3) from a flat buffer; InspectionError for an unknown format or a wrong length."""
    if pixel_format not in CONVERSIONS:
        raise InspectionError(
            expected=f"a pixel format out of {', '.join(CONVERSIONS)}",
            received=pixel_format,
            fix="set source.pixel_format",
        )
    channels, code = CONVERSIONS[pixel_format]
    wanted = width * height * channels
    if data.size != wanted:
        raise InspectionError(
            expected=f"{wanted} bytes of {pixel_format} at {width}x{height}",
            received=str(data.size),
            fix="check cable, packet size and line padding",
        )
    image = data.reshape(height, width) if channels == 1 else data.reshape(height, width, channels)
    if code is None:
        return u8(image.copy())
    return u8(cv2.cvtColor(image, code))
