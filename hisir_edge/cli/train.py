"""``hisir-edge synth`` and ``train``: boards to learn from, and the network that learns them."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hisir_edge.cli.console import Advance, Recursive, needs_training_packages, print_notes, progress, size_from_text
from hisir_edge.errors import InputError

if TYPE_CHECKING:
    from hisir_edge.learn.data.run import RunRecord
    from hisir_edge.learn.training.train import Progress as Step

FEW_BOARDS = 20


class Training(str, Enum):
    """Number format of the training arithmetic; weights are always float32."""

    bf16 = "bf16"
    fp32 = "fp32"


class RegisterMode(str, Enum):
    """Whether boards are aligned to the golden image."""

    auto = "auto"
    on = "on"
    fixture = "fixture"
    anywhere = "anywhere"
    off = "off"


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
    )
    leads = os.environ.get("RANK", "0") == "0"
    with _training_progress(shown=leads) as (on_load, on_step):
        try:
            record = train_run(settings, out, max_minutes, workers, on_load, on_step)
        except KeyboardInterrupt:
            text = f"stopped; the same command goes on with {out} from its last checkpoint, a minute ago at most"
            print(f"hisir-edge: {text}", file=sys.stderr)
            raise
    if leads:
        _print_trained(record, data, out)


@contextmanager
def _training_progress(shown: bool) -> Iterator[tuple[Advance, Callable[[Step], None]]]:
    """Progress of a training: (on_load, on_step) for ``learn.train.train``."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>5.1f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        loading = bar.add_task("loading boards", total=None)
        training = bar.add_task("training", total=1.0, start=False)

        def on_load(done: int, total: int) -> None:
            bar.update(loading, completed=done, total=total)

        def on_step(step: Step) -> None:
            bar.start_task(training)
            words = f"training: step {step.step}, loss {step.loss:.4f}; steps or time used"
            bar.update(training, completed=step.done, description=words)

        yield on_load, on_step


MOST_NAMED = 5


def _print_odd(record: RunRecord, out: Path) -> None:
    """Name the boards with places that no other board shows, those with the largest first."""
    areas: Counter[str] = Counter()
    for place in record.odd:
        areas[place.picture] += place.box_xywh[2] * place.box_xywh[3]
    if not areas:
        return
    boards = len(record.train) + len(record.held_out)
    print(f"{len(record.odd)} place(s) differ on 1 board of {boards}: look at {out / 'odd'}; they are not learnt")
    for picture, _ in areas.most_common(MOST_NAMED):
        count = sum(place.picture == picture for place in record.odd)
        print(f"differs from all others: {picture} in {count} place(s); remove it if it is no good board")


def _covered(record: RunRecord) -> float:
    from hisir_edge.inspection.registration.finder import inside_outline, outline_of

    return float(inside_outline(record.frame_hw, outline_of(record.frame_hw, record.area)).mean())


def _print_trained(record: RunRecord, data: Path, out: Path) -> None:
    """Print the run's progress, the pictures that it learnt from, and those that it left out."""
    from hisir_edge.learn.data.datasets import good_pictures
    from hisir_edge.learn.data.distinct import boards_among
    from hisir_edge.learn.data.run import USUAL_STEPS, pictures_of, words_of_steps
    from hisir_edge.learn.training.reached import progress_of

    unlike = "not registered (boards do not lie alike, or are below 128 px)"
    how = {"fixture": "held by a fixture", "anywhere": "found anywhere in the frame"}.get(record.locate, unlike)
    pictures = (*record.train, *record.held_out)
    distinct = len(set(boards_among(pictures, record.same_board)))
    boards = f"{len(record.train)} pictures, {len(record.held_out)} more held out, of {distinct} board(s)"
    print(f"trained on {boards}, {how}, scale {record.scale:g}; run in {out}")
    reached = progress_of(out)
    print(
        f"{words_of_steps(reached.step)}, in {reached.seconds / 60:.1f} minutes; "
        f"loss on held-out boards {reached.first_loss:.4f} at first, {reached.best_loss:.4f} now"
    )
    if reached.step < USUAL_STEPS:
        used = f"{reached.seconds / 60:.1f} minutes are used up"
        advice = f"continue with the same command and more --max-minutes ({used}) or --steps"
        print_notes([f"{words_of_steps(reached.step)}; {advice}"])
    if distinct < len(pictures):
        print_notes([f"{len(pictures)} pictures show {distinct} board(s): pictures of one board count once"])
    if distinct == 1:
        print_notes(["with one board nothing is known of how good boards differ: others will be called"])
    elif distinct < FEW_BOARDS:
        print_notes([f"{distinct} good boards are few; take {FEW_BOARDS} or more for a line"])
    turned = [f"{count} with orientation {tag}" for tag, count in record.orientations or ()]
    if len(turned) > 1:
        print_notes(
            [f"EXIF orientations differ among the pictures ({', '.join(turned)}); each was turned upright by its own"]
        )
    if record.locate != "off":
        share = "all of the frame" if record.area is None else f"{_covered(record):.0%} of the frame"
        print(f"the board covers {share}; see {out / 'area.png'}, correct it with --area")
    if record.variants:
        print(f"good boards differ at {len(record.variants)} place(s), learnt as variants; see {out / 'variants'}")
    _print_odd(record, out)
    for path in (*record.dropped, *record.dropped_held_out):
        print(f"left out: {path} (does not lie or is not lit like the others)")
    with suppress(InputError, OSError):  # the folder may be gone by now; the run is whole without it
        found = good_pictures(data.absolute(), record.settings.recursive)
        print_notes([f"pictures found by the layout of {found.layout}", *found.left_out])
        others = set(map(str, found.paths)) - set(pictures_of(record))
        if others:
            print(f"not in this run: {len(others)} of the good pictures of {data}; a run keeps what it was begun with")
