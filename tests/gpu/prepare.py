"""What the GPU check needs and no GPU makes: boards, trained runs, bundles, ONNX files, compiled kernels.

    python tests/gpu/prepare.py [--out build/gpu-parts] [--again]

Minutes the first time; what is there is kept until the sources that it is made by change. ``prepared/`` has
``small-boards``, ``small-run`` and ``small-bundle`` (the tests'), ``run`` and ``cpu`` (a rep network and its float32
bundle), ``onnx`` (that network in float16 and int8) and, where TensorRT for RTX is installed,
``tensorrt-rtx`` (a bundle for RTX GPUs, compiled without one). ``tests/`` and ``pyproject.toml`` are the check itself.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
sys.path[:0] = [str(TESTS), str(TESTS / "gpu")]

from steps import boards
from support import small

MADE_BY = ("sim", "learn", "net", "corruption", "engine")
RTX_GPUS = "sm86,sm89,sm120"
KEPT_OF_RUN = ("run.json", "memory.npz", "checkpoint.pt")
NEVER_CARRIED = shutil.ignore_patterns("__pycache__", "*.pyc")


def works(*arguments: object) -> bool:
    """Whether ``hisir-edge`` with these arguments works."""
    return (
        subprocess.run([sys.executable, "-m", "hisir_edge", *map(str, arguments)], cwd=ROOT, check=False).returncode
        == 0
    )


def hisir_edge(*arguments: object) -> None:
    """``hisir-edge`` with these arguments; ends with its words where it fails."""
    if not works(*arguments):
        sys.exit(f"expected hisir-edge {arguments[0]} to work; got what is above")


def sources() -> str:
    """A hash of what the parts are made by."""
    files = [path for name in MADE_BY for path in sorted((ROOT / "hisir_edge" / name).rglob("*.py"))]
    content = b"".join(
        path.read_bytes()
        for path in [*files, Path(__file__), TESTS / "support" / "small.py", TESTS / "gpu" / "steps.py"]
    )
    return hashlib.sha256(content).hexdigest()


def make_small(out: Path) -> None:
    """The tests' product."""
    made = small.small_boards(out / "small-boards")
    run = small.small_run(made, out / "small-run")
    small.small_bundle(run, out / "small-bundle")
    keep(run)


def make_rep(out: Path, work: Path) -> None:
    """A rep network, trained for a minute: its speed is that of a well trained one."""
    made = boards(hisir_edge, work / "boards")
    run = out / "run"
    hisir_edge("train", "--data", made, "--backbone", "rep", "--scale", 1, "--max-minutes", 1, "--out", run)
    lax = ("--false-calls-per-board", 0.5, "--least-planted-recall", 0)
    hisir_edge("build-engine", run, "--precision", "fp32", *lax, "--out", out / "cpu")
    if not works("build-engine", run, "--precision", "int8", "--max-drop", 0.9, *lax, "--out", work / "int8"):
        print("the gate refuses this short training in int8: that network is not carried")
    if importlib.util.find_spec("tensorrt_rtx") is not None:
        rtx = ("--target", "tensorrt-rtx", "--precision", "fp16", "--gpu-arch", RTX_GPUS)
        hisir_edge("build-engine", run, *rtx, *lax, "--out", out / "tensorrt-rtx")
    networks(out, work / "int8")
    keep(run)


def networks(out: Path, int8: Path) -> None:
    """The rep network as ONNX files, but for float32, which the bundle has."""
    import onnx

    from hisir_edge.engine.precision import fp16_model, kept_in_float, prepared_model

    folder = out / "onnx"
    folder.mkdir()
    if (int8 / "model.onnx").is_file():
        shutil.copy2(int8 / "model.onnx", folder / "int8.onnx")
    model = prepared_model(out / "cpu" / "model.onnx")
    onnx.save(fp16_model(model, kept_in_float(model)), str(folder / "fp16.onnx"))


def keep(run: Path) -> None:
    """Only what is needed of a run is carried: its record, the boards' memory, and the best weights."""
    from hisir_edge.learn.data.run import load_checkpoint, save_checkpoint

    for path in run.iterdir():
        if path.name not in KEPT_OF_RUN:
            path.unlink() if path.is_file() else shutil.rmtree(path)
    state = load_checkpoint(run)
    if state is None:
        sys.exit(f"expected a checkpoint in {run}; got none")
    save_checkpoint(run, {"average": state.get("best") or state["average"], "step": state["step"]})


def main() -> None:
    """Make what is missing or older than its sources, and lay the check beside it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu-parts")
    parser.add_argument("--again", action="store_true", help="make all of it again")
    options = parser.parse_args()
    out: Path = options.out.absolute()
    parts, made_by = out / "prepared", sources()
    record = parts / "made_by.json"
    if options.again or not record.is_file() or json.loads(record.read_text())["sources"] != made_by:
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir(parents=True)
        work = ROOT / "build" / "gpu-work"
        shutil.rmtree(work, ignore_errors=True)
        make_small(parts)
        make_rep(parts, work)
        shutil.rmtree(work)
        record.write_text(json.dumps({"sources": made_by}))
    shutil.rmtree(out / "tests", ignore_errors=True)
    shutil.copytree(TESTS / "gpu", out / "tests" / "gpu", ignore=NEVER_CARRIED)
    for path in TESTS.glob("*.py"):
        if not path.name.startswith("test_"):
            shutil.copy2(path, out / "tests" / path.name)
    shutil.copytree(TESTS / "support", out / "tests" / "support", ignore=NEVER_CARRIED)
    shutil.copy2(ROOT / "requirements" / "wheelhouse" / "pycuda_build.py", out / "tests" / "gpu")
    shutil.copy2(ROOT / "pyproject.toml", out / "pyproject.toml")
    nbytes = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {nbytes / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
