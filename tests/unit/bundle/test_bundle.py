"""A bundle is loaded only when every file is the one that its manifest names."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from hisir_edge.backends import engine_from_bundle
from hisir_edge.bundle.files import MANIFEST
from hisir_edge.bundle.integrity import check_private, seal_of
from hisir_edge.bundle.load import _noise_from_picture, load_bundle
from hisir_edge.bundle.replace import replace_folder
from hisir_edge.bundle.write import write_noise
from hisir_edge.errors import BundleError
from hisir_edge.geometry.noise_shape import NOISE_CELL_PX, WIDE_NOISE_CELL_PX, noise_shape
from hisir_edge.inspection.cpu import onnxruntime as infer_onnxruntime
from hisir_edge.inspection.cpu.onnxruntime import OnnxRuntimeEngine, session_options
from hisir_edge.machine.cpu import available_threads, int8_instructions


@pytest.fixture
def copied(small_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_bundle, tmp_path / "bundle"))


def _edit(folder: Path, change) -> None:
    path = folder / MANIFEST
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps({**raw, "seal_sha256": seal_of(raw)}))


def test_a_whole_bundle_loads(small_bundle):
    bundle = load_bundle(small_bundle)
    assert bundle.memory_rgbd.shape == (384, 512, 4)
    assert bundle.manifest.precision == "int8"
    assert bundle.thresholds.region_peak >= 1
    assert sorted(bundle.manifest.files) == sorted(p.name for p in small_bundle.iterdir() if p.name != MANIFEST)


@pytest.mark.parametrize("name", ["model.onnx", "golden.jpg", "deviation.jpg", "noise.png"])
def test_one_altered_byte_is_noticed(copied, name):
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"{name}.*altered.*build-engine"):
        load_bundle(copied)


@pytest.mark.parametrize("name", ["model.onnx", "golden.jpg", "deviation.jpg", "noise.png", MANIFEST])
def test_a_missing_file_is_named(copied, name):
    (copied / name).unlink()
    with pytest.raises(BundleError, match=name):
        load_bundle(copied)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(schema_version=2),
        lambda m: m.update(surprise=1),
        lambda m: m.pop("recipe"),
        lambda m: m["thresholds"].update(pixel=0),
        lambda m: m["thresholds"].update(pixel="high"),
        lambda m: m["recipe"].update(tile_px=-256),
        lambda m: m["files"].pop("model.onnx"),
        lambda m: m["files"].update({"../outside": "00"}),
        lambda m: m["recipe"].update(frame_width=513),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(copied, change):
    _edit(copied, change)
    with pytest.raises(BundleError) as caught:
        load_bundle(copied)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["thresholds"].update(region_peak=m["thresholds"]["region_peak"] * 1.2),
        lambda m: m["recipe"].update(overlap_px=m["recipe"]["overlap_px"] + 1),
        lambda m: m.update(precision="fp32"),
        lambda m: m.update(zones=[{"name": "all", "polygon": [[0, 0], [600, 0], [600, 400]], "sensitivity": 0.0}]),
        lambda m: m.update(metrics=None),
        lambda m: m.update(seal_sha256="0" * 64),
    ],
)
def test_a_value_changed_by_hand_is_noticed(copied, change):
    path = copied / MANIFEST
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    with pytest.raises(BundleError, match=r"changed since.*build-engine"):
        load_bundle(copied)


def test_a_manifest_laid_out_anew_is_the_same(copied):
    path = copied / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()), indent=7, sort_keys=True))
    assert load_bundle(copied).manifest.product


@pytest.mark.parametrize("name", ["model.onnx", "golden.jpg"])
def test_what_is_no_file_is_refused_and_not_waited_for(copied, name):
    (copied / name).unlink()
    os.mkfifo(copied / name)
    with pytest.raises(BundleError, match=f"{name}.*no file"):
        load_bundle(copied)


def _a_link(bundle: Path) -> Path:
    (bundle / "model.onnx").rename(bundle.parent / "elsewhere.onnx")
    (bundle / "model.onnx").symlink_to(bundle.parent / "elsewhere.onnx")
    return bundle


def _a_writable_parent(bundle: Path) -> Path:
    bundle.parent.chmod(0o777)
    return bundle


def _a_link_in_a_writable_folder(bundle: Path) -> Path:
    everyones = bundle.parent / "everyones"
    everyones.mkdir()
    everyones.chmod(0o777)
    (everyones / "bundle").symlink_to(bundle)
    return everyones / "bundle"


def _a_writable_file(bundle: Path) -> Path:
    (bundle / "model.onnx").chmod(0o664)
    return bundle


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_a_link, "a link"),
        (_a_writable_parent, "mode 777"),
        (_a_link_in_a_writable_folder, "everyones with mode 777"),
        (_a_writable_file, "model.onnx with mode 664"),
    ],
)
def test_a_service_loads_only_what_nobody_else_can_change(copied, spoil, words):
    check_private(copied)
    with pytest.raises(BundleError, match=words):
        check_private(spoil(copied))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_bundle_of_another_user_is_not_trusted(copied):
    os.chown(copied / "model.onnx", 65534, 65534)
    with pytest.raises(BundleError, match="of user 65534"):
        check_private(copied)
    os.chown(copied / "model.onnx", os.geteuid(), os.getegid())
    check_private(copied)
    os.chown(copied.parent, 65534, 65534)
    with pytest.raises(BundleError, match=f"lies in {copied.parent} of user 65534"):
        check_private(copied)


def test_an_engine_takes_no_more_threads_than_there_are_cores(small_bundle):
    engine = engine_from_bundle(load_bundle(small_bundle), 9999)
    assert engine.callers * engine.session.get_session_options().intra_op_num_threads <= available_threads()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("tiles", "threads", "calls"),
    [
        (1, 2, (1, 1, 2)),
        (2, 2, (1, 2, 1)),
        (266, 2, (4, 2, 1)),
        (266, 16, (4, 16, 1)),
        (5, 16, (1, 5, 3)),
        (9, 1, (4, 1, 1)),
    ],
)
def test_threads_take_tiles_of_their_own_where_there_are_enough(small_bundle, tiles, threads, calls):
    engine = OnnxRuntimeEngine(load_bundle(small_bundle).network, 256, threads, tiles)
    shared = engine.session.get_session_options().intra_op_num_threads
    assert (engine.batch, engine.callers, shared) == calls


@pytest.mark.parametrize(("instructions", "exact"), [("", True), ("avx512_vnni", False), ("asimddp", False)])
def test_the_slow_exact_sums_are_asked_for_where_quick_ones_saturate(monkeypatch, instructions, exact):
    monkeypatch.setattr(infer_onnxruntime, "int8_instructions", lambda: instructions)
    options = session_options(1)
    if exact:
        assert options.get_session_config_entry("session.x64quantprecision") == "1"
    else:
        with pytest.raises(Exception, match="x64quantprecision"):
            options.get_session_config_entry("session.x64quantprecision")


@pytest.mark.skipif(not int8_instructions(), reason="this processor has only the exact sums")
def test_exact_sums_give_the_scores_of_int8_instructions(small_bundle, monkeypatch):
    bundle = load_bundle(small_bundle)
    rng = np.random.default_rng(0)
    tiles, cues = (rng.integers(0, 256, (2, c, 128, 128), dtype=np.uint8) for c in (3, 4))
    found = []
    for instructions in (int8_instructions(), ""):
        monkeypatch.setattr(infer_onnxruntime, "int8_instructions", lambda said=instructions: said)
        scores, misfit = np.empty((2, 128, 128), np.float32), np.empty((2, 8, 8), np.float32)
        engine_from_bundle(bundle).infer(tiles, cues, scores, misfit)
        found.append((scores, misfit))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\x00"])
def test_a_manifest_that_is_not_one(copied, content):
    (copied / MANIFEST).write_text(content)
    with pytest.raises(BundleError):
        load_bundle(copied)


def test_a_model_of_another_kind_is_one_line(copied):
    (copied / "model.onnx").write_bytes(b"no onnx")
    with pytest.raises(BundleError, match="altered"):
        load_bundle(copied)
    from hisir_edge.bundle.integrity import sha256_of

    _edit(copied, lambda m: m["files"].update({"model.onnx": sha256_of(copied / "model.onnx")}))
    with pytest.raises(BundleError, match="ONNX Runtime"):
        engine_from_bundle(load_bundle(copied))


def test_replacing_keeps_one_whole_folder(tmp_path):
    old, new = tmp_path / "b", tmp_path / "staged"
    for folder, text in ((old, "old"), (new, "new")):
        folder.mkdir()
        (folder / "file").write_text(text)
    replace_folder(new, old)
    assert (old / "file").read_text() == "new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b"]


def test_the_engine_gives_finite_scores_for_any_tile(small_bundle):
    bundle = load_bundle(small_bundle)
    engine = engine_from_bundle(bundle, 1)
    t = bundle.recipe.tile_px
    rng = np.random.default_rng(0)
    tiles = [np.zeros((3, t, t)), np.full((3, t, t), 255), rng.integers(0, 256, (3, t, t))]
    batch = np.stack(tiles).astype(np.uint8)
    cues = np.stack([np.zeros((4, t, t)), np.full((4, t, t), 255), rng.integers(0, 256, (4, t, t))]).astype(np.uint8)
    scores, misfit = np.full((3, t, t), np.nan, np.float32), np.full((3, t // 16, t // 16), np.nan, np.float32)
    engine.infer(batch, cues, scores, misfit)
    assert np.isfinite(scores).all()
    assert np.isfinite(misfit).all()
    assert (scores >= 0).all()


@pytest.mark.parametrize("cell_px", [NOISE_CELL_PX, WIDE_NOISE_CELL_PX])
def test_a_noise_map_is_taken_in_cells_of_today_and_of_before(tmp_path, cell_px):
    hw = (384, 512)
    noise = np.random.default_rng(4).integers(0, 256, noise_shape(hw, cell_px), dtype=np.uint8)
    write_noise(tmp_path, noise)
    assert np.array_equal(_noise_from_picture(tmp_path, hw), noise)
    with pytest.raises(BundleError, match=r"\(12, 18\) or \(6, 9\) cells"):
        _noise_from_picture(tmp_path, (384, 576 if cell_px == WIDE_NOISE_CELL_PX else 545))
