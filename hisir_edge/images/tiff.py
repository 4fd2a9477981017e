"""TIFF files (TIFF 6.0 and BigTIFF): every tag that changes what pixels mean is honoured, or refused by its name.

tifffile reads the tags; it is pure Python and says where each strip and tile lies. The strips are unpacked here, and
each must give exactly the bytes that its rows need: OpenCV and tifffile fill up a strip that does not, and Pillow
accepts deflated strips with a hole. LZW and PackBits need imagecodecs (45 MB installed), an extra that a line PC
without such files does not have.
"""

from __future__ import annotations

import io
import logging
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from hisir_edge.arrays import U8, U16
from hisir_edge.images.exif import checked_orientation
from hisir_edge.images.header import PictureHeader, Unreadable, check_size

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
COPY_AGAIN, AS_PNG = "copy the file again", "save it as an 8-bit RGB TIFF without compression, or as PNG"
MOST_PAGES, MOST_EXTRA_CHANNELS = 64, 2
REDUCED = 1
"""NewSubfileType of a smaller copy of another page."""
MOST_TILE_PX = 1 << 22
"""A tile may be larger than a small picture, as 512 x 512 is, but not without bounds."""
NO_COMPRESSION, LZW, DEFLATE, OLD_DEFLATE, PACKBITS = 1, 5, 8, 32946, 32773
NAMES = {
    2: "CCITT", 3: "CCITT fax 3", 4: "CCITT fax 4", 6: "old JPEG", 7: "JPEG", 34712: "JPEG 2000", 33003: "JPEG 2000",
    33005: "JPEG 2000", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL", 34925: "LZMA",
    34887: "LERC", 32809: "ThunderScan", 34892: "lossy DNG JPEG",
}  # fmt: skip
MIN_IS_WHITE, MIN_IS_BLACK, RGB = 0, 1, 2
PHOTOMETRICS = {
    3: "palette", 4: "transparency mask", 5: "CMYK", 6: "YCbCr", 8: "CIELab", 9: "ICCLab", 10: "ITULab",
    32803: "colour filter array", 32844: "LogL", 32845: "LogLuv", 34892: "linear raw",
}  # fmt: skip
MEANING_TAGS = {290: "GrayResponseUnit", 291: "GrayResponseCurve", 301: "TransferFunction", 433: "Decode"}
"""Tags that change what a level means and that no camera needs; a picture with one is refused."""
BLACK_WHITE = 532
"""ReferenceBlackWhite: taken where it says what is so anyway, 0 and the highest level in every channel."""
_lock = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """How a page's pixels lie in the file."""

    height: int
    width: int
    channels: int
    bits: int
    photometric: int
    compression: int
    predictor: int
    planar: bool
    big_endian: bool
    extra: tuple[int, ...]
    orientation: int
    tile_wh: tuple[int, int] | None
    rows_per_strip: int
    offsets: tuple[int, ...]
    counts: tuple[int, ...]


class _Complaints(logging.Handler):
    """Keeps what tifffile logs while a lock is held; nothing reaches standard error."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def header_from_tiff(data: bytes) -> PictureHeader:
    """Size, depth and orientation; Unreadable for several pages, compressions and tags that are not taken."""
    return _header(_layout(data))


def _header(page: _Layout) -> PictureHeader:
    return PictureHeader(
        kind="TIFF", width=page.width, height=page.height, channels=page.channels, bits=page.bits,
        alpha=bool(page.extra), orientation=page.orientation, black_is_high=page.photometric == MIN_IS_WHITE,
    )  # fmt: skip


def _layout(data: bytes) -> _Layout:
    import tifffile

    log, complaints = logging.getLogger("tifffile"), _Complaints()
    with _lock:
        before, log.propagate = log.propagate, False
        log.addHandler(complaints)
        try:
            with tifffile.TiffFile(io.BytesIO(data)) as file:
                # a damaged chain of pages may lead in a circle
                first = list(islice(file.pages, MOST_PAGES))
                pages = [page for page in first if not _number(page, 254, 0) & REDUCED]
                stacked = _stacked_images(first)
                found = _layout_of_page(pages[0], file.byteorder == ">") if pages else None
        except Unreadable:
            raise
        except Exception as error:  # tifffile raises many types, all of them "this is no whole TIFF"
            raise Unreadable(f"damaged ({' '.join(str(error).split())[:120]})", COPY_AGAIN) from error
        finally:
            log.removeHandler(complaints)
            log.propagate = before
    if len(pages) != 1 or stacked > 1:
        raise Unreadable(
            f"{max(len(pages), stacked)} pages", "save one board a file", "a TIFF of one page, for one verdict"
        )
    if complaints.said or found is None:
        raise Unreadable(f"damaged ({' '.join(complaints.said[:1]) or 'no page'})", COPY_AGAIN)
    _check_place(found, len(data))
    return found


def _stacked_images(pages: list[Any]) -> int:
    """Images that ImageJ has written behind one page's, as its description says."""
    description = str(pages[0].description) if pages else ""
    for line in description.splitlines() if description.startswith("ImageJ=") else ():
        if line.startswith("images="):
            return int(line.partition("=")[2])
    return 1


def _value(page: Any, code: int, default: Any) -> Any:
    tag = page.tags.get(code)
    return default if tag is None else tag.value


def _number(page: Any, code: int, default: int) -> int:
    return int(_value(page, code, default))


def _numbers(page: Any, code: int, default: tuple[int, ...]) -> tuple[int, ...]:
    value = _value(page, code, default)
    return tuple(int(v) for v in value) if isinstance(value, (tuple, list, np.ndarray)) else (int(value),)


def _layout_of_page(page: Any, big_endian: bool) -> _Layout:
    width, height, channels = _number(page, 256, 0), _number(page, 257, 0), _number(page, 277, 1)
    check_size(width, height)
    bits, formats = set(_numbers(page, 258, (1,))), set(_numbers(page, 339, (1,)))
    compression, photometric = _number(page, 259, NO_COMPRESSION), _number(page, 262, -1)
    predictor, extra = _number(page, 317, 1), _numbers(page, 338, ())
    tile = (_number(page, 322, 0), _number(page, 323, 0)) if 322 in page.tags else None
    _refuse(
        compression not in (NO_COMPRESSION, LZW, DEFLATE, OLD_DEFLATE, PACKBITS),
        f"{NAMES.get(compression, f'number {compression}')} compression",
    )
    _refuse(
        photometric not in (MIN_IS_WHITE, MIN_IS_BLACK, RGB), f"colour {PHOTOMETRICS.get(photometric, photometric)}"
    )
    _refuse(len(bits) != 1 or not bits <= {1, 8, 16}, f"{sorted(bits)} bits a sample".replace("[", "").replace("]", ""))
    _refuse(formats != {1}, "signed or floating-point samples (SampleFormat)")
    _refuse(_number(page, 254, 0) & 4 != 0, "a transparency mask (NewSubfileType)")
    _refuse(_number(page, 266, 1) != 1, "reversed bits (FillOrder 2)")
    _refuse(_number(page, 263, 1) != 1, "dithering (Threshholding)")
    _refuse(predictor not in (1, 2) or (predictor == 2 and bits == {1}), f"predictor {predictor}")
    _refuse(channels != (3 if photometric == RGB else 1) + len(extra), f"{channels} samples a pixel")
    _refuse(len(extra) > MOST_EXTRA_CHANNELS, f"{len(extra)} extra samples")
    _refuse(bits == {1} and channels > 1, "several 1-bit channels")
    for code, name in MEANING_TAGS.items():
        _refuse(code in page.tags, f"the tag {name}")
    _refuse(BLACK_WHITE in page.tags and not _is_usual(_value(page, BLACK_WHITE, ()), max(bits)), "ReferenceBlackWhite")
    return _Layout(
        height=height, width=width, channels=channels, bits=max(bits), photometric=photometric, compression=compression,
        predictor=predictor, planar=_number(page, 284, 1) == 2 and channels > 1, big_endian=big_endian, extra=extra,
        orientation=checked_orientation(_number(page, 274, 1)), tile_wh=tile,
        rows_per_strip=min(_number(page, 278, height), height) or height,
        offsets=_numbers(page, 324 if tile else 273, ()), counts=_numbers(page, 325 if tile else 279, ()),
    )  # fmt: skip


def _refuse(wrong: bool, what: str) -> None:
    if wrong:
        raise Unreadable(f"a TIFF with {what}", AS_PNG)


def _is_usual(value: Any, bits: int) -> bool:
    """Whether ReferenceBlackWhite, flat numbers or pairs of numerator and denominator, is 0 and the highest level."""
    flat = [float(v) for v in np.asarray(value, np.float64).ravel()]
    numbers = [a / b for a, b in zip(flat[::2], flat[1::2], strict=True) if b] if len(flat) == 12 else flat
    return numbers == [0.0, float(2**bits - 1)] * (len(numbers) // 2)


def _segments(page: _Layout) -> list[tuple[int, int, int, int, int]]:
    """(plane, y, x, rows, columns) of each strip or tile as stored, in the file's order."""
    planes = page.channels if page.planar else 1
    if page.tile_wh:
        w, h = page.tile_wh
        too_large = w * h > max(MOST_TILE_PX, -(-page.width // 16) * -(-page.height // 16) * 256)
        if w < 1 or h < 1 or w % 16 or h % 16 or too_large:
            raise Unreadable(f"tiles of {w}x{h}", COPY_AGAIN)
        places = [(y, x, h, w) for y in range(0, page.height, h) for x in range(0, page.width, w)]
    else:
        rows = page.rows_per_strip
        places = [(y, 0, min(rows, page.height - y), page.width) for y in range(0, page.height, rows)]
    return [(plane, *place) for plane in range(planes) for place in places]


def _segment_bytes(page: _Layout, rows: int, columns: int) -> int:
    samples = 1 if page.planar else page.channels
    return int(rows * ((columns * samples * page.bits + 7) // 8))


def _check_place(page: _Layout, size: int) -> None:
    """Unreadable unless every strip or tile is there, and within the file."""
    wanted = len(_segments(page))
    if len(page.offsets) != wanted or len(page.counts) != wanted:
        raise Unreadable(f"{len(page.offsets)} strips or tiles where its size needs {wanted}", COPY_AGAIN)
    places = zip(page.offsets, page.counts, strict=True)
    if any(count < 1 or offset < 8 or offset + count > size for offset, count in places):
        raise Unreadable("cut short", COPY_AGAIN)


def pixels_from_tiff(data: bytes) -> U8 | U16:
    """Decode the one page: (h, w) or (h, w, c), uint8 or uint16; MinIsWhite is turned over, 1 bit becomes 0 and 255."""
    page = _layout(data)
    unpack = _unpacker(page.compression)
    kind = np.dtype(np.uint16).newbyteorder(">" if page.big_endian else "<") if page.bits == 16 else np.dtype(np.uint8)
    out = np.zeros((page.height, page.width, page.channels), kind.newbyteorder("="))
    for (plane, y, x, rows, columns), offset, count in zip(_segments(page), page.offsets, page.counts, strict=True):
        wanted = _segment_bytes(page, rows, columns)
        whole = wanted if page.tile_wh else _segment_bytes(page, page.rows_per_strip, columns)
        raw = unpack(data[offset : offset + count], whole)
        if len(raw) == whole:  # some writers fill the last strip up to its full number of rows
            raw = raw[:wanted]
        if len(raw) != wanted:
            raise Unreadable(f"damaged (a strip gives {len(raw)} of {wanted} bytes)", COPY_AGAIN)
        block = _block(page, raw, rows, columns, kind)[: page.height - y, : page.width - x]
        channels = slice(plane, plane + 1) if page.planar else slice(None)
        out[y : y + block.shape[0], x : x + block.shape[1], channels] = block
    if page.photometric == MIN_IS_WHITE:
        out[..., 0] = np.iinfo(out.dtype).max - out[..., 0]
    return out[..., 0] if page.channels == 1 else out


def _block(page: _Layout, raw: bytes, rows: int, columns: int, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    """One strip or tile as (rows, columns, samples)."""
    samples = 1 if page.planar else page.channels
    if page.bits == 1:
        bits = np.unpackbits(np.frombuffer(raw, np.uint8).reshape(rows, -1), axis=1)[:, :columns]
        return np.asarray(bits[..., None] * np.uint8(255))
    block: npt.NDArray[Any] = np.frombuffer(raw, kind).reshape(rows, columns, samples)
    if page.predictor == 2:
        block = np.cumsum(block, axis=1, dtype=kind.newbyteorder("="))
    return block


def _unpacker(compression: int) -> Callable[[bytes, int], bytes]:
    if compression == NO_COMPRESSION:
        return lambda raw, wanted: raw[:wanted]  # some writers count padding in
    if compression in (DEFLATE, OLD_DEFLATE):
        return _inflated
    try:
        import imagecodecs
    except ImportError as error:
        name = "LZW" if compression == LZW else "PackBits"
        raise Unreadable(
            f"a TIFF with {name} compression",
            "install the extra tiff (pip install '.[tiff]' in the checkout), or save it without compression",
        ) from error
    decode = imagecodecs.lzw_decode if compression == LZW else imagecodecs.packbits_decode

    def unpacked(raw: bytes, wanted: int) -> bytes:
        try:
            return bytes(decode(raw, out=wanted + 1))
        except Exception as error:  # imagecodecs has an exception for each codec
            raise Unreadable(f"damaged ({' '.join(str(error).split())[:120]})", COPY_AGAIN) from error

    return unpacked


def _inflated(raw: bytes, wanted: int) -> bytes:
    """A zlib stream, its checksum compared; one byte more than wanted at most, for memory's sake."""
    stream = zlib.decompressobj()
    try:
        out = stream.decompress(raw, wanted + 1)
    except zlib.error as error:
        raise Unreadable(f"damaged ({error})", COPY_AGAIN) from error
    if len(out) == wanted and not stream.eof:
        raise Unreadable("damaged (a strip without its end)", COPY_AGAIN)
    return out
