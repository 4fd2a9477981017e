"""The header of a picture file, read before any pixel is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from hisir_edge.errors import InputError

MAX_SIDE_PX = 32766
"""OpenCV's warp addresses pixels with 16-bit numbers (remap: sides below SHRT_MAX)."""
MAX_PIXELS = 16384 * 16384
"""A larger picture is not one of a board but a mistake, or an attack on the memory."""
TURNED = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""


class Unreadable(Exception):
    """A picture file is refused: ``received`` says what is wrong with it, ``fix`` what to do."""

    def __init__(self, received: str, fix: str = "replace the file", expected: str = "") -> None:
        super().__init__(received)
        self.expected, self.received, self.fix = expected, received, fix

    def named(self, path: object) -> InputError:
        """The error shown to the user, with the file's name."""
        expected = self.expected or "a whole PNG, JPEG, BMP or TIFF picture"
        return InputError(expected=expected, received=f"{path}: {self.received}", fix=self.fix)


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureHeader:
    """Size and kind of a picture as stored; ``upright_hw`` is its size after the orientation is applied.

    ``channels`` counts alpha; ``alpha`` says whether one of them is. ``orientation``: EXIF's tag 0x0112, 1 to 8.
    ``trailing_bytes``: bytes behind the picture's end, which are ignored. ``black_is_high``: its levels are turned over
    when they are read.
    """

    kind: str
    width: int
    height: int
    channels: int
    bits: int
    alpha: bool = False
    orientation: int = 1
    trailing_bytes: int = 0
    black_is_high: bool = False

    @property
    def upright_hw(self) -> tuple[int, int]:
        """Height and width as a viewer shows the picture."""
        return (self.width, self.height) if self.orientation in TURNED else (self.height, self.width)


def check_size(width: int, height: int) -> None:
    """Unreadable for a size that no line camera has."""
    if width < 1 or height < 1:
        raise Unreadable(f"its header says {width}x{height} px")
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE_PX:
        raise Unreadable(
            f"{width}x{height} px",
            "crop or scale the picture",
            f"a picture of at most {MAX_SIDE_PX} px a side and {MAX_PIXELS >> 20} Mi pixels",
        )
