"""The command line: one function per command, each parses, calls, and sets the exit code."""

from __future__ import annotations

import errno
import json
import os
import sys
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from hisir_edge import __version__
from hisir_edge.cli.bench import bench
from hisir_edge.cli.bundle import bundle_app
from hisir_edge.cli.camera import camera
from hisir_edge.cli.console import progress, size_from_text, tell, tell_trained, training_progress
from hisir_edge.cli.control import control, install_service, status
from hisir_edge.cli.mes import forward, keygen, verify, watch
from hisir_edge.errors import HisirEdgeError, HungError, InputError
from hisir_edge.labels import shown
from hisir_edge.logs import configure_logging

app = typer.Typer(
    name="hisir-edge",
    help="PCBA inspection trained on good boards only: from photos to verdicts on the line.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(bundle_app, name="bundle")
for command in (control, status, keygen, watch, forward, verify, install_service, camera):
    app.command()(command)
app.command()(bench)


class Precision(str, Enum):
    """Number format of the network's weights and activations."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


class BuildTarget(str, Enum):
    """What runs the engine."""

    onnxruntime = "onnxruntime"
    tensorrt = "tensorrt"
    tensorrt_rtx = "tensorrt-rtx"


class Training(str, Enum):
    """Number format of the training arithmetic; weights are always float32."""

    bf16 = "bf16"
    fp32 = "fp32"


class RegisterMode(str, Enum):
    """Whether boards are aligned to the golden image."""

    auto = "auto"
    on = "on"
    off = "off"


Recursive = Annotated[bool, typer.Option("--recursive", help="Take pictures from folders below, too.")]


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit
    configure_logging()


def _needs_training_packages() -> None:
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


@app.command()
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
) -> None:
    """Render boards as a data set in the MVTec-AD layout (train/good, test/*, ground_truth/*)."""
    from hisir_edge.backends import available_threads
    from hisir_edge.sim.defects import DEFECTS
    from hisir_edge.sim.synth import write_dataset

    counts = (good, max(1, good // 4) if test_good is None else test_good, defective)
    chosen = tuple(c.strip() for c in classes.split(",")) if classes else tuple(DEFECTS)
    total, done = sum(counts), 0
    with progress("rendering boards") as advance:

        def on_done() -> None:
            nonlocal done
            done += 1
            advance(done, total)

        write_dataset(product, seed, size_from_text(size), out, counts, chosen, workers or available_threads(), on_done)
    print(f"{total} boards in {out}")


@app.command()
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
    register: Annotated[RegisterMode, typer.Option(help="Align boards to the golden image.")] = RegisterMode.auto,
    batch: Annotated[int, typer.Option(min=1, max=256, help="Tiles a step.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 6000,
    max_minutes: Annotated[
        float | None,
        typer.Option(min=0.05, help="End after this many minutes of training, all runs of this command together."),
    ] = None,
    learning_rate: Annotated[float, typer.Option(min=1e-6, max=1)] = 2e-3,
    seed: Annotated[int, typer.Option(min=0)] = 0,
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
    _needs_training_packages()
    from hisir_edge.learn.data.run import RunSettings
    from hisir_edge.learn.training.train import train as train_run
    from hisir_edge.net.backbones import default_width

    settings = RunSettings(
        str(data.absolute()), backbone, width or default_width(backbone), tile, overlap, scale, register.value, batch,
        steps, learning_rate, seed, patience, precision.value, tuple(sorted(without or ())), recursive,
    )  # fmt: skip
    leads = os.environ.get("RANK", "0") == "0"
    with training_progress(shown=leads) as (on_load, on_step):
        try:
            record = train_run(settings, out, max_minutes, workers, on_load, on_step)
        except KeyboardInterrupt:
            text = f"stopped; the same command goes on with {out} from its last checkpoint, a minute ago at most"
            print(f"hisir-edge: {text}", file=sys.stderr)
            raise
    if leads:
        tell_trained(record, data, out)


@app.command("build-engine")
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
        float, typer.Option(help="Least share of planted defects that must be found; below it no bundle is written.")
    ] = 0.8,
    product: Annotated[str, typer.Option(help="Product name in the manifest; default the run's folder name.")] = "",
    false_calls_per_board: Annotated[
        float, typer.Option(help="Wanted mean of false regions on a good board, above 0 and up to 1.")
    ] = 0.05,
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
    _needs_training_packages()
    from hisir_edge.cli.console import build_all_and_tell, build_and_tell
    from hisir_edge.engine.components import components_from_csv
    from hisir_edge.engine.options import BuildOptions
    from hisir_edge.engine.recipe import EngineRecipe, recipe_from_toml, recipes_to_build
    from hisir_edge.engine.zones import zones_from_json

    runs = [path for path in run or () if path.suffix != ".toml"]
    recipes = [*([recipe] if recipe else []), *(path for path in run or () if path.suffix == ".toml")]
    archs = tuple(part.strip().lower() for part in gpu_arch.split(",") if part.strip())
    options = BuildOptions(
        (target or BuildTarget.onnxruntime).value, (precision or Precision.int8).value, product, false_calls_per_board,
        zones_from_json(zones) if zones is not None else (), EngineRecipe(), calib, archs, max_drop, fallback,
        mm_per_px, components_from_csv(components, mm_per_px) if components is not None else (), least_planted_recall,
    )  # fmt: skip
    if len(runs) == 1 and len(recipes) <= 1:
        if out == Path("engines"):
            raise InputError(expected="--out BUNDLE", received="none", fix="name the folder to write")
        known = recipe_from_toml(recipes[0]) if recipes else EngineRecipe()
        build_and_tell(runs[0], out, replace(options, recipe=known))
        return
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
    build_all_and_tell(recipes_to_build(recipes), out, options)


@app.command()
def check(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
    cti: Annotated[
        list[Path] | None, typer.Option(help="GenTL producer to look for cameras with; may be repeated.")
    ] = None,
    aravis: Annotated[bool, typer.Option("--aravis", help="Also ask the networks for GigE Vision cameras.")] = False,
) -> None:
    """Say what this machine has: GPU, driver, CUDA, TensorRT, GenTL producers and cameras; what is used, and why."""
    from hisir_edge.cli.doctor import examine, table_of_findings

    found = examine(tuple(cti or ()), aravis)
    print(json.dumps(found, indent=2) if as_json else table_of_findings(found))


@app.command()
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
    recursive: Recursive = False,
    threads: Annotated[int, typer.Option(min=0, help="Engine threads; 0: every core.")] = 0,
) -> None:
    """Measure a bundle on labelled pictures: AUROC, AUPRO, F1, false calls, recall by class."""
    _needs_training_packages()
    from hisir_edge.cli.console import check_results_folders, measure_and_tell, measure_shifts_and_tell

    if shift is not None and "standard" in shift and (len(shift) > 1 or report is not None):
        raise InputError(
            expected="--shift standard alone (it measures every shift and prints a table)",
            received="--report or another --shift with it",
            fix="leave one of them out",
        )
    check_results_folders(data, json_file, report, recursive)
    if shift == ["standard"]:
        measure_shifts_and_tell(bundle, data, threads, merge, json_file, recursive)
    else:
        measure_and_tell(bundle, data, threads, merge, json_file, report, tuple(shift or ()), recursive)


@app.command()
def inspect(
    images: Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures.")],
    bundle: Annotated[Path, typer.Option(help="Bundle to inspect with.")],
    out: Annotated[Path, typer.Option(help="Folder for JSON verdicts, masks and overlays.")],
    recursive: Recursive = False,
    threads: Annotated[int, typer.Option(min=0, help="Engine threads; 0: every core.")] = 0,
) -> None:
    """Inspect pictures: JSON verdict, mask and overlay each. Exit code 0 all pass, 1 some fail, 2 some error."""
    from hisir_edge.line.offline import files_to_inspect, inspect_files
    from hisir_edge.records import Result

    files, left_out = files_to_inspect(images, recursive)
    tell(left_out)
    worst = 0
    for name, judgement in inspect_files(bundle, files, out, threads):
        words = f"{judgement.result.value:5s}  {name}  regions {judgement.regions_total}  {judgement.reason}".rstrip()
        print(shown(words))
        worst = max(worst, {Result.PASS: 0, Result.FAIL: 1}.get(judgement.result, 2))
    raise typer.Exit(worst)


@app.command()
def run(config: Annotated[Path, typer.Option(help="The line's TOML file.")]) -> None:
    """Run the daemon: grab, inspect, publish, until the source ends or SIGTERM."""
    from hisir_edge.config import settings_from_toml
    from hisir_edge.line.daemon import run as run_daemon

    summary = run_daemon(settings_from_toml(config), lambda: settings_from_toml(config))
    if summary.hung:
        _leave(0)


@app.command()
def demo(
    bundle: Annotated[Path, typer.Option(help="Bundle of product 7 at 4096x3000.")] = Path("engines/demo"),
    out: Annotated[Path, typer.Option(help="Folder for boards, overlays and the daemon's log; emptied first.")] = Path(
        "build/demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Other boards for another number.")] = 2026,
) -> None:
    """Inspect 12 rendered boards, 5 of them defective, with the real daemon, and compare with the truth."""
    from hisir_edge.cli.demo import run_demo

    raise typer.Exit(run_demo(bundle, out, seed))


def main() -> None:
    """Entry point: errors are one line and exit code 2; set HISIR_EDGE_DEBUG=1 for tracebacks."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if os.environ.get("HISIR_EDGE_DEBUG"):
            raise
        if isinstance(error, HisirEdgeError):
            text = str(error)
        elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
            text = "expected room on the disk; got a full one; free some space, nothing that was finished is lost"
        elif isinstance(error, OSError) and error.filename is not None:
            text = (
                f"expected to use {error.filename}; got {error.strerror}; "
                "check the path, its permissions and the free space"
            )
        else:
            text = f"unexpected {type(error).__name__}: {error} (run with HISIR_EDGE_DEBUG=1 for details)"
        print(f"hisir-edge: {' '.join(text.split())}", file=sys.stderr)
        if isinstance(error, HungError):
            _leave(2)
        sys.exit(2)


def _leave(code: int) -> None:
    """End the process without waiting for its threads: one of them hangs."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
