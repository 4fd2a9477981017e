"""A compiled engine is taken only by the TensorRT and the GPU that it was built for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hisir_edge.backends import check_compiled_for
from hisir_edge.bundle.manifest import EngineModel, Manifest
from hisir_edge.errors import BundleError
from hisir_edge.machine.gpus import Gpu

DEMO = Path(__file__).parents[2] / "engines" / "demo" / "manifest.json"
ORIN = Gpu("Orin", "sm87", "CUDA 12.6", 0)


def gpu(arch: str) -> Gpu:
    return Gpu(f"a {arch}", arch, "550.54", 8192)


def manifest(target: str = "tensorrt", **engine: Any) -> Manifest:
    values: dict[str, Any] = {
        "file": "engine.plan", "version": "10.3.0.26", "gpu_arch": ("sm87",), "gpu": "Orin", "driver": "CUDA 12.6",
        "profile_tiles": (1, 16, 32), "version_compatible": False, "hardware_compatible": "none", "inputs": (),
        "outputs": (), "network_layers": {},
    }  # fmt: skip
    made = Manifest.model_validate_json(DEMO.read_bytes())
    return made.model_copy(
        update={"target": target, "precision": "fp16", "engine": EngineModel(**{**values, **engine})}
    )


@pytest.mark.parametrize(
    ("made", "version", "here"),
    [
        (manifest(), "10.3.0.26", ORIN),
        (manifest(version_compatible=True), "10.16.1", ORIN),
        (manifest(hardware_compatible="ampere+"), "10.3.0.26", gpu("sm120")),
        (manifest("tensorrt-rtx", gpu_arch=("sm86", "sm89")), "10.3.0.26", gpu("sm89")),
        (manifest("tensorrt-rtx", gpu_arch=()), "10.3.0.26", gpu("sm86")),
        (manifest("tensorrt-rtx", gpu_arch=()), "10.3.0.26", gpu("sm121")),
    ],
)
def test_what_fits_is_taken(made, version, here):
    check_compiled_for(Path("b"), made, version, here)


@pytest.mark.parametrize(
    ("made", "version", "here", "words"),
    [
        (manifest(), "10.3.0.30", ORIN, "10.3.0.26, which built"),
        (manifest(), "", ORIN, "got none"),
        (manifest(version_compatible=True), "10.2.0", ORIN, "10.3.0.26"),
        (manifest(version_compatible=True), "11.0.0", ORIN, "10.3.0.26"),
        (manifest(), "10.3.0.26", gpu("sm86"), "a sm86"),
        (manifest(), "10.3.0.26", None, "no GPU"),
        (manifest(hardware_compatible="ampere+"), "10.3.0.26", gpu("sm75"), "a sm75"),
        (manifest("tensorrt-rtx", gpu_arch=()), "10.3.0.26", gpu("sm90"), "sm120 or later"),
        (manifest("tensorrt-rtx", gpu_arch=()), "10.3.0.26", gpu("sm75"), "sm120 or later"),
        (manifest("tensorrt-rtx", gpu_arch=("sm86",)), "10.3.0.26", gpu("sm89"), "--gpu-arch sm89"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_command_that_rebuilds_it(made, version, here, words):
    with pytest.raises(BundleError) as caught:
        check_compiled_for(Path("b"), made, version, here)
    said = str(caught.value)
    assert words in said
    assert f"hisir-edge build-engine RUN --target {made.target} --precision fp16" in said
    assert "--product rendered-7" in said and "--out b" in said


def test_a_bundle_without_its_engine_is_refused():
    made = manifest().model_copy(update={"engine": None})
    with pytest.raises(BundleError, match="a compiled engine in b"):
        check_compiled_for(Path("b"), made, "10.3.0.26", ORIN)
    json.loads(made.model_dump_json())


def test_check_says_what_bundles_for_a_gpu_lack_here(monkeypatch, tmp_path):
    from hisir_edge.cli import doctor
    from hisir_edge.cuda import fatbin

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(doctor, "nvcc_path", lambda: None)
    monkeypatch.setattr(fatbin, "shipped_folder", lambda: tmp_path / "shipped")
    card, flavours = Gpu("an RTX", "sm86", "580", 8192), {"tensorrt-rtx": {"version": "1.7", "reason": ""}}
    cache = fatbin.cache_folder()
    assert f"neither nvcc nor {fatbin.stem()}" in doctor._used((card,), flavours)[-1]
    assert doctor._kernels((card,)) == "none"
    cache.mkdir()
    (cache / f"{fatbin.stem()}_sm75-90_ptx90.fatbin").write_bytes(b"compiled")  # none for 8.6
    (cache / "kernels-0123456789abcdef_sm86_ptx86.fatbin").write_bytes(b"of other sources")
    assert "neither nvcc nor" in doctor._used((card,), flavours)[-1]
    (cache / f"{fatbin.stem()}_sm80_ptx120.fatbin").write_bytes(b"compiled")
    assert "neither nvcc nor" not in doctor._used((card,), flavours)[-1]
    assert doctor._kernels((card,)).endswith(
        "machine code for sm80, PTX for sm120 and later; sm86 here runs the machine code"
    )
    old = Gpu("a GTX", "sm61", "580", 8192)
    assert "for compute capability 7.5 or later" in doctor._used((old,), flavours)[-1]
