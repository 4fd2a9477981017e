"""The NVIDIA GPUs of this machine, as its driver names them; nothing is loaded into this process."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

QUERY = ("name", "compute_cap", "driver_version", "memory.total")
TIMEOUT_S = 20
TEGRA_RELEASE = Path("/etc/nv_tegra_release")


@dataclass(frozen=True, slots=True)
class Gpu:
    """``arch``: sm86 for compute capability 8.6; ``memory_mib``: 0 where it is shared with the processor."""

    name: str
    arch: str
    driver: str
    memory_mib: int


def gpus() -> tuple[Gpu, ...]:
    """What nvidia-smi lists; empty without a driver, or where it does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    command = [program, f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(gpu for line in done.stdout.splitlines() if (gpu := _gpu_from_line(line)) is not None)


def _gpu_from_line(line: str) -> Gpu | None:
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
