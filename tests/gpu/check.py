"""What ``make gpu-check`` does: everything that needs a GPU, and one JSON of it.

    python tests/gpu/check.py [--json build/gpu-check.json] [--size 4096x3000] [--only STEP ...]

Steps: pycuda (built where missing), tests (pytest -m gpu), kernels (against the copy ceiling), run (a short training,
so that there is a network of the real size), torch (the line with that network by torch's CUDA graphs, 1, 2 and 4
frames in flight), and for each TensorRT that is installed and takes this GPU a bundle and its bench.

Where something is not there, the JSON says why: nothing that was not measured has a number. Exit code 1 where a step
failed that could run.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WORK = ROOT / "build" / "gpu"
TARGETS = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
PACKAGES = ("pycuda", "torch", "tensorrt", "tensorrt-rtx", "numpy", "onnx", "onnxruntime")
SLOTS = (1, 2, 4)
WANTED = {"kernels_of_copy": 0.70, "pipeline_efficiency": 0.90, "frames_per_s": 60.0}
"""What is to be reached on a data-centre GPU; frames a second at 4096x3000 with rep in half precision."""
MINUTES = 60.0
UNKNOWN_GPU = "expected --gpu-arch out of"
"""What build-engine says of a GPU that a TensorRT for RTX has no kernels for; anything else is a failure of ours."""
LEAST_BYTES = 20e6
"""Of kernels that move less a launch costs more than the bytes."""


class Skipped(Exception):
    """A step cannot run here; its text says why."""


def said(command: list[str], limit_minutes: float = 30.0) -> str:
    """What a command printed; RuntimeError with its last lines where it failed."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{HERE}"}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=limit_minutes * MINUTES, env=environment, check=False
    )
    if done.returncode:
        raise RuntimeError(" | ".join((done.stdout + done.stderr).strip().splitlines()[-8:])[-1500:])
    return done.stdout


def hisir_edge(*arguments: object, limit_minutes: float = 30.0) -> str:
    """``hisir-edge`` with these arguments."""
    return said([sys.executable, "-m", "hisir_edge", *map(str, arguments)], limit_minutes)


def pycuda() -> dict[str, Any]:
    """Built from its source where it is missing."""
    start = time.monotonic()
    said([sys.executable, str(HERE / "pycuda_here.py")])
    version = said([sys.executable, "-c", "import pycuda.driver as c; c.init(); print(c.get_version())"])
    return {"cuda": version.strip(), "seconds": round(time.monotonic() - start, 1)}


def tests() -> dict[str, Any]:
    """``pytest -m gpu``: counts, what was skipped and why, what the tests print."""
    text = said([sys.executable, "-m", "pytest", "-m", "gpu", "-rs", "-s", "-q", str(HERE)], 60)
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (passed|skipped|failed)", text.splitlines()[-1])}
    figures = re.findall(r"\d[\d.]* (?:streams at work|frames: host).*", text)
    return {**counts, "skipped_why": sorted(set(re.findall(r"SKIPPED .*", text))), "figures": figures}


def kernels(size: str) -> dict[str, Any]:
    """See kernels.py."""
    out = WORK / "kernels.json"
    out.unlink(missing_ok=True)
    said([sys.executable, str(HERE / "kernels.py"), "--size", size, "--json", str(out)])
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def run() -> dict[str, Any]:
    """A rep network, trained for a minute: its speed is that of a well trained one. And its bundle for a CPU."""
    boards, trained, bundle = WORK / "boards", WORK / "run", WORK / "cpu"
    if not (boards / "ground_truth").is_dir():
        hisir_edge("synth", "--product", 7, "--seed", 7, "--good", 16, "--test-good", 4, "--defective", 6,
                   "--size", "2048x1536", "--out", boards)  # fmt: skip
    if not (trained / "checkpoint.pt").is_file():
        hisir_edge("train", "--data", boards, "--backbone", "rep", "--max-minutes", 1.5, "--out", trained)
    if not (bundle / "manifest.json").is_file():
        hisir_edge(
            "build-engine",
            trained,
            "--precision",
            "fp32",
            "--false-calls-per-board",
            0.5,
            "--least-planted-recall",
            0,
            "--out",
            bundle,
        )
    return {"bundle": json.loads((bundle / "manifest.json").read_text())["backbone"]}


def bench(bundle: Path, name: str, size: str, slots: int, *more: object) -> dict[str, Any]:
    """``hisir-edge bench``: its JSON, and a trace beside it."""
    out = WORK / f"bench-{name}-{slots}"
    hisir_edge("bench", "--bundle", bundle, "--size", size, "--slots", slots, "--rounds", 9, "--json", f"{out}.json",
               "--trace", f"{out}-trace.json", *more)  # fmt: skip
    found: dict[str, Any] = json.loads(Path(f"{out}.json").read_text())
    return found


def torch_line(size: str) -> dict[str, Any]:
    """The line with torch's CUDA graphs for an engine."""
    if importlib.util.find_spec("torch") is None:
        raise Skipped("torch is not installed")
    if said([sys.executable, "-c", "import torch; print(torch.cuda.is_available())"]).strip() != "True":
        raise Skipped("this torch has no CUDA; install one that has (make gpu-check TORCH_INDEX=...)")
    if not (WORK / "cpu" / "manifest.json").is_file():
        raise Skipped("no trained network: see the step run")
    return {
        f"slots_{slots}": bench(WORK / "cpu", "torch", size, slots, "--torch", WORK / "run") for slots in SLOTS
    }  # fmt: skip


def tensorrt_line(target: str, size: str) -> dict[str, Any]:
    """A half-precision bundle of a TensorRT, and its bench."""
    if importlib.util.find_spec(TARGETS[target]) is None:
        raise Skipped(f"{TARGETS[target]} is not installed")
    if not (WORK / "run" / "checkpoint.pt").is_file():
        raise Skipped("no trained network: see the step run")
    from hisir_edge.gpus import gpus

    bundle = WORK / target
    shutil.rmtree(bundle, ignore_errors=True)
    arch = ["--gpu-arch", gpus()[0].arch] if target == "tensorrt-rtx" else []
    try:
        hisir_edge("build-engine", WORK / "run", "--target", target, "--precision", "fp16", *arch,
                   "--false-calls-per-board", 0.5, "--least-planted-recall", 0, "--out", bundle,
                   limit_minutes=60)  # fmt: skip
    except RuntimeError as error:
        if UNKNOWN_GPU in str(error):
            raise Skipped(f"{target} knows no such GPU: {error}") from error
        raise
    hisir_edge("bundle", "verify", bundle)
    return {f"slots_{slots}": bench(bundle, target, size, slots) for slots in SLOTS}


def machine() -> dict[str, Any]:
    """What this was measured on."""
    from hisir_edge.gpus import gpus

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"), "python": platform.python_version(),
        "cores": os.cpu_count(), "gpus": [{"name": g.name, "arch": g.arch, "driver": g.driver} for g in gpus()],
        "packages": versions, "emulated": "HISIR_EMULATED_GPU" in os.environ,
    }  # fmt: skip


def verdicts(found: dict[str, Any]) -> dict[str, str]:
    """What was wanted, what was seen."""
    out = {}
    measured = [k for k in found.get("kernels", {}).values() if isinstance(k, dict) and k["bytes"] >= LEAST_BYTES]
    least = min((k["of_copy"] for k in measured), default=None)
    best: dict[str, float | None] = {"kernels_of_copy": least}
    lines = [found[name] for name in ("tensorrt", "tensorrt-rtx", "torch") if "slots_2" in found.get(name, {})]
    for key in ("pipeline_efficiency", "frames_per_s"):
        best[key] = max((one[key] for one in lines[0].values()), default=None) if lines else None
    for key, wanted in WANTED.items():
        seen = best[key]
        out[key] = "not measured" if seen is None else f"{seen:.3g} of {wanted:g}: {'yes' if seen >= wanted else 'NO'}"
    return out


def main() -> int:
    """Every step, whatever becomes of the others."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "gpu-check.json")
    parser.add_argument("--size", default="4096x3000")
    parser.add_argument("--only", nargs="*", default=None)
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    steps: dict[str, Callable[[], dict[str, Any]]] = {
        "pycuda": pycuda, "tests": tests, "kernels": lambda: kernels(options.size), "run": run,
        "torch": lambda: torch_line(options.size),
        **{target: lambda target=target: tensorrt_line(target, options.size) for target in TARGETS},
    }  # fmt: skip
    found: dict[str, Any] = {"machine": machine()}
    failed = False
    if not found["machine"]["gpus"] and not found["machine"]["emulated"]:
        print("not measured on a GPU: there is none here, or no driver for it (nvidia-smi)")
        found["not_measured"], steps = "no GPU here", {}
    for name, step in steps.items():
        if options.only is not None and name not in options.only:
            continue
        print(f"{name} ...", flush=True)
        try:
            found[name] = step()
            print(f"  {json.dumps(found[name])[:300]}", flush=True)
        except Skipped as reason:
            found[name] = {"not_measured": str(reason)}
            print(f"  not measured: {reason}", flush=True)
        except Exception as error:
            found[name], failed = {"failed": f"{type(error).__name__}: {error}"}, True
            print(f"  FAILED: {error}", flush=True)
        options.json.write_text(json.dumps(found, indent=1))
    found["reached"] = {"not_rated": "an emulated GPU"} if found["machine"]["emulated"] else verdicts(found)
    options.json.write_text(json.dumps(found, indent=1))
    for key, text in found["reached"].items():
        print(f"{key}: {text}")
    print(f"written to {options.json}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
