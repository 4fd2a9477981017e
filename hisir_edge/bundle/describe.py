"""A bundle in words: the command that makes it again."""

from __future__ import annotations

import shlex
from pathlib import Path

from hisir_edge.bundle.manifest import DEFAULT_MAX_DROP, Manifest
from hisir_edge.registry import TARGETS


def rebuild_command(folder: Path, manifest: Manifest | None = None, gpu_arch: str = "") -> str:
    """The command that rebuilds a bundle, as far as the manifest has it. ``gpu_arch``: for this GPU instead."""
    if manifest is None:
        return f"rebuild it: hisir-edge build-engine RUN --out {shlex.quote(str(folder))}"
    archs = (gpu_arch,) if gpu_arch else manifest.engine.gpu_arch if manifest.engine else ()
    arch = f" --gpu-arch {','.join(archs)}" if archs and TARGETS[manifest.target].for_other_gpus else ""
    zones = " --zones ZONES.json" if manifest.zones else ""
    zones += f" --mm-per-px {manifest.mm_per_px:g}" if manifest.mm_per_px else ""
    zones += " --components COMPONENTS.csv" if manifest.components else ""
    rate = manifest.thresholds.false_calls_per_board
    drop = manifest.metrics.max_drop if manifest.metrics else DEFAULT_MAX_DROP
    limit = f" --max-drop {drop:g}" if drop != DEFAULT_MAX_DROP else ""
    return (
        f"rebuild it: hisir-edge build-engine RUN --target {manifest.target} --precision {manifest.precision}{arch} "
        f"--product {shlex.quote(manifest.product)}{zones} "
        f"--false-calls-per-board {rate:g}{limit} --out {shlex.quote(str(folder))}"
    )
