"""``hisir-edge build-engine``: a training run becomes a bundle."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hisir_edge.cli.console import needs_training_packages, print_notes
from hisir_edge.errors import InputError
from hisir_edge.registry import TARGETS

if TYPE_CHECKING:
    from hisir_edge.bundle.manifest import Manifest
    from hisir_edge.engine.options import BuildOptions
    from hisir_edge.engine.task import OnProgress, OnStage

FEW_HELD_OUT = 4
DEFAULT_RATE = 0.05


class Precision(str, Enum):
    """Number format of the network's weights and activations."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


BuildTarget = Enum("BuildTarget", {name.replace("-", "_"): name for name in TARGETS}, type=str)  # type: ignore[misc]
"""What runs the engine."""


def build_engine(
    run: Annotated[
        list[Path] | None,
        typer.Argument(help="A training run; or, after --recipe, more recipes, each with the run that it names."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Bundle to write; an old one is replaced. Without RUN: the folder for all bundles.")
    ] = Path("engines"),
    target: Annotated[BuildTarget | None, typer.Option(help="What runs the engine; default onnxruntime.")] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="fp32, fp16, or int8 with calibration; default int8.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="How this backbone is built, such as engines/unet.toml.")] = None,
    calib: Annotated[
        Path | None, typer.Option(help="Pictures to calibrate int8 on, one path a line; default: training boards.")
    ] = None,
    gpu_arch: Annotated[
        str, typer.Option(help="GPUs to build for with tensorrt-rtx, such as sm86,sm89; default: the recipe's.")
    ] = "",
    max_drop: Annotated[
        float, typer.Option(help="Most that AUPRO and pixel AUROC may fall behind float32 on held-out boards.")
    ] = 0.005,
    fallback: Annotated[
        bool, typer.Option("--fallback", help="Step down to fp16, then fp32, where the gate refuses.")
    ] = False,
    least_planted_recall: Annotated[
        float | None,
        typer.Option(
            help="Least share of planted defects that must be found; below it no bundle is written; default 0.8, or, "
            "if less, what a golden-image difference finds less 0.05, and 0.05 at least; with --thresholds-only as the "
            "bundle was built."
        ),
    ] = None,
    product: Annotated[str, typer.Option(help="Product name in the manifest; default the run's folder name.")] = "",
    false_calls_per_board: Annotated[
        float | None,
        typer.Option(
            help="Wanted mean of false regions on a good board, above 0 and up to 1; default 0.05, with "
            "--thresholds-only as the bundle has it."
        ),
    ] = None,
    good: Annotated[
        Path | None, typer.Option(help="More good boards for the thresholds; the run keeps them for later builds.")
    ] = None,
    thresholds_only: Annotated[
        bool, typer.Option("--thresholds-only", help="Keep the bundle in --out, derive its thresholds anew.")
    ] = False,
    keep_odd: Annotated[
        bool, typer.Option("--keep-odd", help="Count what one good board alone shows; default: it sets no threshold.")
    ] = False,
    despite_reviewed: Annotated[
        bool,
        typer.Option(
            "--despite-reviewed", help="Write the bundle though reviewed boards are judged otherwise than people said."
        ),
    ] = False,
    cascade: Annotated[
        bool,
        typer.Option(
            "--cascade",
            help="With a first look that leaves to the network what may be a defect: several times as fast on good "
            "boards; a quarter of an hour more to build.",
        ),
    ] = False,
    zones: Annotated[
        Path | None,
        typer.Option(help="JSON list of zones: name, polygon of x, y in frame pixels, sensitivity, outside."),
    ] = None,
    mm_per_px: Annotated[
        float | None, typer.Option(min=1e-6, max=100, help="Millimetres on the board a pixel, for places in mm.")
    ] = None,
    components: Annotated[
        Path | None,
        typer.Option(help="CSV list of parts: designator,x_mm,y_mm,width_mm,height_mm (or _px)[,part_number]."),
    ] = None,
) -> None:
    """Turn a training run into a bundle that inspects as the network did, for one target and precision.

    Without RUN: everything that the recipes ask for, as engines/*.toml do.
    """
    needs_training_packages()
    from hisir_edge.engine.components import components_from_csv
    from hisir_edge.engine.options import BuildOptions, builds_of_recipes
    from hisir_edge.engine.recipe import EngineRecipe, recipe_from_toml, recipes_to_build
    from hisir_edge.engine.zones import zones_from_json

    runs = [path for path in run or () if path.suffix != ".toml"]
    recipes = [*([recipe] if recipe else []), *(path for path in run or () if path.suffix == ".toml")]
    archs = tuple(part.strip().lower() for part in gpu_arch.split(",") if part.strip())
    options = BuildOptions(
        target=target.value if target else "onnxruntime",
        precision=(precision or Precision.int8).value,
        product=product,
        false_calls_per_board=DEFAULT_RATE if false_calls_per_board is None else false_calls_per_board,
        zones=zones_from_json(zones) if zones is not None else (),
        recipe=EngineRecipe(),
        calib=calib,
        gpu_arch=archs,
        max_drop=max_drop,
        fallback=fallback,
        mm_per_px=mm_per_px,
        components=components_from_csv(components, mm_per_px) if components is not None else (),
        least_planted_recall=least_planted_recall,
        keep_odd=keep_odd,
        despite_reviewed=despite_reviewed,
        cascade=cascade,
    )
    if len(runs) == 1 and len(recipes) <= 1:
        if out == Path("engines"):
            raise InputError(expected="--out BUNDLE", received="none", fix="name the folder to write")
        with nullcontext() if good is None else _with_good(runs[0], good):
            if thresholds_only:
                if cascade:
                    raise InputError(
                        expected="--cascade without --thresholds-only", received="both", fix="leave one of them out"
                    )
                _rethreshold(runs[0], out, false_calls_per_board, least_planted_recall, keep_odd, despite_reviewed)
                return
            known = recipe_from_toml(recipes[0]) if recipes else EngineRecipe()
            build_with_progress(runs[0], out, replace(options, recipe=known))
        return
    if good is not None or thresholds_only:
        raise InputError(
            expected="one RUN with --good or --thresholds-only", received="none", fix="name the run of the bundle"
        )
    if runs or not recipes:
        raise InputError(
            expected="one RUN with at most one --recipe, or recipes alone",
            received=f"{len(runs)} runs and {len(recipes)} recipes",
            fix="hisir-edge build-engine RUN --out BUNDLE, or hisir-edge build-engine --recipe engines/*.toml",
        )
    if target is not None or precision is not None:
        raise InputError(
            expected="no --target and --precision without RUN: each recipe's builds say them",
            received="one of them",
            fix="leave it out, or name a RUN",
        )
    for one in builds_of_recipes(recipes_to_build(recipes), out, options):
        print(f"{one.run} -> {one.bundle}", file=sys.stderr)
        build_with_progress(one.run, one.bundle, one.options)


@contextmanager
def _with_good(run: Path, good: Path) -> Iterator[None]:
    """More good boards for a run; they leave it again where the build fails: one of them may be the reason."""
    from hisir_edge.engine.rethreshold import add_good_boards
    from hisir_edge.learn.data.run import load_record, save_record

    before = load_record(run)
    known = add_good_boards(run, good)
    if known:
        print_notes([f"{len(known)} pictures show boards that the run has, such as {known[0]}: left out"])
    try:
        yield
    except BaseException:
        save_record(run, before)
        raise


def _rethreshold(
    run: Path, out: Path, rate: float | None, least_planted_recall: float | None, keep_odd: bool, despite: bool
) -> None:
    """Derive a bundle's thresholds anew, and print what came of it."""
    from hisir_edge.engine.rethreshold import rethreshold

    with _shown() as (on_stage, on_progress):
        manifest = rethreshold(run, out, rate, least_planted_recall, keep_odd, despite, on_stage, on_progress)
    _print_built(run, out, manifest)


def build_with_progress(run: Path, out: Path, options: BuildOptions) -> None:
    """Build a bundle with its stages and progress on standard error, and print what came of it."""
    from hisir_edge.engine.build import build_bundle

    with _shown() as (on_stage, on_progress):
        manifest = build_bundle(run, out, options, on_stage, on_progress)
    _print_built(run, out, manifest)
    if manifest.precision != options.precision:
        print(f"stepped down from {options.precision} to {manifest.precision}: see what the gate says above")


@contextmanager
def _shown() -> Iterator[tuple[OnStage, OnProgress]]:
    """Stages and progress on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True, soft_wrap=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)

        def on_stage(stage: str) -> None:
            bar.console.print(stage, markup=False, highlight=False)

        def on_progress(phase: str, done: int, total: int) -> bool:
            bar.update(task, description=phase, completed=done, total=total)
            return True

        yield on_stage, on_progress


def _print_built(run: Path, out: Path, manifest: Manifest) -> None:
    from hisir_edge.corruption.plant import words_of_classes
    from hisir_edge.engine.acceptance.gate import percent, words_of_difference
    from hisir_edge.engine.facts import words_of_optics
    from hisir_edge.learn.data.run import is_short, load_record, words_of_steps
    from hisir_edge.learn.training.reached import progress_of

    t = manifest.thresholds
    print(
        f"{out}: {manifest.product}, {manifest.target} {manifest.precision}; pixel threshold {t.pixel:.3f}, "
        f"region peak {t.region_peak:.2f}, area {t.min_area_px} px for {t.false_calls_per_board:g} false calls a board"
    )
    judged = "boards, each judged by the others" if load_record(run).taught else "held-out boards"
    print(
        f"from {t.held_out_boards} {judged}: at most {t.false_calls_upper_bound_95:.2g} false calls a board "
        f"with 95 % confidence; {t.boards_to_prove} good boards without a call would prove {t.false_calls_per_board:g}"
    )
    if (m := manifest.metrics) is not None:
        least = f"asked for: {percent(m.least_planted_recall)}{words_of_difference(m)}"
        print(
            f"planted defects on these boards: {percent(m.recall)} of {m.planted} found ({least}), "
            f"AUPRO {m.aupro:.4f}, pixel AUROC {m.pixel_auroc:.4f}"
        )
        print(f"  by class: {words_of_classes(m.planted_by_class, m.recall_by_class)}")
        if m.difference_recall is not None:
            note = f"good boards differ by as much as many of these small defects: {1 - m.recall:.0%} would pass; "
            print_notes([f"{note}more training, more good boards, and boards that lie alike in even light find more"])
    print(f"optics: {words_of_optics(manifest.optics)}")
    if t.not_counted:
        print_notes(
            [f"{len(t.not_counted)} place(s) that one good board alone shows did not count: look at {run / 'odd'}"]
        )
        print("  remove a bad board from the photos; if all are good, --keep-odd counts them")
        for place in t.not_counted:
            print(f"  {place.picture}: {place.width:g}x{place.height:g} px at {place.x:g}, {place.y:g} of the board")
    reached = progress_of(run)
    if is_short(reached.step, reached.start):
        print_notes([f"the network was trained for {words_of_steps(reached.step, reached.start)}"])
    if t.held_out_boards < FEW_HELD_OUT:
        print_notes(
            [f"{t.held_out_boards} held-out board(s) say next to nothing of how good boards differ; take more boards"]
        )
