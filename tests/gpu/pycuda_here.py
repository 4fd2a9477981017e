"""Install pycuda where it is missing: it has no wheels, and its build asks for cuRAND, which few CUDA images have.

    python tests/gpu/pycuda_here.py [--libcuda FOLDER]

Needs the CUDA toolkit (nvcc on the path, cuda.h) and a C++ compiler; minutes on two cores.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from shutil import which

VERSION = "2026.1"


def cuda_root() -> Path:
    """The CUDA toolkit's folder; ends with one line where there is none."""
    nvcc = which("nvcc") or which("nvcc", path="/usr/local/cuda/bin")
    for root in (Path(nvcc).resolve().parents[1] if nvcc else None, Path("/usr/local/cuda")):
        if root is not None and (root / "include" / "cuda.h").is_file():
            return root
    sys.exit("expected the CUDA toolkit with nvcc and cuda.h, for pycuda; got none; install it")


def install(libcuda: Path | None) -> None:
    """Build and install it from its source."""
    root = cuda_root()
    folders = [str(libcuda)] if libcuda else [str(root / "lib64"), str(root / "lib64" / "stubs")]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    with tempfile.TemporaryDirectory(prefix="hisir-pycuda-") as folder:
        download = ["download", "--no-deps", "--no-binary", "pycuda", "-d", folder, f"pycuda=={VERSION}"]
        subprocess.run([*pip, *download], check=True)
        with tarfile.open(next(Path(folder).glob("pycuda-*.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")
        source = Path(folder) / f"pycuda-{VERSION}"
        (source / "siteconf.py").write_text(
            f"CUDA_ROOT = {str(root)!r}\nCUDA_ENABLE_CURAND = {(root / 'include' / 'curand.h').is_file()}\n"
            f"CUDADRV_LIB_DIR = {folders!r}\nCUDADRV_LIBNAME = ['cuda']\n"
        )
        subprocess.run([*pip, "install", str(source)], check=True)


def main() -> None:
    """Install it unless it is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--libcuda", type=Path, help="folder of a libcuda.so to link against, where no driver is")
    options = parser.parse_args()
    if importlib.util.find_spec("pycuda") is None:
        print("building pycuda", flush=True)
        install(options.libcuda)


if __name__ == "__main__":
    main()
