"""Installed from a wheelhouse where there is no network: a namespace without a route, an empty folder."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import REPOSITORY
from support.messages import facts

from hisir_edge.bundle.load import load_bundle
from hisir_edge.inspection.selftest import picture_of

MAKER = REPOSITORY / "requirements" / "wheelhouse" / "make_wheelhouse.py"
LIMIT_S = 600
X86 = platform.machine() == "x86_64"


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode:
        pytest.skip("no right to make a network namespace here")


def made(out: Path, *options: object) -> dict[str, object]:
    command = [sys.executable, str(MAKER), "--out", str(out), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "manifest.json").read_text())


def offline(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """A shell script in an empty folder, with a loopback device and nothing of this environment."""
    environment = {
        "HOME": str(folder),
        "PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHON": sys.executable,
    }
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return subprocess.run(
        ["unshare", "-n", "sh", "-ec", f"ip link set lo up\n{script}"], cwd=folder, env=environment,
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_beside_what_a_machine_has(tmp_path):
    """All but hisir-edge and two packages are there, in an environment as torch's images have it."""
    said = subprocess.run([sys.executable, "-m", "pip", "list", "--format", "freeze"], capture_output=True, text=True)
    lines = [line for line in said.stdout.splitlines() if not line.startswith(("hisir", "structlog", "zxing"))]
    listed = "\n".join(lines).replace("opencv-python==", "opencv-python-headless==")  # of the same modules
    (tmp_path / "have.txt").write_text(listed)
    manifest = made(tmp_path / "house", "--extras", "barcode", "--have", tmp_path / "have.txt")
    wheels = sorted(Path(place).name.split("-")[0] for place in manifest["files"] if place.endswith(".whl"))  # type: ignore[attr-defined]
    assert wheels == ["hisir_edge", "structlog", "zxing_cpp"]
    board = picture_of(load_bundle(REPOSITORY / "engines" / "demo"))
    (tmp_path / "there" / "boards").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "there" / "boards" / "good.png"), np.asarray(board)[..., ::-1])
    shutil.move(tmp_path / "house", tmp_path / "there" / "house")
    done = offline(
        tmp_path / "there",
        'sh house/install.sh venv --python "$PYTHON" --system-site-packages; venv/bin/hisir-edge check --json\n'
        "venv/bin/hisir-edge inspect boards --bundle house/demo --out seen",
    )
    assert done.returncode == 0, done.stderr
    assert "installed into venv in" in done.stdout
    (result,) = (tmp_path / "there" / "seen").rglob("*.json")
    assert facts(json.loads(result.read_text()))["result"] == "PASS"
    place = offline(tmp_path / "there", 'venv/bin/python -c "import hisir_edge; print(hisir_edge.__file__)"').stdout
    assert place.startswith(str(tmp_path / "there" / "venv"))
    if shutil.which("nvcc"):
        assert list((Path(place.strip()).parent / "cuda").glob("kernels-*.fatbin")), "the wheel ships compiled kernels"


@pytest.mark.slow
def test_from_nothing_to_the_demonstration(tmp_path):
    """Every wheel is carried; the demonstration's twelve boards are judged without a network."""
    made(tmp_path / "there" / "house", "--extras", "barcode,tiff,tensorrt-rtx" if X86 else "barcode,tiff")
    done = offline(
        tmp_path / "there",
        'sh house/install.sh venv --python "$PYTHON" --no-system-site-packages; venv/bin/hisir-edge check\n'
        "venv/bin/hisir-edge demo --bundle house/demo --out demo",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 of 12 boards right" in done.stdout
    again = offline(tmp_path / "there", 'sh house/install.sh venv --python "$PYTHON" --no-system-site-packages')
    assert again.returncode == 0, again.stderr
    next((tmp_path / "there" / "house" / "wheels").iterdir()).unlink()
    less = offline(tmp_path / "there", 'sh house/install.sh other --python "$PYTHON"')
    assert less.returncode == 2 and "copy the whole folder again" in less.stderr
