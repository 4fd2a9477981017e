"""Options of a build, and the checks that need no work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from hisir_edge.bundle.files import MANIFEST
from hisir_edge.bundle.integrity import sha256_of
from hisir_edge.bundle.manifest import DEFAULT_MAX_DROP, ComponentModel, Target, ZoneModel
from hisir_edge.bundle.metrics import DEFAULT_LEAST_PLANTED_RECALL
from hisir_edge.bundle.thresholds import Zone
from hisir_edge.engine.calibration.tiles import images_from_list
from hisir_edge.engine.compiler import compiler_of
from hisir_edge.engine.recipe import EngineRecipe, Precision
from hisir_edge.errors import InputError
from hisir_edge.inspection.gain import inside_zone, sensitivity_map
from hisir_edge.learn.data.run import RunRecord, check_pictures
from hisir_edge.learn.evaluation.thresholds import check_rate
from hisir_edge.learn.review.boards import FOLDER
from hisir_edge.learn.training.reached import trained_net
from hisir_edge.net.hisir_net import HisirNet
from hisir_edge.registry import TARGETS

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """Options of a build. ``calib``: a calibration list; ``gpu_arch``: sm86, ... for TensorRT for RTX.

    ``least_planted_recall``: None: ``usual_planted_recall``, or what a golden-image difference finds, if that is less.
    ``keep_odd``: what one good board alone shows counts, too. ``despite_reviewed``: a bundle is written also where
    reviewed boards are judged otherwise than people said. ``cascade``: with a first look, where the target takes one.
    """

    target: Target = "onnxruntime"
    precision: Precision = "int8"
    product: str = ""
    false_calls_per_board: float = 0.05
    zones: tuple[ZoneModel, ...] = ()
    recipe: EngineRecipe = field(default_factory=EngineRecipe)
    calib: Path | None = None
    gpu_arch: tuple[str, ...] = ()
    max_drop: float = DEFAULT_MAX_DROP
    fallback: bool = False
    mm_per_px: float | None = None
    components: tuple[ComponentModel, ...] = ()
    least_planted_recall: float | None = None
    usual_planted_recall: float = DEFAULT_LEAST_PLANTED_RECALL
    keep_odd: bool = False
    despite_reviewed: bool = False
    cascade: bool = False


@dataclass(frozen=True, slots=True)
class Build:
    """One bundle to build: of a training run, into a folder."""

    run: Path
    bundle: Path
    options: BuildOptions


def builds_of_recipes(recipes: dict[Path, EngineRecipe], out: Path, options: BuildOptions) -> Iterator[Build]:
    """The builds of each recipe, into ``out/RECIPE-TARGET-PRECISION``; the other ``options`` hold for all."""
    for path, recipe in recipes.items():
        for item in recipe.builds:
            # architectures are for the one target that can build for others
            archs = options.gpu_arch if TARGETS[item.target].for_other_gpus else ()
            asked = replace(
                options, target=item.target, precision=item.precision, recipe=recipe, gpu_arch=archs,
                cascade=options.cascade or item.cascade,
            )  # fmt: skip
            yield Build(Path(recipe.run), out / f"{path.stem}-{item.target}-{item.precision}", asked)


def check_out(out: Path) -> None:
    """InputError unless ``out`` is new, empty, or a bundle of ours with nothing else in it: it will be replaced."""
    foreign = "a file" if out.exists() and not out.is_dir() else _what_is_foreign(out)
    if foreign or not out.name:
        raise InputError(
            expected="a new folder or an old bundle",
            received=f"{out} with {foreign}" if foreign else f"{out}",
            fix="choose another --out",
        )
    if out.is_mount():
        raise InputError(
            expected="--out to be a folder that can be renamed",
            received=f"{out}, where a file system is mounted",
            fix=f"--out {out / 'bundle'}",
        )


def _what_is_foreign(out: Path) -> str:
    if not out.exists() or not any(out.iterdir()):
        return ""
    try:
        raw = json.loads((out / MANIFEST).read_text())
        listed = {MANIFEST, *raw["files"]} if raw["schema_version"] and raw["product"] is not None else set()
    except (OSError, ValueError, KeyError, TypeError):
        listed = set()
    others = sorted(p.name for p in out.iterdir() if p.name not in listed)
    return f"other files, such as {others[0]}" if others else ""


def calibration_list(listing: Path | None, record: RunRecord) -> tuple[str, ...]:
    """The pictures of ``--calib``; InputError for one that is to judge what it was calibrated on."""
    images = images_from_list(listing) if listing is not None else ()
    judging = images and not record.taught
    held_out = {sha256_of(Path(path)) for path in record.held_out} if judging else set()
    both = [path for path in images if Path(path).is_file() and sha256_of(Path(path)) in held_out]
    if both:
        raise InputError(
            expected="calibration images that the run does not hold out to check engines with",
            received=both[0],
            fix=f"take it out of {listing}",
        )
    return images


def counting(record: RunRecord, keep_odd: bool) -> RunRecord:
    """A run's record for a build; with ``keep_odd`` what one board alone shows is as good as all else.

    Boards that came later (``--good``) and whose pictures are not there any more count no more: somebody took them out.
    """
    later = record.held_out[len(record.begun_with) :]
    there = tuple(path for path in later if Path(path).is_file() or Path(path).parent.name == FOLDER)
    if len(there) < len(later):
        gone = [path for path in later if path not in there]
        log.warning("good boards that were added and taken out again count no more", boards=len(gone), first=gone[0])
        record = replace(record, held_out=(*record.begun_with, *there), added=len(there))
    return replace(record, odd=(), settings=replace(record.settings, keep_odd=True)) if keep_odd else record


def checked_run(run: Path, options: BuildOptions) -> tuple[RunRecord, HisirNet]:
    """Whatever can be refused before any work is done."""
    check_rate(options.false_calls_per_board)
    if not 0 <= options.max_drop < 1:
        raise InputError(
            expected="--max-drop from 0 to below 1", received=str(options.max_drop), fix="0.005 is the default"
        )
    if options.least_planted_recall is not None and not 0 <= options.least_planted_recall <= 1:
        raise InputError(
            expected="--least-planted-recall from 0 to 1",
            received=str(options.least_planted_recall),
            fix="leave it out for the usual share",
        )
    if options.calib is not None and options.precision != "int8":
        raise InputError(
            expected="--calib only with --precision int8", received=options.precision, fix="leave one of them out"
        )
    if options.gpu_arch and not TARGETS[options.target].for_other_gpus:
        raise InputError(
            expected="--gpu-arch only with --target tensorrt-rtx (others run or build on the machine at hand)",
            received=f"--target {options.target}",
            fix="leave one of them out",
        )
    if (compiler := compiler_of(options.target)) is not None:
        compiler.check(options.recipe.tensorrt, archs_of(options), options.precision)
    record, net = trained_net(run)
    record = counting(record, options.keep_odd)
    if options.recipe.backbone not in ("", record.settings.backbone):
        raise InputError(
            expected=f"a recipe for {record.settings.backbone}, the backbone of {run}",
            received=f"one for {options.recipe.backbone}",
            fix=f"use engines/{record.settings.backbone}.toml",
        )
    check_zones(options.zones, record)
    check_components(options.components, record)
    check_pictures(record)
    return record, net


def check_zones(zones: tuple[ZoneModel, ...], record: RunRecord) -> None:
    """InputError for a polygon that covers no pixel of this run's frames, or for zones that ignore all of them."""
    h, w = record.frame_hw
    for zone in zones:
        if not inside_zone((h, w), 1.0, Zone(zone.name, zone.polygon, zone.sensitivity)).any():  # outside: nothing kept
            raise InputError(
                expected=f"zones that cover pixels of a frame of {w}x{h}",
                received=f"{zone.name}, which covers none",
                fix="draw the polygon on a photo of this camera",
            )
    every = tuple(Zone(zone.name, zone.polygon, zone.sensitivity, zone.outside) for zone in zones)
    if zones and not sensitivity_map((h, w), 1.0, every).any():
        raise InputError(
            expected="zones that leave something of the frame to be judged",
            received="zones that ignore all of it: " + ", ".join(zone.name for zone in zones),
            fix="give one outline with outside, not one for each board",
        )


def check_components(components: tuple[ComponentModel, ...], record: RunRecord) -> None:
    """InputError for a component that lies outside this run's frames: the list is of another board, or scale."""
    h, w = record.frame_hw
    for part in components:
        if part.x + part.width <= 0 or part.y + part.height <= 0 or part.x >= w or part.y >= h:
            raise InputError(
                expected=f"components within a frame of {w}x{h}",
                received=f"{part.designator} at {part.x:g},{part.y:g} px",
                fix="check the unit of the list's columns (x_px or x_mm), its origin and --mm-per-px",
            )


def archs_of(options: BuildOptions) -> tuple[str, ...]:
    """The GPUs to compile for; empty for a target that compiles for the GPU at hand."""
    return (options.gpu_arch or options.recipe.tensorrt.gpu_arch) if TARGETS[options.target].for_other_gpus else ()
