"""The kernels compiled for every GPU that the line runs on: one file, shipped with the package or made by nvcc once.

Its name says what it is of and for: ``kernels-0123456789abcdef_sm75-80-86_ptx120.fatbin`` is of the sources with that
hash and has machine code for compute capabilities 7.5, 8.0 and 8.6, and PTX for 12.0, from which the driver compiles
for what comes after. A file of other sources is not looked at.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hisir_edge.errors import HisirEdgeError, InputError
from hisir_edge.images import write_atomic

SOURCE = Path(__file__).parent / "kernels.cu"
OPTIONS = ("-std=c++17", "-O3", "-fmad=false", "--fatbin")
"""Without fused multiply-adds results are those of the CPU, to the bit."""
ARCHITECTURES = (75, 80, 86, 87, 89, 90, 100, 110, 120)
"""Compute capabilities of which nvcc is asked for machine code, where it knows them (110 is Jetson Thor)."""
TIMEOUT_S = 300
HEAD, MAGIC = struct.Struct("<IHHQ"), 0xBA55ED50
NAME = re.compile(r"kernels-[0-9a-f]{16}_sm(\d+(?:-\d+)*)_ptx(\d+)\.fatbin")


@dataclass(frozen=True, slots=True)
class Kernels:
    """A compiled file: ``machine_code`` and ``ptx`` are compute capabilities as ``86``."""

    path: Path
    machine_code: tuple[int, ...]
    ptx: int

    def how(self, arch: str) -> str:
        """How ``sm86`` or another runs them: "machine code", "PTX", or nothing where it does not.

        Machine code runs on GPUs of its major number and the same or a later minor one; from PTX the driver compiles.
        https://docs.nvidia.com/cuda/cuda-c-programming-guide/#application-compatibility
        """
        number = int(arch[2:])
        if any(number // 10 == one // 10 and number >= one for one in self.machine_code):
            return "machine code"
        return "PTX" if number >= self.ptx else ""


def cache_folder() -> Path:
    """Where compiled kernels are kept: the service's CacheDirectory, or the user's cache."""
    service = os.environ.get("CACHE_DIRECTORY", "").split(":")[0]
    user = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(service) if service else Path(user) / "hisir_edge"


def shipped_folder() -> Path:
    """Where a wheel that was made with nvcc at hand has them."""
    return SOURCE.parent


def stem() -> str:
    """``kernels-`` and the hash of what they are made of."""
    sources = b"".join(SOURCE.with_name(name).read_bytes() for name in ("kernels.cu", "portable.h", "look.cuh"))
    sources += " ".join((*OPTIONS, *map(str, ARCHITECTURES))).encode()
    return f"kernels-{hashlib.sha256(sources).hexdigest()[:16]}"


def is_whole(image: bytes) -> bool:
    """Whether it begins as a fatbin does and is as long as it says: 16 bytes of head, 8 of them the rest's length."""
    return len(image) > HEAD.size and HEAD.unpack_from(image)[::3] == (MAGIC, len(image) - HEAD.size)


def kernels_found(arch: str) -> Kernels | None:
    """The file of compiled kernels that ``sm86`` or another would use."""
    return next(iter(kernels_of(arch)), None)


def kernels_of(arch: str) -> list[Kernels]:
    """Files of these sources that ``sm86`` or another runs, machine code before PTX, shipped ones before cached."""
    found = []
    for folder in (shipped_folder(), cache_folder()):
        for path in sorted(folder.glob(f"{stem()}_*.fatbin")):
            if (named := NAME.fullmatch(path.name)) is not None:
                one = Kernels(path, tuple(map(int, named[1].split("-"))), int(named[2]))
                found += [one] if one.how(arch) else []
    return sorted(found, key=lambda one: one.how(arch) != "machine code")


def nvcc_path() -> str | None:
    """The CUDA compiler, on the path or where the toolkit puts it."""
    return shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")


def kernels_for(arch: str, gpu: str = "") -> bytes:
    """The kernels' fatbin for ``sm86`` or another, of the GPU ``gpu``; compiled now where there is none yet.

    InputError for a GPU older than they are made for, where there is neither a file nor nvcc, or nvcc refuses.
    """
    if int(arch[2:]) < ARCHITECTURES[0]:
        raise InputError(
            expected=f"a GPU of compute capability {ARCHITECTURES[0] / 10} or later",
            received=f"{gpu} ({arch})" if gpu else arch,
            fix="use another GPU, or a bundle built with --target onnxruntime",
        )
    for found in kernels_of(arch):
        with contextlib.suppress(OSError):
            image = found.path.read_bytes()
            if is_whole(image):
                return image
    with tempfile.TemporaryDirectory(prefix="hisir-kernels-") as folder:
        made = compiled(Path(folder))
        image = made.path.read_bytes()
        if not made.how(arch):
            raise InputError(
                expected=f"a CUDA toolkit that knows {arch}", received=f"{nvcc_path()}, which knows none that it runs",
                fix="install a later CUDA toolkit",
            )  # fmt: skip
        try:
            cache_folder().mkdir(parents=True, exist_ok=True)
            write_atomic(cache_folder() / made.path.name, image)
        except (OSError, InputError):
            pass  # compiled again at the next start
    return image


def compiled(folder: Path) -> Kernels:
    """Compile for all of ``ARCHITECTURES`` that nvcc knows, into a folder; InputError without nvcc, or by its words."""
    nvcc = nvcc_path()
    if nvcc is None:
        raise InputError(
            expected=f"compiled kernels {stem()}_*.fatbin in {shipped_folder()} or {cache_folder()}, or nvcc",
            received="neither",
            fix="install the CUDA toolkit, or copy that file from a machine that has it (hisir-edge check names it)",
        )
    known = {int(number) for number in re.findall(r"compute_(\d+)\b", _said([nvcc, "--list-gpu-arch"]))}
    wanted = [number for number in ARCHITECTURES if number in known]
    if not wanted:
        raise InputError(
            expected=f"nvcc to know one of compute_{', compute_'.join(map(str, ARCHITECTURES))}",
            received=f"{nvcc}, which does not", fix="install a CUDA toolkit of 11.4 or later",
        )  # fmt: skip
    codes = [(number, f"sm_{number}") for number in wanted] + [(wanted[-1], f"compute_{wanted[-1]}")]
    out = folder / f"{stem()}_sm{'-'.join(map(str, wanted))}_ptx{wanted[-1]}.fatbin"
    options = [part for number, code in codes for part in ("-gencode", f"arch=compute_{number},code={code}")]
    _said([nvcc, *OPTIONS, "--threads", "0", *options, str(SOURCE), "-o", str(out)])
    return Kernels(out, tuple(wanted), wanted[-1])


def _said(command: list[str]) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT_S).stdout
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise InputError(
            expected=f"{command[0]} to compile the line's kernels",
            received=said[-1][:200] if said else "no message",
            fix="use a CUDA toolkit of 11.4 or later, with a host compiler that it supports",
        ) from error


def main() -> None:
    """``python -m hisir_edge.cuda.fatbin --out FOLDER``: compile them there, for machines without nvcc."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=shipped_folder())
    folder: Path = parser.parse_args().out
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="hisir-kernels-") as work:
            made = compiled(Path(work)).path
            write_atomic(folder / made.name, made.read_bytes())
    except (HisirEdgeError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    for old in folder.glob("kernels-*.fatbin"):
        if old.name != made.name:
            old.unlink()
    sys.stdout.write(f"{folder / made.name}\n")


if __name__ == "__main__":
    main()
