"""Commands of the GPU check: each ended with all that it started at its time limit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

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

    def said(self, *command: object, environment: dict[str, str] | None = None) -> str:
        """What a command printed; RuntimeError with its last lines where it failed, TimeIsUp at the step's limit."""
        known = {**os.environ, "PYTHONPATH": f"{TESTS}:{HERE}", "PYTHONUNBUFFERED": "1", **(environment or {})}
        log = self.work / "said.txt"
        with log.open("w+") as file:
            process = subprocess.Popen(
                [str(part) for part in command], cwd=TESTS.parent, stdout=file, stderr=subprocess.STDOUT, env=known,
                start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(max(self.until - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                end_group(process)
                raise TimeIsUp(f"{_last(log)}") from None
            except BaseException:
                end_group(process)
                raise
        if code:
            raise RuntimeError(_last(log))
        return log.read_text(errors="replace")

    def hisir_edge(self, *arguments: object) -> str:
        """``hisir-edge`` with these arguments."""
        return self.said(sys.executable, "-m", "hisir_edge", *arguments)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _last(log: Path, lines: int = 8) -> str:
    said = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(said[-lines:])[-1500:] or "it said nothing"
