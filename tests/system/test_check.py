"""hisir-edge check: what this machine has."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess

import pytest
from support.building import hisir


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
