"""``hisir-edge teach``: photos of good boards become a bundle without training; ``pretrain`` makes its network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hisir_edge.cli.console import Recursive, levels_from_text, needs_training_packages, progress
from hisir_edge.cli.learning.build import build_with_progress
from hisir_edge.cli.learning.learnt import print_learnt
from hisir_edge.cli.learning.train import RegisterMode

TAUGHT_PLANTED_RECALL = 0.5


def teach(
    photos: Annotated[Path, typer.Argument(help="Folder of good boards, or one with train/good.")],
    out: Annotated[Path, typer.Option(help="Bundle to write; an old one is replaced.")],
    recursive: Recursive = False,
    backbone: Annotated[str, typer.Option(help="A backbone that weights are shipped for: unet.")] = "unet",
    register: Annotated[RegisterMode, typer.Option(help="As for train.")] = RegisterMode.auto,
    area: Annotated[Path | None, typer.Option(help="As for train.")] = None,
    variants: Annotated[int, typer.Option(min=1, max=8, help="As for train.")] = 4,
    levels: Annotated[str, typer.Option(help="As for train.")] = "",
    keep_odd: Annotated[bool, typer.Option("--keep-odd", help="As for train.")] = False,
    run: Annotated[
        Path | None, typer.Option(help="Run to write, with pictures of area, variants and odd places; default OUT-run.")
    ] = None,
    product: Annotated[str, typer.Option(help="Product name in the manifest; default the name of --out.")] = "",
    false_calls_per_board: Annotated[
        float, typer.Option(help="Wanted mean of false regions on a good board, above 0 and up to 1.")
    ] = 0.05,
    least_planted_recall: Annotated[
        float | None,
        typer.Option(
            help="Least share of planted defects that must be found; below it no bundle is written; default 0.5, or, "
            "if less, what a golden-image difference finds less 0.05, and 0.05 at least."
        ),
    ] = None,
    cascade: Annotated[bool, typer.Option("--cascade", help="As for build-engine: a quarter of an hour more.")] = False,
) -> None:
    """Make a bundle from 10 good boards or more without training: the shipped network and a memory of these boards.

    Each board is judged by the memory of the others, and the thresholds come from all of them. Training finds more.
    """
    needs_training_packages()
    from hisir_edge.engine.options import BuildOptions, check_out
    from hisir_edge.images.kept import arrays_kept
    from hisir_edge.learn.data.area import area_from_json
    from hisir_edge.learn.data.run import SHIPPED, RunSettings
    from hisir_edge.learn.training.teach import teach as teach_run
    from hisir_edge.net.backbones import default_width

    check_out(out)
    settings = RunSettings(
        data=str(photos.absolute()), backbone=backbone, width=default_width(backbone), tile_px=256, overlap_px=16,
        scale=None, register=register.value, batch=8, steps=0, learning_rate=0.0, seed=0, recursive=recursive,
        area=None if area is None else area_from_json(area), keep_odd=keep_odd, variants=variants, start=SHIPPED,
        levels=levels_from_text(levels),
    )  # fmt: skip
    options = BuildOptions(
        product=product or out.absolute().name,
        false_calls_per_board=false_calls_per_board,
        least_planted_recall=least_planted_recall,
        usual_planted_recall=TAUGHT_PLANTED_RECALL,
        cascade=cascade,
    )
    folder = run if run is not None else out.absolute().with_name(f"{out.absolute().name}-run")
    with arrays_kept():
        with progress("learning the boards") as advance:
            record = teach_run(settings, folder, advance)
        print_learnt(record, (photos,), folder)
        build_with_progress(folder, out, options)
