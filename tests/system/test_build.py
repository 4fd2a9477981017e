"""The build stage through the command line: gate, fallback, kill, lock, refusals, and what loads after it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import onnxruntime as ort
import pytest
from support.building import RATE, hisir, manifest_of, one_line, refused
from support.commands import here

from hisir_edge.backends import engine_from_bundle
from hisir_edge.bundle.files import CALIBRATION, ENGINE
from hisir_edge.bundle.integrity import sha256_of
from hisir_edge.bundle.load import load_bundle
from hisir_edge.engine.build import build_bundle
from hisir_edge.engine.options import BuildOptions
from hisir_edge.engine.recipe import recipe_from_toml
from hisir_edge.errors import BundleError, InputError
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.selftest import self_test
from hisir_edge.learn.data.run import load_checkpoint, save_checkpoint


def test_int8_records_how_it_came_about(small_bundle):
    made, whole = manifest_of(small_bundle), json.loads((small_bundle / CALIBRATION).read_text())
    calibration, metrics = made["calibration"], made["metrics"]
    assert made["judged_on"]["onnxruntime"] == ort.__version__
    assert calibration["method"] in calibration["method_errors"]
    assert set(calibration["method_errors"]) == {"minmax", "percentile", "entropy", "mse"}
    assert calibration["method_errors"][calibration["method"]] == min(calibration["method_errors"].values())
    assert calibration["list_sha256"] == whole["list_sha256"]
    assert all(sha256_of(Path(i["path"])) == i["sha256"] for i in whole["images"])
    assert whole["layer_costs"] == {}, "no layer had to be left in float"
    assert len(whole["ranges"]) > 20
    assert calibration["int8_convolutions"] > 20
    assert metrics["aupro"] >= metrics["aupro_fp32"] - metrics["max_drop"]
    assert metrics["clear_missed"] == 0 < metrics["planted"]
    assert 0 < metrics["map_error_p999"] <= metrics["map_error_max"]


def test_fp16_and_a_recipe_of_another_backbone(small_run, tmp_path):
    out = tmp_path / "b"
    wanted = BuildOptions(least_planted_recall=0.5, precision="fp16", false_calls_per_board=0.2)
    build_bundle(small_run, out, replace(wanted, recipe=recipe_from_toml(Path("engines/unet.toml"))))
    assert manifest_of(out)["precision"] == "fp16"
    assert stat.S_IMODE((out / "model.onnx").stat().st_mode) == 0o644
    self_test(CpuInspector(load_bundle(out), engine_from_bundle(load_bundle(out))))
    said = refused(small_run, tmp_path / "c", replace(wanted, recipe=recipe_from_toml(Path("engines/rep.toml"))))
    assert "a recipe for unet" in said


def test_a_bundle_for_tensorrt_rtx_is_compiled_and_not_run_here(small_run, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has no wheel for this platform")
    out = tmp_path / "b"
    options = ["--target", "tensorrt-rtx", "--precision", "fp16", "--gpu-arch", "sm86,SM89", *RATE, "--out", out]
    done = hisir("build-engine", small_run, *options)
    assert done.returncode == 0, done.stderr
    engine = manifest_of(out)["engine"]
    assert engine["gpu_arch"] == ["sm86", "sm89"]
    assert engine["network_layers"]["HALF"] > engine["network_layers"]["FLOAT"]
    assert [t["name"] for t in engine["inputs"]] == ["tile", "cue"]
    assert manifest_of(out)["files"][ENGINE] == sha256_of(out / ENGINE)
    assert "sm86, sm89" in hisir("bundle", "show", out).stdout
    said = one_line(here("bundle", "verify", out))
    assert "a GPU of sm86, sm89" in said and "--target tensorrt-rtx --precision fp16 --gpu-arch sm86,sm89" in said
    with pytest.raises(BundleError, match=r"built for tensorrt-rtx.*--target onnxruntime"):
        engine_from_bundle(load_bundle(out))
    flipped = bytearray((out / ENGINE).read_bytes())
    flipped[len(flipped) // 2] ^= 1
    (out / ENGINE).write_bytes(flipped)
    assert "altered" in one_line(here("bundle", "verify", out))


def _with_weights(run: Path, out: Path, change) -> Path:
    """A copy of a run whose network was changed."""
    shutil.copytree(run, out)
    state = load_checkpoint(out)
    change(state["best"] if state.get("best") else state["average"])
    save_checkpoint(out, state)  # type: ignore[arg-type]
    return out


def _far_beyond_half(weights: dict) -> None:
    """The same function, with activations that half precision cannot hold: one layer up, the next one down.

    The reconstruction's last two layers, between which there is only a ReLU.
    """
    norm = "backbone.decoders.0.1"
    weights[f"{norm}.weight"] *= 1e7
    weights[f"{norm}.bias"] *= 1e7
    weights["restore.0.weight"] *= 1e-7


def test_the_gate_refuses_what_overflows_and_fallback_steps_down(small_run, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has no wheel for this platform")
    run = _with_weights(small_run, tmp_path / "run", _far_beyond_half)
    half = ["--target", "tensorrt-rtx", "--precision", "fp16", *RATE]
    done = hisir("build-engine", run, *half, "--out", tmp_path / "b")
    said = one_line(done)
    assert "an fp16 engine that inspects as float32 does" in said and "--fallback" in said
    assert not (tmp_path / "b").exists()
    done = hisir("build-engine", run, *half, "--fallback", "--out", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    assert manifest_of(tmp_path / "b")["precision"] == "fp32"
    assert "stepped down from fp16 to fp32" in done.stdout


def test_the_gate_shows_what_drifted(small_run, tmp_path, monkeypatch):
    """No drop is allowed and every layer is coarse: the table goes to the user, nothing is written."""
    from hisir_edge.engine import attempt
    from hisir_edge.engine.calibration import quantised

    monkeypatch.setattr(attempt, "KEPT_SHARES", (0, 1 / 8))
    monkeypatch.setattr(quantised, "range_by_method", lambda seen, method: (-seen.peak * 40, seen.peak * 40))
    stages: list[str] = []
    with pytest.raises(InputError, match=r"an int8 engine.*(AUPRO|AUROC|planted|false regions)"):
        build_bundle(
            small_run,
            tmp_path / "b",
            BuildOptions(least_planted_recall=0.5, false_calls_per_board=0.2, max_drop=0),
            stages.append,
        )
    costs = next(stage for stage in stages if stage.startswith("most sensitive layers"))
    values = [float(one.rsplit(" ", 1)[1]) for one in costs.split(": ")[1].split(", ")]
    assert values == sorted(values, reverse=True) and values[0] > 0
    assert any("AUPRO@0.3" in stage and "leaving the 4 most sensitive layers" in stage for stage in stages)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("recipe", ["unet", "nafnet", "rep"])
def test_published_recipes_ask_nothing_of_classic_tensorrt_that_it_cannot_do(recipe):
    from hisir_edge.engine.options import archs_of

    options = BuildOptions(
        least_planted_recall=0.5, target="tensorrt", recipe=recipe_from_toml(Path(f"engines/{recipe}.toml"))
    )
    assert archs_of(options) == ()
    assert archs_of(replace(options, target="tensorrt-rtx")) == ("sm86", "sm89")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gpu_arch": ("sm86",)}, "--gpu-arch only with --target tensorrt-rtx"),
        ({"max_drop": float("nan")}, "--max-drop"),
        ({"max_drop": -1.0}, "--max-drop"),
        ({"false_calls_per_board": 20.0}, "false-call rate"),
    ],
)
def test_options_that_cannot_work_are_refused_at_once(small_run, tmp_path, changes, words):
    assert words in refused(small_run, tmp_path / "out", BuildOptions(least_planted_recall=0.5, **changes))


def test_a_target_that_is_not_installed_is_one_line(small_run, tmp_path):
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("classic TensorRT is installed here")
    said = one_line(here("build-engine", small_run, "--target", "tensorrt", "--out", tmp_path / "b"))
    assert "tensorrt for --target tensorrt" in said and "JetPack" in said
    assert list(tmp_path.iterdir()) == []


def test_recipes_alone_need_a_run_and_something_to_build(tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text('backbone = "unet"\n')
    assert "run and builds" in one_line(here("build-engine", "--recipe", recipe))
    assert "one RUN" in one_line(here("build-engine"))


def test_all_recipes_are_built_by_one_command(small_run, tmp_path):
    """As ``make engines`` does, with the runs of the test."""
    for name in ("a", "b"):
        builds = '[{ target = "onnxruntime", precision = "fp32" }]'
        (tmp_path / f"{name}.toml").write_text(f'backbone = "unet"\nrun = "{small_run}"\nbuilds = {builds}\n')
    out = tmp_path / "out"
    done = hisir("build-engine", "--recipe", tmp_path / "a.toml", tmp_path / "b.toml", *RATE, "--out", out)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in out.iterdir()) == ["a-onnxruntime-fp32", "b-onnxruntime-fp32"]
    said = one_line(here("build-engine", "--recipe", tmp_path / "a.toml", "--precision", "fp16", "--out", out))
    assert "no --target and --precision without RUN" in said


def test_a_run_that_lacks_a_picture_is_refused_before_anything_is_done(small_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    raw = json.loads((run / "run.json").read_text())
    raw["held_out"][0] = str(tmp_path / "gone.png")
    (run / "run.json").write_text(json.dumps(raw))
    assert "gone.png" in refused(run, tmp_path / "out", BuildOptions(least_planted_recall=0.5))


def test_fallback_steps_down_at_once_where_the_release_compiles_no_int8(small_run, tmp_path, monkeypatch):
    rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has no wheel for this platform")
    monkeypatch.setattr(rtx, "__version__", "1.6.0.9")
    options = BuildOptions(
        target="tensorrt-rtx", gpu_arch=("sm86",), false_calls_per_board=0.2, least_planted_recall=0.5
    )
    assert "1.7 or later for int8" in refused(small_run, tmp_path / "b", options)
    stages: list[str] = []
    made = build_bundle(small_run, tmp_path / "b", replace(options, fallback=True), stages.append)
    assert made.precision == "fp16"
    assert stages[0] == "int8: not with tensorrt-rtx 1.6.0.9, stepping down to fp16"
    assert not any("calibration" in stage for stage in stages)
