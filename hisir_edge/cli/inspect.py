"""``hisir-edge inspect``: pictures without a line."""

from __future__ import annotations

import sys
from collections import Counter
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
    from hisir_edge.bundle.load import manifest_from_folder
    from hisir_edge.line.offline import files_to_inspect, inspect_files
    from hisir_edge.records import Result

    files, left_out = files_to_inspect(images, recursive)
    print_notes(left_out)
    called = manifest_from_folder(bundle).thresholds.region_peak
    seen = Counter[Result]()
    for name, judgement in inspect_files(bundle, files, out, threads):
        seen[judgement.result] += 1
        height = "" if judgement.score is None else f"highest {judgement.score / called:.2f} of the threshold"
        told = "  ".join(filter(None, (judgement.reason, height)))
        words = f"{judgement.result.value:5s}  {name}  regions {judgement.regions_total}  {told}"
        # what made it an ERROR stands in its reason
        unusual = () if judgement.result is Result.ERROR else judgement.warnings
        print(shown(words.rstrip() + warned(f"{fault.words}; {fault.fix}" for fault in unusual)))
    counted = ", ".join(f"{seen[result]} {result.value}" for result in (Result.PASS, Result.FAIL, Result.ERROR))
    print(
        shown(f"{seen.total()} picture{'s' * (seen.total() != 1)}: {counted}; verdicts, masks and overlays in {out}"),
        file=sys.stderr,
    )
    raise typer.Exit(2 if seen[Result.ERROR] else 1 if seen[Result.FAIL] else 0)
