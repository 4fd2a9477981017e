"""A bundle: one directory, one deployable product. Written whole or not at all, loaded only when intact."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shlex
import shutil
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydantic import ValidationError

from hisir_edge.arrays import U8
from hisir_edge.bundle.manifest import DEFAULT_MAX_DROP, SCHEMA_VERSION, Manifest
from hisir_edge.bundle.thresholds import Thresholds, Zone
from hisir_edge.errors import BundleError, InputError
from hisir_edge.geometry.noise_shape import noise_shape
from hisir_edge.geometry.tile import padded_size, scaled_hw
from hisir_edge.images import jpeg_bytes, png_bytes, read_grey, read_rgb

MANIFEST = "manifest.json"
MODEL, GOLDEN, DEVIATION, NOISE = "model.onnx", "golden.jpg", "deviation.jpg", "noise.png"
ENGINE, CALIBRATION, SELF_TEST = "engine.plan", "calibration.json", "selftest.jpg"
MOST_EXCHANGES = 5
REQUIRED = (MODEL, GOLDEN, DEVIATION, NOISE)


def rebuild_command(folder: Path, manifest: Manifest | None = None, gpu_arch: str = "") -> str:
    """How to make a bundle again; as much of the command as the manifest tells. ``gpu_arch``: for this GPU instead."""
    if manifest is None:
        return f"rebuild it: hisir-edge build-engine RUN --out {shlex.quote(str(folder))}"
    archs = (gpu_arch,) if gpu_arch else manifest.engine.gpu_arch if manifest.engine else ()
    arch = f" --gpu-arch {','.join(archs)}" if archs and manifest.target == "tensorrt-rtx" else ""
    zones = " --zones ZONES.json" if manifest.zones else ""
    zones += f" --mm-per-px {manifest.mm_per_px:g}" if manifest.mm_per_px else ""
    zones += " --components COMPONENTS.csv" if manifest.components else ""
    rate = manifest.thresholds.false_calls_per_board
    drop = manifest.metrics.max_drop if manifest.metrics else DEFAULT_MAX_DROP
    limit = f" --max-drop {drop:g}" if drop != DEFAULT_MAX_DROP else ""
    return (
        f"rebuild it: hisir-edge build-engine RUN --target {manifest.target} --precision {manifest.precision}{arch} "
        f"--product {shlex.quote(manifest.product)}{zones} "
        f"--false-calls-per-board {rate:g}{limit} --out {shlex.quote(str(folder))}"
    )


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
    """A verified bundle; ``memory`` as planes (4, h, w) uint8 of golden, scaled pixels, padded to whole regions.

    ``noise``: (rows, columns) of its cells.
    """

    folder: Path
    manifest: Manifest
    manifest_sha256: str
    recipe: Recipe
    thresholds: Thresholds
    zones: tuple[Zone, ...]
    memory: U8 = field(repr=False)
    noise: U8 = field(repr=False)
    network: bytes = field(repr=False)

    @property
    def memory_rgbd(self) -> U8:
        """The board memory (h, w, 4), red, green, blue and deviation: a view, not contiguous."""
        h, w = scaled_hw(self.recipe.frame_hw, self.recipe.scale)
        view: U8 = self.memory[:, :h, :w].transpose(1, 2, 0)
        return view

    @property
    def model(self) -> Path:
        """The ONNX file; a loaded engine is made from ``network``, which is what was verified."""
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
        content = path.read_bytes()
        manifest = Manifest.model_validate_json(content)
    except OSError as error:
        is_run = os.path.exists(folder / "run.json")  # noqa: PTH110  # says no where it may not look
        raise BundleError(
            expected=f"a bundle (a folder with {MANIFEST})",
            received=f"{folder}, a training run" if is_run else f"{folder} ({error.strerror})",
            fix=_how_to_find(folder, is_run),
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BundleError(
            expected=f"{MANIFEST} of schema version {SCHEMA_VERSION}",
            received=f"{path}: {where}: {first['msg']}",
            fix=rebuild_command(folder),
        ) from error
    if manifest.seal_sha256 != seal_of(json.loads(content)):
        raise BundleError(
            expected=f"{path} as it was built",
            received="a manifest that was changed since",
            fix=f"copy the bundle again or {rebuild_command(folder, manifest)}",
        )
    return manifest


def seal_of(manifest: dict[str, Any]) -> str:
    """Hex SHA-256 of a manifest's JSON without ``seal_sha256``: keys sorted, no spaces, numbers as Python has them."""
    rest = {key: value for key, value in manifest.items() if key != "seal_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _how_to_find(folder: Path, is_run: bool) -> str:
    if is_run:
        return f"hisir-edge build-engine {shlex.quote(str(folder))} --out BUNDLE"
    real = Path(os.path.realpath(folder))
    old = real.with_name(f".{real.name}.old")
    if os.path.exists(old / MANIFEST):  # noqa: PTH110  # says no where it may not look
        mend = f"mv {shlex.quote(str(old))} {shlex.quote(str(real))}"
        return f"an interrupted build left the last one in {old}: {mend}"
    return f"check the path or {rebuild_command(folder)}"


def _check_files(folder: Path, manifest: Manifest) -> None:
    rebuild = rebuild_command(folder, manifest)
    named = [manifest.self_test.image, *([manifest.engine.file] if manifest.engine else [])]
    for name in (*REQUIRED, *named, *manifest.files):
        if name not in manifest.files or Path(name).name != name:
            raise BundleError(expected=f"{MANIFEST} to list {name} by plain name", received="it does not", fix=rebuild)
        try:
            actual = sha256_of(folder / name) if (folder / name).is_file() else ""
        except OSError as error:
            raise BundleError(
                expected=f"{name} in the bundle {folder}",
                received=error.strerror or str(error),
                fix=f"copy the bundle again or {rebuild}",
            ) from error
        if not actual:
            there = (folder / name).exists()
            raise BundleError(
                expected=f"{name} in the bundle {folder}",
                received="something that is no file" if there else "No such file or directory",
                fix=f"copy the bundle again or {rebuild}",
            )
        if actual != manifest.files[name]:
            raise BundleError(
                expected=f"{folder / name} with sha256 {manifest.files[name][:12]}...",
                received=f"{actual[:12]}... (altered since it was built)",
                fix=f"copy the bundle again or {rebuild}",
            )


def load_bundle(folder: Path) -> Bundle:
    """Verify every file of a bundle against its manifest and load what the line needs of it.

    A build may put another bundle in its place meanwhile; then that one is loaded, never a mixture.
    """
    for _ in range(MOST_EXCHANGES):
        manifest = manifest_from_folder(folder)
        try:
            bundle = _loaded(folder, manifest)
        except (BundleError, InputError):
            if manifest_from_folder(folder) == manifest:
                raise
            continue
        if manifest_from_folder(folder) == manifest:
            return bundle
    raise BundleError(
        expected=f"{folder} to stay as it is while it is loaded",
        received="one build after another",
        fix="load it again",
    )


def _loaded(folder: Path, manifest: Manifest) -> Bundle:
    _check_files(folder, manifest)
    bundle = bundle_from_manifest(folder, manifest, sha256_of(folder / MANIFEST))
    _check_files(folder, manifest)
    if hashlib.sha256(bundle.network).hexdigest() != manifest.files[MODEL]:
        raise BundleError(
            expected=f"{folder} to stay as it is while it is loaded", received="another network", fix="load it again"
        )
    return bundle


def bundle_from_manifest(folder: Path, manifest: Manifest, manifest_sha256: str) -> Bundle:
    """What the line needs of a folder whose files were verified, or were just written."""
    _check_plants(folder, manifest)
    r, t = manifest.recipe, manifest.thresholds
    recipe = Recipe((r.frame_height, r.frame_width), r.scale, r.tile_px, r.overlap_px, r.registered)
    expected_hw = (round(r.frame_height * r.scale), round(r.frame_width * r.scale))
    memory = _memory_from_pictures(folder, expected_hw)
    thresholds = Thresholds(t.pixel, t.region_peak, t.min_area_px)
    zones = tuple(Zone(z.name, z.polygon, z.sensitivity, z.outside) for z in manifest.zones)
    noise = _noise_from_picture(folder, expected_hw)
    return Bundle(
        folder, manifest, manifest_sha256, recipe, thresholds, zones, memory, noise, (folder / MODEL).read_bytes()
    )


def _check_plants(folder: Path, manifest: Manifest) -> None:
    """BundleError for a planted defect of the self-test that does not lie in the frame."""
    h, w = manifest.recipe.frame_height, manifest.recipe.frame_width
    for p in manifest.self_test.plants:
        if max(p.x, p.from_x) + p.width > w or max(p.y, p.from_y) + p.height > h:
            raise BundleError(
                expected=f"planted defects of the self-test within {w}x{h}",
                received=f"one of {p.width}x{p.height} at {p.x},{p.y} from {p.from_x},{p.from_y}",
                fix=rebuild_command(folder, manifest),
            )


def _noise_from_picture(folder: Path, hw: tuple[int, int]) -> U8:
    noise = read_grey(folder / NOISE)
    if noise.shape != noise_shape(hw):
        raise BundleError(
            expected=f"a noise map of {noise_shape(hw)} cells", received=f"{noise.shape}", fix=rebuild_command(folder)
        )
    return noise


def write_noise(folder: Path, noise: U8) -> None:
    """Write the noise map, one pixel a cell."""
    (folder / NOISE).write_bytes(png_bytes(noise))


def _memory_from_pictures(folder: Path, expected_hw: tuple[int, int]) -> U8:
    """Planes (4, h, w) padded to whole regions by repeating the last row and column."""
    golden, deviation = read_rgb(folder / GOLDEN), read_grey(folder / DEVIATION)
    if golden.shape[:2] != expected_hw:
        raise BundleError(
            expected=f"a golden image of {expected_hw}", received=f"{golden.shape}", fix=rebuild_command(folder)
        )
    h, w = expected_hw
    planes = np.empty((4, *padded_size(expected_hw)), np.uint8)
    for plane, channel in zip(planes, range(3), strict=False):
        plane[:h, :w] = golden[..., channel]
    planes[3, :h, :w] = cv2.resize(deviation, (w, h), interpolation=cv2.INTER_LINEAR)
    planes[:, h:, :w] = planes[:, h - 1 : h, :w]
    planes[:, :, w:] = planes[:, :, w - 1 : w]
    return planes


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


def replace_folder(staged: Path, out: Path) -> None:
    """Put a finished folder in place of ``out``; a kill at any instant leaves the old one or the new one, whole.

    Where the file system can, both change places in one step (renameat2 with RENAME_EXCHANGE, Linux 3.15); elsewhere
    the old one is moved aside to ``.NAME.old`` first, where the loader's message points to it.
    """
    for path in (*staged.iterdir(), staged):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    if not out.exists():
        staged.rename(out)
    elif _exchanged(staged, out):
        shutil.rmtree(staged, ignore_errors=True)  # what was in its place
    else:
        old = out.with_name(f".{out.name}.old")
        if (old / MANIFEST).exists():  # a build that was killed here left it
            shutil.rmtree(old)
        out.rename(old)
        staged.rename(out)
        shutil.rmtree(old, ignore_errors=True)


def _exchanged(a: Path, b: Path) -> bool:
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2 is not None and renameat2(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0


def check_private(folder: Path) -> None:
    """BundleError when others than root and this user may change a bundle: an engine file is code, trusted as it is.

    That is so for the folder, each file in it, which may be no link, and each folder on the way to it; there a sticky
    one will do (as /tmp, where only its owner can rename what is in it).
    """
    real = folder.resolve()
    wanted = "a bundle that only root or this user can write to (a service trusts what is in it)"
    for path in (real, *sorted(real.iterdir())):
        found = path.lstat()
        quoted = shlex.quote(str(real))
        if stat.S_ISLNK(found.st_mode):
            raise BundleError(
                expected="a bundle of plain files", received=f"{path}, a link", fix="copy the bundle again"
            )
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            mode = f"{path} with mode {stat.S_IMODE(found.st_mode):o}"
            raise BundleError(expected=wanted, received=mode, fix=f"chmod -R go-w {quoted}")
        if found.st_uid not in (0, os.geteuid()):
            raise BundleError(
                expected=wanted, received=f"{path} of user {found.st_uid}", fix=f"chown -R root: {quoted}"
            )
    for path in _ways_to(folder):
        found = path.lstat()
        shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
        foreign = found.st_uid not in (0, os.geteuid())
        if not stat.S_ISLNK(found.st_mode) and (shared or foreign):
            who = f"of user {found.st_uid}" if foreign else f"with mode {stat.S_IMODE(found.st_mode):o}"
            raise BundleError(
                expected=wanted,
                received=f"it lies in {path} {who}",
                fix="put the bundle into a folder of root's" if foreign else f"chmod go-w {shlex.quote(str(path))}",
            )


def _ways_to(folder: Path) -> list[Path]:
    """Every folder above a bundle: by its path as given, and by where that really leads."""
    return list(dict.fromkeys([*folder.absolute().parents, *folder.resolve().parents]))
