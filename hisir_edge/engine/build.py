"""``build-engine``: a training run becomes a bundle. Reads as one sentence: export, quantise, gate, compile, write."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import onnxruntime as ort

from hisir_edge import __version__
from hisir_edge.arrays import U8
from hisir_edge.cpu import int8_instructions
from hisir_edge.engine.attempt import Accepted, OnProgress, OnStage, Task, accepted
from hisir_edge.engine.bundle import (
    CALIBRATION,
    ENGINE,
    GOLDEN,
    MANIFEST,
    MODEL,
    SELF_TEST,
    Bundle,
    bundle_from_manifest,
    load_bundle,
    replace_folder,
    write_manifest,
    write_memory,
    write_noise,
)
from hisir_edge.engine.calibration import images_from_list
from hisir_edge.engine.compile import Plan, check_target, engine_from_onnx
from hisir_edge.engine.export import OPSET, QUANTISED_HALF_OPSET, onnx_from_net
from hisir_edge.engine.load import available_threads
from hisir_edge.engine.lock import build_lock
from hisir_edge.engine.manifest import (
    EngineModel,
    JudgedOnModel,
    Manifest,
    MetricsModel,
    PlantModel,
    RecipeModel,
    SelfTestModel,
    TensorModel,
    ThresholdModel,
    ZoneModel,
)
from hisir_edge.engine.plants import self_test_from_pictures
from hisir_edge.engine.precision import Style
from hisir_edge.engine.recipe import EngineRecipe, Precision, Target
from hisir_edge.errors import InputError
from hisir_edge.gpus import gpus
from hisir_edge.images import jpeg_bytes, read_rgb
from hisir_edge.learn.run import RunRecord, check_pictures, load_memory
from hisir_edge.learn.thresholds import check_rate
from hisir_edge.learn.train import trained_net
from hisir_edge.line.gain import Zone, inside_zone, noise_shape
from hisir_edge.line.infer_onnxruntime import OnnxRuntimeEngine
from hisir_edge.line.inspect import Inspector
from hisir_edge.line.selftest import golden_picture
from hisir_edge.net.hisir_net import HisirNet

SELF_TEST_BOARDS = 3
SELF_TEST_QUALITY = 95


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What the user may ask of a build. ``calib``: a calibration list; ``gpu_arch``: sm86, ... for TensorRT for RTX."""

    target: Target = "onnxruntime"
    precision: Precision = "int8"
    product: str = ""
    false_calls_per_board: float = 0.05
    zones: tuple[ZoneModel, ...] = ()
    recipe: EngineRecipe = field(default_factory=EngineRecipe)
    calib: Path | None = None
    gpu_arch: tuple[str, ...] = ()
    max_drop: float = 0.005
    fallback: bool = False


def build_bundle(
    run: Path,
    out: Path,
    options: BuildOptions,
    on_stage: OnStage = lambda stage: None,
    on_progress: OnProgress = lambda phase, done, total: True,
) -> Manifest:
    """Build a bundle from a run; ``out`` is replaced only by one that passed the gate, loads and tests itself."""
    out = out.resolve()  # a link to a bundle stays one
    _check_out(out)
    record, net = _checked(run, options)
    images = _calibration_list(options.calib, record)
    out.parent.mkdir(parents=True, exist_ok=True)
    with build_lock(out):
        _sweep(out)
        staged = Path(tempfile.mkdtemp(prefix=f".{out.name}.new.", dir=out.parent))
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.work.", dir=out.parent))
        try:
            on_stage("export ONNX")
            bundle = _float_bundle(run, record, net, staged, options)
            style: Style = "cpu" if options.target == "onnxruntime" else "gpu"
            task = Task(
                record, bundle, scratch, options.recipe, style, images, options.false_calls_per_board,
                options.max_drop, available_threads(), on_stage, on_progress,
            )  # fmt: skip
            found = accepted(task, options.precision, options.fallback)
            manifest = _with_network(bundle.manifest, found, staged)
            manifest = _with_self_test(manifest, staged, found.runs_here, record, on_stage)
            if options.target != "onnxruntime":
                on_stage(f"compile for {options.target}")
                manifest = _with_engine(manifest, staged, options, on_progress)
            write_manifest(staged, manifest)
            load_bundle(staged)
            _make_private(staged)
            replace_folder(staged, out)
        finally:
            for folder in (staged, scratch):
                shutil.rmtree(folder, ignore_errors=True)
    return manifest


def _check_out(out: Path) -> None:
    """InputError unless ``out`` is new, empty, or a bundle of ours with nothing else in it: it will be replaced."""
    foreign = "a file" if out.exists() and not out.is_dir() else _what_is_foreign(out)
    if foreign or not out.name:
        raise InputError(
            expected="a new folder or an old bundle",
            received=f"{out} with {foreign}" if foreign else f"{out}",
            fix="choose another --out",
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


def _calibration_list(listing: Path | None, record: RunRecord) -> tuple[str, ...]:
    """The pictures of ``--calib``; InputError for one that is to judge what it was calibrated on."""
    images = images_from_list(listing) if listing is not None else ()
    held_out = {str(Path(path).resolve()) for path in record.held_out}
    both = [path for path in images if path in held_out]
    if both:
        raise InputError(
            expected="calibration images that the run does not hold out to check engines with",
            received=both[0],
            fix=f"take it out of {listing}",
        )
    return images


def _checked(run: Path, options: BuildOptions) -> tuple[RunRecord, HisirNet]:
    """Whatever can be refused before any work is done."""
    check_rate(options.false_calls_per_board)
    if not 0 <= options.max_drop < 1:
        raise InputError(
            expected="--max-drop from 0 to below 1", received=str(options.max_drop), fix="0.005 is the default"
        )
    if options.calib is not None and options.precision != "int8":
        raise InputError(
            expected="--calib only with --precision int8", received=options.precision, fix="leave one of them out"
        )
    if options.gpu_arch and options.target != "tensorrt-rtx":
        raise InputError(
            expected="--gpu-arch only with --target tensorrt-rtx (others run or build on the machine at hand)",
            received=f"--target {options.target}",
            fix="leave one of them out",
        )
    if options.target != "onnxruntime":
        check_target(options.target, options.recipe.tensorrt, _archs(options))
    record, net = trained_net(run)
    if options.recipe.backbone not in ("", record.settings.backbone):
        raise InputError(
            expected=f"a recipe for {record.settings.backbone}, the backbone of {run}",
            received=f"one for {options.recipe.backbone}",
            fix=f"use engines/{record.settings.backbone}.toml",
        )
    check_zones(options.zones, record)
    check_pictures(record)
    return record, net


def _make_private(folder: Path) -> None:
    """Readable by all, writable by its owner, whatever the umask: a service loads nothing else."""
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)


def _sweep(out: Path) -> None:
    """Remove what a killed build into this folder left; the lock is held, so none of it is in use."""
    for kind in ("new", "work"):
        ours = re.compile(re.escape(f".{out.name}.{kind}.") + r"[a-z0-9_]{8}")  # as mkdtemp names them
        for left in out.parent.iterdir():
            if ours.fullmatch(left.name):
                shutil.rmtree(left, ignore_errors=True)


def check_zones(zones: tuple[ZoneModel, ...], record: RunRecord) -> None:
    """InputError for a zone that covers no pixel of this run's frames: it would protect nothing."""
    h, w = record.frame_hw
    for zone in zones:
        if not inside_zone((h, w), 1.0, Zone(zone.name, zone.polygon, zone.sensitivity)).any():
            raise InputError(
                expected=f"zones that cover pixels of a frame of {w}x{h}",
                received=f"{zone.name}, which covers none",
                fix="draw the polygon on a photo of this camera",
            )


def _float_bundle(run: Path, record: RunRecord, net: HisirNet, staged: Path, options: BuildOptions) -> Bundle:
    """The float32 network and the board memory as a bundle with open thresholds: every score counts."""
    opset = OPSET if options.target == "onnxruntime" else QUANTISED_HALF_OPSET
    onnx_from_net(net, record.settings.tile_px, staged / MODEL, opset)
    memory = load_memory(run)
    write_memory(staged, memory.mean_rgb, memory.deviation)
    write_noise(staged, np.zeros(noise_shape(memory.deviation.shape), np.uint8))
    manifest = _manifest(record, options, options.product or run.absolute().name)
    return bundle_from_manifest(staged, manifest, "")


def _manifest(record: RunRecord, options: BuildOptions, product: str) -> Manifest:
    s = record.settings
    return Manifest(
        schema_version=3,
        product=product,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        software_version=__version__,
        target=options.target,
        precision="fp32",
        backbone=s.backbone,
        width=s.width,
        recipe=RecipeModel(
            frame_width=record.frame_hw[1],
            frame_height=record.frame_hw[0],
            scale=record.scale,
            tile_px=s.tile_px,
            overlap_px=s.overlap_px,
            registered=record.registered,
        ),
        thresholds=ThresholdModel(
            pixel=1.0,
            region_peak=1.0,
            min_area_px=1,
            false_calls_per_board=options.false_calls_per_board,
            false_calls_upper_bound_95=0.0,
            held_out_boards=len(record.held_out),
            boards_to_prove=1,
        ),
        zones=options.zones,
        # replaced before anything is written
        self_test=SelfTestModel(image=GOLDEN, plants=(PlantModel(x=0, y=0, width=1, height=1, from_x=0, from_y=0),)),
        files={},
    )


def _with_network(manifest: Manifest, found: Accepted, staged: Path) -> Manifest:
    """The accepted network's file, noise map, thresholds and figures."""
    if found.model != staged / MODEL:
        shutil.copyfile(found.model, staged / MODEL)
    write_noise(staged, found.reading.noise)
    if found.calibration_json:
        (staged / CALIBRATION).write_text(found.calibration_json + "\n")
    derived = found.reading.derived
    t = derived.thresholds
    thresholds = {
        "pixel": t.pixel,
        "region_peak": t.region_peak,
        "min_area_px": t.min_area_px,
        "false_calls_upper_bound_95": derived.upper_bound,
        "boards_to_prove": derived.boards_to_prove,
    }
    return manifest.model_copy(
        update={
            "precision": found.precision,
            "thresholds": manifest.thresholds.model_copy(update=thresholds),
            "calibration": found.calibration,
            "metrics": MetricsModel(**found.drift.as_dict()),
            "judged_on": JudgedOnModel(onnxruntime=ort.__version__, int8_instructions=int8_instructions()),
        }
    )


def _with_self_test(manifest: Manifest, staged: Path, network: Path, record: RunRecord, on_stage: OnStage) -> Manifest:
    """Choose what the daemon tests itself with: the golden image, or a held-out board where that is no real one.

    ``network``: what the gate ran, which for GPUs is not the file that ships (decision 0013).
    """
    on_stage("self-test")
    bundle = bundle_from_manifest(staged, manifest, "")
    engine = OnnxRuntimeEngine(network, bundle.recipe.tile_px, available_threads())

    def pictures() -> list[tuple[str, U8]]:
        held_out = [(SELF_TEST, _as_stored(read_rgb(Path(p)))) for p in record.held_out[:SELF_TEST_BOARDS]]
        return [(GOLDEN, golden_picture(bundle)), *held_out]

    chosen, picture = self_test_from_pictures(Inspector(bundle, engine), pictures())
    if chosen.image == SELF_TEST:
        (staged / SELF_TEST).write_bytes(jpeg_bytes(picture, SELF_TEST_QUALITY))
    return manifest.model_copy(update={"self_test": chosen})


def _as_stored(picture: U8) -> U8:
    """A picture as it will be read back from the bundle."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / SELF_TEST
        path.write_bytes(jpeg_bytes(picture, SELF_TEST_QUALITY))
        return read_rgb(path)


def _with_engine(manifest: Manifest, staged: Path, options: BuildOptions, on_progress: OnProgress) -> Manifest:
    """Compile the accepted network."""
    plan = engine_from_onnx(
        options.target,
        (staged / MODEL).read_bytes(),
        manifest.recipe.tile_px,
        options.recipe.tensorrt,
        _archs(options),
        on_progress,
    )
    (staged / ENGINE).write_bytes(plan.engine)
    return manifest.model_copy(update={"engine": _engine_model(plan, options)})


def _archs(options: BuildOptions) -> tuple[str, ...]:
    """What TensorRT for RTX is to build for; classic TensorRT builds for the GPU at hand."""
    return (options.gpu_arch or options.recipe.tensorrt.gpu_arch) if options.target == "tensorrt-rtx" else ()


def _engine_model(plan: Plan, options: BuildOptions) -> EngineModel:
    here = gpus()
    settings = options.recipe.tensorrt
    # classic TensorRT builds for the GPU at hand; TensorRT for RTX, unless told otherwise, for all that it knows
    archs = plan.gpu_arch if options.target == "tensorrt-rtx" else tuple(gpu.arch for gpu in here[:1])
    return EngineModel(
        file=ENGINE,
        version=plan.version,
        gpu_arch=archs,
        gpu=here[0].name if here else "",
        driver=here[0].driver if here else "",
        profile_tiles=settings.profile_tiles,
        version_compatible=settings.version_compatible,
        hardware_compatible=settings.hardware_compatible,
        inputs=tuple(TensorModel(**asdict(tensor)) for tensor in plan.inputs),
        outputs=tuple(TensorModel(**asdict(tensor)) for tensor in plan.outputs),
        network_layers=plan.network_layers,
    )
