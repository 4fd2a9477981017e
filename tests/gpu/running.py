"""Commands of the GPU check: each ended with all that it started at its time limit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from hisir_edge.processes import die_with_parent

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent
GRACE_S = 2.0


class Skipped(Exception):
    """A step cannot run here; its text says why."""


class TimeIsUp(Exception):
    """A step, or the check, took longer than it may."""


@dataclass(frozen=True)
class Place:
    """Where the check runs and for how long: ``until`` is a ``time.monotonic``, of the step."""

    work: Path
    """Of the check: what it writes."""
    prepared: Path
    """Boards, runs, bundles and ONNX files, see prepare.py; they are not written to."""
    out: Path
    """For traces and logs that are kept beside the JSON."""
    wheelhouse: Path | None
    """Where pycuda's source is; None: on the package index."""
    size: str
    frames: int
    until: float

    def said(self, *command: object, environment: dict[str, str] | None = None, fails: tuple[int, ...] = ()) -> str:
        """What a command printed; RuntimeError with its last lines where it failed, TimeIsUp at the step's limit.

        ``fails``: exit codes that the caller looks into itself.
        """
        known = {**os.environ, "PYTHONPATH": f"{TESTS}:{HERE}", "PYTHONUNBUFFERED": "1", **(environment or {})}
        log, parent = self.work / "said.txt", os.getpid()
        try:
            with log.open("w") as file:
                process = subprocess.Popen(
                    [str(part) for part in command], cwd=TESTS.parent, stdout=file, stderr=subprocess.STDOUT, env=known,
                    start_new_session=True, preexec_fn=lambda: die_with_parent(parent),
                )  # fmt: skip
                try:
                    code = process.wait(max(self.until - time.monotonic(), 0.1))
                except subprocess.TimeoutExpired:
                    raise TimeIsUp(_last(log)) from None
                finally:
                    end_group(process)
        finally:
            with (self.out / "steps.log").open("a") as whole:  # all that every step said
                whole.write(f"$ {' '.join(map(str, command))}\n{log.read_text(errors='replace')}\n")
        if code and code not in fails:
            raise RuntimeError(_last(log))
        return log.read_text(errors="replace")

    def hisir_edge(self, *arguments: object) -> str:
        """``hisir-edge`` with these arguments."""
        return self.said(sys.executable, "-m", "hisir_edge", *arguments)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End all that a process started and, where it still runs, itself; one that hangs in the driver is left."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
            if number is signal.SIGTERM and process.returncode == 0:
                return  # it had ended by itself, and so had what it started


def _last(log: Path, lines: int = 8) -> str:
    said = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(said[-lines:])[-1500:] or "it said nothing"
