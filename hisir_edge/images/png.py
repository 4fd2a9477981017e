"""PNG files (W3C PNG, third edition): checksums of every chunk and the picture's end here, pixels by OpenCV or Pillow.

Both get the critical chunks alone, once the checksums were compared and the rows counted: Pillow passes over checksums
and fills up missing rows, libpng (OpenCV) prints what it finds odd to standard error.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from PIL.PngImagePlugin import PngImageFile

from hisir_edge.arrays import U8, U16, u8
from hisir_edge.images.exif import orientation_from_exif
from hisir_edge.images.header import PictureHeader, Unreadable, check_size

MAGIC = b"\x89PNG\r\n\x1a\n"
COPY_AGAIN = "copy the file again"
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 3, GREY_ALPHA: 2, RGB_ALPHA: 4}
CHUNK_BYTES = 1 << 20
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of each pass: first column, first row, step between columns, step between rows."""
NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
"""Chunks that make the pixels."""


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """(type, body, offset behind it) of every chunk up to IEND; Unreadable for a wrong checksum or a cut file."""
    at, kind = len(MAGIC), b""
    while kind != b"IEND":
        if at + 12 > len(data):
            raise Unreadable("cut short", COPY_AGAIN)
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise Unreadable("cut short", COPY_AGAIN)
        body = data[at + 8 : end - 4]
        if zlib.crc32(body, zlib.crc32(kind)) != struct.unpack_from(">I", data, end - 4)[0]:
            raise Unreadable(f"damaged (checksum of {kind.decode('latin-1')!r} at byte {at})", COPY_AGAIN)
        yield kind, body, end
        at = end


def header_from_png(data: bytes) -> PictureHeader:
    """Check every chunk; Unreadable for damage, an animation, or a header that is none."""
    width = height = bits = colour = at = 0
    exif, transparent, has_data = b"", False, False
    for number, (kind, body, end) in enumerate(_chunks(data)):
        at = end
        if (number == 0) != (kind == b"IHDR") or (kind == b"IHDR" and len(body) != 13):
            raise Unreadable("no PNG header at its beginning", COPY_AGAIN)
        if kind == b"IHDR":
            width, height, bits, colour = struct.unpack_from(">IIBB", body)
            check_size(width, height)
        elif kind == b"acTL":
            raise Unreadable("an animated PNG of several pictures", "save one picture a file")
        exif = body if kind == b"eXIf" else exif
        transparent |= kind == b"tRNS"
        has_data |= kind == b"IDAT"
    if colour not in CHANNELS or not has_data:
        raise Unreadable("a PNG without image data" if colour in CHANNELS else f"PNG colour type {colour}", COPY_AGAIN)
    return PictureHeader(
        kind="PNG", width=width, height=height, channels=CHANNELS[colour] + transparent,
        bits=8 if colour == PALETTE else bits, alpha=transparent or colour in (GREY_ALPHA, RGB_ALPHA),
        orientation=orientation_from_exif(exif), trailing_bytes=len(data) - at,
    )  # fmt: skip


def _raw_bytes(width: int, height: int, bits_a_pixel: int, interlaced: bool) -> int:
    """Bytes of the filtered rows, each with its filter byte; Adam7 has seven passes."""
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for x, y, step_x, step_y in passes:
        columns, rows = -(-(width - x) // step_x), -(-(height - y) // step_y)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits_a_pixel + 7) // 8)
    return total


def _check_rows(data: bytes) -> None:
    """Unreadable unless the image data give exactly the rows of the header: Pillow fills up what is missing."""
    width, height, bits, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    wanted = _raw_bytes(width, height, bits * (1 if colour == PALETTE else CHANNELS[colour]), bool(interlaced))
    stream, count = zlib.decompressobj(), 0
    try:
        for kind, body, _ in _chunks(data):
            rest = body if kind == b"IDAT" else b""
            while rest and not stream.eof and count <= wanted:
                count += len(stream.decompress(rest, CHUNK_BYTES))
                rest = stream.unconsumed_tail
    except zlib.error as error:
        raise Unreadable(f"damaged ({error})", COPY_AGAIN) from error
    if not stream.eof or count != wanted:
        raise Unreadable(f"damaged ({count} of {wanted} bytes of rows)", COPY_AGAIN)


def pixels_from_png(data: bytes) -> U8 | U16:
    """Decode a PNG whose header was read: (h, w) grey or (h, w, c); 16 bits as uint16, fewer bits as 0..255."""
    _check_rows(data)
    whole = [data[end - len(body) - 12 : end] for kind, body, end in _chunks(data) if kind in NEEDED]
    bits, colour = struct.unpack_from(">BB", data, 24)
    plain = not any(kind == b"tRNS" for kind, _, _ in _chunks(data))
    if bits == 16 and colour == RGB and plain:
        return _deep_colours(b"".join([MAGIC, *whole]))
    if bits == 8 and colour in (GREY, RGB) and plain:
        return _of_eight_bits(b"".join([MAGIC, *whole]), colour)
    palette = next((len(body) // 3 for kind, body, _ in _chunks(data) if kind == b"PLTE"), 0)
    try:
        with PngImageFile(io.BytesIO(b"".join([MAGIC, *whole]))) as image:
            transparent = "transparency" in image.info
            if image.mode == "P" and (not palette or np.array(image).max() >= palette):
                raise Unreadable("damaged (colours that its palette does not have)", COPY_AGAIN)
            if image.mode == "P" or transparent:
                return np.array(image.convert("RGBA" if transparent else "RGB"))
            if image.mode == "1":
                return np.array(image.convert("L"))
            return np.array(image) if image.mode != "I" else np.array(image).astype(np.uint16)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise Unreadable(f"damaged ({error})", COPY_AGAIN) from error


def _of_eight_bits(data: bytes, colour: int) -> U8:
    """Grey (h, w) or RGB (h, w, 3) of 8 bits, whose rows were counted: by OpenCV, in half of Pillow's time."""
    found = _decoded(data)
    if found is None or found.dtype != np.uint8 or found.ndim != (2 if colour == GREY else 3):
        raise Unreadable("damaged (no pixels of 8 bits)", COPY_AGAIN)
    return u8(found if colour == GREY else cv2.cvtColor(found, cv2.COLOR_BGR2RGB))


def _decoded(data: bytes) -> Any:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise Unreadable(f"damaged ({error.err})", COPY_AGAIN) from error


def _deep_colours(data: bytes) -> U16:
    """RGB of 16 bits (h, w, 3), which Pillow makes 8 of: by OpenCV."""
    bgr = _decoded(data)
    if bgr is None or bgr.dtype != np.uint16 or bgr.ndim != 3 or bgr.shape[2] != 3:
        raise Unreadable("damaged (no pixels of 16 bits)", COPY_AGAIN)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint16)
