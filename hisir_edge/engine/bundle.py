"""A bundle: one directory, one deployable product. Written whole or not at all, loaded only when intact."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hisir_edge.arrays import U8, u8
from hisir_edge.errors import BundleError
from hisir_edge.images import decode_unchanged, jpeg_bytes, png_bytes
from hisir_edge.line.gain import Zone, noise_shape
from hisir_edge.line.judge import Thresholds

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
MODEL, GOLDEN, DEVIATION, NOISE = "model.onnx", "golden.jpg", "deviation.jpg", "noise.png"
REQUIRED = (MODEL, GOLDEN, DEVIATION, NOISE)
REBUILD = "rebuild it: hisir-edge build-engine RUN --target onnxruntime --precision int8 --out BUNDLE"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class RecipeModel(_Record):
    """How frames are cut for this network; sizes in pixels."""

    frame_width: int = Field(gt=0, le=16384)
    frame_height: int = Field(gt=0, le=16384)
    scale: float = Field(gt=0, le=4)
    tile_px: int = Field(gt=0, le=4096)
    overlap_px: int = Field(ge=0)
    registered: bool


class ThresholdModel(_Record):
    """How PASS and FAIL are told apart, and what that was derived from."""

    pixel: float = Field(gt=0)
    region_peak: float = Field(ge=1)
    min_area_px: int = Field(ge=1)
    false_calls_per_board: float = Field(gt=0)
    false_calls_upper_bound_95: float = Field(ge=0)
    held_out_boards: int = Field(ge=1)
    boards_to_prove: int = Field(ge=1)


Coordinate = Annotated[float, Field(ge=-32768, le=32768)]


class ZoneModel(_Record):
    """A named polygon in golden-image pixels of the camera's frame; sensitivity 0 ignores it, 2 alarms at half."""

    name: str = Field(min_length=1, max_length=64)
    polygon: tuple[tuple[Coordinate, Coordinate], ...] = Field(min_length=3, max_length=256)
    sensitivity: float = Field(ge=0, le=100)


class Manifest(_Record):
    """``manifest.json``, schema version 2."""

    schema_version: Literal[2]
    product: str
    created_at: str
    software_version: str
    target: Literal["onnxruntime"]
    precision: Literal["fp32", "int8"]
    backbone: str
    width: int
    recipe: RecipeModel
    thresholds: ThresholdModel
    zones: tuple[ZoneModel, ...] = ()
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the line cuts a frame: ``frame_hw`` in camera pixels, tiles in scaled pixels."""

    frame_hw: tuple[int, int]
    scale: float
    tile_px: int
    overlap_px: int
    registered: bool


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle: board memory (h, w, 4) uint8 in golden, scaled pixels; noise (rows, columns) of its cells."""

    folder: Path
    manifest: Manifest
    manifest_sha256: str
    recipe: Recipe
    thresholds: Thresholds
    zones: tuple[Zone, ...]
    memory_rgbd: U8 = field(repr=False)
    noise: U8 = field(repr=False)

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.folder / MODEL


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(path)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def manifest_from_folder(folder: Path) -> Manifest:
    """Read and validate ``manifest.json``; BundleError otherwise."""
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        is_run = os.path.exists(folder / "run.json")  # noqa: PTH110  # says no where it may not look
        raise BundleError(
            expected=f"a bundle (a folder with {MANIFEST})",
            received=f"{folder}, a training run" if is_run else f"{folder} ({error.strerror})",
            fix=f"hisir-edge build-engine {folder} --out BUNDLE" if is_run else f"check the path or {REBUILD}",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BundleError(
            expected=f"{MANIFEST} of schema version {SCHEMA_VERSION}",
            received=f"{path}: {where}: {first['msg']}",
            fix=REBUILD,
        ) from error


def _check_files(folder: Path, manifest: Manifest) -> None:
    for name in (*REQUIRED, *manifest.files):
        if name not in manifest.files or Path(name).name != name:
            raise BundleError(expected=f"{MANIFEST} to list {name} by plain name", received="it does not", fix=REBUILD)
        try:
            actual = sha256_of(folder / name)
        except OSError as error:
            raise BundleError(
                expected=f"{name} in the bundle {folder}",
                received=error.strerror or str(error),
                fix=f"copy the bundle again or {REBUILD}",
            ) from error
        if actual != manifest.files[name]:
            raise BundleError(
                expected=f"{folder / name} with sha256 {manifest.files[name][:12]}...",
                received=f"{actual[:12]}... (altered since it was built)",
                fix=f"copy the bundle again or {REBUILD}",
            )


def load_bundle(folder: Path) -> Bundle:
    """Verify every file of a bundle against its manifest and load what the line needs of it."""
    manifest = manifest_from_folder(folder)
    _check_files(folder, manifest)
    r, t = manifest.recipe, manifest.thresholds
    recipe = Recipe((r.frame_height, r.frame_width), r.scale, r.tile_px, r.overlap_px, r.registered)
    expected_hw = (round(r.frame_height * r.scale), round(r.frame_width * r.scale))
    memory = _memory_from_pictures(decode_unchanged(folder / GOLDEN), decode_unchanged(folder / DEVIATION), expected_hw)
    thresholds = Thresholds(t.pixel, t.region_peak, t.min_area_px)
    zones = tuple(Zone(z.name, z.polygon, z.sensitivity) for z in manifest.zones)
    noise = _noise_from_picture(decode_unchanged(folder / NOISE), expected_hw)
    return Bundle(folder, manifest, sha256_of(folder / MANIFEST), recipe, thresholds, zones, memory, noise)


def _noise_from_picture(noise: npt.NDArray[np.generic], hw: tuple[int, int]) -> U8:
    if noise.shape != noise_shape(hw) or noise.dtype != np.uint8:
        raise BundleError(expected=f"a noise map of {noise_shape(hw)} cells", received=f"{noise.shape}", fix=REBUILD)
    return u8(noise)


def write_noise(folder: Path, noise: U8) -> None:
    """Write the noise map, one pixel a cell."""
    (folder / NOISE).write_bytes(png_bytes(noise))


def _memory_from_pictures(
    golden: npt.NDArray[np.generic], deviation: npt.NDArray[np.generic], expected_hw: tuple[int, int]
) -> U8:
    if golden.shape != (*expected_hw, 3) or deviation.ndim != 2 or golden.dtype != np.uint8:
        raise BundleError(expected=f"a golden image of {expected_hw}", received=f"{golden.shape}", fix=REBUILD)
    rgb = cv2.cvtColor(u8(golden), cv2.COLOR_BGR2RGB)
    spread = cv2.resize(u8(deviation), expected_hw[::-1], interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(np.dstack([rgb, spread]).astype(np.uint8, copy=False))


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
        return _memory_from_pictures(
            decode_unchanged(folder / GOLDEN), decode_unchanged(folder / DEVIATION), mean_rgb.shape[:2]
        )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest with the hashes of every other file in the folder."""
    files = {p.name: sha256_of(p) for p in sorted(folder.iterdir()) if p.name != MANIFEST}
    text = manifest.model_copy(update={"files": files}).model_dump_json(indent=2)
    (folder / MANIFEST).write_text(text + "\n")


def replace_folder(staged: Path, out: Path) -> None:
    """Put a finished folder in place of ``out``; a kill at any instant leaves the old one or the new one.

    An old bundle is moved aside first; if the process dies between the two renames, the next build or
    the message of the loader names the ``.old`` folder that holds it.
    """
    for path in (*staged.iterdir(), staged):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    staged.rename(out)
    shutil.rmtree(old, ignore_errors=True)
