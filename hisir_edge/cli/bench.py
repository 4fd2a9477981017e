"""``hisir-edge bench``: speed and memory of a bundle on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from hisir_edge.cli.console import progress, size_from_text
from hisir_edge.errors import InputError


def bench(
    bundle: Annotated[Path, typer.Option(help="The bundle.")],
    size: Annotated[str, typer.Option(help="Frame size, WIDTHxHEIGHT; default the bundle's own.")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="Paired rounds; medians are reported.")] = 7,
    threads: Annotated[int, typer.Option(min=0, help="Engine threads; 0: every core.")] = 0,
    slots: Annotated[int, typer.Option(min=1, max=8, help="Frames in flight.")] = 2,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures as JSON.")] = None,
    versus: Annotated[Path | None, typer.Option("--vs", help="An earlier --json to compare with.")] = None,
    trace: Annotated[Path | None, typer.Option(help="Write what each thread did, for ui.perfetto.dev.")] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Every tile through the whole network, whatever a first look would say.")
    ] = False,
    torch_run: Annotated[
        Path | None, typer.Option("--torch", help="On the GPU, with this training run's network by torch.")
    ] = None,
) -> None:
    """Measure a bundle: frames a second, latency, stages, memory, and the share of this machine's own limits."""
    from hisir_edge.bench.figures import figures_from_file, ratios, trace_json
    from hisir_edge.bench.measure import measured
    from hisir_edge.bundle.load import load_bundle
    from hisir_edge.images import write_atomic

    before = figures_from_file(versus) if versus else {}
    for name, path in (("--json", json_file), ("--trace", trace)):
        if path is not None and not path.parent.is_dir():
            raise InputError(
                expected=f"{name} in a folder that exists", received=str(path), fix="make the folder first"
            )
    frame_hw = size_from_text(size)[::-1] if size else None
    with progress("measuring") as advance:
        done = 0

        def on_round() -> None:
            nonlocal done
            done += 1
            advance(done, rounds)

        figures, spans = measured(load_bundle(bundle), frame_hw, threads, slots, rounds, on_round, torch_run, whole)
    Console(width=100).print(_table(figures, ratios(figures, before) if before else {}))
    for file, text in ((json_file, json.dumps(figures, indent=1)), (trace, trace_json(spans))):
        if file is not None:
            write_atomic(file, text.encode())


def _table(figures: dict[str, Any], compared: dict[str, float]) -> Table:
    table = Table(
        title=f"{figures['backbone']} {figures['precision']}, {figures['frame']}, {figures['threads']} threads"
    )
    table.add_column("figure")
    table.add_column("here", justify="right")
    if compared:
        table.add_column("of the other", justify="right")
    for name, value in figures.items():
        shown = f"{value:.4g}" if isinstance(value, float) else "not measured" if value is None else str(value)
        table.add_row(name, shown, *([f"{compared[name]:.2f}" if name in compared else ""] if compared else []))
    return table
