"""The command line: one function per command, each parses, calls, and sets the exit code."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hisir_edge import __version__
from hisir_edge.cli.bench import bench
from hisir_edge.cli.boards import boards
from hisir_edge.cli.bundle import bundle_app
from hisir_edge.cli.camera import camera
from hisir_edge.cli.control import control, install_service, status
from hisir_edge.cli.inspect import inspect
from hisir_edge.cli.learning.build import build_engine
from hisir_edge.cli.learning.evaluate import evaluate
from hisir_edge.cli.learning.parts import parts_app
from hisir_edge.cli.learning.reinspect import reinspect
from hisir_edge.cli.learning.synth import pretrain, synth
from hisir_edge.cli.learning.teach import teach
from hisir_edge.cli.learning.train import train
from hisir_edge.cli.receiving.automation import opcua, plc
from hisir_edge.cli.receiving.calls import calls_app
from hisir_edge.cli.receiving.fleet import fleet
from hisir_edge.cli.receiving.mes import decide, forward, keygen, verify, watch
from hisir_edge.cli.revision import revision
from hisir_edge.cli.view import view, view_user
from hisir_edge.errors import HisirEdgeError, HungError
from hisir_edge.logs import configure_logging

PROGRAM = "hisir-edge"

app = typer.Typer(
    name=PROGRAM,
    help="PCBA inspection trained on good boards only: from photos to verdicts on the line.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit
    configure_logging()


def check(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
    cti: Annotated[
        list[Path] | None, typer.Option(help="GenTL producer to look for cameras with; may be repeated.")
    ] = None,
    aravis: Annotated[bool, typer.Option("--aravis", help="Also ask the networks for GigE Vision cameras.")] = False,
    viva: Annotated[bool, typer.Option("--viva", help="The same through viva-genicam (the extra viva).")] = False,
) -> None:
    """Say what this machine has: GPU, driver, CUDA, TensorRT, GenTL producers and cameras; what is used, and why."""
    from hisir_edge.cli.doctor import examine, table_of_findings

    found = examine(tuple(cti or ()), aravis, viva)
    print(json.dumps(found, indent=2) if as_json else table_of_findings(found))


def run(config: Annotated[Path, typer.Option(help="The line's TOML file.")]) -> None:
    """Run the daemon: grab, inspect, publish, until the source ends or SIGTERM."""
    from hisir_edge.config.file import settings_from_toml
    from hisir_edge.line.daemon import run as run_daemon

    summary = run_daemon(settings_from_toml(config), lambda: settings_from_toml(config))
    if summary.hung:
        _leave(0)


def demo(
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle of product 7 at 4096x3000; default: the one that comes along.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for boards, overlays and the daemon's log; emptied first.")] = Path(
        "build/demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Other boards for another number.")] = 2026,
    view_at: Annotated[
        str, typer.Option("--view", help="HOST:PORT of the operator's page beside it; then it goes on until Ctrl-C.")
    ] = "",
) -> None:
    """Inspect 12 rendered boards, 5 of them defective, with the real daemon, and compare with the truth."""
    from hisir_edge.cli.demo import demo_bundle, run_demo

    raise typer.Exit(run_demo(bundle or demo_bundle(), out, seed, view_at))


app.add_typer(bundle_app, name="bundle")
app.add_typer(parts_app, name="parts")
app.add_typer(calls_app, name="calls")
for command in (
    control, status, keygen, watch, forward, fleet, opcua, plc, decide, verify, view, view_user, revision, boards,
    reinspect, install_service, camera, bench, synth, train, build_engine, teach, pretrain,
    check, evaluate, inspect, run, demo,
):  # fmt: skip
    app.command()(command)


def main() -> None:
    """Entry point: errors are one line and exit code 2; set HISIR_EDGE_DEBUG=1 for tracebacks."""
    try:
        sys.exit(app(prog_name=PROGRAM, standalone_mode=False))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as caught:
        error = caught
        if isinstance(error, typer.Abort):
            if not isinstance(error.__cause__, EOFError):
                sys.exit(130)
            error = error.__cause__  # Typer takes a file that ends too early for a person who ends the dialogue
        if hasattr(error, "format_message"):  # what was typed is no command of these; one class in click and in Typer
            sys.exit(_misspelt(error))
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
        print(f"{PROGRAM}: {' '.join(text.split())}", file=sys.stderr)
        if isinstance(error, HungError):
            _leave(2)
        sys.exit(2)


def _misspelt(error: Any) -> int:
    """Say in a line what is wrong with the command that was typed, and where its options stand; the exit code."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        if help_text := error.format_message().strip():  # empty where Rich has shown it already
            print(help_text, file=sys.stderr)
    else:
        words = " ".join(error.format_message().split()).rstrip(".")
        command = PROGRAM if context is None else context.command_path
        print(f"{PROGRAM}: {words}; see {command} --help", file=sys.stderr)
    return int(error.exit_code)


def _leave(code: int) -> None:
    """End the process without waiting for its threads: one of them hangs."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
