"""Pretraining: one network on stacks of many products, which then knows what a defect is beside any board's memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from hisir_edge.bundle.lock import sole_writer
from hisir_edge.errors import InputError
from hisir_edge.images import write_atomic
from hisir_edge.learn.data.run import RunSettings, load_checkpoint
from hisir_edge.learn.training.distributed import Team, device_here
from hisir_edge.learn.training.stacks import StackTiles, stack_files
from hisir_edge.learn.training.steps import Progress, fit
from hisir_edge.net.backbones import default_width
from hisir_edge.net.pretrained import weights_bytes

TILE_PX = 256
HELD_OUT_BATCHES = 16
SETTINGS = "pretrain.json"


def pretrain_settings(backbone: str, stacks: Path, steps: int, batch: int, learning_rate: float) -> RunSettings:
    """Settings of a pretraining, written as those of a training are."""
    return RunSettings(
        data=str(stacks.absolute()), backbone=backbone, width=default_width(backbone), tile_px=TILE_PX, overlap_px=32,
        scale=1.0, register="off", batch=batch, steps=steps, learning_rate=learning_rate, seed=0,
    )  # fmt: skip


def pretrain(
    settings: RunSettings,
    run: Path,
    max_minutes: float | None,
    workers: int,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """Train on the stacks in ``settings.data`` and write ``run/BACKBONE.npz``, the weights as they are shipped.

    A run that exists is continued if its settings are the same, else InputError.
    """
    run.mkdir(parents=True, exist_ok=True)
    files = stack_files(Path(settings.data))
    with sole_writer(run.absolute(), "pretraining"):
        _check_settings(settings, run)
        team = Team(0, 1, device_here())
        held_out = StackTiles(files, settings.tile_px, settings.batch, settings.seed, held_out=True)
        seen = [held_out.batch_of(number) for number in range(HELD_OUT_BATCHES)]
        stream = StackTiles(files, settings.tile_px, settings.batch, settings.seed + 1)
        budget_s = None if max_minutes is None else max_minutes * 60
        fit(settings, run, (stream, seen), team, budget_s, workers, on_step, (None, load_checkpoint(run)))
    state = load_checkpoint(run) or {}
    out = run / f"{settings.backbone}.npz"
    write_atomic(out, weights_bytes(state.get("best") or state["average"]))
    return out


def _check_settings(settings: RunSettings, run: Path) -> None:
    asked = json.loads(json.dumps(asdict(settings)))
    path = run / SETTINGS
    if not path.exists():
        write_atomic(path, json.dumps(asked, indent=1).encode())
        return
    known = json.loads(path.read_text())
    other = [f"{key} {known.get(key)}" for key, value in asked.items() if known.get(key) != value]
    if other:
        raise InputError(
            expected=f"the settings that {run} was begun with",
            received="others: it has " + ", ".join(other),
            fix="repeat the same command, or name another --out",
        )
