"""A bundle: one directory, one deployable product. Written whole or not at all, loaded only when intact."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from pydantic import ValidationError

from hisir_edge import __version__
from hisir_edge.arrays import U8
from hisir_edge.bundle.describe import rebuild_command
from hisir_edge.bundle.files import DEVIATION, FIRST_LOOK, GOLDEN, MANIFEST, MODEL, NOISE, VARIANTS
from hisir_edge.bundle.integrity import check_files, how_to_find, seal_of, sha256_of
from hisir_edge.bundle.manifest import SCHEMA_VERSION, Manifest
from hisir_edge.bundle.replace import MOST_EXCHANGES
from hisir_edge.bundle.thresholds import OFF_THE_BOARD, MassRule, Thresholds, Zone
from hisir_edge.bundle.variants import Place, places_from_atlas
from hisir_edge.errors import BundleError, InputError
from hisir_edge.geometry.noise_shape import WIDE_NOISE_CELL_PX, noise_cell_px, noise_shape
from hisir_edge.geometry.tile import padded_size, scaled_hw
from hisir_edge.images import Rules, read_grey, read_rgb
from hisir_edge.json_once import loads_once


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the line cuts a frame: ``frame_hw`` in camera pixels, tiles in scaled pixels.

    ``locate``: how the board is found in it; "off": it is not, the frame is taken as it is. ``levels``, ``grey``: see
    ``images.Rules``; None for ``grey``: a bundle that does not say.
    """

    frame_hw: tuple[int, int]
    scale: float
    tile_px: int
    overlap_px: int
    locate: Literal["off", "fixture", "anywhere"]
    levels: tuple[int, int] | None = None
    grey: bool | None = None

    @property
    def rules(self) -> Rules:
        """What photos of this product's boards are taken as."""
        return Rules(self.levels, bool(self.grey))

    @property
    def registered(self) -> bool:
        """Whether the board is found before it is inspected."""
        return self.locate != "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A verified bundle; ``memory`` as planes (4, h, w) uint8 of golden, scaled pixels, padded to whole regions.

    ``noise``: (rows, columns) of its cells. ``area``: polygon around the board in golden pixels of the camera's frame;
    None: all of it. What lies off it is the first of the ``zones``, of sensitivity 0. ``places``: where good boards
    differ; ``memory`` shows the first variant of each. ``first_look``: the cascade's network, where there is one.
    """

    folder: Path
    manifest: Manifest
    manifest_sha256: str
    recipe: Recipe
    thresholds: Thresholds
    zones: tuple[Zone, ...]
    memory: U8 = field(repr=False)
    noise: U8 = field(repr=False)
    area: tuple[tuple[float, float], ...] | None = field(default=None, repr=False)
    network: bytes = field(repr=False)
    first_look: bytes | None = field(default=None, repr=False)
    places: tuple[Place, ...] = field(default=(), repr=False)

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


def manifest_from_folder(folder: Path) -> Manifest:
    """Read and validate ``manifest.json``; BundleError otherwise."""
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
        _check_version(path, content)
        manifest = Manifest.model_validate_json(content)
    except OSError as error:
        is_run = os.path.exists(folder / "run.json")  # noqa: PTH110  # says no where it may not look
        raise BundleError(
            expected=f"a bundle (a folder with {MANIFEST})",
            received=f"{folder}, a training run" if is_run else f"{folder} ({error.strerror})",
            fix=how_to_find(folder, is_run),
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BundleError(
            expected=f"{MANIFEST} of schema version {SCHEMA_VERSION}",
            received=f"{path}: {where}: {first['msg']}",
            fix=rebuild_command(folder),
        ) from error
    if manifest.seal_sha256 != seal_of(loads_once(content)):
        raise BundleError(
            expected=f"{path} as it was built",
            received="a manifest that was changed since",
            fix=f"copy the bundle again or {rebuild_command(folder, manifest)}",
        )
    return manifest


def _check_version(path: Path, content: bytes) -> None:
    """BundleError for a manifest of a later schema version, and for one that is no JSON object, or has a key twice."""
    try:
        found = loads_once(content)
        version = found["schema_version"]
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        if "twice" not in str(error):
            return  # said better by the schema
        raise BundleError(
            expected=f"{path} as it was built", received=str(error), fix="copy the bundle again, or build it again"
        ) from error
    if isinstance(version, int) and not isinstance(version, bool) and version > SCHEMA_VERSION:
        raise BundleError(
            expected=f"a bundle of schema version up to {SCHEMA_VERSION}, which this hisir-edge {__version__} reads",
            received=f"version {version} in {path}, built by {str(found.get('software_version', 'a later one'))[:40]}",
            fix="update hisir-edge here, or build the bundle with this version",
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
    check_files(folder, manifest)
    bundle = bundle_from_manifest(folder, manifest, sha256_of(folder / MANIFEST))
    check_files(folder, manifest)
    networks = {MODEL: bundle.network} | ({} if bundle.first_look is None else {FIRST_LOOK: bundle.first_look})
    if any(hashlib.sha256(content).hexdigest() != manifest.files.get(name) for name, content in networks.items()):
        raise BundleError(
            expected=f"{folder} to stay as it is while it is loaded", received="another network", fix="load it again"
        )
    return bundle


def recipe_from_manifest(manifest: Manifest) -> Recipe:
    """What frames a bundle wants, and how they are cut."""
    r = manifest.recipe
    return Recipe(
        (r.frame_height, r.frame_width), r.scale, r.tile_px, r.overlap_px, r.locate if r.registered else "off",
        r.levels, r.grey,
    )  # fmt: skip


def bundle_from_manifest(folder: Path, manifest: Manifest, manifest_sha256: str) -> Bundle:
    """The contents of a bundle's folder whose files were verified, or were just written."""
    _check_plants(folder, manifest)
    r, t = manifest.recipe, manifest.thresholds
    expected_hw = (round(r.frame_height * r.scale), round(r.frame_width * r.scale))
    memory = _memory_from_pictures(folder, expected_hw)
    mass = None if t.mass_logits_per_root is None else MassRule(t.mass_logits_per_root, t.mass_logits_at_none)
    thresholds = Thresholds(t.pixel, t.region_peak, t.min_area_px, mass)
    off_board = () if r.board_area is None else (Zone(OFF_THE_BOARD, r.board_area, 0.0, outside=True),)
    zones = off_board + tuple(Zone(z.name, z.polygon, z.sensitivity, z.outside) for z in manifest.zones)
    noise = _noise_from_picture(folder, expected_hw)
    return Bundle(
        folder=folder,
        manifest=manifest,
        manifest_sha256=manifest_sha256,
        recipe=recipe_from_manifest(manifest),
        thresholds=thresholds,
        zones=zones,
        memory=memory,
        noise=noise,
        area=r.board_area,
        network=(folder / MODEL).read_bytes(),
        first_look=None if manifest.cascade is None else (folder / FIRST_LOOK).read_bytes(),
        places=_places_from_picture(folder, manifest, expected_hw),
    )


def _places_from_picture(folder: Path, manifest: Manifest, golden_hw: tuple[int, int]) -> tuple[Place, ...]:
    if not manifest.variants:
        return ()
    return places_from_atlas(read_rgb(folder / VARIANTS), manifest.variants, golden_hw)


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
    if noise_cell_px(noise.shape, hw) is None:
        raise BundleError(
            expected=f"a noise map of {noise_shape(hw)} or {noise_shape(hw, WIDE_NOISE_CELL_PX)} cells",
            received=f"{noise.shape}",
            fix=rebuild_command(folder),
        )
    return noise


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
