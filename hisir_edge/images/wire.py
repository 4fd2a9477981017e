"""What cameras send (GenICam PFNC 2.4), made into one of the eight-bit formats that the line knows.

By our own code, from the camera's bytes alone: of what libraries make of packed formats some is wrong (harvesters 1.4.3
unpacks two of four Mono14p pixels wrongly, and leaves line padding in). More than 8 bits are taken through a window of
the camera's levels, ``black`` to 0 and ``white`` to 255, linear between; nothing else is done to them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import gcd

import cv2
import numpy as np

from hisir_edge.arrays import U8, U16, u8
from hisir_edge.images.pixels import CONVERSIONS
from hisir_edge.images.white import white_in

Levels = tuple[int, int]
"""(black, white) in the camera's own levels."""
Part = tuple[int, int, int, int]
"""(byte of the group, mask of its bits, shift to the right, what they are worth then)."""
CHUNK_BYTES = 3 << 20
"""So much is unpacked at a time: with less the threads wait for each other between the many short calls."""


@dataclass(frozen=True, slots=True)
class Packing:
    """Groups of pixels in so many bytes, and what each pixel is made of."""

    group_bytes: int
    pixels: tuple[tuple[Part, ...], ...]


def _lsb(bits: int) -> Packing:
    """PFNC's "p": pixel after pixel, the lowest bits first, nothing between them."""
    count = 8 // gcd(bits, 8)
    pixels = []
    for pixel in range(count):
        first, parts, got = pixel * bits, list[Part](), 0
        while got < bits:
            byte, low = divmod(first + got, 8)
            here = min(8 - low, bits - got)
            parts.append((byte, ((1 << here) - 1) << low, low, 1 << got))
            got += here
        pixels.append(tuple(parts))
    return Packing(count * bits // 8, tuple(pixels))


GIGE_10 = Packing(3, (((0, 0xFF, 0, 4), (1, 0x03, 0, 1)), ((2, 0xFF, 0, 4), (1, 0x30, 4, 1))))
GIGE_12 = Packing(3, (((0, 0xFF, 0, 16), (1, 0x0F, 0, 1)), ((2, 0xFF, 0, 16), (1, 0xF0, 4, 1))))
"""GigE Vision's "Packed": two pixels' highest eight bits around a byte with the lowest of both."""


@dataclass(frozen=True, slots=True)
class WireFormat:
    """A format as it comes: its number in PFNC, bits of a component, and the format that the line makes of it.

    ``packing``: None where each component has a byte, or two of them (the lower first) above 8 bits.
    """

    name: str
    code: int
    bits: int
    line_format: str
    packing: Packing | None = None

    @property
    def channels(self) -> int:
        """Components that come for each pixel; 2 where two pixels share their colour."""
        return 4 if self.name in ("RGBa8", "BGRa8") else 2 if self.name in YUV_ORDER else 1 + 2 * self.in_colour

    @property
    def in_colour(self) -> bool:
        """Whether a pixel has all three colours on the wire."""
        return self.line_format in ("RGB8", "BGR8", "RGBa8")

    @property
    def bits_a_pixel(self) -> int:
        """On the wire."""
        if self.packing is not None:
            return self.packing.group_bytes * 8 // len(self.packing.pixels)
        return self.channels * (8 if self.bits == 8 else 16)

    @property
    def most(self) -> int:
        """The highest level."""
        return (1 << self.bits) - 1


YUV_ORDER = {
    "YUV422_8": "YUYV", "YUV422_8_UYVY": "UYVY", "YCbCr422_8": "YUYV", "YCbCr422_8_CbYCrY": "UYVY",
}  # fmt: skip
"""Two pixels' four bytes; PFNC's YUV and YCbCr (without 601 or 709) use all 256 levels, with BT.601's weights."""
_EIGHT = {
    "Mono8": 0x01080001, "RGB8": 0x02180014, "BGR8": 0x02180015, "RGBa8": 0x02200016,
    "BayerGR8": 0x01080008, "BayerRG8": 0x01080009, "BayerGB8": 0x0108000A, "BayerBG8": 0x0108000B,
}  # fmt: skip
_TO_RGB = {
    "BGRa8": 0x02200017, "YUV422_8": 0x02100032, "YUV422_8_UYVY": 0x0210001F, "YCbCr422_8": 0x0210003B,
    "YCbCr422_8_CbYCrY": 0x02100043,
}  # fmt: skip
_MONO = {
    "Mono10": (0x01100003, 10, None), "Mono12": (0x01100005, 12, None), "Mono14": (0x01100025, 14, None),
    "Mono16": (0x01100007, 16, None), "Mono10p": (0x010A0046, 10, _lsb(10)), "Mono12p": (0x010C0047, 12, _lsb(12)),
    "Mono14p": (0x010E0104, 14, _lsb(14)), "Mono10Packed": (0x010C0004, 10, GIGE_10),
    "Mono12Packed": (0x010C0006, 12, GIGE_12),
}  # fmt: skip
_BAYER: tuple[tuple[str, int, Packing | None, dict[str, int]], ...] = (
    ("10", 10, None, {"GR": 0x0110000C, "RG": 0x0110000D, "GB": 0x0110000E, "BG": 0x0110000F}),
    ("12", 12, None, {"GR": 0x01100010, "RG": 0x01100011, "GB": 0x01100012, "BG": 0x01100013}),
    ("16", 16, None, {"GR": 0x0110002E, "RG": 0x0110002F, "GB": 0x01100030, "BG": 0x01100031}),
    ("10Packed", 10, GIGE_10, {"GR": 0x010C0026, "RG": 0x010C0027, "GB": 0x010C0028, "BG": 0x010C0029}),
    ("12Packed", 12, GIGE_12, {"GR": 0x010C002A, "RG": 0x010C002B, "GB": 0x010C002C, "BG": 0x010C002D}),
    ("10p", 10, _lsb(10), {"BG": 0x010A0052, "GB": 0x010A0054, "GR": 0x010A0056, "RG": 0x010A0058}),
    ("12p", 12, _lsb(12), {"BG": 0x010C0053, "GB": 0x010C0055, "GR": 0x010C0057, "RG": 0x010C0059}),
)
_ALL = (
    *(WireFormat(name, code, 8, name) for name, code in _EIGHT.items()),
    *(WireFormat(name, code, 8, "RGB8") for name, code in _TO_RGB.items()),
    *(WireFormat(name, code, bits, "Mono8", packing) for name, (code, bits, packing) in _MONO.items()),
    *(
        WireFormat(f"Bayer{order}{ending}", code, bits, f"Bayer{order}8", packing)
        for ending, bits, packing, codes in _BAYER
        for order, code in codes.items()
    ),
)
WIRE_FORMATS = {one.name: one for one in _ALL}
NAMES_BY_CODE = {one.code: one.name for one in _ALL}


def name_of_code(code: int) -> str:
    """A pixel format by its number; the number itself where it is none of these."""
    return NAMES_BY_CODE.get(code, f"0x{code:08x}")


def through_window(levels: U16, black: int, white: int) -> U8:
    """Levels of any shape as bytes: black and below 0, white and above 255, linear between, to the nearest."""
    above = np.maximum(levels, np.uint16(black)) - np.uint16(black) if black else levels
    return u8(cv2.convertScaleAbs(above.reshape(1, -1), alpha=255 / (white - black)).reshape(levels.shape))


class Unpacker:
    """From a camera's buffers to frames of the line's format; keeps nothing of them.

    ``levels``: what becomes 0 and 255, None: all that the format can say. ``threads``: beside this one.
    """

    def __init__(
        self, wire: WireFormat, width: int, height: int, levels: Levels | None = None, threads: int = 2
    ) -> None:
        self.wire, self.width, self.height = wire, width, height
        self.black, self.white = levels if levels is not None else (0, wire.most)
        self.channels = CONVERSIONS[wire.line_format][0]
        self.out_bytes = width * height * self.channels
        self.seen_bytes = width * height * min(self.channels, 3)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="unpack") if threads > 1 else None

    def close(self) -> None:
        """End its threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def bytes_wanted(self, x_padding: int = 0) -> tuple[int, ...]:
        """How long a whole frame may be.

        Lines begin with a byte and have their padding, the last one perhaps not; or, packed and without padding, pixels
        follow each other across lines.
        """
        line = -(-self.width * self.wire.bits_a_pixel // 8)
        lengths = {self.height * (line + x_padding), self.height * (line + x_padding) - x_padding}
        if not x_padding:
            lengths.add(-(-self.width * self.height * self.wire.bits_a_pixel // 8))
        return tuple(sorted(lengths))

    def into(self, data: U8, out: U8, x_padding: int = 0) -> float:
        """Unpack a whole frame, flat bytes, into ``out``, flat bytes of ``out_bytes``; the share that is white.

        White: components at 255, which may have been brighter than the sensor or the window can say; of large frames
        an eighth of them is looked at, spread over all. ValueError for a length that is none of ``bytes_wanted``.
        """
        if data.size not in self.bytes_wanted(x_padding):
            raise ValueError(f"{data.size} bytes instead of {' or '.join(map(str, self.bytes_wanted(x_padding)))}")
        line = -(-self.width * self.wire.bits_a_pixel // 8)
        crossing = not x_padding and data.size != self.height * line
        rows, px, stride = (1, self.width * self.height, data.size) if crossing else (
            self.height, self.width, line + x_padding
        )  # fmt: skip
        plain = not x_padding and (self.wire.packing is None or self.width % len(self.wire.packing.pixels) == 0)
        if plain and not crossing and self.wire.name not in YUV_ORDER:
            rows, px, stride = 1, self.width * self.height, line * self.height
        pieces = _pieces(rows, px, stride, self.wire.packing)
        if self._pool is None or len(pieces) < self._threads:
            return sum(map(partial(self._piece, data, out, px, stride), pieces)) / self.seen_bytes
        per = -(-len(pieces) // self._threads)
        parts = [pieces[i : i + per] for i in range(0, len(pieces), per)]
        done = self._pool.map(lambda part: sum(map(partial(self._piece, data, out, px, stride), part)), parts)
        return sum(done) / self.seen_bytes

    def _piece(self, data: U8, out: U8, px: int, stride: int, piece: tuple[int, int, int, int]) -> float:
        """Rows row..end, pixels first..last of each; how many components are white."""
        row, end, first, last = piece
        wire, bits = self.wire, self.wire.bits_a_pixel
        taken = slice(first * bits // 8, -(-last * bits // 8))
        whole = data[row * stride : end * stride]
        if whole.size < (end - row) * stride:  # the last line may lack its padding
            whole = np.concatenate([whole, np.zeros((end - row) * stride - whole.size, np.uint8)])
        source = whole.reshape(end - row, stride)[:, taken]
        c = self.channels
        target = out.reshape(-1, px * c)[row:end, first * c : last * c]
        if wire.packing is not None:
            target[:] = self._unpacked(u8(source), wire.packing, last - first)
        elif wire.bits > 8:
            words = np.ascontiguousarray(source).view("<u2").reshape(end - row, last - first)
            target[:] = through_window(words, self.black, self.white)
        elif wire.name in YUV_ORDER:
            target[:] = _rgb_of_yuv(u8(source), YUV_ORDER[wire.name], last - first).reshape(target.shape)
        elif wire.name == "BGRa8":
            pixels = np.ascontiguousarray(source).reshape(end - row, last - first, 4)
            target[:] = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB).reshape(target.shape)
        else:
            target[:] = source
        return white_in(target.reshape(-1, c)[:, :3] if c == 4 else target)  # without alpha

    def _unpacked(self, source: U8, packing: Packing, px: int) -> U8:
        """Packed rows (n, bytes) as bytes (n, px)."""
        n, size = source.shape
        groups = -(-px // len(packing.pixels))
        if size != groups * packing.group_bytes:
            source = u8(np.pad(source, ((0, 0), (0, groups * packing.group_bytes - size))))
        split = np.ascontiguousarray(source).reshape(n * groups, 1, packing.group_bytes)
        # OpenCV's split is the quicker one up to four
        quick = packing.group_bytes <= 4
        planes = cv2.split(split) if quick else [np.ascontiguousarray(split[..., i]) for i in range(split.shape[2])]
        made = [self._pixel([u8(plane) for plane in planes], parts) for parts in packing.pixels]
        return u8(cv2.merge(made).reshape(n, groups * len(made))[:, :px])

    def _pixel(self, planes: list[U8], parts: tuple[Part, ...]) -> U8:
        """One pixel of each group through the window, from the planes of its bytes."""
        seen = [(_bits(planes[byte], mask, right), worth) for byte, mask, right, worth in parts]
        if len(seen) > 2:
            return through_window(_sum(seen), self.black, self.white)
        gain, ((a, worth_a), (b, worth_b)) = 255 / (self.white - self.black), seen
        return u8(cv2.addWeighted(a, worth_a * gain, b, worth_b * gain, -self.black * gain))


def _pieces(rows: int, px: int, stride: int, packing: Packing | None) -> list[tuple[int, int, int, int]]:
    """(row, end, first pixel, last pixel): pieces of about ``CHUNK_BYTES``, whole groups each."""
    if rows > 1:
        step = max(1, CHUNK_BYTES // stride)
        return [(row, min(row + step, rows), 0, px) for row in range(0, rows, step)]
    group = 1 if packing is None else len(packing.pixels)
    step = max(1, CHUNK_BYTES * px // max(stride, 1) // group) * group
    return [(0, 1, first, min(first + step, px)) for first in range(0, px, step)]


def _bits(plane: U8, mask: int, right: int) -> U8:
    if mask == 0xFF:
        return plane
    return (
        u8(plane >> np.uint8(right))
        if mask >> right == 0xFF >> right
        else u8((plane & np.uint8(mask)) >> np.uint8(right))
    )


def _sum(seen: list[tuple[U8, int]]) -> U16:
    total = np.zeros(seen[0][0].shape, np.uint16)
    for plane, worth in seen:
        total += plane.astype(np.uint16) * np.uint16(worth)
    return total


def _rgb_of_yuv(source: U8, order: str, px: int) -> U8:
    """Rows (n, bytes) of two pixels in four bytes as RGB (n, px, 3); both pixels have the one colour."""
    n, pairs = source.shape[0], -(-px // 2)
    if source.shape[1] != pairs * 4:
        source = _whole_pairs(source, order)
    four = cv2.split(np.ascontiguousarray(source).reshape(n, pairs, 4))
    first, u, second, v = four if order == "YUYV" else (four[1], four[0], four[3], four[2])
    y, u, v = (cv2.merge(both).reshape(n, 2 * pairs) for both in ([first, second], [u, u], [v, v]))
    rgb = cv2.cvtColor(cv2.merge([y, v, u]), cv2.COLOR_YCrCb2RGB)
    return u8(np.ascontiguousarray(rgb[:, :px]))


def _whole_pairs(source: U8, order: str) -> U8:
    """Rows of an odd number of pixels, whose last has one half of its colour: the other is that of the pair before."""
    last = source[:, -2:]
    light, half = (last[:, :1], last[:, 1:]) if order == "YUYV" else (last[:, 1:], last[:, :1])
    at = -3 if order == "YUYV" else -4
    before = source[:, at : at + 1] if source.shape[1] >= 4 else np.full_like(half, 128)
    parts = (light, half, light, before) if order == "YUYV" else (half, light, before, light)
    return u8(np.hstack([source[:, :-2], *parts]))
