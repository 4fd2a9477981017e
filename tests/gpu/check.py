"""Everything that needs a GPU, and one JSON of it: ``make gpu-check``, or ``gpu-check.sh`` of a wheelhouse.

    python tests/gpu/check.py [--prepared FOLDER] [--work FOLDER] [--out FOLDER] [--minutes 30] [--only STEP ...]

Steps in the order of steps.py, each within its own time and all within ``--minutes``. The JSON is written after each
step, so that a run that is cut off still tells. A step that cannot be done here is ``{"not_measured": why}``: nothing
that was not measured has a number. One that failed, or took too long, is ``{"failed": why}``, and then the exit code
is 1; without a GPU it is 0.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import signal
import sys
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

from running import TESTS, Place, Skipped, TimeIsUp
from steps import EMULATED, STEPS, Step

PACKAGES = ("pycuda", "torch", "tensorrt", "tensorrt-rtx", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu")
WANTED = {"kernels_of_copy": 0.70, "pipeline_efficiency": 0.90, "frames_per_s": 200.0}
"""What is to be reached on a data-centre GPU; frames a second at 4096x3000 with rep in half precision."""
LEAST_BYTES = 20e6
"""Of kernels that move less a launch costs more than the bytes."""
LEAST_S = 5.0
"""With less time left no step is begun."""


def machine() -> dict[str, Any]:
    """What this is measured on."""
    from hisir_edge.cli.doctor import examine

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None  # type: ignore[assignment]
    seen = examine()
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"), "python": platform.python_version(),
        "cores": os.cpu_count(), "gpus": seen["gpus"], "cuda": seen["cuda"], "kernels": seen["kernels"],
        "hisir_edge": seen["hisir_edge"], "packages": versions, "emulated": EMULATED,
    }  # fmt: skip


def reached(found: dict[str, Any]) -> dict[str, str]:
    """What was wanted, what was seen."""
    if found["machine"]["emulated"]:
        return {"not_rated": "an emulated GPU"}
    measured = [k for k in found.get("kernels", {}).values() if isinstance(k, dict) and k["bytes"] >= LEAST_BYTES]
    best: dict[str, float | None] = {"kernels_of_copy": min((k["of_copy"] for k in measured), default=None)}
    lines = [
        [one for one in found.get(name, {}).values() if isinstance(one, dict)] for name in ("tensorrt", "tensorrt-rtx")
    ]
    lines.append([one for name, one in found.items() if name.startswith("torch_slots")])
    for key in ("pipeline_efficiency", "frames_per_s"):
        per_line = ([one[key] for one in line if key in one] for line in lines)
        best[key] = next((max(seen) for seen in per_line if seen), None)
    out = {}
    for key, wanted in WANTED.items():
        seen = best[key]
        out[key] = "not measured" if seen is None else f"{seen:.3g} of {wanted:g}: {'yes' if seen >= wanted else 'NO'}"
    return out


def done(step: Step, at: Place, found: dict[str, Any], whole_until: float) -> dict[str, Any]:
    """What becomes of a step, whatever becomes of it."""
    left = whole_until - time.monotonic()
    not_there = [name for name in step.needs if not _well(found.get(name))]
    if not_there:
        return {"not_measured": f"{not_there[0]} did not go well"}
    if left < LEAST_S:
        return {"not_measured": "no time was left"}
    start = time.monotonic()
    try:
        result = step.run(replace(at, until=start + min(step.limit_s, left)))
    except Skipped as reason:
        return {"not_measured": str(reason)}
    except TimeIsUp as error:
        if left < step.limit_s:
            return {"not_measured": f"no time was left: {left:.0f} s of {step.limit_s:.0f}: {error}"}
        return {"failed": f"not done within {step.limit_s:.0f} s: {error}"}
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"}
    return {**result, "took_s": round(time.monotonic() - start, 1)}


def _well(one: dict[str, Any] | None) -> bool:
    return one is None or not any(isinstance(one.get(key), str) for key in ("failed", "not_measured"))


def failed(found: dict[str, Any]) -> bool:
    """Whether a step, or a part of one, failed."""
    return isinstance(found.get("failed"), str) or any(failed(one) for one in found.values() if isinstance(one, dict))


def write(found: dict[str, Any], path: Path) -> None:
    """The JSON, whole or as it was before."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(found, indent=1) + "\n")
    new.replace(path)


def options_from_command_line() -> argparse.Namespace:
    """With defaults for the checkout."""
    build = TESTS.parent / "build"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prepared", type=Path, default=build / "gpu-parts" / "prepared", help="see prepare.py")
    parser.add_argument("--work", type=Path, default=build / "gpu")
    parser.add_argument("--out", type=Path, default=build, help="where gpu-check.json and the traces go")
    parser.add_argument("--wheelhouse", type=Path, help="the folder that this was carried in")
    parser.add_argument("--size", default="4096x3000")
    parser.add_argument("--frames", type=int, default=10000, help="in a row, while memory is looked at")
    parser.add_argument("--minutes", type=float, default=30.0, help="for all steps together")
    parser.add_argument("--begun", type=float, default=time.time(), help="when the minutes began (date +%%s)")
    parser.add_argument("--only", nargs="*", default=None, help="these steps")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # with all that it started
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    unknown = set(options.only or ()) - {step.name for step in STEPS}
    if unknown:
        parser.error(f"expected steps out of {', '.join(step.name for step in STEPS)}; got {', '.join(unknown)}")
    return options


def main() -> int:
    """Every step, whatever becomes of the others."""
    options = options_from_command_line()
    for folder in (options.work, options.out):
        folder.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + options.minutes * 60 - (time.time() - options.begun)
    work, prepared, out = (folder.absolute() for folder in (options.work, options.prepared, options.out))
    at = Place(work, prepared, out, options.wheelhouse, options.size, options.frames, until)
    path = at.out / "gpu-check.json"
    if path.is_file():
        path.replace(path.with_name("gpu-check-before.json"))
    (at.out / "steps.log").unlink(missing_ok=True)
    write({"unfinished": "machine"}, path)
    found: dict[str, Any] = {"machine": machine()}
    only = (
        None
        if options.only is None
        else {*options.only, *(n for s in STEPS if s.name in options.only for n in s.needs)}
    )
    steps = [step for step in STEPS if only is None or step.name in only]
    if not found["machine"]["gpus"]:
        print("not measured on a GPU: there is none here, or no driver for it (nvidia-smi)")
        found["not_measured"], steps = "no GPU here", []
    for step in steps:
        print(f"{step.name} ...", flush=True)
        write({**found, "unfinished": step.name}, path)
        found[step.name] = done(step, at, found, until)
        print(f"  {json.dumps(found[step.name])[:300]}", flush=True)
    found["reached"] = reached(found)
    write(found, path)
    for key, text in found["reached"].items():
        print(f"{key}: {text}")
    print(f"written to {path}")
    return int(failed(found))


def told() -> int:
    """``main``, and one line for what is no step's fault."""
    try:
        return main()
    except (OSError, ImportError) as error:
        print(f"expected the check to run; got {type(error).__name__}: {error}; look at steps.log", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(told())
