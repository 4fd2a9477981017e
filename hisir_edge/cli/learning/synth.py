"""``hisir-edge synth`` and ``pretrain``: drawn boards, to try with and to make the shipped weights from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hisir_edge.cli.console import needs_training_packages, progress, size_from_text
from hisir_edge.cli.learning.learnt import training_progress


def synth(
    out: Annotated[Path, typer.Option(help="Folder to write; new or empty.")],
    product: Annotated[int, typer.Option(min=0, help="The layout: the same number gives the same board.")] = 7,
    seed: Annotated[int, typer.Option(min=0, max=10**6, help="The individual boards.")] = 1,
    good: Annotated[int, typer.Option(min=1, help="Good boards in train/good.")] = 40,
    defective: Annotated[int, typer.Option(min=0, help="Defective boards in test/<class>, classes in turn.")] = 30,
    test_good: Annotated[
        int | None, typer.Option(min=0, help="Good boards in test/good; default a quarter of --good.")
    ] = None,
    size: Annotated[str, typer.Option(help="Frame size, WIDTHxHEIGHT, 256..8192 each.")] = "4096x3000",
    classes: Annotated[str, typer.Option(help="Comma-separated defect classes; default all.")] = "",
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: one per core.")] = 0,
    loose_shift: Annotated[
        float, typer.Option(min=0, max=1000, help="Boards lie on a mat, up to so many pixels from the middle.")
    ] = 0.0,
    loose_turn: Annotated[float, typer.Option(min=0, max=45, help="... and turned by up to so many degrees.")] = 0.0,
) -> None:
    """Render boards as a data set in the MVTec-AD layout (train/good, test/*, ground_truth/*)."""
    from hisir_edge.machine.cpu import available_threads
    from hisir_edge.sim.defects import DEFECTS
    from hisir_edge.sim.mat import Loose
    from hisir_edge.sim.synth import write_dataset

    counts = (good, max(1, good // 4) if test_good is None else test_good, defective)
    chosen = tuple(c.strip() for c in classes.split(",")) if classes else tuple(DEFECTS)
    total, done = sum(counts), 0
    with progress("rendering boards") as advance:

        def on_done() -> None:
            nonlocal done
            done += 1
            advance(done, total)

        loose = Loose(loose_shift, loose_turn) if loose_shift or loose_turn else None
        threads = workers or available_threads()
        write_dataset(product, seed, size_from_text(size), out, counts, chosen, threads, on_done, loose)
    print(f"{total} boards in {out}")


def pretrain(
    out: Annotated[Path, typer.Option(help="Folder for drawn boards, checkpoint and weights; continued if it exists.")],
    backbone: Annotated[str, typer.Option(help="unet, nafnet or rep.")] = "unet",
    products: Annotated[int, typer.Option(min=40, max=3000, help="Products to draw, 16 MB each.")] = 400,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 40000,
    max_minutes: Annotated[
        float | None, typer.Option(min=0.05, help="End after this many minutes of training.")
    ] = None,
    batch: Annotated[int, typer.Option(min=2, max=256, help="Tiles a step, an even number.")] = 8,
    learning_rate: Annotated[float, typer.Option(min=1e-6, max=1, help="Highest learning rate.")] = 2e-3,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that draw boards and make tiles.")] = 1,
) -> None:
    """Pretrain a backbone on drawn products and write OUT/BACKBONE.npz, the weights that the package ships.

    Stop and repeat the command at will, it continues.
    """
    needs_training_packages()
    from hisir_edge.learn.training.pretrain import pretrain as pretrain_run
    from hisir_edge.learn.training.pretrain import pretrain_settings
    from hisir_edge.sim.products import write_stacks

    with progress("drawing products") as advance:
        write_stacks(out / "stacks", products, workers, advance)
    settings = pretrain_settings(backbone, out / "stacks", steps, batch, learning_rate)
    with training_progress() as (_, on_step):
        written = pretrain_run(settings, out / backbone, max_minutes, workers, on_step)
    print(f"weights of {backbone} in {written} ({written.stat().st_size / 1e6:.1f} MB)")
