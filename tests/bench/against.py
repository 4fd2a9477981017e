"""The checkout against an earlier commit, each in an environment of its own, on the same boards, taking turns.

    python tests/bench/against.py COMMIT [--work build/against] [--frames 6] [--turns 5] [--json FILE]

Each side has its own demonstration bundle, its own packages (the commit's locked ones) and a process that stays; a
turn gives each side the same frames, the order changes with the turn. Kinds of frames: good rendered boards, a board
with three planted defects, and one with a defect planted in every tile (the worst case). Frames a second with two in
flight, and a frame alone; medians, the median of the turns' ratios, what each side said of the boards, and its peak
memory.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from hisir_edge.corruption.plant import plant
from hisir_edge.corruption.spots import part_boxes
from hisir_edge.images import read_rgb
from hisir_edge.machine.cpu import int8_instructions

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = Path("engines/demo")
TILE_PX, DEFECTS, MOST = 256, 3, 400
SEED = 5
WORKER = """
import json, resource, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
try:
    from hisir_edge.backends import inspector_from_bundle
    from hisir_edge.bundle.load import load_bundle
    from hisir_edge.inspection.board import in_flight
except ImportError:  # before the house was cut into rooms
    from hisir_edge.engine.bundle import load_bundle
    from hisir_edge.engine.load import inspector_from_bundle
    from hisir_edge.line.board import in_flight
made = inspector_from_bundle(load_bundle(Path(sys.argv[1])))
if hasattr(made, "look_first"):  # as the line does, guarded
    made.watch_optics()
    made.look_first()
both = in_flight(made, 2)
pool = ThreadPoolExecutor(2)
print("ready", flush=True)
for line in sys.stdin:
    frames = json.loads(line)
    start = time.perf_counter()
    jobs = [pool.submit(lambda n=n: [both[n].inspect(np.load(one)) for one in frames[n::2]]) for n in (0, 1)]
    said = [job.result() for job in jobs]
    both_s = (time.perf_counter() - start) / len(frames)
    start = time.perf_counter()
    both[0].inspect(np.load(frames[0]))
    judged = [said[n % 2][n // 2] for n in range(len(frames))]
    print(json.dumps({
        "s_a_frame": both_s, "alone_s": time.perf_counter() - start,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "results": [one.result.value for one in judged], "regions": [len(one.regions) for one in judged],
    }), flush=True)
"""


def environment_of(commit: str, work: Path) -> tuple[Path, Path]:
    """(checkout, python) of a commit with its own locked packages; made once."""
    checkout = work / commit
    python = checkout / ".venv" / "bin" / "python"
    if not python.exists():
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(checkout, filter="data")
        subprocess.run([sys.executable, "-m", "venv", str(checkout / ".venv")], check=True)
        lock = next(path for path in (checkout / "requirements").rglob("base.lock"))
        subprocess.run(
            [str(python), "-m", "pip", "install", "-q", "--require-hashes", "-r", str(lock)], check=True, cwd=checkout
        )
    return checkout, python


def boards(work: Path, count: int) -> dict[str, list[Path]]:
    """Frames by kind, as arrays on disk; rendered and planted once."""
    folder = work / f"boards-{count}"
    found = {"good": [folder / f"good{n}.npy" for n in range(count)]}
    found |= {"three defects": [folder / "three.npy"] * 2, "worst": [folder / "worst.npy"] * 2}
    if not (folder / "worst.npy").exists():
        made = work / f"rendered-{count}"
        command = ["synth", "--product", 7, "--seed", 11, "--good", 1, "--test-good", count, "--defective", 0]
        command += ["--size", "4096x3000", "--out", made]
        subprocess.run([sys.executable, "-m", "hisir_edge", *(str(c) for c in command)], check=True, cwd=ROOT)
        folder.mkdir(parents=True, exist_ok=True)
        for path, picture in zip(found["good"], sorted((made / "test/good").iterdir()), strict=True):
            np.save(path, read_rgb(picture))
        for name, most in (("three", DEFECTS), ("worst", MOST)):
            board = np.load(found["good"][0])
            plant(board, TILE_PX, part_boxes(board, largest_px=220), (SEED,), most=most)
            np.save(folder / f"{name}.npy", board)
    return found


class Side:
    """One side's process."""

    def __init__(self, checkout: Path, python: Path) -> None:
        bundle = str(checkout / BUNDLE)
        self.process = subprocess.Popen(
            [str(python), "-c", WORKER, bundle], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={"PATH": "/usr/bin:/bin"}, cwd=checkout,  # Python looks for modules there first
        )  # fmt: skip
        self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a side ended with exit code {self.process.wait()}")
        return line

    def inspected(self, frames: list[Path]) -> dict[str, Any]:
        """Times, results and memory of these frames."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([str(path) for path in frames]) + "\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self._line())
        return found

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commit")
    parser.add_argument("--work", type=Path, default=ROOT / "build/against")
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    work = asked.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    before, kinds = environment_of(asked.commit, work), boards(work, asked.frames)
    sides = [Side(*before), Side(ROOT, Path(sys.executable))]
    rows: dict[str, Any] = {"int8_instructions": int8_instructions() or "none", "commit": asked.commit}
    try:
        for kind, frames in kinds.items():
            turns = []
            for turn in range(asked.turns + 1):
                both: dict[int, dict[str, Any]] = {}
                for n in (0, 1) if turn % 2 else (1, 0):
                    both[n] = sides[n].inspected(frames)
                if turn:  # the first one warms up
                    turns.append(both)
            rows[kind] = summary(turns)
            print(kind, json.dumps(rows[kind]), flush=True)
    finally:
        for side in sides:
            side.close()
    if asked.json is not None:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")


def summary(turns: list[dict[int, dict[str, Any]]]) -> dict[str, Any]:
    """Medians of both sides and of their ratios; more than 1: this checkout is the quicker one."""
    found: dict[str, Any] = {}
    for name in ("s_a_frame", "alone_s"):
        found[name] = [round(median(turn[n][name] for turn in turns), 3) for n in (0, 1)]
        found[f"{name}_ratio"] = round(median(turn[0][name] / turn[1][name] for turn in turns), 2)
    last = turns[-1]
    found["peak_mb"] = [round(last[n]["peak_mb"]) for n in (0, 1)]
    for name in ("results", "regions"):
        found[name] = [last[n][name] for n in (0, 1)]
    return found


if __name__ == "__main__":
    main()
