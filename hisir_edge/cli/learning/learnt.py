"""Progress of a training, and in words what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hisir_edge.cli.console import Advance, print_notes
from hisir_edge.errors import InputError

if TYPE_CHECKING:
    from hisir_edge.learn.data.run import RunRecord
    from hisir_edge.learn.training.steps import Progress as Step

FEW_BOARDS = 20


@contextmanager
def training_progress() -> Iterator[tuple[Advance, Callable[[Step], None]]]:
    """Progress of a training: (on_load, on_step) for ``learn.train.train``; nothing is shown before one is called."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>5.1f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True))
    loading = bar.add_task("loading boards", total=None)
    training = bar.add_task("training", total=1.0, start=False)
    try:

        def on_load(done: int, total: int) -> None:
            bar.start()
            bar.update(loading, completed=done, total=total)

        def on_step(step: Step) -> None:
            bar.start()
            bar.start_task(training)
            words = f"training: step {step.step}, loss {step.loss:.4f}; steps or time used"
            bar.update(training, completed=step.done, description=words)

        yield on_load, on_step
    finally:
        bar.stop()


MOST_NAMED = 5


def _print_odd(record: RunRecord, out: Path) -> None:
    """Name the boards with places that no other board shows, those with the largest first."""
    areas: Counter[str] = Counter()
    for place in record.odd:
        areas[place.picture] += place.box_xywh[2] * place.box_xywh[3]
    if not areas:
        return
    boards = len({*record.train, *record.held_out})
    print(f"{len(record.odd)} place(s) differ on 1 board of {boards}: look at {out / 'odd'}; they are not learnt")
    for picture, _ in areas.most_common(MOST_NAMED):
        count = sum(place.picture == picture for place in record.odd)
        print(f"differs from all others: {picture} in {count} place(s); remove it if it is no good board")


def _covered(record: RunRecord) -> float:
    from hisir_edge.inspection.registration.finder import inside_outline, outline_of

    return float(inside_outline(record.frame_hw, outline_of(record.frame_hw, record.area)).mean())


def print_trained(record: RunRecord, folders: tuple[Path, ...], out: Path) -> None:
    """Print the run's progress, the pictures that it learnt from, and those that it left out."""
    from hisir_edge.learn.data.run import is_short, words_of_steps
    from hisir_edge.learn.training.reached import progress_of

    reached = progress_of(out)
    words = words_of_steps(reached.step, reached.start)
    print(
        f"{words}, in {reached.seconds / 60:.1f} minutes; "
        f"loss on held-out boards {reached.first_loss:.4f} at first, {reached.best_loss:.4f} now; run in {out}"
    )
    if is_short(reached.step, reached.start):
        used = f"{reached.seconds / 60:.1f} minutes are used up"
        print_notes([f"{words}; continue with the same command and more --max-minutes ({used}) or --steps"])
    print_learnt(record, folders, out)


def print_learnt(record: RunRecord, folders: tuple[Path, ...], out: Path) -> None:
    """Print what was learnt from which pictures, and what was left out; ``out``: the run."""
    from hisir_edge.learn.data.distinct import boards_among
    from hisir_edge.learn.data.run import left_out_of

    unlike = "not registered (boards do not lie alike, or are below 128 px)"
    how = {"fixture": "held by a fixture", "anywhere": "found anywhere in the frame"}.get(record.locate, unlike)
    pictures = tuple(dict.fromkeys((*record.train, *record.held_out)))
    distinct = len(set(boards_among(pictures, record.same_board)))
    held_out = "each also judged by the others" if record.taught else f"{len(record.held_out)} more held out"
    print(
        f"learnt from {len(record.train)} pictures, {held_out}, of {distinct} board(s), {how}, scale {record.scale:g}"
    )
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
    for path in left_out_of(record):
        print(f"left out: {path} (does not lie or is not lit like the others)")
    for data in folders:
        _print_layout(record, data)


def _print_layout(record: RunRecord, data: Path) -> None:
    from hisir_edge.learn.data.datasets import good_pictures
    from hisir_edge.learn.data.run import pictures_of

    with suppress(InputError, OSError):  # the folder may be gone by now; the run is whole without it
        found = good_pictures(data.absolute(), record.settings.recursive)
        print_notes([f"pictures found by the layout of {found.layout}", *found.left_out])
        others = set(map(str, found.paths)) - set(pictures_of(record))
        if others:
            print(f"not in this run: {len(others)} of the good pictures of {data}; a run keeps what it was begun with")
