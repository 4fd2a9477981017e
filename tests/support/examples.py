"""The example subscribers in C and Node.js, built; skips where there are no compilers, libraries or packages."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build_in_c(folder: Path) -> None:
    """The example's program; skips where there is no compiler or library."""
    compilers = [shutil.which(name) for name in ("cc", "c++")]
    headers = [Path("/usr/include") / h for h in ("zmq.h", "valijson/validator.hpp", "nlohmann/json.hpp")]
    if None in compilers or not all(h.exists() for h in headers):
        pytest.skip("no libzmq3-dev, libvalijson-dev, nlohmann-json3-dev or no compiler here")
    source = ROOT / "examples" / "c"
    for command in (
        ("cc", "-Wall", "-Wextra", "-Werror", "-c", source / "subscribe.c"),
        ("c++", "-std=c++17", "-c", source / "schema.cpp"),
        ("c++", "-o", "subscribe", "subscribe.o", "schema.o", "-lzmq"),
    ):
        subprocess.run(command, cwd=folder, check=True, timeout=120)


def node_example(folder: Path) -> Path:
    """The example with its packages, installed once."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no Node.js and npm here")
    for file in (ROOT / "examples" / "node").iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    command = ["npm", "ci", "--silent", "--no-fund", "--no-audit"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode:
        pytest.skip(f"npm packages cannot be installed here: {done.stderr[-200:]}")
    return folder
