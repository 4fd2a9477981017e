"""Run a command with an emulated GPU: pycuda on the driver of ``emulated/driver.cpp``; both are built where missing.

    python tests/gpu/emulate.py python -m pytest -m gpu tests/gpu

Needs nvcc and cuda.h (no GPU, no NVIDIA driver) and g++.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

from pycuda_here import cuda_root, install

HERE = Path(__file__).parent
OUT = HERE.parents[1] / "build" / "emulated"
OPTIONS = ["-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread"]


def build_driver() -> None:
    """libcuda.so.1: what it has, and for everything else that pycuda links to a refusal."""
    OUT.mkdir(parents=True, exist_ok=True)
    include = f"-I{cuda_root() / 'include'}"
    library, rest = OUT / "libcuda.so.1", OUT / "rest.c"
    rest.write_text("")

    def compiled() -> None:
        made = subprocess.run(["g++", *OPTIONS, "-c", include, str(HERE / "emulated" / "driver.cpp"), "-o", "driver.o"],
                              cwd=OUT, check=False)  # fmt: skip
        if made.returncode:
            sys.exit("expected driver.cpp to compile; got what is above")
        subprocess.run(["gcc", "-fPIC", "-c", "rest.c", "-o", "rest.o"], cwd=OUT, check=True)
        # its kernels must not take the place of those that tests load beside it
        (OUT / "exports").write_text("{ global: cu*; local: *; };")
        link = ["g++", "-shared", "-pthread", "driver.o", "rest.o", "-Wl,-soname,libcuda.so.1"]
        subprocess.run([*link, "-Wl,--version-script=exports", "-o", str(library)], cwd=OUT, check=True)

    compiled()
    (OUT / "libcuda.so").unlink(missing_ok=True)
    (OUT / "libcuda.so").symlink_to(library.name)
    if importlib.util.find_spec("pycuda") is None:
        print("building pycuda (minutes)", flush=True)
        install(OUT)
    found = importlib.util.find_spec("pycuda")
    if found is None or found.origin is None:
        sys.exit("expected pycuda to be there once it is installed; got none")
    driver = next(Path(found.origin).parent.glob("_driver*.so"))
    wanted, have = _symbols(driver, "U"), _symbols(library, "T")
    rest.write_text("".join(f"int {name}(void) {{ return 801; }}\n" for name in sorted(wanted - have)))
    compiled()


def _symbols(library: Path, kind: str) -> set[str]:
    said = subprocess.run(["nm", "-D", str(library)], check=True, capture_output=True, text=True).stdout
    return set(re.findall(rf" {kind} (cu[A-Z]\w*)", said))


def main() -> None:
    """Build what is missing and become the command."""
    build_driver()
    environment = {
        **os.environ,
        "LD_PRELOAD": str(OUT / "libcuda.so.1"),
        "LD_LIBRARY_PATH": str(OUT),
        "HISIR_EMULATED_GPU": "1",
    }
    command = sys.argv[1:]
    os.execvpe(command[0], command, environment)  # noqa: S606


if __name__ == "__main__":
    main()
