"""The orientation in EXIF data (CIPA DC-008, tag 0x0112), and turning pixels upright by it.

Only this one number is wanted of EXIF, so that a reader of all its tags would add more warnings than it spares lines.
"""

from __future__ import annotations

import struct
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from hisir_edge.images.header import Unreadable

ORIENTATION = 0x0112
SHORT, LONG = 3, 4
T = TypeVar("T", bound=np.generic)


def orientation_from_exif(exif: bytes) -> int:
    """The orientation, 1 to 8, of a TIFF-structured EXIF block; 1 where it has none or the block is damaged.

    Unreadable for a number that the standard does not define.
    """
    exif = exif.removeprefix(b"Exif\0\0")  # some writers put JPEG's prefix into PNG, too
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for number in range(count):
            at = start + 2 + 12 * number
            tag, kind, values = struct.unpack_from(f"{order}HHI", exif, at)
            if tag == ORIENTATION and values == 1 and kind in (SHORT, LONG):
                (value,) = struct.unpack_from(f"{order}{'H' if kind == SHORT else 'I'}", exif, at + 8)
                return checked_orientation(value)
    except struct.error:
        return 1
    return 1


def checked_orientation(value: int) -> int:
    """An orientation as EXIF and TIFF define it; 0 is written for "unknown" and counts as upright."""
    if value == 0:
        return 1
    if not 1 <= value <= 8:
        raise Unreadable(f"orientation {value}", "set the orientation tag to 1..8", "an orientation from 1 to 8")
    return value


def upright(pixels: npt.NDArray[T], orientation: int) -> npt.NDArray[T]:
    """Pixels (h, w) or (h, w, c) as a viewer shows them, C-contiguous."""
    turned = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: p[::-1].swapaxes(0, 1),
        7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
        8: lambda p: p[:, ::-1].swapaxes(0, 1),
    }[orientation](pixels)
    return np.ascontiguousarray(turned)
