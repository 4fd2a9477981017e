"""The NVIDIA GPUs of this machine. Asked in other processes: nothing of CUDA is loaded into this one.

The CUDA driver library says which there are, by ``python -m hisir_edge.machine.gpus``; nvidia-smi, where it is (not on
every Jetson), adds the driver's version.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

QUERY = ("name", "compute_cap", "driver_version", "memory.total")
TIMEOUT_S = 20
TEGRA_RELEASE = Path("/etc/nv_tegra_release")
# CUdevice_attribute of cuda.h
COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76


@dataclass(frozen=True, slots=True)
class Gpu:
    """``arch``: sm86 for compute capability 8.6; ``memory_mib``: 0 where it is shared with the processor."""

    name: str
    arch: str
    driver: str
    memory_mib: int


def gpus() -> tuple[Gpu, ...]:
    """The GPUs that CUDA would use, in its order; empty without a driver, or where it does not answer.

    The driver library heeds CUDA_VISIBLE_DEVICES and counts as CUDA does, nvidia-smi does neither; it adds the driver's
    own version and the memory, and is all there is where the library cannot be asked.
    """
    program = shutil.which("nvidia-smi")
    named: tuple[Gpu, ...] = ()
    if program is not None:
        named = _asked([program, f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"])
    used = _asked([sys.executable, "-m", "hisir_edge.machine.gpus"])
    by_kind = {(gpu.name, gpu.arch): gpu for gpu in named}
    return tuple(by_kind.get((gpu.name, gpu.arch), gpu) for gpu in used) or named


def _asked(command: list[str]) -> tuple[Gpu, ...]:
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(gpu for line in done.stdout.splitlines() if (gpu := _gpu_from_line(line)) is not None)


def _gpu_from_line(line: str) -> Gpu | None:
    """A line of nvidia-smi's CSV; of several MIG parts or a GPU it cannot read, it says so in words: None."""
    parts = [part.strip() for part in line.split(",")]
    if len(parts) != len(QUERY) or not re.fullmatch(r"\d+\.\d+", parts[1]):
        return None
    memory = int(parts[3]) if parts[3].isdigit() else 0
    return Gpu(parts[0], "sm" + parts[1].replace(".", ""), parts[2], memory)


def jetson_release() -> str:
    """The Jetson's own release line, or nothing on other machines."""
    try:
        return TEGRA_RELEASE.read_text().splitlines()[0].lstrip("# ")
    except (OSError, IndexError):
        return ""


def lines_from_driver_library() -> list[str]:
    """The GPUs as lines of nvidia-smi's form, by the CUDA driver library; empty without one."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return []
    count, version = ctypes.c_int(), ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or cuda.cuDriverGetVersion(ctypes.byref(version)):
        return []
    driver = f"CUDA {version.value // 1000}.{version.value % 1000 // 10}"
    lines = []
    for i in range(count.value):
        device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
        capability = [ctypes.c_int(), ctypes.c_int()]
        failed = cuda.cuDeviceGet(ctypes.byref(device), i) or cuda.cuDeviceGetName(name, len(name), device)
        for value, attribute in zip(capability, (COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR), strict=True):
            failed = failed or cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        if not failed:
            text = name.value.decode(errors="replace").replace(",", " ")
            lines.append(f"{text}, {capability[0].value}.{capability[1].value}, {driver}, shared")
    return lines


if __name__ == "__main__":
    sys.stdout.write("".join(f"{line}\n" for line in lines_from_driver_library()))
