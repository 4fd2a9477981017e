"""Run a command with an emulated GPU: pycuda on the driver of ``emulated/driver.cpp``; both are built where missing.

    python tests/gpu/emulate.py python -m pytest -m gpu tests/gpu

Needs nvcc and cuda.h (no GPU, no NVIDIA driver) and g++. EMULATED_GPU_ARCH=90: its compute capability (8.6 else).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pycuda_here
from pycuda_build import cuda_root

HERE = Path(__file__).parent
OUT = HERE.parents[1] / "build" / "emulated"
OPTIONS = ["-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-fPIC", "-pthread"]


def build_driver() -> Path:
    """The folder of a libcuda.so.1: what it has, and for everything else that is declared a refusal."""
    OUT.mkdir(parents=True, exist_ok=True)
    include = cuda_root() / "include"
    compile_it = ["g++", *OPTIONS, "-c", f"-I{include}", str(HERE / "emulated" / "driver.cpp"), "-o", "driver.o"]
    if subprocess.run(compile_it, cwd=OUT, check=False).returncode:
        sys.exit("expected driver.cpp to compile; got what is above")
    said = subprocess.run(["nm", "driver.o"], cwd=OUT, check=True, capture_output=True, text=True).stdout
    have = set(re.findall(r" T (cu[A-Z]\w*)", said))
    header = "".join(path.read_text() for path in sorted(include.glob("cuda*.h")))  # cudaProfiler.h, cudaGL.h, too
    declared = set(re.findall(r"CUresult\s+CUDAAPI\s+(cu[A-Z]\w*)", header))
    declared |= set(re.findall(r"#define\s+cu[A-Z]\w*\s+(cu[A-Z]\w*)", header))
    refusals = "".join(f"int {name}(void) {{ return 801; }}\n" for name in sorted(declared - have))
    (OUT / "rest.c").write_text(refusals)
    subprocess.run(["gcc", "-fPIC", "-c", "rest.c", "-o", "rest.o"], cwd=OUT, check=True)
    # its kernels must not take the place of those that tests load beside it
    (OUT / "exports").write_text("{ global: cu*; local: *; };")
    link = ["g++", "-shared", "-pthread", "driver.o", "rest.o", "-Wl,-soname,libcuda.so.1"]
    subprocess.run([*link, "-Wl,--version-script=exports", "-o", "libcuda.so.1"], cwd=OUT, check=True)
    (OUT / "libcuda.so").unlink(missing_ok=True)
    (OUT / "libcuda.so").symlink_to("libcuda.so.1")
    return OUT


def emulated(folder: Path) -> dict[str, str]:
    """The environment of programs that are to find the emulated GPU."""
    return {
        **os.environ,
        "LD_PRELOAD": str(folder / "libcuda.so.1"),
        "LD_LIBRARY_PATH": str(folder),
        "LIBRARY_PATH": str(folder),
        "HISIR_EMULATED_GPU": "1",
    }


def main() -> None:
    """Build what is missing and become the command."""
    folder = build_driver()
    if pycuda_here.missing():
        print("building pycuda (minutes)", flush=True)
        pycuda_here.install(folder)
    command = sys.argv[1:]
    os.execvpe(command[0], command, emulated(folder))  # noqa: S606


if __name__ == "__main__":
    main()
