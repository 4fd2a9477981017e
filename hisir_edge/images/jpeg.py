"""JPEG files (ITU-T T.81): the header and the picture's true end by walking the markers, pixels by simplejpeg.

simplejpeg binds libjpeg-turbo's TurboJPEG interface and raises on each of its warnings (``strict``). OpenCV and Pillow
decode a JPEG with a hole to something, and print or drop the warning.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

import numpy as np
import simplejpeg

from hisir_edge.arrays import U8, u8
from hisir_edge.images.exif import orientation_from_exif
from hisir_edge.images.header import PictureHeader, Unreadable, check_size

MAGIC = b"\xff\xd8\xff"
EOI, SOS, APP1, DHT = 0xD9, 0xDA, 0xE1, 0xC4
LONGEST_ZEROS, LONGEST_ZEROS_PROGRESSIVE = 24, 160
"""Runs of zero bytes; scans of strictly periodic pictures write up to some 100 of them in progressive files."""
FRAMES = {0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive"}
OTHER_FRAMES = {*range(0xC3, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Lossless, hierarchical and arithmetic coding; C4, C8 and CC are no frames."""
NO_LENGTH = {0x01, *range(0xD0, 0xD9)}
MOST_SCANS = 500
NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
CUT_SHORT = Unreadable("cut short", "copy the file again")
COEFFICIENTS = 64


@dataclass(slots=True, kw_only=True)
class _Walk:
    """State after the markers so far. ``missing``: per component the coefficients that no scan has completed yet."""

    size_wh: tuple[int, int] = (0, 0)
    bits: int = 0
    exif: bytes = b""
    scans: int = 0
    missing: dict[int, set[int]] = field(default_factory=dict)
    zeros_mean: dict[int, int] = field(default_factory=dict)
    """By class and number of a Huffman table (the byte Tc, Th): the symbol whose code is all zeros."""


def header_from_jpeg(data: bytes) -> PictureHeader:
    """Walk the markers up to the picture's end; Unreadable where it is cut short, incomplete or of another coding."""
    walk, at = _Walk(), 2
    while True:
        marker, at = _marker_at(data, at)
        if marker == EOI:
            break
        if marker in NO_LENGTH:
            continue
        body = _segment(data, at)
        at += 2 + len(body)
        _take(walk, marker, body)
        if marker == SOS:
            end = _end_of_scan(data, at)
            _check_no_hole(walk, body, data, at, end)
            at = end
    if not walk.scans or any(walk.missing.values()):
        raise Unreadable("its last scans are missing", "copy the file again")
    width, height = walk.size_wh
    return PictureHeader(
        kind="JPEG", width=width, height=height, channels=len(walk.missing), bits=walk.bits,
        orientation=orientation_from_exif(walk.exif), trailing_bytes=len(data) - at,
    )  # fmt: skip


def _marker_at(data: bytes, at: int) -> tuple[int, int]:
    """(marker, offset behind it); fill bytes (FF) before a marker are allowed."""
    if at < len(data) and data[at] != 0xFF:
        raise Unreadable(f"no marker at byte {at}", "copy the file again")
    while at < len(data) and data[at] == 0xFF:
        at += 1
    if at >= len(data):
        raise CUT_SHORT
    return data[at], at + 1


def _segment(data: bytes, at: int) -> bytes:
    if at + 2 > len(data):
        raise CUT_SHORT
    (length,) = struct.unpack_from(">H", data, at)
    if length < 2:
        raise Unreadable(f"a segment of length {length} at byte {at}", "copy the file again")
    if at + length > len(data):
        raise CUT_SHORT
    return data[at + 2 : at + length]


def _end_of_scan(data: bytes, at: int) -> int:
    found = NEXT_MARKER.search(data, at)
    if found is None:
        raise CUT_SHORT
    return found.start()


def _take(walk: _Walk, marker: int, body: bytes) -> None:
    if marker in OTHER_FRAMES:
        raise Unreadable(
            f"JPEG coding SOF{marker - 0xC0} (lossless, hierarchical or arithmetic)",
            "save it as baseline or progressive JPEG, or as PNG",
        )
    if marker in FRAMES:
        _take_frame(walk, body)
    elif marker == DHT:
        _take_tables(walk, body)
    elif marker == APP1 and body.startswith(b"Exif\0\0") and not walk.exif:
        walk.exif = body[6:]
    elif marker == SOS:
        _take_scan(walk, body)


def _take_frame(walk: _Walk, body: bytes) -> None:
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        raise Unreadable("a damaged frame header", "copy the file again")
    if walk.missing:
        raise Unreadable("two frame headers", "copy the file again")
    walk.bits, height, width, channels = struct.unpack_from(">BHHB", body)
    walk.size_wh = (width, height)
    check_size(width, height)
    walk.missing = {body[6 + 3 * i]: set(range(COEFFICIENTS)) for i in range(channels)}


def _take_tables(walk: _Walk, body: bytes) -> None:
    """Huffman tables; their codes are canonical (T.81, C.2): the first symbol's is all zeros."""
    at = 0
    while at + 17 < len(body):
        walk.zeros_mean[body[at]] = body[at + 17]
        at += 17 + sum(body[at + 1 : at + 17])


def _check_no_hole(walk: _Walk, scan: bytes, data: bytes, at: int, end: int) -> None:
    """Unreadable for a run of zero bytes, in a scan from ``at`` to ``end``, that no encoder writes.

    Zeros are an even surface only where the all-zero codes say so: no change of the mean (DC 0) and, in a sequential
    scan, end of block (AC 0). With other tables, the standard ones among them, a hole of zeros decodes to noise, and a
    decoder complains only if the number of blocks does not come out even: after one in ten holes of 1 kB in a detailed
    photo it does. Progressive scans of AC coefficients write an even surface as one run; in those that refine the mean
    zeros are as good as ones.
    """
    first, last, approximation = scan[-3:]
    is_sequential = first == 0 and last == COEFFICIENTS - 1
    hole = data.find(bytes(LONGEST_ZEROS if is_sequential else LONGEST_ZEROS_PROGRESSIVE), at, end)
    if hole < 0 or (first == 0 and approximation >> 4):
        return
    tables = [scan[2 + 2 * n] for n in range(scan[0])]
    meant = {walk.zeros_mean.get(table >> 4, 1) for table in tables}
    if last:
        meant |= {walk.zeros_mean.get(0x10 | (table & 0x0F), 1) for table in tables}
    if first or meant != {0}:
        raise Unreadable(f"damaged (zeros instead of image data at byte {hole})", "copy the file again")


def _take_scan(walk: _Walk, body: bytes) -> None:
    """Note which coefficients this scan completes: of a sequential scan all, of a progressive one those with Al 0."""
    walk.scans += 1
    count = body[0] if body else 0
    if walk.scans > MOST_SCANS or len(body) != 4 + 2 * count:
        raise Unreadable("a damaged scan header", "copy the file again")
    first, last, approximation = body[-3:]
    for number in range(count):
        component = body[1 + 2 * number]
        if component not in walk.missing:
            raise Unreadable("a scan of a component that the frame header does not name", "copy the file again")
        if not approximation & 0x0F:
            walk.missing[component] -= set(range(first, max(last, first) + 1))


def pixels_from_jpeg(data: bytes) -> U8:
    """Decode a whole 8-bit JPEG: RGB (h, w, 3), or grey (h, w); Unreadable with the decoder's own words."""
    try:
        grey = simplejpeg.decode_jpeg_header(data)[2] == "Gray"
        pixels = u8(simplejpeg.decode_jpeg(data, "GRAY" if grey else "RGB", strict=True))
    except ValueError as error:
        raise Unreadable(f"damaged ({error})", "copy the file again, or take the picture again") from error
    return u8(np.ascontiguousarray(pixels[..., 0])) if grey else pixels
