"""A small but real training: its settings, and the command."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

from hisir_edge.learn.data.run import RunSettings


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "hisir_edge", *map(str, arguments)]


def logged_steps(run: Path) -> int:
    path = run / "log.csv"
    if not path.exists():
        return 0
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return int(rows[-1]["step"]) if rows else 0


def small_settings(data: Path, steps: int, **changes: Any) -> RunSettings:
    values: dict[str, Any] = {
        "data": str(data), "backbone": "unet", "width": 8, "tile_px": 128, "overlap_px": 32, "scale": 1.0,
        "register": "auto", "batch": 2, "steps": steps, "learning_rate": 2e-3, "seed": 0, "patience": 30,
    }  # fmt: skip
    return RunSettings(**{**values, **changes})
