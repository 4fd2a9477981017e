"""``hisir-edge reinspect``: archived boards under another bundle."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from hisir_edge.cli.console import progress
from hisir_edge.labels import shown

MOST = 1024


def reinspect(
    archives: Annotated[list[str], typer.Argument(help="Archives of lines: folders, or s3://, gs:// addresses.")],
    bundle: Annotated[Path, typer.Option(help="The bundle to inspect with.")],
    out: Annotated[Path, typer.Option(help="Folder for tables (Parquet) and report; the same again goes on.")],
    camera: Annotated[str, typer.Option(help="Which camera's frames; default: the first of each board.")] = "",
    journal: Annotated[
        list[Path] | None, typer.Option(help="A line's journal folder, for what people confirmed; may be repeated.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, max=1024, help="Processes; 0: one for each core, of the cluster with --ray.")
    ] = 0,
    ray: Annotated[
        str, typer.Option(help="A Ray cluster: auto, or its address (the extra ray); default: this machine's cores.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Inspect archived boards with another bundle. Exit code 1 where a confirmed defect is not called any more."""
    from hisir_edge.reinspect.run import reinspect as run

    count = workers or (MOST if ray else len(os.sched_getaffinity(0)))
    with progress("boards") as advance:
        found = run(archives, bundle, out, camera, count, tuple(journal or ()), advance, ray)
    figures = found.figures
    if as_json:
        print(json.dumps({**figures.as_dict(), "report": str(found.page)}, indent=2))
    else:
        for change, boards in figures.changes.items():
            print(f"{change:16s} {boards}")
        lost = f"{len(figures.confirmed_lost)} of {figures.confirmed_known} confirmed defects lost"
        print(
            lost
            if figures.confirmed_known
            else "no confirmed defect of these boards is known (--journal): some may be lost"
        )
        print(shown(f"report: {found.page}"))
    raise typer.Exit(1 if figures.confirmed_lost else 0)
