"""What several commands share: progress and notes on standard error, options, checks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hisir_edge.errors import InputError

Advance = Callable[[int, int], None]
Recursive = Annotated[bool, typer.Option("--recursive", help="Take pictures from folders below, too.")]


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


def print_notes(lines: Iterable[str]) -> None:
    """Notes for the user beside a command's results, on standard error."""
    for line in lines:
        print(f"note: {line}", file=sys.stderr)


def size_from_text(text: str) -> tuple[int, int]:
    """``4096x3000`` -> (4096, 3000); InputError for anything else."""
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise InputError(
            expected="--size WIDTHxHEIGHT, such as 4096x3000", received=repr(text), fix="correct it"
        ) from error
    return width, height


def levels_from_text(text: str) -> tuple[int, int] | None:
    """``64,3000`` -> (64, 3000), empty -> None; InputError for anything else."""
    if not text:
        return None
    try:
        black, white = (int(part) for part in text.split(","))
        if not 0 <= black < white <= 0xFFFF:
            raise ValueError("not in order")
    except ValueError as error:
        raise InputError(
            expected="--levels BLACK,WHITE of 0 to 65535, such as 64,3000", received=repr(text), fix="correct it"
        ) from error
    return black, white


def needs_training_packages() -> None:
    """InputError where the extra ``train`` is not installed."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
        import onnx  # noqa: F401
        import scipy  # noqa: F401
        import sklearn  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise InputError(
            expected="the training packages (torch, onnx, scipy, scikit-learn, matplotlib, jinja2)",
            received=str(error),
            fix="in the checkout on the engineering PC: pip install -e '.[train]'",
        ) from error
