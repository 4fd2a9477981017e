"""``hisir-edge fleet``: the verdicts of many lines in one place."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from threading import Event
from typing import Annotated

import typer


def fleet(
    config: Annotated[Path, typer.Argument(help="The fleet's TOML file: its lines, and where their verdicts go.")],
    until_quiet_s: Annotated[
        float | None,
        typer.Option(
            min=1.0, help="End once no line has given a verdict for so long; exit code 1: one could not be collected."
        ),
    ] = None,
) -> None:
    """Collect verdicts and decisions of many lines, each once, into PostgreSQL or Parquet files; until SIGTERM."""
    from hisir_edge.fleet.collect import collect
    from hisir_edge.fleet.settings import fleet_from_toml

    end = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.set())
    found = collect(fleet_from_toml(config), end, until_quiet_s)
    for name, boards in found.boards.items():
        print(f"{name}: {boards} verdict(s) stored")
    if until_quiet_s is not None and found.wrong:
        words = "; ".join(f"{name}: {wrong}" for name, wrong in found.wrong.items())
        print(f"hisir-edge: not collected: {words}", file=sys.stderr)
        raise typer.Exit(1)
