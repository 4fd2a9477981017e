"""Reading picture files: one function for photos, one for masks, one set of rules (docs/reference/pictures.md)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from hisir_edge.arrays import U8, U16, Bool, u8
from hisir_edge.errors import InputError
from hisir_edge.images import bmp, jpeg, png, tiff
from hisir_edge.images.exif import upright
from hisir_edge.images.folders import is_picture
from hisir_edge.images.header import PictureHeader, Unreadable
from hisir_edge.images.kept import decoded_once
from hisir_edge.images.pixels import Pixels
from hisir_edge.images.wire import Levels, through_window

MAX_FILE_BYTES = 2**31
MOST_DEFECT_SHARE = 0.6
"""A mask with a larger share of defective pixels is refused: it is inverted, or no mask."""
MOST_BORDER_SHARE = 0.75
"""A mask with more than this share of its outermost pixels defective is refused: no defect runs around a picture."""
MOST_LEVELS, MOST_BETWEEN_SHARE, LEAST_PHOTO_SHARE = 16, 0.25, 0.25
"""Masks have few levels, and a soft brush adds some along edges. A file of which more than a quarter is not 0, with
more than a quarter of that outside the commonest levels, is a photo."""
LEAST_OF_16_BITS = 8192
"""Photos of 16 bits whose highest level is below this hold those of fewer bits, or next to nothing."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Format:
    header: Callable[[bytes], PictureHeader]
    pixels: Callable[[bytes], Any]


JPEG = _Format(jpeg.header_from_jpeg, jpeg.pixels_from_jpeg)
PNG = _Format(png.header_from_png, png.pixels_from_png)
BMP = _Format(bmp.header_from_bmp, bmp.pixels_from_bmp)
TIFF = _Format(tiff.header_from_tiff, tiff.pixels_from_tiff)
BY_MAGIC = {jpeg.MAGIC: JPEG, png.MAGIC: PNG, bmp.MAGIC: BMP, **dict.fromkeys(tiff.MAGICS, TIFF)}


def _content(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # a pipe would block, a folder has no content
            raise InputError(expected="a picture file", received=f"{path}, which is none", fix="check the path")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise InputError(
                expected=f"a picture file of at most {MAX_FILE_BYTES >> 20} MiB",
                received=f"{path} of {size >> 20} MiB",
                fix="check the path",
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise InputError(
            expected="a readable image file",
            received=f"{str(path)!r} ({error})" if isinstance(error, ValueError) else f"{path} ({error.strerror})",
            fix="check the path and its permissions",
        ) from error


def _format_of(data: bytes) -> _Format:
    """By the content, whatever the name says."""
    for magic, found in BY_MAGIC.items():
        if data.startswith(magic):
            return found
    if not data:
        raise Unreadable("an empty file", "copy the file again")
    raise Unreadable(f"{len(data)} bytes of another kind", "convert it to PNG, JPEG, BMP or TIFF")


def is_jpeg(path: Path) -> bool:
    """Whether a file holds JPEG data, whatever its name says."""
    with suppress(OSError), path.open("rb") as file:
        return file.read(len(jpeg.MAGIC)) == jpeg.MAGIC
    return False


def header_of_picture(path: Path) -> PictureHeader:
    """The header of a picture file, nothing decoded; InputError where ``read_rgb`` would refuse it by its header."""
    data = _content(path)
    try:
        return _format_of(data).header(data)
    except Unreadable as error:
        raise error.named(path) from error


@dataclass(frozen=True, slots=True)
class Rules:
    """What photos are taken as.

    ``levels``: (black, white) of 16-bit photos that become 0 and 255, None: all that 16 bits can say; those of 8 bits
    have been through it already. ``grey``: whether they are grey, all colours alike; None: either.
    """

    levels: Levels | None = None
    grey: bool | None = False


IN_COLOUR = Rules()


def read_rgb(path: Path, frame_hw: tuple[int, int] | None = None, rules: Rules = IN_COLOUR) -> U8:
    """Read a photo as RGB uint8 (h, w, 3), upright; of a grey one all three are alike.

    InputError names the file: another depth than 8 or 16 bits, or other channels than ``rules`` say, any warning of the
    decoder, or an upright size other than ``frame_hw``, which is compared before anything is decoded. An alpha channel
    is refused, not dropped: what it covers is unknown.
    """
    return read_pixels(path, frame_hw, rules).rgb


def read_pixels(path: Path, frame_hw: tuple[int, int] | None = None, rules: Rules = IN_COLOUR) -> Pixels:
    """As ``read_rgb``, grey photos as Mono8."""
    data = _content(path)
    try:
        form = _format_of(data)
        header = form.header(data)
        _check_rgb(header, rules.grey)
        if rules.levels is not None and header.black_is_high and header.bits == 16:
            raise Unreadable(
                "a TIFF whose highest level is black (MinIsWhite)", "convert it", "levels from black to white"
            )
        if frame_hw is not None and header.upright_hw != frame_hw:
            h, w = header.upright_hw
            turned = f", turned upright by orientation {header.orientation}" if header.orientation != 1 else ""
            raise Unreadable(
                f"{w}x{h}{turned}", "crop or sort the images to one size", f"a picture of {frame_hw[1]}x{frame_hw[0]}"
            )
        pixels = _decoded(path, form, header, data)
        shape, depth = pixels.shape[2:], np.uint8 if header.bits == 8 else np.uint16
        if shape != (() if header.channels == 1 else (3,)) or pixels.dtype != depth:  # a decoder that sees it otherwise
            raise Unreadable(
                f"{pixels.dtype} pixels of shape {pixels.shape}",
                expected=f"{header.channels} channels of {header.bits} bits",
            )
        return _taken(pixels, rules)
    except Unreadable as error:
        raise error.named(path) from error


def _taken(pixels: U8 | U16, rules: Rules) -> Pixels:
    """Pixels (h, w) or (h, w, 3) through the window; Unreadable for colours where grey is wanted."""
    if pixels.dtype == np.uint16:
        if rules.levels is None and pixels.max() < LEAST_OF_16_BITS:
            raise Unreadable(
                f"16 bits of which levels up to {pixels.max()} alone are used",
                "say which levels become black and white: --levels 0,4095 for 12 bits (source.levels in line.toml)",
                "a picture that uses its 16 bits, or levels to take it by",
            )
        black, white = rules.levels or (0, 0xFFFF)
        pixels = through_window(np.ascontiguousarray(pixels, np.uint16), black, white)
    if pixels.ndim == 2:
        return Pixels(u8(pixels), "Mono8")
    if rules.grey and not is_grey(u8(pixels)):
        raise Unreadable("a picture in colour", "sort the pictures: the others are grey", "a grey picture")
    return Pixels(u8(pixels))


def is_grey(rgb: U8) -> bool:
    """Whether all three channels (h, w, 3) are alike."""
    return bool((rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 1] == rgb[..., 2]).all())


def read_grey(path: Path) -> U8:
    """Read an 8-bit grey picture, (h, w) uint8, upright; InputError for any other depth or channels."""
    data = _content(path)
    try:
        form = _format_of(data)
        header = form.header(data)
        if (header.bits, header.channels) != (8, 1):
            raise Unreadable(f"{header.channels} channels of {header.bits} bits", expected="a grey picture of 8 bits")
        return u8(_decoded(path, form, header, data))
    except Unreadable as error:
        raise error.named(path) from error


def _check_rgb(header: PictureHeader, grey: bool | None) -> None:
    if header.bits not in (8, 16):
        raise Unreadable(f"{header.bits} bits", "convert it to 8 or 16 bits", "8 or 16 bits per channel")
    if header.channels == 1 and not header.alpha:
        if grey is False:
            raise Unreadable(
                "a grey picture", "name one in colour, as the bundle or the others are", "3 colour channels"
            )
    elif header.channels != 3:
        raise Unreadable(f"a picture with {header.channels}", "convert it to RGB without alpha", "3 colour channels")


def _decoded(path: Path, form: _Format, header: PictureHeader, data: bytes) -> U8 | U16:
    """The pixels, upright, of the header's size."""
    pixels = decoded_once(data, lambda: form.pixels(data))
    if pixels.shape[:2] != (header.height, header.width):
        raise Unreadable(f"{pixels.shape[1]}x{pixels.shape[0]} px where its header says {header.width}x{header.height}")
    if header.trailing_bytes:
        _note_trailing(str(path), header.trailing_bytes)
    turned: U8 | U16 = upright(pixels, header.orientation)
    return turned


@lru_cache(maxsize=4096)
def _note_trailing(file: str, trailing_bytes: int) -> None:
    """Once a file: training reads each several times, a replay in a loop for ever."""
    log.info("bytes behind the end of a picture ignored", file=file, trailing_bytes=trailing_bytes)


def read_mask(path: Path) -> Bool:
    """Read a mask: (h, w) bool, upright, true where any colour channel is not 0.

    InputError names the file: JPEG content, or an alpha channel that is not opaque all over.
    """
    return np.asarray(_grey_of_mask(path) != 0)


def read_truth(path: Path) -> Bool:
    """Read a ground-truth mask as ``read_mask`` does; of a folder of masks, all of them as one.

    InputError also for pixels that cannot be meant as a mask of defects: a photo, an inverted mask, all white.
    """
    files = [file for file in sorted(path.iterdir()) if is_picture(file)] if path.is_dir() else [path]
    masks = []
    for file in files:
        grey = _grey_of_mask(file)
        try:
            masks.append(_checked_truth(grey))
        except Unreadable as error:
            raise error.named(file) from error
    if not masks or any(mask.shape != masks[0].shape for mask in masks):
        raise InputError(
            expected="masks of one size", received=f"{path} with {len(masks)} masks", fix="replace the masks"
        )
    return np.asarray(np.logical_or.reduce(masks))


def _grey_of_mask(path: Path) -> U8 | U16:
    """The highest colour channel of each pixel, (h, w)."""
    data = _content(path)
    try:
        form = _format_of(data)
        header = form.header(data)
        if form is JPEG:
            raise Unreadable(
                "JPEG data",
                "write the mask as PNG from its source: JPEG blurs its edge into false defects",
                "a mask in a lossless format, such as PNG",
            )
        if header.bits == 16 and form is PNG and header.channels != 1:
            raise Unreadable("16 bits a channel", "write the mask as an 8-bit PNG, black and white")
        if header.alpha and header.bits < 8:  # Pillow compares a transparent level with scaled ones
            raise Unreadable(
                "a mask with transparency", "write it black and white without alpha", "a mask of black and white"
            )
        pixels = _without_alpha(_decoded(path, form, header, data), header)
        return pixels if pixels.ndim == 2 else pixels.max(2)
    except Unreadable as error:
        raise error.named(path) from error


def _without_alpha(pixels: U8 | U16, header: PictureHeader) -> U8 | U16:
    """The colour channels; Unreadable for transparency: it is unknown which of colour and alpha is the mask."""
    if not header.alpha:
        return pixels
    alpha = pixels[..., -1]
    if (alpha != np.iinfo(pixels.dtype).max).any():
        raise Unreadable(
            "a mask with transparency", "write it black and white without alpha", "a mask of black and white"
        )
    return pixels[..., :-1]


def _checked_truth(grey: U8 | U16) -> Bool:
    """Where a mask (h, w) is not 0; Unreadable where its pixels cannot be meant as a mask of defects."""
    lit = np.asarray(grey != 0)
    expected = "a mask: 0 for good pixels, anything else for defective ones"
    counts = np.bincount(grey.ravel())[1:]
    common = np.sort(counts)[-MOST_LEVELS:].sum()
    is_large = lit.mean() > LEAST_PHOTO_SHARE
    if is_large and (counts > 0).sum() > MOST_LEVELS and common < (1 - MOST_BETWEEN_SHARE) * counts.sum():
        raise Unreadable(f"{(counts > 0).sum()} grey levels: a photo?", "name the mask's own file", expected)
    border = np.concatenate([lit[0], lit[-1], lit[1:-1, 0], lit[1:-1, -1]])
    if lit.mean() > MOST_DEFECT_SHARE or border.mean() > MOST_BORDER_SHARE:
        raise Unreadable(
            f"{lit.mean():.0%} of the picture defective: inverted, or all white?",
            "invert it, or draw it anew: white is what is defective",
            expected,
        )
    return lit
