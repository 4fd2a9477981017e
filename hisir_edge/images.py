"""Reading and writing pictures, with one-line errors and atomic writes. Colours are RGB in memory."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from hisir_edge.arrays import U8, Bool, u8
from hisir_edge.errors import InputError
from hisir_edge.mes.mask import rle_from_runs

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
# a camera frame larger than this is not a picture of a board but a mistake (or an attack)
MAX_PIXELS = 16384 * 16384


def image_paths(folder: Path) -> list[Path]:
    """The pictures directly in a folder, sorted by name; InputError if there is none."""
    if not folder.is_dir():
        received = f"{folder} ({'not a folder' if folder.exists() else 'does not exist'})"
        raise InputError(expected="a folder of images", received=received, fix="check the path")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not found:
        raise InputError(
            expected=f"images ({', '.join(IMAGE_SUFFIXES)}) in {folder}",
            received="none" if not any(p.is_dir() for p in folder.iterdir()) else "folders only",
            fix="check the path (one folder deeper?), or convert the images",
        )
    return found


def check_apart(option: str, out: Path, folders: set[Path]) -> None:
    """InputError when ``out`` is one of the folders that pictures are read from: results would be taken for boards."""
    if out.resolve() in {folder.resolve() for folder in folders}:
        raise InputError(
            expected=f"a folder for {option} that no pictures are read from",
            received=str(out),
            fix="choose another: pictures written there would be taken for boards",
        )


def decode_unchanged(path: Path) -> npt.NDArray[np.generic]:
    """Decode a picture file as it is; InputError when unreadable, truncated or not a picture."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(
            expected="a readable image file",
            received=f"{path} ({error.strerror})",
            fix="check the path and its permissions",
        ) from error
    if _is_truncated(data):
        raise InputError(expected="a whole image file", received=f"{path} (cut short)", fix="copy the file again")
    try:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except cv2.error:
        image = None
    if image is None:
        raise InputError(
            expected="a PNG, JPEG, BMP or TIFF image",
            received=f"{path} ({data.size} bytes that do not decode)",
            fix="replace the file",
        )
    return image


def _is_truncated(data: U8) -> bool:
    """PNG and JPEG name their end; decoders fill a cut picture with grey, which must not be judged."""
    head, tail = data[:8].tobytes(), data[-64:].tobytes()
    if head == b"\x89PNG\r\n\x1a\n":
        return b"IEND\xaeB`\x82" not in tail
    if head[:3] == b"\xff\xd8\xff":
        return b"\xff\xd9" not in data[-4096:].tobytes()
    return False


def read_rgb(path: Path) -> U8:
    """Read an 8-bit colour picture as RGB uint8 (h, w, 3); InputError for any other depth or channels.

    An alpha channel is refused, not dropped: what it covers is unknown.
    """
    image = decode_unchanged(path)
    if image.dtype != np.uint8:
        raise InputError(
            expected="8 bits per channel",
            received=f"{path} with {image.dtype.itemsize * 8} bits",
            fix="convert it to 8 bits",
        )
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels != 3:
        raise InputError(
            expected="3 colour channels", received=f"{path} with {channels}", fix="convert it to RGB without alpha"
        )
    return u8(cv2.cvtColor(u8(image), cv2.COLOR_BGR2RGB))


def read_mask(path: Path) -> Bool:
    """Read a ground-truth or zone mask: (h, w) bool, true where any channel is not 0."""
    lit = np.asarray(decode_unchanged(path)) != 0
    return lit if lit.ndim == 2 else np.asarray(lit[..., :3].any(2))


def png_bytes(image: U8, compression: int = 3) -> bytes:
    """Encode RGB or grey uint8 as PNG."""
    ready = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    ok, encoded = cv2.imencode(".png", ready, [cv2.IMWRITE_PNG_COMPRESSION, compression])
    if not ok:
        raise InputError(expected="an encodable image", received=f"shape {image.shape}", fix="report this as a fault")
    return encoded.tobytes()


def mask_png_bytes(mask: Bool) -> bytes:
    """Encode a bool mask (h, w) as a 1-bit PNG."""
    # of each byte the lowest bit is written, so that no copy with 255 for true is needed
    ok, encoded = cv2.imencode(
        ".png", mask.view(np.uint8), [cv2.IMWRITE_PNG_BILEVEL, 1, cv2.IMWRITE_PNG_COMPRESSION, 1]
    )
    if not ok:
        raise InputError(expected="an encodable mask", received=f"shape {mask.shape}", fix="report this as a fault")
    return encoded.tobytes()


def mask_rle_bytes(mask: Bool) -> bytes:
    """Encode a bool mask (h, w) as run lengths, as ``mes.mask`` reads them: small, and quick, where little is set."""
    h, w = mask.shape
    flat = np.ascontiguousarray(mask).ravel()
    # where it changes, as if a zero came before the first pixel and after the last
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    at = np.concatenate([[0], [0] if flat[0] else [], changes, [flat.size] if flat[-1] else []])
    return rle_from_runs(w, h, np.diff(at).astype(int).tolist())


def jpeg_bytes(image: U8, quality: int = 92) -> bytes:
    """Encode RGB uint8 as JPEG."""
    ok, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise InputError(expected="an encodable image", received=f"shape {image.shape}", fix="report this as a fault")
    return encoded.tobytes()


def write_atomic(path: Path, data: bytes) -> None:
    """Write a whole file or nothing: to a temporary name beside it, then rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(
            expected=f"to write {path}",
            received=error.strerror or str(error),
            fix="check the folder, its permissions and free space",
        ) from error
