"""``hisir-edge demo``: the main job end to end, checked against the truth.

Renders boards, starts the real daemon as its own process on them, subscribes over ZeroMQ from this
one, and compares every verdict with what was planted.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from hisir_edge.arrays import Bool
from hisir_edge.bundle.load import Bundle, load_bundle
from hisir_edge.errors import InputError
from hisir_edge.images import read_mask
from hisir_edge.machine.cpu import available_threads
from hisir_edge.mes import Verdict, subscribe
from hisir_edge.sim.defects import DEFECTS
from hisir_edge.sim.synth import BoardJob, write_boards

PRODUCT, BOARDS, DEFECTIVE = 7, 12, 5
LOOP = "loop = true\nrate_hz = 0.25"
SILENCE_LIMIT_S = 60.0
PACKAGE = Path(__file__).resolve().parents[1]
START_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Truth:
    """One rendered board: its file's stem, its defect class ('good' for none), its mask file."""

    unit: str
    kind: str
    mask: Path | None


@dataclass(frozen=True, slots=True)
class DemoBoard:
    """One board's row: what it is, what was said of it, and whether that is right."""

    truth: Truth
    verdict: Verdict | None
    right: bool


def demo_bundle() -> Path:
    """The demonstration bundle: of the checkout, or what the wheel has brought along."""
    return next(
        (path for path in (PACKAGE.parent / "engines" / "demo", PACKAGE / "demo_bundle") if path.is_dir()),
        Path("engines/demo"),
    )


def run_demo(bundle_folder: Path, out: Path, seed: int, view: str = "") -> int:
    """Render, inspect, compare, print; 0 when every verdict came and is right, else 1.

    ``view``: HOST:PORT of the operator's page beside it; then the line goes on with its boards until Ctrl-C.
    """
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=140)
    bundle = load_bundle(bundle_folder)
    _clear(out)
    started = time.monotonic()
    truths = _render(console, bundle, out, seed)
    endpoint = f"tcp://127.0.0.1:{_free_port()}"
    config = _write_config(bundle_folder, out, endpoint, bool(view))
    with ExitStack() as stack:
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends the processes, too
        stack.callback(signal.signal, signal.SIGTERM, before)
        if view:
            state = out / "page"
            command = ["view", "--connect", endpoint, "--listen", view, "--state", str(state)]
            page = stack.enter_context(_running(command, out / "page.log"))
            console.print(f"the operator's page: http://{view}/")
        console.print(f"daemon: hisir-edge run --config {config}; subscribing to {endpoint}")
        daemon = stack.enter_context(_running(["run", "--config", str(config)], out / "daemon.log"))
        received = _collect(console, daemon, endpoint, out, bool(view))
        outcomes = [_outcome(truth, received.get(truth.unit), out) for truth in truths]
        console.print(_table(outcomes))
        wrong = [o for o in outcomes if not o.right]
        if not received:
            console.print("no verdict came over the loopback device: see daemon.log, and whether lo is up (ip link)")
        console.print(f"{BOARDS - len(wrong)} of {BOARDS} boards right in {time.monotonic() - started:.0f} s")
        console.print(f"written to {out}: boards, truth, overlays, masks, verdicts.jsonl, daemon.log")
        if view:
            _stay(console, view, daemon, page)
    return 1 if wrong else 0


def _stay(console: Console, view: str, daemon: subprocess.Popen[bytes], page: subprocess.Popen[bytes]) -> None:
    """Until Ctrl-C, or until one of the processes ends by itself."""
    if page.poll() is not None:
        console.print("the page has ended: see page.log")
        return
    console.print(f"the line goes on with its boards: http://{view}/ shows them; Ctrl-C ends it")
    with suppress(KeyboardInterrupt):
        while daemon.poll() is None and page.poll() is None:
            time.sleep(0.2)


def _clear(out: Path) -> None:
    """Empty the demonstration's folder, but never one that holds anything else."""
    marker = out / ".hisir-edge-demo"
    if out.exists() and any(out.iterdir()) and not marker.exists():
        raise InputError(
            expected="a new folder or an old demonstration's",
            received=f"{out} with other files",
            fix="choose another --out",
        )
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    marker.touch()


def _render(console: Console, bundle: Bundle, out: Path, seed: int) -> list[Truth]:
    h, w = bundle.recipe.frame_hw
    rng = np.random.default_rng([seed, 11])
    kinds = ["good"] * (BOARDS - DEFECTIVE) + [str(k) for k in rng.choice(list(DEFECTS), DEFECTIVE, replace=False)]
    order = rng.permutation(BOARDS)
    jobs, truths = [], []
    for number, index in enumerate(order, 1):
        unit, kind = f"board_{number:02d}", kinds[int(index)]
        mask = None if kind == "good" else out / "truth" / f"{unit}_mask.png"
        jobs.append(
            BoardJob(
                product=PRODUCT,
                seed=50_000_000 + seed * 1000 + number,
                size_wh=(w, h),
                kind=kind,
                image=out / "boards" / f"{unit}.png",
                mask=mask,
            )
        )
        truths.append(Truth(unit, kind, mask))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console.print(f"rendering {BOARDS} boards of product {PRODUCT} at {w}x{h}, {DEFECTIVE} with a defect ...")
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("rendering", total=BOARDS)
        write_boards(jobs, available_threads(), lambda: bar.advance(task))
    return truths


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _write_config(bundle_folder: Path, out: Path, endpoint: str, goes_on: bool) -> Path:
    path = out / "line.toml"
    control = f"tcp://127.0.0.1:{_free_port()}"
    more = f"""
[control]
endpoint = {json.dumps(control)}

[archive]
keep = "all"
"""
    # json.dumps writes strings as TOML reads them
    path.write_text(
        f"""[line]
name = "demo"

[bundle]
path = {json.dumps(str(bundle_folder.absolute()))}

[source]
type = "replay"
folder = "boards"
{LOOP if goes_on else ""}

[infer]
slots = 1  # one board at a time, so that its time is its own

[journal]
folder = "journal"

[publish]
endpoint = {json.dumps(endpoint)}
wait_for_subscribers = 1
wait_timeout_s = {START_LIMIT_S}

[output]
overlay_folder = "overlays"
overlay_of = "all"
{more if goes_on else ""}"""
    )
    return path


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One of our own commands in a process of its own, ended on exit."""
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "hisir_edge", *command], stdout=file, stderr=file)
        try:
            yield process
        finally:
            _end(process)


def _collect(
    console: Console, daemon: subprocess.Popen[bytes], endpoint: str, out: Path, view: bool
) -> dict[str, Verdict]:
    received: dict[str, Verdict] = {}
    gone_at: list[float] = []

    def stop() -> bool:
        # a daemon that is gone has sent what it will send: one more second for what is on its way
        if daemon.poll() is not None and not gone_at:
            gone_at.append(time.monotonic())
        return bool(gone_at) and time.monotonic() - gone_at[0] > 1.0

    # beside the page, whichever of the two hears the line first: then none is missed by name
    named = ("demo", out / "cursor") if view else ()
    stream = subscribe(endpoint, *named, since="beginning", timeout_s=SILENCE_LIMIT_S, stop=stop)
    (out / "masks").mkdir()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar, (out / "verdicts.jsonl").open("w") as lines:
        task = bar.add_task("inspecting", total=BOARDS)
        for verdict in stream:
            received[verdict.unit] = verdict
            lines.write(verdict.text.decode() + "\n")
            _keep_mask(out, verdict)
            bar.advance(task)
            console.print(f"  {verdict.unit}: {verdict.result} in {verdict.total_s:.2f} s")
            if len(received) == BOARDS:
                break
    stream.close()
    return received


def _keep_mask(out: Path, verdict: Verdict) -> None:
    if verdict.mask:
        (out / "masks" / f"{verdict.unit}.png").write_bytes(verdict.mask)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _touches(mask: Bool, truth: Bool) -> bool:
    near = cv2.dilate(truth.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return bool((mask & near).any())


def _outcome(truth: Truth, verdict: Verdict | None, out: Path) -> DemoBoard:
    """Right: PASS for a good board; FAIL with the mask on the planted defect for a defective one."""
    if verdict is None:
        return DemoBoard(truth, None, False)
    if truth.mask is None:
        return DemoBoard(truth, verdict, verdict.result == "PASS")
    hit = verdict.result == "FAIL" and _touches(read_mask(out / "masks" / f"{truth.unit}.png"), read_mask(truth.mask))
    return DemoBoard(truth, verdict, hit)


STAGES = ("register", "tile", "infer", "merge", "judge")


def _table(outcomes: list[DemoBoard]) -> Table:
    table = Table(title="verdicts received over ZeroMQ")
    for heading in ("board", "verdict", "truth", "right", "regions found"):
        table.add_column(heading)
    table.add_column(" + ".join(STAGES) + ", total (s)")
    for o in outcomes:
        right = "yes" if o.right else "[bold red]NO[/]"
        if o.verdict is None:
            table.add_row(o.truth.unit, "[bold red]none[/]", o.truth.kind, right, "", "")
            continue
        times = o.verdict.times_s
        spent = " + ".join(f"{times[stage]:.2f}" for stage in STAGES) + f", {times['total']:.2f}"
        table.add_row(o.truth.unit, o.verdict.result, o.truth.kind, right, _regions_text(o.verdict), spent)
    return table


def _regions_text(verdict: Verdict) -> str:
    shown = "; ".join(f"{d.w}x{d.h} at {d.x},{d.y}" for d in verdict.defects[:2])
    more = verdict.defects_total - 2
    return f"{shown} (+{more})" if more > 0 else shown
