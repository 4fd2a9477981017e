"""``hisir-edge train``: the network that learns from good boards."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hisir_edge.cli.console import Recursive, levels_from_text, needs_training_packages
from hisir_edge.cli.learning.learnt import print_trained, training_progress
from hisir_edge.errors import InputError

if TYPE_CHECKING:
    from hisir_edge.learn.data.run import RunSettings

LEARNING_RATE, LEARNING_RATE_OF_RUN = 2e-3, 5e-4
"""Highest ones: of a new network, and of one that goes on."""


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
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(help="Training run to write; an unfinished one is continued.")],
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Folder with train/good, a plain folder of good boards, or a line's archive (also s3://...); may be "
            "repeated; not with --of."
        ),
    ] = None,
    journal: Annotated[
        list[str] | None,
        typer.Option(help="With archives: their lines' journal folders, which say what people confirmed; or none."),
    ] = None,
    archived: Annotated[int, typer.Option(min=1, help="So many boards of each archive, evenly over it.")] = 200,
    product: Annotated[str, typer.Option(help="With archives of several products: which one.")] = "",
    of: Annotated[
        Path | None, typer.Option(help="Run to go on from with --add-reviewed: its photos, its weights, its settings.")
    ] = None,
    add_reviewed: Annotated[
        list[Path] | None,
        typer.Option(help="Reviewed boards as the operator's page exports them (reviewed.zip); may be repeated."),
    ] = None,
    camera: Annotated[
        str, typer.Option(help="The camera whose frames the run is of, where archived or reviewed boards have several.")
    ] = "",
    recursive: Recursive = False,
    backbone: Annotated[str, typer.Option(help="unet (accurate), nafnet (middle) or rep (fastest).")] = "unet",
    width: Annotated[
        int | None, typer.Option(min=8, max=256, help="Channels of the network's first level; default by backbone.")
    ] = None,
    tile: Annotated[int, typer.Option(help="Tile side in (scaled) pixels, a multiple of 32.")] = 256,
    overlap: Annotated[int, typer.Option(help="Least overlap of tiles in (scaled) pixels, a multiple of 16.")] = 16,
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
        float | None,
        typer.Option(
            min=1e-6,
            max=1,
            help="Highest learning rate; it falls to a hundredth of it; default 0.002, with --of 0.0005.",
        ),
    ] = None,
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

    Several GPUs: torchrun --nproc-per-node N -m hisir_edge train ..., on several machines, too.
    """
    needs_training_packages()
    from hisir_edge.cli.learning.archived import Wanted, folders_to_learn
    from hisir_edge.learn.data.area import area_from_json
    from hisir_edge.learn.data.run import RunRecord, RunSettings
    from hisir_edge.learn.training.train import train as train_run
    from hisir_edge.net.backbones import default_width

    before = None
    if of is not None or add_reviewed:
        own = {"steps": steps, "learning_rate": learning_rate or LEARNING_RATE_OF_RUN, "seed": seed}
        settings = _settings_of_reviewed(ctx, of, tuple(add_reviewed or ()), out, camera, own)
    elif not data:
        raise InputError(expected="--data, a folder of good boards", received="none", fix="name it")
    else:
        folders, before = folders_to_learn(data, Wanted(journal or [], archived, product, camera), out)
        settings = RunSettings(
            data=folders[0],
            more=folders[1:],
            backbone=backbone,
            width=width or default_width(backbone),
            tile_px=tile,
            overlap_px=overlap,
            scale=scale,
            register=register.value,
            batch=batch,
            steps=steps,
            learning_rate=LEARNING_RATE if learning_rate is None else learning_rate,
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
    done: list[RunRecord] = []
    with training_progress() as (on_load, on_step):
        try:
            train_run(settings, out, max_minutes, workers, on_load, on_step, done.append, before)
        except KeyboardInterrupt:
            text = f"stopped; the same command goes on with {out} from its last checkpoint, a minute ago at most"
            print(f"hisir-edge: {text}", file=sys.stderr)
            raise
    for record in done:  # under torchrun the leader's alone
        print_trained(record, settings.folders, out)


WITH_OF = {"ctx", "of", "add_reviewed", "camera", "out", "steps", "max_minutes", "learning_rate", "seed", "workers"}
"""What may be said beside --of: all else is the run's that is gone on from."""


def _settings_of_reviewed(
    ctx: typer.Context, of: Path | None, files: tuple[Path, ...], out: Path, camera: str, own: dict[str, Any]
) -> RunSettings:
    """Settings of a run that goes on from another one, whose folder has the reviewed boards then."""
    from hisir_edge.bundle.lock import sole_writer
    from hisir_edge.learn.data.run import OF_RUN, load_record
    from hisir_edge.learn.review.boards import load_reviewed
    from hisir_edge.learn.review.prepare import begin_reviewed, words_of_reviewed

    if of is None or not files:
        raise InputError(
            expected="--of RUN and --add-reviewed reviewed.zip together",
            received="--of alone" if not files else "--add-reviewed alone",
            fix="name the run that the bundle was built from, and what the operator's page exported",
        )
    others = [name for name in ctx.params if name not in WITH_OF and _was_given(ctx, name)]
    if others:
        raise InputError(
            expected="no other settings beside --of than its own: they are the run's",
            received=f"--{others[0].replace('_', '-')}",
            fix="leave it out",
        )
    base = load_record(of).settings
    if os.environ.get("RANK", "0") == "0":
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with sole_writer(out.absolute(), "training"):
            begin_reviewed(of, files, out, camera)
        print(words_of_reviewed(load_reviewed(out)), file=sys.stderr)
    return replace(base, start=OF_RUN, of=str(of.absolute()), patience=0, **own)


def _was_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _start(asked: Start, lacks_parts: bool) -> str:
    """What a training begins with; InputError for shipped weights and a network that is not whole."""
    from hisir_edge.learn.data.run import SCRATCH, SHIPPED

    if asked is Start.shipped and lacks_parts:
        raise InputError(
            expected="the whole network, for --from shipped", received="--without", fix="train --from scratch"
        )
    return SHIPPED if asked is Start.shipped else SCRATCH
