"""The wheel has everything: code, schemas, page, units, kernels, weights, the demonstration bundle, and works alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LEFT_OUT = ("hisir_edge/view/page/",)
"""Sources of what lies in static/."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built as pip builds it, from the checkout."""
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q", "--no-deps", "-w", str(out), "."]
    done = subprocess.run(pip, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


def test_every_file_of_the_package_and_of_the_demo_bundle_is_in_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "hisir_edge", "systemd", "engines/demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    renamed = {"systemd/": "hisir_edge/systemd/", "engines/demo/": "hisir_edge/demo_bundle/"}
    wanted = set()
    for name in tracked:
        if not name.startswith(LEFT_OUT):
            start = next((one for one in renamed if name.startswith(one)), "")
            wanted.add(renamed.get(start, "") + name.removeprefix(start))
    assert len(wanted) > 400 and wanted <= inside, sorted(wanted - inside)
    assert {"hisir_edge/mes/verdict.schema.json", "hisir_edge/view/static/page.js"} <= inside
    assert "hisir_edge/systemd/hisir-edge-connect@.service" in inside


def test_it_works_where_there_is_no_checkout(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    script = (
        "import json; from hisir_edge.cli.demo import demo_bundle; from hisir_edge.bundle.load import load_bundle; "
        "from hisir_edge.cli.service import service_files; from pathlib import Path; "
        "bundle = load_bundle(demo_bundle()); files = service_files(False, Path('/x'), 252, True, True); "
        "print(json.dumps([str(demo_bundle()), bundle.manifest.product, len(files)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    path, product, units = json.loads(done.stdout)
    assert path == str(tmp_path / "site" / "hisir_edge" / "demo_bundle") and product and units == 6
