"""Write the parts of a bundle, so that loading gives back the same values."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import cv2
import numpy as np

from hisir_edge.arrays import U8
from hisir_edge.bundle.files import DEVIATION, GOLDEN, MANIFEST, NOISE
from hisir_edge.bundle.integrity import seal_of, sha256_of
from hisir_edge.bundle.load import _memory_from_pictures
from hisir_edge.bundle.manifest import Manifest
from hisir_edge.errors import BundleError
from hisir_edge.images import jpeg_bytes, png_bytes


def write_noise(folder: Path, noise: U8) -> None:
    """Write the noise map, one pixel a cell."""
    (folder / NOISE).write_bytes(png_bytes(noise))


def write_memory(folder: Path, mean_rgb: U8, deviation: U8) -> None:
    """Write the board memory as two JPEG pictures; the deviation at half size (it is smooth)."""
    (folder / GOLDEN).write_bytes(jpeg_bytes(mean_rgb, quality=90))
    h, w = deviation.shape
    half = cv2.resize(deviation, (max(w // 2, 1), max(h // 2, 1)), interpolation=cv2.INTER_AREA)
    ok, encoded = cv2.imencode(".jpg", half, [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not ok:
        raise BundleError(expected="an encodable deviation map", received=f"shape {deviation.shape}", fix="train again")
    (folder / DEVIATION).write_bytes(encoded.tobytes())


def memory_as_shipped(mean_rgb: U8, deviation: U8) -> U8:
    """The cue (h, w, 4) as the line will read it back from a bundle's pictures; training uses the same."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_memory(folder, mean_rgb, deviation)
        h, w = mean_rgb.shape[:2]
        return np.ascontiguousarray(_memory_from_pictures(folder, (h, w))[:, :h, :w].transpose(1, 2, 0))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest with the hashes of every other file in the folder."""
    files = {p.name: sha256_of(p) for p in sorted(folder.iterdir()) if p.name != MANIFEST}
    raw = manifest.model_copy(update={"files": files}).model_dump(mode="json")
    (folder / MANIFEST).write_text(json.dumps({**raw, "seal_sha256": seal_of(raw)}, indent=2, allow_nan=False) + "\n")
