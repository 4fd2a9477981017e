"""``hisir-edge inspect``: pictures without a line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hisir_edge.cli.console import Recursive, print_notes
from hisir_edge.cli.receiving.watch import warned
from hisir_edge.labels import shown


def inspect(
    images: Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures.")],
    bundle: Annotated[Path, typer.Option(help="Bundle to inspect with.")],
    out: Annotated[Path, typer.Option(help="Folder for JSON verdicts, masks and overlays.")],
    recursive: Recursive = False,
    threads: Annotated[int, typer.Option(min=0, help="Engine threads; 0: every core.")] = 0,
) -> None:
    """Inspect pictures: JSON verdict, mask and overlay each. Exit code 0 all pass, 1 some fail, 2 some error."""
    from hisir_edge.line.offline import files_to_inspect, inspect_files
    from hisir_edge.records import Result

    files, left_out = files_to_inspect(images, recursive)
    print_notes(left_out)
    worst = 0
    for name, judgement in inspect_files(bundle, files, out, threads):
        words = f"{judgement.result.value:5s}  {name}  regions {judgement.regions_total}  {judgement.reason}".rstrip()
        # what made it an ERROR stands in its reason
        unusual = () if judgement.result is Result.ERROR else judgement.warnings
        print(shown(words + warned(f"{fault.words}; {fault.fix}" for fault in unusual)))
        worst = max(worst, {Result.PASS: 0, Result.FAIL: 1}.get(judgement.result, 2))
    raise typer.Exit(worst)
