"""Fetch what a machine lacks of the locks, and make hisir-edge's own wheel."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from have import left_out
from locks import SOURCES, WHEELS_MADE, Pin, Target, pins_for
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]


class Refused(Exception):
    """What is wrong, in one line."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """Files of a wheelhouse before they are laid out, and what was left out: name -> version that is there."""

    wheels: list[Path]
    sources: list[Path]
    left_out: dict[str, str]


def pip(arguments: list[str]) -> None:
    """``pip`` with these arguments; Refused with what it said last."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise Refused(f"expected pip to fetch what is locked; got {' | '.join(said[-3:])[-600:]}")


def download(pins: list[Pin], target: Target, folder: Path) -> None:
    """Wheels for the target, and sources where there are none, of these pins and no other."""
    folder.mkdir(parents=True, exist_ok=True)
    to_folder = ["--no-deps", "--require-hashes", "-r", str(folder / "fetch.txt")]
    for names, command in (
        (SOURCES, ["download", *to_folder, "-d", str(folder), "--no-binary", ",".join(SOURCES)]),
        (WHEELS_MADE, ["wheel", *to_folder, "-w", str(folder)]),
        (None, ["download", *to_folder, "-d", str(folder), "--only-binary", ":all:", *target.pip_options()]),
    ):
        rest = names is None
        lines = [
            pin.line() for pin in pins if (pin.name not in (*SOURCES, *WHEELS_MADE) if rest else pin.name in names)
        ]
        if lines:
            (folder / "fetch.txt").write_text("\n".join(lines))
            pip(command)
            (folder / "fetch.txt").unlink()


def fetched(target: Target, extras: list[str], have: dict[str, str], folder: Path) -> Fetched:
    """Everything that the target lacks; what another left-out package would need in another version is fetched, too."""
    pins = pins_for(target, extras)
    own = hisir_edge_wheel(folder)
    out = left_out(pins, have, [own], target, extras)
    while True:
        there = {canonicalize_name(path.name.split("-")[0]) for path in folder.iterdir()}
        download([pin for pin in pins.values() if pin.name not in out and pin.name not in there], target, folder)
        wheels = sorted(folder.glob("*.whl"))
        still = left_out({name: pins[name] for name in out}, have, wheels, target, extras)
        if still == out:
            return Fetched(wheels, sorted(folder.glob("*.tar.gz")), out)
        out = still


def hisir_edge_wheel(folder: Path) -> Path:
    """hisir-edge itself, with the compiled kernels where nvcc is at hand."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (ROOT / "hisir_edge" / "cuda").glob("kernels-*.fatbin"):
        stale.unlink()
    subprocess.run([sys.executable, "-m", "hisir_edge.cuda.fatbin"], cwd=ROOT, capture_output=True, check=False)
    pip(["wheel", "--no-deps", "-w", str(folder), str(ROOT)])
    return next(folder.glob("hisir_edge-*.whl"))
