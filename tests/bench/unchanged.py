"""Prove that a change of layout changed nothing: record what a checkout says, and compare two records.

    PYTHONPATH=CHECKOUT python tests/bench/unchanged.py record FILE
    python tests/bench/unchanged.py compare BEFORE AFTER

A record has the anomaly map, mask and judgement of the demonstration's 12 boards (hashes of arrays), the help of every
command, the names of metrics, topics and configuration keys, and the manifest's schema. Modules are looked for under
their old and new names, so that one script records both sides. ``compare`` prints what differs; help texts are compared
by their options alone (words may change). Exit code 1 where something else differs.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

SEED, PRODUCT, BOARDS, DEFECTIVE = 2026, 7, 12, 5


def first_module(*names: str) -> Any:
    """The first of these modules of hisir_edge that exists."""
    for name in names:
        try:
            return importlib.import_module(f"hisir_edge.{name}")
        except ModuleNotFoundError as error:
            if not str(error.name).startswith("hisir_edge"):
                raise
    raise ModuleNotFoundError(" or ".join(names))


def sha256_of(array: np.ndarray | None) -> str:
    """Of an array's bytes, shape and type."""
    if array is None:
        return "none"
    head = f"{array.dtype} {array.shape} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def boards(folder: Path, frame_hw: tuple[int, int]) -> list[Path]:
    """The demonstration's boards, as ``hisir-edge demo`` renders them."""
    synth, defects = first_module("sim.synth"), first_module("sim.defects")
    rng = np.random.default_rng([SEED, 11])
    kinds = ["good"] * (BOARDS - DEFECTIVE)
    kinds += [str(kind) for kind in rng.choice(list(defects.DEFECTS), DEFECTIVE, replace=False)]
    jobs = []
    for number, index in enumerate(rng.permutation(BOARDS), 1):
        kind, path = kinds[int(index)], folder / f"board_{number:02d}.png"
        mask = None if kind == "good" else folder / "truth" / path.name
        h, w = frame_hw
        jobs.append(
            synth.BoardJob(
                product=PRODUCT,
                seed=50_000_000 + SEED * 1000 + number,
                size_wh=(w, h),
                kind=kind,
                image=path,
                mask=mask,
            )
        )
    synth.write_boards(jobs, len(os.sched_getaffinity(0)), lambda: None)
    return [job.path if hasattr(job, "path") else folder / f"board_{n:02d}.png" for n, job in enumerate(jobs, 1)]


def judged(bundle_folder: Path, folder: Path) -> dict[str, Any]:
    """Map, mask and judgement of each board."""
    load_bundle = first_module("bundle.load", "engine.bundle").load_bundle
    module = first_module("inspection.cpu.inspector", "inspection.inspector", "line.inspect")
    inspector = getattr(module, "CpuInspector", None) or module.Inspector
    engine = first_module("backends", "engine.load").engine_from_bundle
    rops, images = first_module("inspection.rops", "line.rops").Rops, first_module("images")
    bundle = load_bundle(bundle_folder)
    one = inspector(bundle, engine(bundle, 2), rops)
    found = {}
    for path in boards(folder, bundle.recipe.frame_hw):
        frame = images.read_rgb(path)
        judgement, anomaly_map = one.inspect_with_map(frame)
        facts = {
            field.name: getattr(judgement, field.name)
            for field in dataclasses.fields(judgement)
            if field.name not in ("times", "mask")
        }
        found[path.name] = {
            "frame": sha256_of(frame), "map": sha256_of(anomaly_map), "mask": sha256_of(judgement.mask),
            "judgement": json.loads(json.dumps(facts, default=plain)),
        }  # fmt: skip
    one.close()
    return found


def plain(value: Any) -> Any:
    """A record or number as JSON takes it; an array by its hash."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return sha256_of(value) if isinstance(value, np.ndarray) else str(value)


def help_texts() -> dict[str, str]:
    """``--help`` of every command, by its words."""

    def said(*words: str) -> str:
        command = [sys.executable, "-m", "hisir_edge", *words, "--help"]
        environment = {**os.environ, "COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"}
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout

    def commands(text: str) -> list[str]:
        section = text.partition("Commands")[2]
        return re.findall(r"^[│|]\s([a-z][a-z-]*)\s", section, re.MULTILINE)

    found = {"": said()}
    for name in commands(found[""]):
        found[name] = said(name)
        for below in commands(found[name]):
            found[f"{name} {below}"] = said(name, below)
    return found


def names() -> dict[str, list[str]]:
    """Metrics and configuration keys."""
    package = Path(first_module("errors").__file__).parent
    source = " ".join(path.read_text() for path in sorted(package.rglob("*.py")))
    metrics = sorted(set(re.findall(r'"(hisir_[a-z_]+)"', source)))
    settings = first_module("config").Settings.model_json_schema()
    keys = sorted(
        f"{table}.{key}" for table, one in settings.get("$defs", {}).items() for key in one.get("properties", {})
    )
    return {"metrics": metrics, "configuration": keys}


def recorded(bundle: Path, work: Path) -> dict[str, Any]:
    """Everything of the checkout that is imported."""
    manifest = first_module("bundle.manifest", "engine.manifest").Manifest
    return {
        "package": str(Path(first_module("errors").__file__).parent),
        "boards": judged(bundle, work), "help": help_texts(), "names": names(),
        "schema": manifest.model_json_schema(),
    }  # fmt: skip


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Lines for what differs, help by its options alone."""
    lines = [f"{part}: differs" for part in ("names", "schema") if before[part] != after[part]]
    for name, one in before["boards"].items():
        other = after["boards"].get(name, {})
        lines += [f"{name}: another {part}" for part in one if one[part] != other.get(part)]
    gone = set(before["help"]) - set(after["help"])
    lines += [f"command gone: {name}" for name in sorted(gone)]
    for name in sorted(set(before["help"]) - gone):
        options = [set(re.findall(r"--[a-z][a-z0-9-]*", side["help"][name])) for side in (before, after)]
        if options[0] - options[1]:
            lines.append(f"hisir-edge {name}: options gone: {', '.join(sorted(options[0] - options[1]))}")
    return lines


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["record", "compare"])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--bundle", type=Path, default=Path(__file__).resolve().parents[2] / "engines" / "demo")
    parser.add_argument("--work", type=Path, default=Path(__file__).resolve().parents[2] / "build" / "unchanged")
    options = parser.parse_args()
    if options.what == "record":
        options.work.mkdir(parents=True, exist_ok=True)
        options.files[0].write_text(json.dumps(recorded(options.bundle, options.work), indent=1))
        return 0
    lines = differences(*(json.loads(path.read_text()) for path in options.files))
    print("\n".join(lines) or "nothing differs")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
