"""The steps of the GPU check, those that tell the most first; see check.py."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from running import HERE, Place, Skipped
from support.small import with_boards, writable_copy

Found = dict[str, Any]
TARGETS = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
ROUNDS = {"slots_1": 5, "slots_2": 9, "slots_4": 5}
LONG_TEST = "test_many_frames_and_neither_memory_grows"
REFUSALS = ("expected a GPU of ", "expected --gpu-arch out of")
"""What a TensorRT says of a GPU that it has no kernels for; anything else is a failure of ours."""
EMULATED = "HISIR_EMULATED_GPU" in os.environ
QUICK = ("--rounds", "1", "--copy-mib", "8")
"""Where kernels.py is not to measure."""
START_S = 45.0
"""So long it may take until the first of many frames is inspected."""


@dataclass(frozen=True)
class Step:
    """``limit_s``: it is ended after so many seconds. ``needs``: steps that must have gone well before."""

    name: str
    run: Callable[[Place], Found]
    limit_s: float
    needs: tuple[str, ...] = ()


def pycuda(at: Place) -> Found:
    """Built from its source where it is missing: the carried one, or the package index's."""
    start = time.monotonic()
    carried: list[object] = []
    if at.wheelhouse is not None:  # the installer has looked at the hashes of what the manifest names
        places = json.loads((at.wheelhouse / "manifest.json").read_text())["files"]
        carried = [
            part for place in places if place.startswith("sources/") for part in ("--archive", at.wheelhouse / place)
        ]
    at.said(sys.executable, HERE / "pycuda_here.py", *carried)
    version = at.said(sys.executable, "-c", "import pycuda.driver as c; c.init(); print(c.get_version())").strip()
    return {"cuda": version.splitlines()[-1], "seconds": round(time.monotonic() - start, 1)}


def kernels(at: Place) -> Found:
    """See kernels.py."""
    out = at.work / "kernels.json"
    out.unlink(missing_ok=True)
    at.said(sys.executable, HERE / "kernels.py", "--size", at.size, "--json", out, *(QUICK if EMULATED else ()))
    found: Found = json.loads(out.read_text())
    return found


def torch_line(slots: int, at: Place) -> Found:
    """The line with torch's CUDA graphs for an engine; on the emulated driver with ONNX Runtime for one."""
    if EMULATED:
        return bench(at, at.prepared / "cpu", "emulated", slots)
    if importlib.util.find_spec("torch") is None:
        raise Skipped("torch is not installed")
    if at.said(sys.executable, "-c", "import torch; print(torch.cuda.is_available())").split()[-1] != "True":
        raise Skipped("this torch has no CUDA; install one that has (make gpu-check TORCH_INDEX=...)")
    return bench(at, at.prepared / "cpu", "torch", slots, "--torch", at.prepared / "run")


def bench(at: Place, bundle: Path, name: str, slots: int, *more: object) -> Found:
    """``hisir-edge bench``: its JSON; a trace is kept."""
    out, trace = at.work / f"bench-{name}-{slots}.json", at.out / f"trace-{name}-slots-{slots}.json"
    program = [HERE / "emulated_line.py"] if EMULATED else ["-m", "hisir_edge"]
    at.said(
        sys.executable, *program, "bench", "--bundle", bundle, "--size", at.size, "--slots", slots,
        "--rounds", ROUNDS[f"slots_{slots}"], "--json", out, "--trace", trace, *more,
    )  # fmt: skip
    found: Found = json.loads(out.read_text())
    return {**found, "trace_events": len(json.loads(trace.read_text())["traceEvents"])}


def tests(only: str, at: Place) -> Found:
    """``pytest -m gpu``: counts, what was skipped and why, what the tests print."""
    report = at.work / "tests.xml"
    report.unlink(missing_ok=True)
    text = at.said(
        sys.executable, "-m", "pytest", "-m", "gpu", "-s", "-q", "-k", only, "-p", "no:cacheprovider", "-p",
        "pytest_timeout", "-o", "filterwarnings=default", f"--junitxml={report}", HERE / "test_gpu.py",
        environment={
            "HISIR_GPU_WANTED": "1", "HISIR_GPU_FRAMES": str(at.frames), "HISIR_PREPARED": str(at.prepared),
            "HISIR_GPU_FRAMES_S": str(max(at.until - time.monotonic() - START_S, 5)),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        fails=(1,),
    )  # fmt: skip
    counts, reasons = counts_of_tests(report)
    if counts["failed"]:
        raise RuntimeError(f"{counts['failed']} of {sum(counts.values())} tests failed: {'; '.join(reasons['failed'])}")
    if not counts["passed"]:
        raise Skipped("; ".join(reasons["skipped"]) or "no test was found")
    skipped_why = reasons["skipped"]
    figures = re.findall(r"\d[\d.]* (?:streams at work|frames: host).*", text)
    return {**counts, "skipped_why": skipped_why, "figures": figures}


def counts_of_tests(report: Path) -> tuple[dict[str, int], dict[str, list[str]]]:
    """How many passed, failed and were skipped, by pytest's own XML; and which ones and why, without repetition."""
    counts: dict[str, int] = {"passed": 0, "failed": 0, "skipped": 0}
    reasons: dict[str, list[str]] = {"failed": [], "skipped": []}
    for case in ElementTree.parse(report).getroot().iter("testcase"):  # noqa: S314 - our own pytest wrote it
        found = {"failure": "failed", "error": "failed", "skipped": "skipped"}
        outcome, why = next(((found[one.tag], one) for one in case if one.tag in found), ("passed", None))
        counts[outcome] += 1
        if why is not None:
            said = (why.get("message") or "").splitlines() or [""]
            line = f"{case.get('name')}: {said[0][:200]}" if outcome == "failed" else said[0][:200]
            reasons[outcome] += [line] if line not in reasons[outcome] else []
    return counts, reasons


def tests_tensorrt(at: Place) -> Found:
    """The tests of each TensorRT that is there."""
    if EMULATED or not any(importlib.util.find_spec(module) for module in TARGETS.values()):
        raise Skipped("an emulated GPU" if EMULATED else "neither tensorrt nor tensorrt_rtx is installed")
    return tests("tensorrt", at)


def sanitizer(at: Place) -> Found:
    """compute-sanitizer's memcheck over one small frame of each kernel."""
    program = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if program is None:
        raise Skipped("compute-sanitizer is not installed")
    text = at.said(
        program, "--tool", "memcheck", "--error-exitcode", "9", sys.executable, HERE / "kernels.py", "--size",
        "403x301", *QUICK, fails=(1, 9),
    )  # fmt: skip
    if "Device not supported" in text:
        raise Skipped("compute-sanitizer does not support this device")
    summary = re.findall(r"ERROR SUMMARY: (\d+) error", text)
    if not summary:
        raise RuntimeError(f"memcheck gave no summary: {' | '.join(text.strip().splitlines()[-4:])}")
    if int(summary[-1]):
        raise RuntimeError(f"{summary[-1]} errors by memcheck; see steps.log")
    return {"memcheck_errors": 0}


def onnxruntime_cuda(at: Place) -> Found:
    """See onnxruntime_cuda.py."""
    out = at.work / "onnxruntime.json"
    out.unlink(missing_ok=True)
    at.said(sys.executable, HERE / "onnxruntime_cuda.py", at.prepared, "--json", out)
    found: Found = json.loads(out.read_text())
    if "not_measured" in found:
        raise Skipped(found["not_measured"])
    return found


def tensorrt_rtx(at: Place) -> Found:
    """The bundle that was built without a GPU, on this one."""
    bundle = at.prepared / "tensorrt-rtx"
    if importlib.util.find_spec(TARGETS["tensorrt-rtx"]) is None:
        raise Skipped("tensorrt_rtx is not installed")
    if not bundle.is_dir():
        raise Skipped("no bundle for it was prepared (tensorrt_rtx was not there)")
    return _measured(at, "tensorrt-rtx", lambda: bundle)


def tensorrt(at: Place) -> Found:
    """A half-precision bundle, built here: TensorRT compiles on the GPU that it is for."""
    if importlib.util.find_spec(TARGETS["tensorrt"]) is None:
        raise Skipped("tensorrt is not installed")
    if importlib.util.find_spec("torch") is None:
        raise Skipped("no torch, which exports the network")
    run, bundle = at.work / "run", at.work / "tensorrt"
    shutil.rmtree(run, ignore_errors=True)
    shutil.rmtree(bundle, ignore_errors=True)

    def built() -> Path:
        with_boards(writable_copy(at.prepared / "run", run), boards(at.hisir_edge, at.work / "boards"))
        lax = ("--false-calls-per-board", 0.5, "--least-planted-recall", 0)
        at.hisir_edge("build-engine", run, "--target", "tensorrt", "--precision", "fp16", *lax, "--out", bundle)
        return bundle

    return _measured(at, "tensorrt", built)


def _measured(at: Place, target: str, built: Callable[[], Path]) -> Found:
    try:
        bundle = built()
        at.hisir_edge("bundle", "verify", bundle)
    except RuntimeError as error:
        if any(words in str(error) for words in REFUSALS):
            raise Skipped(f"{target} knows no such GPU: {error}") from error
        raise
    return {f"slots_{slots}": bench(at, bundle, target, slots) for slots in (2, 1, 4)}


def boards(hisir_edge: Callable[..., object], out: Path) -> Path:
    """The rendered boards that the prepared run was trained on; made again where they are not there."""
    if not (out / "ground_truth").is_dir():
        shutil.rmtree(out, ignore_errors=True)
        hisir_edge("synth", "--product", 7, "--seed", 7, "--good", 16, "--test-good", 1, "--defective", 2, "--size",
                   "1024x768", "--out", out)  # fmt: skip
    return out


STEPS = (
    Step("pycuda", pycuda, 240),
    Step("kernels", kernels, 75, ("pycuda",)),
    Step("torch_slots_2", partial(torch_line, 2), 100, ("pycuda",)),
    Step("tests", partial(tests, f"not {LONG_TEST} and not tensorrt"), 150, ("pycuda",)),
    Step("frames", partial(tests, LONG_TEST), 150, ("pycuda",)),
    Step("torch_slots_1", partial(torch_line, 1), 90, ("pycuda",)),
    Step("torch_slots_4", partial(torch_line, 4), 90, ("pycuda",)),
    Step("sanitizer", sanitizer, 60, ("pycuda",)),
    Step("onnxruntime", onnxruntime_cuda, 60),
    Step("tensorrt-rtx", tensorrt_rtx, 120, ("pycuda",)),
    Step("tensorrt", tensorrt, 240, ("pycuda",)),
    Step("tests_tensorrt", tests_tensorrt, 120, ("pycuda",)),
)
