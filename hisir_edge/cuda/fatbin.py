"""The kernels compiled for a GPU: by nvcc once, kept in a cache, found there ever after."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from hisir_edge.errors import InputError
from hisir_edge.images import write_atomic

SOURCE = Path(__file__).parent / "kernels.cu"
OPTIONS = ("-std=c++17", "-O3", "-fmad=false", "--fatbin")
"""Without fused multiply-adds results are those of the CPU, to the bit."""
TIMEOUT_S = 300


def cache_folder() -> Path:
    """Where compiled kernels are kept: the service's CacheDirectory, or the user's cache."""
    service = os.environ.get("CACHE_DIRECTORY", "").split(":")[0]
    user = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(service) if service else Path(user) / "hisir_edge"


def kernels_path(arch: str) -> Path:
    """Where the compiled kernels of this source are kept for ``sm86`` or another."""
    sources = SOURCE.read_bytes() + SOURCE.with_name("portable.h").read_bytes() + " ".join(OPTIONS).encode()
    return cache_folder() / f"kernels-{hashlib.sha256(sources).hexdigest()[:16]}-{arch}.fatbin"


def nvcc_path() -> str | None:
    """The CUDA compiler, on the path or where the toolkit puts it."""
    return shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")


def kernels_for(arch: str) -> bytes:
    """The kernels' fatbin for ``sm86`` or another; compiled now where the cache has none of this source.

    InputError where there is neither one in the cache nor nvcc, or nvcc refuses.
    """
    path = kernels_path(arch)
    try:
        return path.read_bytes()
    except OSError:
        image = _compiled(arch, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, image)
    except (OSError, InputError):
        pass  # compiled again at the next start
    return image


def _compiled(arch: str, path: Path) -> bytes:
    nvcc = nvcc_path()
    if nvcc is None:
        raise InputError(
            expected=f"compiled kernels for {arch} at {path}, or nvcc to make them",
            received="neither",
            fix="install the CUDA toolkit, or copy that file from a machine that has it",
        )
    with tempfile.TemporaryDirectory(prefix="hisir-kernels-") as folder:
        out = Path(folder) / "kernels.fatbin"
        command = [nvcc, *OPTIONS, f"-arch=sm_{arch[2:]}", str(SOURCE), "-o", str(out)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
            return out.read_bytes()
        except (OSError, subprocess.SubprocessError) as error:
            said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
            raise InputError(
                expected=f"{nvcc} to compile the line's kernels for {arch}",
                received=said[-1][:200] if said else "no message",
                fix="use a CUDA toolkit that knows this GPU, with a host compiler that it supports",
            ) from error
