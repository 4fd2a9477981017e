"""A bundle as files: shown, verified, compared, refused where others may write it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.building import hisir, manifest_of, one_line

from hisir_edge.backends import engine_from_bundle
from hisir_edge.bundle.files import MANIFEST
from hisir_edge.bundle.integrity import seal_of
from hisir_edge.bundle.load import load_bundle
from hisir_edge.errors import BundleError
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.selftest import self_test


def test_what_was_verified_is_what_runs(small_bundle, tmp_path):
    """A model that is exchanged after the bundle was loaded is not run."""
    folder = Path(shutil.copytree(small_bundle, tmp_path / "b"))
    bundle = load_bundle(folder)
    (folder / "model.onnx").write_bytes(b"another one")
    self_test(CpuInspector(bundle, engine_from_bundle(bundle)))
    with pytest.raises(BundleError, match="altered"):
        load_bundle(folder)


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

    published = json.loads(Path("docs/reference/bundle.schema.json").read_text())
    assert published == Manifest.model_json_schema(), "make schema writes it anew"
    for bundle in (small_bundle, Path("engines/demo")):
        jsonschema.validate(manifest_of(bundle), published)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**manifest_of(small_bundle), "precision": "int4"}, published)
