"""Camera pixel formats (GenICam PFNC names), and what the line makes of them: RGB, grey, a picture of half the size."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

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


GREYS: dict[str, int | None] = {
    "Mono8": None,
    "RGB8": cv2.COLOR_RGB2GRAY,
    "BGR8": cv2.COLOR_BGR2GRAY,
    "RGBa8": cv2.COLOR_RGBA2GRAY,
    "BayerRG8": cv2.COLOR_BayerRGGB2GRAY,
    "BayerGR8": cv2.COLOR_BayerGRBG2GRAY,
    "BayerGB8": cv2.COLOR_BayerGBRG2GRAY,
    "BayerBG8": cv2.COLOR_BayerBGGR2GRAY,
}
RED_YX = {"BayerRG8": (0, 0), "BayerGR8": (0, 1), "BayerGB8": (1, 0), "BayerBG8": (1, 1)}
"""Where in each 2 x 2 pixels of a mosaic red is; blue is at the opposite corner."""


@dataclass(frozen=True)
class Pixels:
    """An image as the camera gave it: ``data`` uint8 (h, w), or (h, w, c) of c channels, in a PFNC format."""

    data: U8 = field(repr=False)
    pixel_format: str = "RGB8"

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width, px."""
        return self.data.shape[0], self.data.shape[1]

    @property
    def rgb(self) -> U8:
        """RGB (h, w, 3); the data itself where it is that already. Made once; not to be changed."""
        code = CONVERSIONS[self.pixel_format][1]
        if code is None:
            return self.data
        if "made" not in self.__dict__:  # no lock as in cached_property, which all frames would share until Python 3.12
            self.__dict__["made"] = u8(cv2.cvtColor(self.data, code))
        made: U8 = self.__dict__["made"]
        return made

    def grey(self) -> U8:
        """In grey, (h, w); the data itself where it is that already. Not to be changed."""
        code = GREYS[self.pixel_format]
        return self.data if code is None else u8(cv2.cvtColor(self.data, code))

    @property
    def is_mosaic(self) -> bool:
        """Whether each pixel has one colour of three."""
        return self.pixel_format in RED_YX

    def half_rgb(self) -> U8:
        """Of a mosaic, without interpolation: each 2 x 2 pixels as one of RGB, (h // 2, w // 2, 3)."""
        h, w = (side // 2 * 2 for side in self.hw)
        y, x = RED_YX[self.pixel_format]
        planes = [self.data[at_y:h:2, at_x:w:2] for at_y, at_x in ((y, x), (y, 1 - x), (1 - y, 1 - x))]
        return u8(cv2.merge([np.ascontiguousarray(plane) for plane in planes]))


def pixels_from_buffer(pixel_format: str, data: U8, width: int, height: int) -> Pixels:
    """A copy of a camera's flat buffer; InspectionError for an unknown format or a wrong length."""
    if pixel_format not in CONVERSIONS:
        raise InspectionError(
            expected=f"a pixel format out of {', '.join(CONVERSIONS)}",
            received=pixel_format,
            fix="set source.pixel_format",
        )
    channels, _ = CONVERSIONS[pixel_format]
    wanted = width * height * channels
    if data.size != wanted:
        raise InspectionError(
            expected=f"{wanted} bytes of {pixel_format} at {width}x{height}",
            received=str(data.size),
            fix="check cable, packet size and line padding",
        )
    shape = (height, width) if channels == 1 else (height, width, channels)
    return Pixels(u8(data.reshape(shape).copy()), pixel_format)


def rgb_from_pixels(pixel_format: str, data: U8, width: int, height: int) -> U8:
    """A new RGB array (h, w, 3) from a flat buffer; see ``pixels_from_buffer``."""
    return pixels_from_buffer(pixel_format, data, width, height).rgb
