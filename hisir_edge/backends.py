"""From a bundle to its inspector, as ``registry.TARGETS`` says for its target."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path

from hisir_edge.bundle.describe import rebuild_command
from hisir_edge.bundle.files import FIRST_LOOK_ENGINE
from hisir_edge.bundle.load import Bundle, Recipe
from hisir_edge.bundle.manifest import EngineModel, Manifest
from hisir_edge.by_name import part
from hisir_edge.errors import BundleError
from hisir_edge.geometry.tile import plan_from_size, scaled_hw
from hisir_edge.inspection.board import BoardInspector
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.cpu.onnxruntime import OnnxRuntimeEngine
from hisir_edge.inspection.engine import Engine
from hisir_edge.machine.cpu import available_threads
from hisir_edge.machine.gpus import Gpu, gpus
from hisir_edge.machine.tensorrt import module_of
from hisir_edge.registry import TARGETS

PORTABLE, PORTABLE_FROM = (80, 86, 89), 120
PORTABLE_WORDS = "sm80, sm86, sm89, sm120 or later"


def inspector_from_bundle(bundle: Bundle, threads: int = 0) -> BoardInspector:
    """The inspector of a bundle: ONNX Runtime on ``threads`` cores, or TensorRT on the first GPU.

    BundleError or InputError where this machine cannot run it.
    """
    made: BoardInspector = part(TARGETS[bundle.manifest.target].inspector)(bundle, threads)
    return made


def onnxruntime_inspector(bundle: Bundle, threads: int) -> BoardInspector:
    """The target onnxruntime."""
    return CpuInspector(bundle, engine_from_bundle(bundle, threads))


def tensorrt_inspector(bundle: Bundle, threads: int) -> BoardInspector:
    """The targets tensorrt and tensorrt-rtx; ``threads`` is not used."""
    manifest = bundle.manifest
    trt = module_of(manifest.target)
    here = gpus()
    check_compiled_for(bundle.folder, manifest, trt.__version__, here[0] if here else None)
    from hisir_edge.cuda.on_gpu import inspector_on_gpu

    plan = _compiled(bundle, manifest.engine.file if manifest.engine else "")
    return inspector_on_gpu(bundle, trt, plan, _compiled(bundle, FIRST_LOOK_ENGINE) if manifest.cascade else None)


def _compiled(bundle: Bundle, name: str) -> bytes:
    """An engine file, as it was verified when the bundle was loaded."""
    content = (bundle.folder / name).read_bytes()
    if hashlib.sha256(content).hexdigest() != bundle.manifest.files[name]:
        raise BundleError(
            expected=f"{bundle.folder} to stay as it is while it is loaded", received="another engine",
            fix="load it again",
        )  # fmt: skip
    return content


def engine_from_bundle(bundle: Bundle, threads: int = 0) -> Engine:
    """ONNX Runtime with the bundle's network; ``threads`` 0, and any number beyond, takes every core there is.

    BundleError for a bundle of another target: its engine runs on a GPU, within ``inspector_from_bundle``.
    """
    manifest = bundle.manifest
    if manifest.target != "onnxruntime":
        out = shlex.quote(str(bundle.folder))
        raise BundleError(
            expected="a bundle for onnxruntime, of which whole maps can be had",
            received=f"{bundle.folder}, built for {manifest.target}",
            fix=f"hisir-edge build-engine RUN --target onnxruntime --precision int8 --out {out}",
        )
    return onnxruntime_engine(bundle.network, bundle.recipe, min(threads or available_threads(), available_threads()))


def onnxruntime_engine(network: Path | bytes, recipe: Recipe, threads: int) -> OnnxRuntimeEngine:
    """ONNX Runtime for an ONNX file, or its content, set up for frames that are cut as the recipe says."""
    plan = plan_from_size(scaled_hw(recipe.frame_hw, recipe.scale), recipe.tile_px, recipe.overlap_px)
    return OnnxRuntimeEngine(network, recipe.tile_px, threads, len(plan.origins_yx))


def check_compiled_for(folder: Path, manifest: Manifest, version: str, gpu: Gpu | None) -> None:
    """BundleError unless a compiled engine fits the TensorRT ``version`` and the GPU that are here."""
    engine = manifest.engine
    if engine is None:
        raise BundleError(
            expected=f"a compiled engine in {folder}",
            received=f"a bundle for {manifest.target} without one",
            fix=rebuild_command(folder, manifest),
        )
    if not _version_fits(engine, version):
        raise BundleError(
            expected=f"{manifest.target} {engine.version}, which built the engine in {folder}",
            received=version or "none",
            fix=rebuild_command(folder, manifest),
        )
    if gpu is None or not _gpu_fits(manifest.target, engine, gpu):
        command = rebuild_command(folder, manifest, gpu.arch if gpu else "")
        raise BundleError(
            expected=f"a GPU of {', '.join(engine.gpu_arch) or PORTABLE_WORDS} for the engine in {folder}",
            received=f"{gpu.name} ({gpu.arch})" if gpu else "no GPU",
            fix=f"{'' if gpu else 'look for it with nvidia-smi; '}{command} (with --target onnxruntime for machines "
            "without a GPU)",
        )


def _version_fits(engine: EngineModel, version: str) -> bool:
    """The very version; or, where the engine was built version compatible, the same major or a later minor one."""
    if not engine.version_compatible or not version:
        return version == engine.version
    ours, theirs = (tuple(int(p) for p in v.split(".")[:2]) for v in (version, engine.version))
    return ours[0] == theirs[0] and ours >= theirs


def _gpu_fits(target: str, engine: EngineModel, gpu: Gpu) -> bool:
    """An architecture it was built for; of TensorRT for RTX, where none was named, those that it is portable to.

    https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/cpu-engines.html
    """
    number = int(gpu.arch[2:])
    if target == "tensorrt-rtx" and not engine.gpu_arch:
        return number in PORTABLE or number >= PORTABLE_FROM
    if target == "tensorrt" and engine.hardware_compatible == "ampere+":
        return number >= PORTABLE[0]
    return gpu.arch in engine.gpu_arch
