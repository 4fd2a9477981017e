"""What commands show while they work and tell when they are done: progress on standard error, lines and tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hisir_edge.errors import InputError

if TYPE_CHECKING:
    from hisir_edge.engine.options import BuildOptions
    from hisir_edge.engine.recipe import EngineRecipe
    from hisir_edge.learn.data.run import RunRecord
    from hisir_edge.learn.training.train import Progress as Step

FEW_BOARDS, FEW_HELD_OUT = 20, 4
Advance = Callable[[int, int], None]


@contextmanager
def progress(title: str) -> Iterator[Advance]:
    """A progress display on standard error; ``advance(done, total)``."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield advance


@contextmanager
def training_progress(shown: bool) -> Iterator[tuple[Advance, Callable[[Step], None]]]:
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


def tell_trained(record: RunRecord, data: Path, out: Path) -> None:
    """How far the run has come, what it learnt from, and which pictures it left out."""
    from hisir_edge.learn.data.datasets import good_pictures
    from hisir_edge.learn.data.distinct import boards_among
    from hisir_edge.learn.data.run import USUAL_STEPS, pictures_of, words_of_steps
    from hisir_edge.learn.training.train import progress_of

    unlike = "not registered (boards do not lie alike, or are below 128 px)"
    how = "registered to the golden image" if record.registered else unlike
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
        tell([f"{words_of_steps(reached.step)}; {advice}"])
    if distinct < len(pictures):
        tell([f"{len(pictures)} pictures show {distinct} board(s): pictures of one board count once"])
    if distinct == 1:
        tell(["with one board nothing is known of how good boards differ: others will be called"])
    elif distinct < FEW_BOARDS:
        tell([f"{distinct} good boards are few; take {FEW_BOARDS} or more for a line"])
    turned = [f"{count} with orientation {tag}" for tag, count in record.orientations or ()]
    if len(turned) > 1:
        tell([f"EXIF orientations differ among the pictures ({', '.join(turned)}); each was turned upright by its own"])
    for path in (*record.dropped, *record.dropped_held_out):
        print(f"left out: {path} (does not lie or is not lit like the others)")
    with suppress(InputError, OSError):  # the folder may be gone by now; the run is whole without it
        found = good_pictures(data.absolute(), record.settings.recursive)
        tell([f"pictures found by the layout of {found.layout}", *found.left_out])
        others = set(map(str, found.paths)) - set(pictures_of(record))
        if others:
            print(f"not in this run: {len(others)} of the good pictures of {data}; a run keeps what it was begun with")


def tell_unjudged(values: dict[str, Any], under_shift: bool) -> None:
    """One line on standard error where pictures ended as ERROR; InputError where all did and no shift explains it."""
    if values["errors"]:
        count, total, first = len(values["errors"]), values["images"], values["errors"][0]
        if count == total and not under_shift:
            raise InputError(
                expected="pictures that the bundle can judge",
                received=f"none in {total}; the first: {first}",
                fix="check that bundle and pictures belong together; the figures above say nothing",
            )
        print(f"hisir-edge: {count} of {total} pictures could not be judged; the first: {first}", file=sys.stderr)


def shift_table(rows: dict[str, Any]) -> str:
    """A Markdown table of the figures that matter under shift."""
    columns = ("pixel_auroc", "aupro", "image_auroc", "recall_from_6px", "false_calls_per_board", "good_boards_failed")
    lines = [f"| shift | {' | '.join(columns)} | errors |", "|---|" + "---|" * (len(columns) + 1)]
    for name, values in rows.items():
        cells = ["-" if values[c] is None else f"{values[c]:.4g}" for c in columns]
        lines.append(f"| {name} | {' | '.join(cells)} | {len(values['errors'])} |")
    return "\n".join(lines)


def build_and_tell(run: Path, out: Path, options: BuildOptions) -> None:
    """Build a bundle with its stages and progress on standard error, and tell what came of it."""
    from hisir_edge.corruption.plant import words_of_classes
    from hisir_edge.engine.build import build_bundle
    from hisir_edge.learn.data.run import USUAL_STEPS, words_of_steps
    from hisir_edge.learn.training.train import progress_of

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True, soft_wrap=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)

        def on_stage(stage: str) -> None:
            bar.console.print(stage, markup=False, highlight=False)

        def on_progress(phase: str, done: int, total: int) -> bool:
            bar.update(task, description=phase, completed=done, total=total)
            return True

        manifest = build_bundle(run, out, options, on_stage, on_progress)
    t = manifest.thresholds
    print(
        f"{out}: {manifest.product}, {manifest.target} {manifest.precision}; pixel threshold {t.pixel:.3f}, "
        f"region peak {t.region_peak:.2f}, area {t.min_area_px} px for {t.false_calls_per_board:g} false calls a board"
    )
    print(
        f"from {t.held_out_boards} held-out boards: at most {t.false_calls_upper_bound_95:.2g} false calls a board "
        f"with 95 % confidence; {t.boards_to_prove} good boards without a call would prove {t.false_calls_per_board:g}"
    )
    if (m := manifest.metrics) is not None:
        print(
            f"planted defects on held-out boards: {m.recall:.0%} of {m.planted} found (at least "
            f"{m.least_planted_recall:.0%}), AUPRO {m.aupro:.4f}, pixel AUROC {m.pixel_auroc:.4f}"
        )
        print(f"  by class: {words_of_classes(m.planted_by_class, m.recall_by_class)}")
    steps = progress_of(run).step
    if steps < USUAL_STEPS:
        tell([f"the network was trained for {words_of_steps(steps)}"])
    if t.held_out_boards < FEW_HELD_OUT:
        tell([f"{t.held_out_boards} held-out board(s) say next to nothing of how good boards differ; take more boards"])
    if manifest.precision != options.precision:
        print(f"stepped down from {options.precision} to {manifest.precision}: see what the gate says above")


def build_all_and_tell(recipes: dict[Path, EngineRecipe], out: Path, options: BuildOptions) -> None:
    """Build what each recipe asks for into ``out/RECIPE-TARGET-PRECISION``; the other ``options`` are those of all."""
    for path, recipe in recipes.items():
        for item in recipe.builds:
            bundle = out / f"{path.stem}-{item.target}-{item.precision}"
            # architectures are for the one target that can build for others
            archs = options.gpu_arch if item.target == "tensorrt-rtx" else ()
            asked = replace(options, target=item.target, precision=item.precision, recipe=recipe, gpu_arch=archs)
            print(f"{recipe.run} -> {bundle}", file=sys.stderr)
            build_and_tell(Path(recipe.run), bundle, asked)


def tell(lines: Iterable[str]) -> None:
    """Notes for the user beside a command's results, on standard error."""
    for line in lines:
        print(f"note: {line}", file=sys.stderr)


def check_results_folders(data: Path, json_file: Path | None, report: Path | None, recursive: bool = False) -> None:
    """InputError where figures or a report could not be written after the work, or would be taken for boards."""
    from hisir_edge.images import check_apart
    from hisir_edge.learn.data.datasets import folders_read

    if report is not None:
        in_test = report.resolve().is_relative_to((data / "test").resolve())  # where each folder is a class of defects
        check_apart("--report", report, {report} if in_test else folders_read(data, recursive))
        if report.exists() and not report.is_dir():
            raise InputError(expected="--report DIR to be a folder", received=f"{report}, a file", fix="choose another")
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise InputError(
            expected="--json FILE in a folder that exists",
            received=str(json_file),
            fix="make the folder, or choose another",
        )


def measure_and_tell(
    bundle: Path,
    data: Path,
    threads: int,
    merge: str,
    json_file: Path | None,
    report: Path | None,
    shifts: tuple[str, ...],
    recursive: bool = False,
) -> None:
    """Measure a bundle, print its figures, and write them and a page where asked for."""
    from hisir_edge.images import write_atomic
    from hisir_edge.learn.data.datasets import test_items, test_words
    from hisir_edge.learn.evaluation.evaluate import evaluate, figures
    from hisir_edge.learn.evaluation.shifts import shift_from_text

    changes = tuple(shift_from_text(text) for text in shifts)
    with progress("inspecting") as advance:
        evaluation = evaluate(bundle, data, threads, advance, changes, merge, recursive)
    tell(test_words(data, test_items(data, recursive), recursive))
    result = figures(evaluation)
    print(json.dumps(result, indent=2))
    if json_file is not None:
        write_atomic(json_file, json.dumps(result, indent=2).encode())
    if report is not None:
        from hisir_edge.learn.evaluation.report import write_report

        with progress("report") as advance:
            page = write_report(evaluation, report, advance)
        print(f"report in {page}", file=sys.stderr)
    tell_unjudged(result, bool(changes))


def measure_shifts_and_tell(
    bundle: Path, data: Path, threads: int, merge: str, json_file: Path | None, recursive: bool = False
) -> None:
    """Measure a bundle under each of the standard shifts and print a table."""
    from hisir_edge.images import write_atomic
    from hisir_edge.learn.evaluation.evaluate import evaluate, figures
    from hisir_edge.learn.evaluation.shifts import STANDARD

    result: dict[str, Any] = {}
    for one in STANDARD:
        with progress(str(one)) as advance:
            result[str(one)] = figures(evaluate(bundle, data, threads, advance, (one,), merge, recursive))
    print(shift_table(result))
    if json_file is not None:
        write_atomic(json_file, json.dumps(result, indent=2).encode())
    tell_unjudged(next(iter(result.values())), False)  # the first one is no shift


def size_from_text(text: str) -> tuple[int, int]:
    """``4096x3000`` -> (4096, 3000); InputError for anything else."""
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise InputError(
            expected="--size WIDTHxHEIGHT, such as 4096x3000", received=repr(text), fix="correct it"
        ) from error
    return width, height
