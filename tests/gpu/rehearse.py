"""The GPU check as it runs on a machine without a network, here: gpu-check.sh in a network namespace, emulated GPU.

    python tests/gpu/rehearse.py [--wheelhouse build/rehearsal/wheelhouse] [--arch 90]

The namespace has a loopback device and no route. The GPU is the driver of ``emulated/``; the line's engine there is
ONNX Runtime. Green: every step that can run there ran, and those that cannot said the expected reason.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from emulate import build_driver, emulated

ROOT = Path(__file__).resolve().parents[2]
SIZE, FRAMES = "1024x768", 200
EXPECTED = {
    "sanitizer": "compute-sanitizer is not installed", "onnxruntime": "not CUDAExecutionProvider",
    "tensorrt": "tensorrt is not installed", "tests_tensorrt": "an emulated GPU",
    "tensorrt-rtx": "knows no such GPU",
}  # fmt: skip
"""What cannot be done here, and what is said of it; any of them may be done where its program is there."""
RAN = ("pycuda", "kernels", "torch_slots_2", "tests", "frames", "torch_slots_1", "torch_slots_4")


def rehearsed(wheelhouse: Path, out: Path, arch: str) -> int:
    """The script's exit code."""
    inside = f'ip link set lo up 2>/dev/null; exec sh "{wheelhouse}/gpu-check.sh" "$@"'
    command = [
        "unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c", inside, "gpu-check",
        "--out", str(out), "--python", sys.executable, "--minutes", "12", "--size", SIZE, "--frames", str(FRAMES),
    ]  # fmt: skip
    environment = {**emulated(build_driver()), "EMULATED_GPU_ARCH": arch}
    return subprocess.run(command, env=environment, cwd=out, check=False).returncode


def wrong(found: dict[str, dict[str, object]]) -> list[str]:
    """What did not go as expected."""
    lines = [f"{name}: {found.get(name, 'not there')}" for name in RAN if "took_s" not in found.get(name, {})]
    for name, reason in EXPECTED.items():
        said = found.get(name, {})
        if "took_s" not in said and reason not in str(said.get("not_measured", said)):
            lines.append(f"{name}: expected {reason!r}, got {said}")
    return lines


def main() -> int:
    """0 where all went as expected."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheelhouse", type=Path, default=ROOT / "build" / "rehearsal" / "wheelhouse")
    parser.add_argument("--arch", default="90")
    options = parser.parse_args()
    out = ROOT / "build" / "rehearsal" / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    start = time.monotonic()
    code = rehearsed(options.wheelhouse.absolute(), out, options.arch)
    minutes = (time.monotonic() - start) / 60
    found = json.loads((out / "gpu-check.json").read_text()) if (out / "gpu-check.json").is_file() else {}
    lines = wrong(found) + ([f"exit code {code}"] if code else [])
    print("\n".join(lines) or f"as expected: {', '.join(RAN)}", f"in {minutes:.1f} minutes, exit code {code}")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
