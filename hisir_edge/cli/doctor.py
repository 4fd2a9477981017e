"""``hisir-edge check``: what this machine has, what would be used, and why."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hisir_edge import __version__
from hisir_edge.camera.processes import process_module
from hisir_edge.cuda.fatbin import ARCHITECTURES, cache_folder, kernels_found, nvcc_path, shipped_folder, stem
from hisir_edge.machine.cpu import available_threads, int8_instructions
from hisir_edge.machine.gpus import Gpu, gpus, jetson_release

PACKAGES = (
    "onnxruntime",
    "opencv-python",
    "numpy",
    "pyzmq",
    "harvesters",
    "genicam",
    "torch",
    "onnx",
    "pycuda",
    "zxing-cpp",
)
TENSORRT = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
TIMEOUT_S = 30


def examine(producers: tuple[Path, ...] = (), with_aravis: bool = False, with_viva: bool = False) -> dict[str, Any]:
    """Everything found, ready for JSON. ``producers``: GenTL producers beside those on GENICAM_GENTL64_PATH.

    ``with_aravis``, ``with_viva``: also ask all networks for GigE Vision cameras, and USB, through these.
    """
    cards = gpus()
    flavours = {target: _tensorrt(module) for target, module in TENSORRT.items()}
    return {
        "hisir_edge": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "jetson": jetson_release(),
        "cores": available_threads(),
        "cores_of_machine": os.cpu_count(),
        "int8_instructions": int8_instructions(),
        "gpus": [asdict(card) for card in cards],
        "cuda": _cuda(),
        "kernels": _kernels(cards),
        "tensorrt": flavours,
        "packages": {name: _version(name) for name in PACKAGES},
        "genicam": [_producer(path) for path in (*_producers_on_path(), *producers)],
        "aravis": _listed("aravis", "--list") if with_aravis else None,
        "viva": _listed("viva", "--list") if with_viva else None,
        "used": _used(cards, flavours),
    }


def table_of_findings(found: dict[str, Any]) -> str:
    """The findings as aligned text, what is used first."""
    cards = [f"{g['name']}, {g['arch']}, driver {g['driver']}, {g['memory_mib']} MiB" for g in found["gpus"]]
    rows = [("would be used", line) for line in found["used"]]
    rows += [
        ("hisir-edge", f"{found['hisir_edge']}, Python {found['python']}, {found['system']}"),
        ("cores", f"{found['cores']} of {found['cores_of_machine']}; int8: {found['int8_instructions'] or 'no VNNI'}"),
        *(("GPU", text) for text in cards or ["none (neither nvidia-smi nor the CUDA driver lists one)"]),
        *([("Jetson", found["jetson"])] if found["jetson"] else []),
        ("CUDA", found["cuda"] or "no nvcc on the path"),
        ("kernels", found["kernels"]),
        *((f"{target}", text["version"] or text["reason"]) for target, text in found["tensorrt"].items()),
        *((name, version or "not installed") for name, version in found["packages"].items()),
    ]
    for one in found["genicam"]:
        cameras = "; ".join(one["cameras"]) or one["reason"] or "no camera"
        rows.append(("GenTL producer", f"{one['producer']}: {cameras}"))
    if not found["genicam"]:
        rows.append(("GenTL producer", "none on GENICAM_GENTL64_PATH; name one with --cti"))
    for kind, name in (("aravis", "Aravis"), ("viva", "viva-genicam")):
        if (one := found[kind]) is not None:
            rows.append((name, "; ".join(one["cameras"]) or one["reason"] or "no camera"))
    return "\n".join(f"{name:16s} {text}" for name, text in rows)


def _used(cards: tuple[Gpu, ...], flavours: dict[str, dict[str, str]]) -> list[str]:
    """For each target, whether its bundles would run here."""
    lines = [f"onnxruntime on {available_threads()} cores: bundles built with --target onnxruntime run here"]
    for target, flavour in flavours.items():
        if not flavour["version"]:
            lines.append(f"not {target}: {flavour['reason']}")
        elif not cards:
            can = (
                "engines can be built here, not run"
                if target == "tensorrt-rtx"
                else "engines can be neither built nor run"
            )
            lines.append(f"not {target}: no NVIDIA GPU found; {can}")
        else:
            missing = _missing_for_gpu(cards[0].arch)
            can = f"built here, not run: {missing}" if missing else "built and run here"
            lines.append(f"{target} {flavour['version']}: engines for GPU {cards[0].arch} can be {can}")
    return lines


def _missing_for_gpu(arch: str) -> str:
    """Missing parts for bundles that run on a GPU; empty where nothing is missing."""
    missing = [] if importlib.util.find_spec("pycuda") else ["pycuda is not installed"]
    if int(arch[2:]) < ARCHITECTURES[0]:
        missing.append(f"the line's kernels are for compute capability {ARCHITECTURES[0] / 10} or later")
    elif nvcc_path() is None and kernels_found(arch) is None:
        missing.append(f"neither nvcc nor {stem()}_*.fatbin in {shipped_folder()} or {cache_folder()}")
    return "; ".join(missing)


def _kernels(cards: tuple[Gpu, ...]) -> str:
    """The file of compiled kernels that the first GPU would use, or what becomes of it."""
    arch = cards[0].arch if cards else f"sm{ARCHITECTURES[-1]}"
    if int(arch[2:]) < ARCHITECTURES[0]:
        return f"none for {cards[0].name} ({arch}): compute capability {ARCHITECTURES[0] / 10} or later is needed"
    found = kernels_found(arch)
    if found is None:
        return f"compiled by nvcc at the first start, into {cache_folder()}" if nvcc_path() else "none"
    machine_code = ", ".join(f"sm{number}" for number in found.machine_code)
    here = f"; {arch} here runs the {found.how(arch)}" if cards else ""
    return f"{found.path}: machine code for {machine_code}, PTX for sm{found.ptx} and later{here}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _tensorrt(module: str) -> dict[str, str]:
    """Version, or why there is none; asked in a process of its own, since loading CUDA may end it."""
    if importlib.util.find_spec(module) is None:
        return {"version": "", "reason": "not installed"}
    done = _asked([sys.executable, "-c", f"import {module}; print({module}.__version__)"])
    if done is None or done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no answer"])[-1] if done else "no answer"
        return {"version": "", "reason": f"does not load: {said}"}
    words = done.stdout.split()
    return {"version": words[-1], "reason": ""} if words else {"version": "", "reason": "it does not say its version"}


def _cuda() -> str:
    nvcc = nvcc_path()
    if nvcc is None:
        return ""
    done = _asked([nvcc, "--version"])
    found = re.search(r"release ([\d.]+)", done.stdout) if done else None
    return f"nvcc {found.group(1)} ({nvcc})" if found else nvcc


def _producers_on_path() -> list[Path]:
    folders = [Path(part) for part in os.environ.get("GENICAM_GENTL64_PATH", "").split(":") if part]
    return [path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*.cti"))]


def _producer(path: Path) -> dict[str, Any]:
    """The cameras behind a GenTL producer, listed in a process of its own: a producer may end the process it is in."""
    if not path.is_file():
        return {"producer": str(path), "cameras": [], "reason": "no such file"}
    return {"producer": str(path), **_listed("genicam", "--list", str(path))}


def _listed(source_type: str, *arguments: str) -> dict[str, Any]:
    done = _asked([sys.executable, "-m", process_module(source_type), *arguments])
    if done is None:
        return {"cameras": [], "reason": f"no answer within {TIMEOUT_S} s"}
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return {"cameras": [], "reason": said}
    return {"cameras": done.stdout.splitlines(), "reason": ""}


def _asked(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
