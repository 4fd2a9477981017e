"""``hisir-edge train``: the network that learns from good boards."""

from __future__ import annotations

import os
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from hisir_edge.cli.console import Recursive, levels_from_text, needs_training_packages
from hisir_edge.cli.learning.learnt import print_trained, training_progress
from hisir_edge.errors import InputError


class Training(str, Enum):
    """Number format of the training arithmetic; weights are always float32."""

    bf16 = "bf16"
    fp32 = "fp32"


class Start(str, Enum):
    """The weights that a training begins with."""

    shipped = "shipped"
    scratch = "scratch"


class RegisterMode(str, Enum):
    """Whether boards are aligned to the golden image."""

    auto = "auto"
    on = "on"
    fixture = "fixture"
    anywhere = "anywhere"
    off = "off"


def train(
    data: Annotated[Path, typer.Option(help="Folder with train/good, or a plain folder of good boards.")],
    out: Annotated[Path, typer.Option(help="Training run to write; an unfinished one is continued.")],
    recursive: Recursive = False,
    backbone: Annotated[str, typer.Option(help="unet (accurate), nafnet (middle) or rep (fastest).")] = "unet",
    width: Annotated[
        int | None, typer.Option(min=8, max=256, help="Channels of the network's first level; default by backbone.")
    ] = None,
    tile: Annotated[int, typer.Option(help="Tile side in (scaled) pixels, a multiple of 32.")] = 256,
    overlap: Annotated[int, typer.Option(help="Least overlap of tiles in (scaled) pixels, a multiple of 16.")] = 32,
    scale: Annotated[
        float | None,
        typer.Option(
            min=0.05, max=2, help="Frame scale; default 1 for boards that lie alike, else one tile sees the short side."
        ),
    ] = None,
    register: Annotated[
        RegisterMode,
        typer.Option(
            help="How boards are found in the pictures: held by a fixture (within 12 px and 1.2 degrees), anywhere, "
            "on: one of both, off: not at all; auto: chosen from the pictures."
        ),
    ] = RegisterMode.auto,
    area: Annotated[
        Path | None,
        typer.Option(help="JSON list of x, y corners around the board, golden pixels; default: learnt (area.png)."),
    ] = None,
    keep_odd: Annotated[
        bool,
        typer.Option("--keep-odd", help="Learn what one good board alone shows; default: shown in odd/, left out."),
    ] = False,
    variants: Annotated[
        int, typer.Option(min=1, max=8, help="Looks that good boards may have at one place, at most; 1: one.")
    ] = 4,
    levels: Annotated[
        str,
        typer.Option(
            help="BLACK,WHITE of 16-bit photos, in camera levels; default: all 16 bits. source.levels must be alike."
        ),
    ] = "",
    batch: Annotated[int, typer.Option(min=1, max=256, help="Tiles a step.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 6000,
    max_minutes: Annotated[
        float | None,
        typer.Option(min=0.05, help="End after this many minutes of training, all runs of this command together."),
    ] = None,
    learning_rate: Annotated[
        float, typer.Option(min=1e-6, max=1, help="Highest learning rate; it falls to a hundredth of it.")
    ] = 2e-3,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and corruption; the same gives the same network.")] = 0,
    workers: Annotated[int, typer.Option(min=0, max=64, help="Processes that make corrupted tiles.")] = 1,
    patience: Annotated[
        int,
        typer.Option(min=0, help="End after this many epochs of 200 steps without a better held-out loss; 0: never."),
    ] = 30,
    precision: Annotated[
        Training, typer.Option(help="Number format of the training arithmetic; bf16 where there is such.")
    ] = Training.bf16,
    start: Annotated[
        Start,
        typer.Option(
            "--from",
            help="The weights to begin with: scratch (random ones) or shipped (a network that knows boards).",
        ),
    ] = Start.scratch,
    without: Annotated[
        list[str] | None, typer.Option(help="Leave a part out, for comparison: cue or gate; may be repeated.")
    ] = None,
) -> None:
    """Train a network on good boards; stop and repeat the command at will, it continues.

    Several GPUs: torchrun --nproc-per-node N -m hisir_edge train ...
    """
    needs_training_packages()
    from hisir_edge.learn.data.area import area_from_json
    from hisir_edge.learn.data.run import RunSettings
    from hisir_edge.learn.training.train import train as train_run
    from hisir_edge.net.backbones import default_width

    settings = RunSettings(
        data=str(data.absolute()),
        backbone=backbone,
        width=width or default_width(backbone),
        tile_px=tile,
        overlap_px=overlap,
        scale=scale,
        register=register.value,
        batch=batch,
        steps=steps,
        learning_rate=learning_rate,
        seed=seed,
        patience=patience,
        precision=precision.value,
        without=tuple(sorted(without or ())),
        recursive=recursive,
        area=None if area is None else area_from_json(area),
        keep_odd=keep_odd,
        variants=variants,
        start=_start(start, bool(without)),
        levels=levels_from_text(levels),
    )
    leads = os.environ.get("RANK", "0") == "0"
    with training_progress(shown=leads) as (on_load, on_step):
        try:
            record = train_run(settings, out, max_minutes, workers, on_load, on_step)
        except KeyboardInterrupt:
            text = f"stopped; the same command goes on with {out} from its last checkpoint, a minute ago at most"
            print(f"hisir-edge: {text}", file=sys.stderr)
            raise
    if leads:
        print_trained(record, data, out)


def _start(asked: Start, lacks_parts: bool) -> str:
    """What a training begins with; InputError for shipped weights and a network that is not whole."""
    from hisir_edge.learn.data.run import SCRATCH, SHIPPED

    if asked is Start.shipped and lacks_parts:
        raise InputError(
            expected="the whole network, for --from shipped", received="--without", fix="train --from scratch"
        )
    return SHIPPED if asked is Start.shipped else SCRATCH
