"""From a bundle to an engine of its target; the one place that chooses a backend."""

from __future__ import annotations

import os
from pathlib import Path

from hisir_edge.engine.bundle import Bundle, rebuild_command
from hisir_edge.engine.manifest import EngineModel, Manifest
from hisir_edge.errors import BundleError
from hisir_edge.gpus import Gpu
from hisir_edge.line.infer import Engine
from hisir_edge.line.infer_onnxruntime import OnnxRuntimeEngine


def available_threads() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


def engine_from_bundle(bundle: Bundle, threads: int = 0) -> Engine:
    """Load the bundle's engine; ``threads`` 0 takes every core there is.

    BundleError for a bundle of another target: this version builds and checks TensorRT engines, and does not run them.
    """
    manifest = bundle.manifest
    if manifest.target != "onnxruntime":
        raise BundleError(
            expected="a bundle for onnxruntime, which this version runs",
            received=f"{bundle.folder}, built for {manifest.target}",
            fix=f"hisir-edge build-engine RUN --target onnxruntime --precision int8 --out {bundle.folder}",
        )
    return OnnxRuntimeEngine(bundle.model, bundle.recipe.tile_px, threads or available_threads())


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
    if gpu is None or not _gpu_fits(engine, gpu):
        raise BundleError(
            expected=f"a GPU out of {', '.join(engine.gpu_arch) or 'those that the builder had'} for {folder}",
            received=f"{gpu.name} ({gpu.arch})" if gpu else "no GPU",
            fix=rebuild_command(folder, manifest),
        )


def _version_fits(engine: EngineModel, version: str) -> bool:
    """The very version; or, where the engine was built version compatible, the same major or a later minor one."""
    if not engine.version_compatible or not version:
        return version == engine.version
    ours, theirs = (tuple(int(p) for p in v.split(".")[:2]) for v in (version, engine.version))
    return ours[0] == theirs[0] and ours >= theirs


def _gpu_fits(engine: EngineModel, gpu: Gpu) -> bool:
    """An architecture it was built for; with ampere+, any from sm80 on."""
    if engine.hardware_compatible == "ampere+":
        return int(gpu.arch[2:]) >= 80
    return gpu.arch in engine.gpu_arch
