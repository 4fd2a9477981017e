"""``hisir-edge evaluate``: how good a bundle is on labelled pictures."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hisir_edge.cli.console import Recursive, needs_training_packages, print_notes, progress
from hisir_edge.errors import InputError

if TYPE_CHECKING:
    from hisir_edge.learn.evaluation.evaluate import Evaluation

Measure = Callable[..., "Evaluation"]
"""``learn.evaluation.evaluate.evaluate`` of one bundle and data set."""


def evaluate(
    bundle: Annotated[Path, typer.Option(help="Bundle to measure.")],
    data: Annotated[Path, typer.Option(help="Labelled pictures: MVTec-AD, VisA, or good, defective and masks.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page with curves and the worst cases here.")] = None,
    shift: Annotated[
        list[str] | None,
        typer.Option(
            help="Change the pictures first: fixture=PX, turn=DEG, brightness=PERCENT, defocus=PX, jpeg=QUALITY or "
            "noise=FACTOR; may be repeated. 'standard' measures one after the other and prints a table."
        ),
    ] = None,
    merge: Annotated[str, typer.Option(help="rops; mean, max or centre for comparison.")] = "rops",
    first_look: Annotated[
        bool, typer.Option("--first-look", help="As a line does: what the first look waves through is not looked at.")
    ] = False,
    recursive: Recursive = False,
    threads: Annotated[int, typer.Option(min=0, help="Engine threads; 0: every core.")] = 0,
) -> None:
    """Measure a bundle on labelled pictures: AUROC, AUPRO, F1, false calls, recall by class."""
    needs_training_packages()

    if shift is not None and "standard" in shift and (len(shift) > 1 or report is not None):
        raise InputError(
            expected="--shift standard alone (it measures every shift and prints a table)",
            received="--report or another --shift with it",
            fix="leave one of them out",
        )
    _check_results_folders(data, json_file, report, recursive)
    from hisir_edge.learn.evaluation.evaluate import evaluate as inspected

    measure: Measure = partial(
        inspected, bundle, data, threads=threads, merge=merge, recursive=recursive, first_look=first_look
    )
    if shift == ["standard"]:
        _evaluate_standard_shifts(measure, json_file)
    else:
        _evaluate(measure, data, json_file, report, tuple(shift or ()), recursive)


def _check_results_folders(data: Path, json_file: Path | None, report: Path | None, recursive: bool = False) -> None:
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


def _evaluate(
    measure: Measure,
    data: Path,
    json_file: Path | None,
    report: Path | None,
    shifts: tuple[str, ...],
    recursive: bool = False,
) -> None:
    """Measure a bundle, print its figures, and write them and a page where asked for."""
    from hisir_edge.images import write_atomic
    from hisir_edge.learn.data.datasets import test_items, test_words
    from hisir_edge.learn.evaluation.figures import figures, figures_in_words
    from hisir_edge.learn.evaluation.shifts import shift_from_text

    changes = tuple(shift_from_text(text) for text in shifts)
    with progress("inspecting") as advance:
        evaluation = measure(on_done=advance, shifts=changes)
    print_notes(test_words(data, test_items(data, recursive), recursive))
    result = figures(evaluation)
    print(json.dumps(result, indent=2))
    print(figures_in_words(result), file=sys.stderr)
    if json_file is not None:
        write_atomic(json_file, json.dumps(result, indent=2).encode())
    if report is not None:
        from hisir_edge.learn.evaluation.report import write_report

        with progress("report") as advance:
            page = write_report(evaluation, report, advance)
        print(f"report in {page}", file=sys.stderr)
    _print_not_judged(result, bool(changes))


def _evaluate_standard_shifts(measure: Measure, json_file: Path | None) -> None:
    """Measure a bundle under each of the standard shifts and print a table."""
    from hisir_edge.images import write_atomic
    from hisir_edge.learn.evaluation.figures import figures
    from hisir_edge.learn.evaluation.shifts import STANDARD

    result: dict[str, Any] = {}
    for one in STANDARD:
        with progress(str(one)) as advance:
            result[str(one)] = figures(measure(on_done=advance, shifts=(one,)))
    print(shift_table(result))
    if json_file is not None:
        write_atomic(json_file, json.dumps(result, indent=2).encode())
    _print_not_judged(next(iter(result.values())), False)  # the first one is no shift


def _print_not_judged(values: dict[str, Any], under_shift: bool) -> None:
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
