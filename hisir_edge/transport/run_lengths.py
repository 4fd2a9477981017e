"""Masks as run lengths, the alternative to PNG for those who have no image library. Standard library alone.

``HRL1``, width and height (unsigned, 4 bytes each, most significant first), then run lengths as LEB128: of zeros, of
ones, of zeros, ... along the rows from the upper left corner. Zeros to the end are left out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from hisir_edge.errors import InputError

MAGIC = b"HRL1"
HEAD = struct.Struct(">4sII")
MOST_SIDE = 65536
MOST_LENGTH_BYTES = 5


def rle_from_runs(width: int, height: int, lengths: Iterable[int]) -> bytes:
    """Encode run lengths, which begin with zeros and take turns."""
    out = bytearray(HEAD.pack(MAGIC, width, height))
    for length in lengths:
        while length > 0x7F:
            out.append(length & 0x7F | 0x80)
            length >>= 7  # noqa: PLW2901
        out.append(length)
    return bytes(out)


def size_of_rle(data: bytes) -> tuple[int, int]:
    """(width, height); InputError for what is no mask."""
    if len(data) < HEAD.size or data[:4] != MAGIC:
        raise _wrong("another beginning")
    _, width, height = HEAD.unpack_from(data)
    if not (0 < width <= MOST_SIDE and 0 < height <= MOST_SIDE):
        raise _wrong(f"a size of {width}x{height}")
    return width, height


def runs_of_rle(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(y, x, length) of each run of set pixels within a row, from the top; InputError for what is no mask.

    None for an empty frame, as verdicts have it where nothing is marked.
    """
    if not data:
        return
    width, height = size_of_rle(data)
    at, lit = 0, False
    for length in _lengths(data):
        if at + length > width * height:
            raise _wrong("more pixels than it has")
        if lit:
            start, end = at, at + length
            while start < end:
                y, x = divmod(start, width)
                part = min(end - start, width - x)
                yield y, x, part
                start += part
        at, lit = at + length, not lit


def _lengths(data: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in memoryview(data)[HEAD.size :]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0
        elif shift >= 7 * MOST_LENGTH_BYTES:
            raise _wrong("a length without end")
    if shift:
        raise _wrong("an end within a length")


def _wrong(received: str) -> InputError:
    return InputError(expected="a mask of run lengths (HRL1)", received=received, fix="receive it again")
