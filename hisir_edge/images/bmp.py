"""BMP files (Windows DIB): what is taken is uncompressed, of 1, 4, 8 or 24 bits a pixel; pixels by Pillow."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL.BmpImagePlugin import BmpImageFile

from hisir_edge.arrays import U8
from hisir_edge.images.header import PictureHeader, Unreadable, check_size

MAGIC = b"BM"
LEAST_HEADER_BYTES = 40
"""BITMAPINFOHEADER and its successors; OS/2 headers of 12 bytes are refused."""
PALETTE_BITS = (1, 4, 8)


def header_from_bmp(data: bytes) -> PictureHeader:
    """Size and depth; Unreadable for a cut file, compression, or depths with an undefined fourth channel."""
    if len(data) < 54:
        raise Unreadable("cut short", "copy the file again")
    start, length, width, height, _, bits, compression = struct.unpack_from("<IIiiHHI", data, 10)
    if length < LEAST_HEADER_BYTES:
        raise Unreadable("a BMP with an OS/2 header", "save it as 24-bit BMP without compression, or as PNG")
    if compression != 0 or bits not in (*PALETTE_BITS, 24):
        kind = f"{bits} bits a pixel, compression {compression}"
        raise Unreadable(f"a BMP with {kind}", "save it as 24-bit BMP without compression, or as PNG")
    check_size(width, abs(height))
    (colours,) = struct.unpack_from("<I", data, 46)
    table = 4 * (colours or 2**bits) if bits in PALETTE_BITS else 0
    if start < 14 + length + table or table > 4 * 2**bits:
        raise Unreadable("damaged (its pixels begin within its header)", "copy the file again")
    end = start + (width * bits + 31) // 32 * 4 * abs(height)
    if end > len(data):
        raise Unreadable("cut short", "copy the file again")
    return PictureHeader(
        kind="BMP", width=width, height=abs(height), channels=3, bits=8, trailing_bytes=len(data) - end
    )


def pixels_from_bmp(data: bytes) -> U8:
    """Decode a BMP whose header was read as RGB (h, w, 3); palettes are looked up."""
    try:
        with BmpImageFile(io.BytesIO(data)) as image:
            (colours,) = struct.unpack_from("<I", data, 46)
            if image.mode == "P" and colours and np.array(image).max() >= colours:
                raise Unreadable("damaged (colours that its palette does not have)", "copy the file again")
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise Unreadable(f"damaged ({error})", "copy the file again") from error
