"""The build stage through the command line: gate, fallback, kill, lock, refusals, and what loads after it."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from support.commands import here

from hisir_edge.backends import engine_from_bundle
from hisir_edge.bundle.files import CALIBRATION, ENGINE, MANIFEST
from hisir_edge.bundle.integrity import seal_of, sha256_of
from hisir_edge.bundle.load import load_bundle
from hisir_edge.engine.build import build_bundle
from hisir_edge.engine.calibration.tiles import images_from_list
from hisir_edge.engine.options import BuildOptions
from hisir_edge.engine.recipe import recipe_from_toml
from hisir_edge.errors import BundleError, InputError
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.selftest import self_test
from hisir_edge.learn.data.run import load_checkpoint, load_record, save_checkpoint

RATE = ("--false-calls-per-board", 0.2, "--least-planted-recall", 0.5)


def hisir(*arguments: object, timeout: float = 250, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hisir_edge", *map(str, arguments)],
        capture_output=True, text=True, timeout=timeout, check=False, env={**os.environ, **extra},
    )  # fmt: skip


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The refusal: the last line on standard error, exit code 2, no traceback."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("hisir-edge:")]
    assert len(said) == 1
    return said[0]


def wait_for(build: subprocess.Popen[str], stage: str) -> None:
    """Read what the build says until it names the stage."""
    assert build.stderr is not None
    assert any(stage in line for line in build.stderr), f"ended before {stage!r}"


def manifest_of(bundle: Path) -> dict:
    return json.loads((bundle / MANIFEST).read_text())


def test_int8_records_how_it_came_about(small_bundle):
    made, whole = manifest_of(small_bundle), json.loads((small_bundle / CALIBRATION).read_text())
    calibration, metrics = made["calibration"], made["metrics"]
    assert made["judged_on"]["onnxruntime"] == ort.__version__
    assert calibration["method"] in calibration["method_errors"]
    assert set(calibration["method_errors"]) == {"minmax", "percentile", "entropy", "mse"}
    assert calibration["method_errors"][calibration["method"]] == min(calibration["method_errors"].values())
    assert calibration["list_sha256"] == whole["list_sha256"]
    assert all(sha256_of(Path(i["path"])) == i["sha256"] for i in whole["images"])
    costs = list(whole["layer_costs"].values())
    assert costs == sorted(costs, reverse=True) and costs[0] > 0
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
    save_checkpoint(out, state)
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

    monkeypatch.setattr(attempt, "KEPT_SHARES", (0, 1 / 8))
    monkeypatch.setattr(attempt, "range_by_method", lambda seen, method: (-seen.peak * 40, seen.peak * 40))
    stages: list[str] = []
    with pytest.raises(InputError, match=r"an int8 engine.*(AUPRO|AUROC|planted|false regions)"):
        build_bundle(
            small_run,
            tmp_path / "b",
            BuildOptions(least_planted_recall=0.5, false_calls_per_board=0.2, max_drop=0),
            stages.append,
        )
    assert any("AUPRO@0.3" in stage and "leaving the 4 dearest layers" in stage for stage in stages)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_build_leaves_the_old_bundle(small_run, small_bundle, tmp_path):
    out = tmp_path / "b"
    shutil.copytree(small_bundle, out)
    before = sha256_of(out / MANIFEST)
    command = [sys.executable, "-m", "hisir_edge", "build-engine", str(small_run), *map(str, RATE), "--out", str(out)]
    for word in ("calibration tiles", "self-test"):
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as build:
            assert build.stderr is not None
            for line in build.stderr:
                if word in line:
                    break
            os.kill(build.pid, signal.SIGKILL)
            build.stderr.read()
        assert build.returncode == -signal.SIGKILL
        load_bundle(out)
        assert sha256_of(out / MANIFEST) == before
    assert [p for p in tmp_path.iterdir() if ".new." in p.name], "a kill leaves its working folders"
    done = hisir("build-engine", small_run, *RATE, "--out", out)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b"], "the next build sweeps them"
    assert sha256_of(out / MANIFEST) != before
    load_bundle(out)


def test_a_folder_that_is_no_bundle_of_ours_is_never_replaced(small_run, small_bundle, tmp_path):
    web, more = tmp_path / "web", tmp_path / "more"
    web.mkdir()
    (web / MANIFEST).write_text('{"name": "a web application", "files": {}}')
    (web / "notes.txt").write_text("mine")
    shutil.copytree(small_bundle, more)
    (more / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for out in (web, more, tmp_path / "file", Path("/")):
        with pytest.raises(InputError, match="a new folder or an old bundle"):
            build_bundle(small_run, out, BuildOptions(least_planted_recall=0.5))
    assert (web / "notes.txt").read_text() == (more / "notes.txt").read_text() == "mine"


def test_a_link_to_a_bundle_stays_a_link(small_run, small_bundle, tmp_path):
    shutil.copytree(small_bundle, tmp_path / "v1")
    (tmp_path / "current").symlink_to("v1")
    build_bundle(
        small_run,
        tmp_path / "current",
        BuildOptions(least_planted_recall=0.5, precision="fp32", false_calls_per_board=0.2),
    )
    assert (tmp_path / "current").is_symlink()
    assert manifest_of(tmp_path / "v1")["precision"] == "fp32"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["current", "v1"]


def test_a_build_sweeps_its_own_leftovers_alone(small_run, tmp_path):
    ours, others = tmp_path / ".b.new.abcd1234", tmp_path / ".b.new.x.new.abcd1234"
    ours.mkdir()
    others.mkdir()
    build_bundle(
        small_run, tmp_path / "b", BuildOptions(least_planted_recall=0.5, precision="fp32", false_calls_per_board=0.2)
    )
    assert not ours.exists() and others.exists()


def test_what_was_verified_is_what_runs(small_bundle, tmp_path):
    """A model that is exchanged after the bundle was loaded is not run."""
    folder = Path(shutil.copytree(small_bundle, tmp_path / "b"))
    bundle = load_bundle(folder)
    (folder / "model.onnx").write_bytes(b"another one")
    self_test(CpuInspector(bundle, engine_from_bundle(bundle)))
    with pytest.raises(BundleError, match="altered"):
        load_bundle(folder)


def test_calibration_boards_are_not_held_out_ones(small_run, tmp_path):
    listing = tmp_path / "list.txt"
    held_out = json.loads((small_run / "run.json").read_text())["held_out"][0]
    listing.write_text(f"{held_out}\n")
    said = refused(small_run, tmp_path / "out", BuildOptions(least_planted_recall=0.5, calib=listing))
    assert "does not hold out" in said and Path(held_out).name in said
    said = refused(small_run, tmp_path / "out", BuildOptions(least_planted_recall=0.5, calib=listing, precision="fp16"))
    assert "--calib only with --precision int8" in said


@pytest.mark.parametrize("recipe", ["unet", "nafnet", "rep"])
def test_published_recipes_ask_nothing_of_classic_tensorrt_that_it_cannot_do(recipe):
    from hisir_edge.engine.options import archs_of

    options = BuildOptions(
        least_planted_recall=0.5, target="tensorrt", recipe=recipe_from_toml(Path(f"engines/{recipe}.toml"))
    )
    assert archs_of(options) == ()
    assert archs_of(replace(options, target="tensorrt-rtx")) == ("sm86", "sm89")


def test_a_second_build_into_the_same_folder_is_refused(small_run, tmp_path):
    with (tmp_path / ".b.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = one_line(here("build-engine", small_run, "--out", tmp_path / "b"))
    assert "no other build into" in said
    assert not (tmp_path / "b").exists()


def refused(run: Path, out: Path, options: BuildOptions) -> str:
    """What a build says that leaves nothing behind."""
    with pytest.raises(InputError) as caught:
        build_bundle(run, out, options)
    assert list(out.parent.glob(f"*{out.name}*")) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"no picture", "another kind"),
        ("grey", "one colour all over"),
        ("small", "100x100"),
        ("noise", "expected"),
        (None, "No such file"),
    ],
)
def test_a_bad_calibration_image_aborts_with_its_name(small_run, tmp_path, content, words):
    import cv2

    bad = tmp_path / "bad.png"
    if isinstance(content, bytes):
        bad.write_bytes(content)
    elif content is not None:
        rng = np.random.default_rng(0)
        pictures = {
            "grey": np.full((384, 512, 3), 90, np.uint8),
            "small": rng.integers(0, 256, (100, 100, 3), dtype=np.uint8),
            "noise": rng.integers(0, 256, (384, 512, 3), dtype=np.uint8),
        }
        cv2.imwrite(str(bad), pictures[content])
    good = load_record(small_run).train[0]
    listing = tmp_path / "list.txt"
    listing.write_text(f"# calibration\n{good}\nbad.png  # the odd one\n")
    said = refused(small_run, tmp_path / "out", BuildOptions(least_planted_recall=0.5, calib=listing))
    assert "bad.png" in said and "calibration image" in said and words in said


def test_an_empty_calibration_list_is_refused(small_run, tmp_path):
    listing = tmp_path / "list.txt"
    listing.write_text("# nothing\n\n")
    assert "got none" in refused(small_run, tmp_path / "out", BuildOptions(least_planted_recall=0.5, calib=listing))
    assert "none.txt" in refused(
        small_run, tmp_path / "out", BuildOptions(least_planted_recall=0.5, calib=tmp_path / "none.txt")
    )


def test_a_calibration_list_is_what_is_used(small_run, tmp_path):
    two = load_record(small_run).train[:2]
    listing = tmp_path / "list.txt"
    listing.write_text("".join(f"{path}\n" for path in two))
    build_bundle(
        small_run, tmp_path / "b", BuildOptions(least_planted_recall=0.5, calib=listing, false_calls_per_board=0.2)
    )
    whole = json.loads((tmp_path / "b" / CALIBRATION).read_text())
    assert [image["path"] for image in whole["images"]] == [str(Path(path).resolve()) for path in two]


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


def test_show_verify_and_diff(small_bundle, tmp_path):
    shown = hisir("bundle", "show", small_bundle)
    assert shown.returncode == 0
    for words in ("p3", "onnxruntime int8", "calibration", "gate", "self-test"):
        assert words in shown.stdout
    assert json.loads(hisir("bundle", "show", small_bundle, "--json").stdout) == manifest_of(small_bundle)
    assert "(Conv)" in hisir("bundle", "show", small_bundle, "--nodes").stdout
    verified = hisir("bundle", "verify", small_bundle)
    assert verified.returncode == 0 and "planted defects are found" in verified.stdout
    assert "fresh draw" in verified.stdout and "by class: missing " in verified.stdout
    assert hisir("bundle", "diff", small_bundle, small_bundle).returncode == 0
    other = tmp_path / "other"
    shutil.copytree(small_bundle, other)
    raw = manifest_of(other)
    raw["thresholds"]["min_area_px"] += 5
    raw["created_at"] = "never"
    (other / MANIFEST).write_text(json.dumps({**raw, "seal_sha256": seal_of(raw)}))
    done = hisir("bundle", "diff", small_bundle, other)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"thresholds.min_area_px: {raw['thresholds']['min_area_px'] - 5} -> {raw['thresholds']['min_area_px']}"
    ]


def _blind(bundle: Path, factor: float) -> Path:
    """The bundle's thresholds moved, its hashes right: nothing but the self-test can notice."""
    raw = manifest_of(bundle)
    raw["thresholds"]["region_peak"] = max(1.0, raw["thresholds"]["region_peak"] * factor)
    raw["thresholds"]["pixel"] *= min(1.0, factor)
    (bundle / MANIFEST).write_text(json.dumps({**raw, "seal_sha256": seal_of(raw)}))
    return bundle


@pytest.mark.parametrize(("factor", "words"), [(1e6, "its planted defects to FAIL"), (1e-4, "its good board to PASS")])
def test_the_daemon_is_not_ready_before_the_self_test_passes(small_bundle, tmp_path, factor, words):
    bundle = _blind(Path(shutil.copytree(small_bundle, tmp_path / "b")), factor)
    (tmp_path / "line.toml").write_text(
        f'[bundle]\npath = "b"\n[source]\ntype = "replay"\nfolder = "."\n[publish]\nendpoint = "ipc://{tmp_path}/s"\n'
    )
    done = hisir("run", "--config", tmp_path / "line.toml")
    said = one_line(done)
    assert words in said and "build-engine RUN --target onnxruntime --precision int8" in said
    assert '"ready"' not in done.stderr
    with pytest.raises(BundleError, match="self-test"):
        self_test(CpuInspector(load_bundle(bundle), engine_from_bundle(load_bundle(bundle))))


def test_a_service_refuses_a_bundle_that_others_can_write(small_bundle, tmp_path):
    bundle = Path(shutil.copytree(small_bundle, tmp_path / "b"))
    (bundle / "model.onnx").chmod(0o664)
    (tmp_path / "line.toml").write_text('[bundle]\npath = "b"\n[source]\ntype = "replay"\nfolder = "none"\n')
    said = one_line(hisir("run", "--config", tmp_path / "line.toml", INVOCATION_ID="0" * 32))
    assert "model.onnx with mode 664" in said and "chmod -R go-w" in said
    said = one_line(hisir("run", "--config", tmp_path / "line.toml"))
    assert "none" in said and "mode" not in said, "outside a service the folder's owner is who runs it"


def test_the_published_schema_is_that_of_the_code_and_takes_real_bundles(small_bundle):
    import jsonschema

    from hisir_edge.bundle.manifest import Manifest

    published = json.loads(Path("docs/bundle.schema.json").read_text())
    assert published == Manifest.model_json_schema(), "make schema writes it anew"
    for bundle in (small_bundle, Path("engines/demo")):
        jsonschema.validate(manifest_of(bundle), published)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**manifest_of(small_bundle), "precision": "int4"}, published)


def test_check_says_what_is_here(tmp_path):
    done = hisir("check", "--json")
    found = json.loads(done.stdout)
    assert found["cores"] >= 1
    assert found["packages"]["onnxruntime"]
    assert set(found["tensorrt"]) == {"tensorrt", "tensorrt-rtx"}
    assert any("onnxruntime" in line for line in found["used"])
    assert "would be used" in hisir("check").stdout
    broken = tmp_path / "broken.cti"
    broken.write_bytes(b"no library")
    (producer,) = json.loads(hisir("check", "--json", "--cti", broken).stdout)["genicam"]
    assert producer["cameras"] == [] and producer["reason"]


DRIVER_LIBRARY = """
#include <string.h>
int cuInit(unsigned flags) { return 0; }
int cuDeviceGetCount(int *n) { *n = 1; return 0; }
int cuDriverGetVersion(int *v) { *v = 12060; return 0; }
int cuDeviceGet(int *d, int i) { *d = i; return 0; }
int cuDeviceGetName(char *s, int n, int d) { strncpy(s, "Orin", n); return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 8 : 7; return 0; }
"""


def test_check_asks_the_cuda_driver_where_there_is_no_nvidia_smi(tmp_path):
    """As on a Jetson; the library is a stand-in with the driver's own functions, built here."""
    (tmp_path / "cuda.c").write_text(DRIVER_LIBRARY)
    library = tmp_path / "libcuda.so.1"
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(tmp_path / "cuda.c")], check=True)
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexit 9\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    found = json.loads(
        hisir("check", "--json", PATH=f"{tmp_path}:{os.environ['PATH']}", LD_LIBRARY_PATH=str(tmp_path)).stdout
    )
    assert found["gpus"] == [{"name": "Orin", "arch": "sm87", "driver": "CUDA 12.6", "memory_mib": 0}]


def test_check_lists_the_gpus_that_the_driver_names(tmp_path):
    """A stand-in for nvidia-smi in the driver's own format; the real one is not on every machine."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA RTX A2000, 8.6, 550.54.15, 6138'\necho 'garbage'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    found = json.loads(hisir("check", "--json", PATH=f"{tmp_path}:{os.environ['PATH']}").stdout)
    assert found["gpus"] == [{"name": "NVIDIA RTX A2000", "arch": "sm86", "driver": "550.54.15", "memory_mib": 6138}]


def test_a_run_that_lacks_a_picture_is_refused_before_anything_is_done(small_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    raw = json.loads((run / "run.json").read_text())
    raw["held_out"][0] = str(tmp_path / "gone.png")
    (run / "run.json").write_text(json.dumps(raw))
    assert "gone.png" in refused(run, tmp_path / "out", BuildOptions(least_planted_recall=0.5))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_build_that_is_told_to_end_leaves_nothing(small_run, tmp_path, started, number):
    command = [
        sys.executable,
        "-m",
        "hisir_edge",
        "build-engine",
        str(small_run),
        *map(str, RATE),
        "--out",
        str(tmp_path / "b"),
    ]
    build = started(command, number, stderr=subprocess.PIPE)
    wait_for(build, "float32 on held-out boards")
    os.kill(build.pid, number)
    assert "Traceback" not in build.communicate(timeout=60)[1]
    assert build.returncode == 128 + number
    assert list(tmp_path.iterdir()) == []


def test_what_is_put_into_the_folder_meanwhile_is_kept(small_run, tmp_path):
    out = tmp_path / "b"

    def put(stage: str) -> None:
        if stage == "self-test":
            out.mkdir()
            (out / "notes.txt").write_text("mine")

    with pytest.raises(InputError, match=r"other files, such as notes\.txt"):
        build_bundle(
            small_run, out, BuildOptions(least_planted_recall=0.5, precision="fp32", false_calls_per_board=0.2), put
        )
    assert [p.name for p in tmp_path.rglob("*")] == ["b", "notes.txt"]


def test_a_copy_of_a_held_out_board_calibrates_nothing(small_run, tmp_path):
    record = load_record(small_run)
    shutil.copy(record.held_out[0], tmp_path / "another name.png")
    listing = tmp_path / "list.txt"
    listing.write_text("another name.png\n")
    said = refused(small_run, tmp_path / "out", BuildOptions(least_planted_recall=0.5, calib=listing))
    assert "another name.png" in said and "hold out" in said


def test_names_in_a_calibration_list(tmp_path):
    for name in ("board #3.png", "a.png", "b.png"):
        (tmp_path / name).touch()
    listing = tmp_path / "list.txt"
    listing.write_text("a.png\nboard #3.png\n# b.png\nb.png   # the last lot\n", encoding="utf-8-sig")
    assert [Path(p).name for p in images_from_list(listing)] == ["a.png", "board #3.png", "b.png"]


def test_a_build_under_nohup_outlives_its_terminal(small_run, tmp_path, started):
    command = [sys.executable, "-m", "hisir_edge", "build-engine", str(small_run), *map(str, RATE)]
    command += ["--precision", "fp32", "--out", str(tmp_path / "b")]
    build = started(command, signal.SIGHUP, signal.SIG_IGN, stderr=subprocess.PIPE)
    wait_for(build, "float32 on held-out boards")
    os.kill(build.pid, signal.SIGHUP)
    build.communicate(timeout=250)
    assert build.returncode == 0
    load_bundle(tmp_path / "b")


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
