"""The parts of a bundle, in order: float network and memory, accepted network, self-test, compiled engine."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import onnxruntime as ort

from hisir_edge import __version__
from hisir_edge.arrays import U8
from hisir_edge.backends import onnxruntime_engine
from hisir_edge.bundle.files import (
    CALIBRATION,
    ENGINE,
    FIRST_LOOK,
    FIRST_LOOK_ENGINE,
    GOLDEN,
    MODEL,
    SELF_TEST,
    VARIANTS,
)
from hisir_edge.bundle.load import Bundle, bundle_from_manifest
from hisir_edge.bundle.manifest import (
    EngineModel,
    JudgedOnModel,
    Manifest,
    PlantModel,
    RecipeModel,
    SelfTestModel,
    TensorModel,
    ThresholdModel,
)
from hisir_edge.bundle.metrics import MetricsModel
from hisir_edge.bundle.write import write_memory, write_noise
from hisir_edge.engine.acceptance.alone import models_of
from hisir_edge.engine.acceptance.derive import Reading
from hisir_edge.engine.attempt import AcceptedCandidate
from hisir_edge.engine.compiler import Compiler, Plan
from hisir_edge.engine.export import OPSET, QUANTISED_HALF_OPSET, onnx_from_net
from hisir_edge.engine.options import BuildOptions, archs_of
from hisir_edge.engine.plants import self_test_from_pictures
from hisir_edge.engine.task import OnProgress, OnStage
from hisir_edge.errors import BundleError, InputError
from hisir_edge.geometry.noise_shape import noise_shape
from hisir_edge.images import jpeg_bytes, read_rgb
from hisir_edge.inspection.board import BoardInspector
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.selftest import check_draw, golden_picture
from hisir_edge.learn.data.distinct import boards_among
from hisir_edge.learn.data.run import RunRecord, load_memory
from hisir_edge.machine.cpu import available_threads, int8_instructions
from hisir_edge.machine.gpus import gpus
from hisir_edge.net.hisir_net import HisirNet
from hisir_edge.registry import TARGETS

SELF_TEST_BOARDS = 3
SELF_TEST_QUALITY = 95


def float_bundle(run: Path, record: RunRecord, net: HisirNet, staged: Path, options: BuildOptions) -> Bundle:
    """The float32 network and the board memory as a bundle with open thresholds: every score counts."""
    opset = OPSET if TARGETS[options.target].graph == "cpu" else QUANTISED_HALF_OPSET
    onnx_from_net(net, record.settings.tile_px, staged / MODEL, opset)
    memory = load_memory(run)
    write_memory(staged, memory.mean_rgb, memory.deviation)
    if record.variants:
        if not (run / VARIANTS).is_file():
            raise InputError(
                expected=f"the run's variants, {run / VARIANTS}", received="none", fix="repeat the train command"
            )
        shutil.copyfile(run / VARIANTS, staged / VARIANTS)
    write_noise(staged, np.zeros(noise_shape(memory.deviation.shape), np.uint8))
    manifest = _manifest(record, options, options.product or run.absolute().name)
    return bundle_from_manifest(staged, manifest, "")


def _manifest(record: RunRecord, options: BuildOptions, product: str) -> Manifest:
    s = record.settings
    return Manifest(
        schema_version=4,
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
            locate="anywhere" if record.locate == "anywhere" else "fixture",
            board_area=record.area,
            levels=s.levels,
            grey=record.grey,
        ),
        thresholds=ThresholdModel(
            pixel=1.0,
            region_peak=1.0,
            min_area_px=1,
            false_calls_per_board=options.false_calls_per_board,
            false_calls_upper_bound_95=0.0,
            held_out_boards=held_out_boards(record),
            boards_to_prove=1,
        ),
        zones=options.zones,
        variants=record.variants,
        mm_per_px=options.mm_per_px,
        components=options.components,
        # replaced before anything is written
        self_test=SelfTestModel(image=GOLDEN, plants=(PlantModel(x=0, y=0, width=1, height=1, from_x=0, from_y=0),)),
        files={},
    )


def with_network(manifest: Manifest, found: AcceptedCandidate, staged: Path) -> Manifest:
    """The accepted network's file, noise map, thresholds and figures."""
    if found.model != staged / MODEL:
        shutil.copyfile(found.model, staged / MODEL)
    if found.calibration_json:
        (staged / CALIBRATION).write_text(found.calibration_json + "\n")
    return with_thresholds(manifest, found.reading, staged).model_copy(
        update={
            "precision": found.precision,
            "calibration": found.calibration,
            "metrics": MetricsModel(**found.drift.as_dict()),
            "judged_on": JudgedOnModel(onnxruntime=ort.__version__, int8_instructions=int8_instructions()),
        }
    )


def with_thresholds(manifest: Manifest, reading: Reading, staged: Path) -> Manifest:
    """Noise map, thresholds and optics as they were read."""
    write_noise(staged, reading.noise)
    derived = reading.derived
    t = derived.thresholds
    thresholds = {
        "pixel": t.pixel,
        "region_peak": t.region_peak,
        "min_area_px": t.min_area_px,
        "false_calls_upper_bound_95": derived.upper_bound,
        "boards_to_prove": derived.boards_to_prove,
        "tail_scale_logits": derived.tail_scale_logits,
        "mass_logits_per_root": None if t.mass is None else t.mass.logits_per_root,
        "mass_logits_at_none": 0.0 if t.mass is None else t.mass.logits_at_none,
        "not_counted": models_of(reading.alone, manifest.recipe.scale),
    }
    updated = manifest.thresholds.model_copy(update=thresholds)
    return manifest.model_copy(update={"thresholds": updated, "optics": reading.optics})


def held_out_boards(record: RunRecord) -> int:
    """How many boards, not pictures, the thresholds of a run come from."""
    return len(set(boards_among(record.held_out, record.same_board)))


def with_self_test(manifest: Manifest, staged: Path, network: Path, record: RunRecord, on_stage: OnStage) -> Manifest:
    """Choose what the daemon tests itself with: the golden image, or a held-out board where that is no real one.

    ``network``: what the gate ran, which for GPUs is not the file that ships (decision 0013).
    """
    on_stage("self-test")
    bundle = bundle_from_manifest(staged, manifest, "")
    engine = onnxruntime_engine(network, bundle.recipe, available_threads())

    def pictures() -> list[tuple[str, U8]]:
        held_out = [
            (SELF_TEST, _as_stored(read_rgb(Path(p), rules=record.rules))) for p in record.held_out[:SELF_TEST_BOARDS]
        ]
        return [(GOLDEN, golden_picture(bundle)), *held_out]

    chosen, picture = self_test_from_pictures(CpuInspector(bundle, engine), pictures())
    if chosen.image == SELF_TEST:
        (staged / SELF_TEST).write_bytes(jpeg_bytes(picture, SELF_TEST_QUALITY))
    manifest = manifest.model_copy(update={"self_test": chosen})
    tested = replace(bundle, manifest=manifest)
    check_drawn(CpuInspector(tested, engine), 0)
    return manifest


def check_drawn(inspector: BoardInspector, seed: int) -> None:
    """InputError where a draw of planted defects into the self-test's picture shows less than held-out boards did."""
    try:
        check_draw(inspector, seed)
    except BundleError as error:
        raise InputError(
            expected="a fresh draw of planted defects to be found as on the held-out boards",
            received=error.received,
            fix="train longer, or with more good boards, or lower --least-planted-recall",
        ) from error


def _as_stored(picture: U8) -> U8:
    """A picture as it will be read back from the bundle."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / SELF_TEST
        path.write_bytes(jpeg_bytes(picture, SELF_TEST_QUALITY))
        return read_rgb(path)


def with_engine(
    manifest: Manifest, staged: Path, options: BuildOptions, compiler: Compiler, on_progress: OnProgress
) -> Manifest:
    """Compile the accepted network, and the first look where there is one."""
    network = (staged / MODEL).read_bytes()
    archs = archs_of(options)
    compiler.check_network(archs, network)
    plan = compiler.engine_from_onnx(network, manifest.recipe.tile_px, options.recipe.tensorrt, archs, on_progress)
    (staged / ENGINE).write_bytes(plan.engine)
    if manifest.cascade is not None:
        look = (staged / FIRST_LOOK).read_bytes()
        compiled = compiler.engine_from_onnx(
            look, manifest.recipe.tile_px, options.recipe.tensorrt, archs, on_progress
        )  # fmt: skip
        (staged / FIRST_LOOK_ENGINE).write_bytes(compiled.engine)
    return manifest.model_copy(update={"engine": _engine_model(plan, options)})


def _engine_model(plan: Plan, options: BuildOptions) -> EngineModel:
    here = gpus()
    settings = options.recipe.tensorrt
    # classic TensorRT builds for the GPU at hand; TensorRT for RTX, unless told otherwise, for all that it knows
    archs = plan.gpu_arch if TARGETS[options.target].for_other_gpus else tuple(gpu.arch for gpu in here[:1])
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
