"""Build pycuda from its source, for which there are no wheels; without cuRAND, which the line does not use.

Standard library alone, Python 3.10 or later: this file is carried to machines that have nothing installed yet. Needs
the CUDA toolkit (nvcc on the path or in /usr/local/cuda, cuda.h), a C++ compiler and Python's headers.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path
from shutil import which

VERSION = "2026.1"
OFFLINE = ["--isolated", "--no-index", "--no-deps", "--no-build-isolation", "--no-cache-dir", "--force-reinstall"]
"""Options of pip with which it looks for nothing elsewhere."""
JOBS = "HISIR_COMPILE_JOBS"
TELLING = re.compile(r"\berror: (?!subprocess|metadata|command)|cannot find -l|fatal error|Error: \w")
"""Lines of a compiler, a linker or Python that say what is wrong."""
DRIVER_LIBRARIES = ("/usr/local/nvidia/lib64/libcuda.so.1", "/usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1")
PARALLEL = f"from pybind11.setup_helpers import ParallelCompile\nParallelCompile({JOBS!r}).install()\n"
"""Its forty C++ files are compiled beside each other; setuptools takes one after the other."""


class CannotBuild(Exception):
    """What is missing, in one line."""


def cuda_root() -> Path:
    """The CUDA toolkit's folder."""
    nvcc = which("nvcc") or which("nvcc", path="/usr/local/cuda/bin")
    for root in (Path(nvcc).resolve().parents[1] if nvcc else None, Path("/usr/local/cuda")):
        if root is not None and (root / "include" / "cuda.h").is_file():
            return root
    raise CannotBuild("expected the CUDA toolkit with nvcc and cuda.h, for pycuda; got none; install it")


def patched(archive: Path, folder: Path, root: Path) -> Path:
    """The source in ``folder``, told where the toolkit is, to leave cuRAND out, and to compile in parallel."""
    with tarfile.open(archive) as packed:
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # not in the first releases of 3.10
        packed.extractall(folder, **safely)  # noqa: S202 - its hash is that of the lock
    source = next(path for path in folder.iterdir() if path.name.startswith("pycuda-") and path.is_dir())
    places = [root / "lib64", root / "lib64" / "stubs", *root.glob("targets/*/lib/stubs")]
    (source / "siteconf.py").write_text(
        f"CUDA_ROOT = {str(root)!r}\nCUDA_ENABLE_CURAND = False\n"
        f"CUDADRV_LIB_DIR = {[str(path) for path in places]!r}\nCUDADRV_LIBNAME = ['cuda']\n"
    )
    setup, project = source / "setup.py", source / "pyproject.toml"
    future, text = "from __future__ import annotations\n", setup.read_text()
    setup.write_text(text.replace(future, future + PARALLEL, 1) if future in text else PARALLEL + text)
    project.write_text(project.read_text().replace('"setuptools",', '"setuptools", "pybind11",', 1))
    return source


def linkable(folder: Path) -> Path:
    """A folder with a libcuda.so: a link to the driver's own, since not every toolkit has one to link with."""
    folder.mkdir()
    said = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    listed = [line.split("=> ")[1] for line in said.splitlines() if "libcuda.so.1 " in line and "=> " in line]
    named = [f"{place}/libcuda.so.1" for place in os.environ.get("LD_LIBRARY_PATH", "").split(":") if place]
    for library in (*named, *listed, *DRIVER_LIBRARIES):
        if Path(library).is_file():
            (folder / "libcuda.so").symlink_to(library)
            break
    return folder


def build(archive: Path, python: Path, pip_options: list[str], libcuda: Path | None = None) -> None:
    """Install it into ``python``'s environment; CannotBuild with what was said last where it fails.

    ``pip_options``: behind ``pip install``. ``libcuda``: the folder of a libcuda.so to link with, where the toolkit has
    none; gcc looks into those of LIBRARY_PATH, too.
    """
    root = cuda_root()
    if which(os.environ.get("CXX", "g++")) is None:
        raise CannotBuild("expected a C++ compiler, for pycuda; got none; install g++")
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if python == Path(sys.executable) and not headers.is_file():
        raise CannotBuild(f"expected Python's headers, for pycuda; got no {headers}; install python3-dev")
    environment = {
        **os.environ,
        "PATH": f"{root / 'bin'}:{os.environ.get('PATH', '')}",
        JOBS: os.environ.get(JOBS) or str(len(os.sched_getaffinity(0))),
    }
    with tempfile.TemporaryDirectory(prefix="hisir-pycuda-") as folder:
        source = patched(archive, Path(folder), root)
        libraries = [str(libcuda or linkable(Path(folder) / "libcuda"))]
        libraries += filter(None, [os.environ.get("LIBRARY_PATH")])
        environment["LIBRARY_PATH"] = ":".join(libraries)
        command = [str(python), "-m", "pip", "--disable-pip-version-check", "-q", "install", *pip_options, str(source)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            told = [line for line in lines if TELLING.search(line)] or lines
            raise CannotBuild(
                f"expected pycuda to compile; got {' | '.join(told[:3])[:600]}; it needs the CUDA toolkit, a C++ "
                "compiler, Python's headers and the driver's libcuda.so.1"
            )
