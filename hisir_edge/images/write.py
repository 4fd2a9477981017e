"""Writing pictures, with one-line errors and atomic writes. Colours are RGB in memory."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from hisir_edge.arrays import U8, Bool, u8
from hisir_edge.errors import InputError
from hisir_edge.transport.run_lengths import rle_from_runs


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
        ".png",
        mask.view(np.uint8),
        # runs alone: a quarter of the bytes of the usual strategy where little is set, as quickly
        [
            cv2.IMWRITE_PNG_BILEVEL, 1, cv2.IMWRITE_PNG_COMPRESSION, 1,
            cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE,
        ],
    )  # fmt: skip
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
    _write(path, data, durably=False)


def write_durably(path: Path, data: bytes) -> None:
    """As ``write_atomic``; once it returns, it is there after a power cut, too, whole or as it was before."""
    _write(path, data, durably=True)


def _write(path: Path, data: bytes, durably: bool) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        if durably:  # before it has its name: a power cut leaves no empty file under it
            _sync(temporary, os.O_RDONLY)
        temporary.replace(path)
        if durably:
            _sync(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(
            expected=f"to write {path}",
            received=error.strerror or str(error),
            fix="check the folder, its permissions and free space",
        ) from error


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def picture_file(path: Path, shape: tuple[int, ...]) -> U8:
    """A new file of uint8 pictures (n, h, w, c) as an array; InputError where the disk has no room for all of it.

    Without its blocks taken beforehand a full disk would end the process in the middle of a write.
    """
    try:
        pictures = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        raise InputError(
            expected=f"room for {path}, {int(np.prod(shape)) >> 20} MiB",
            received=error.strerror or str(error),
            fix="free some space, or choose a folder on another disk",
        ) from error
    return u8(pictures)
