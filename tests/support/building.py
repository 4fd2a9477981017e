"""build-engine as a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hisir_edge.bundle.files import MANIFEST
from hisir_edge.engine.build import build_bundle
from hisir_edge.engine.options import BuildOptions
from hisir_edge.errors import InputError
from support.commands import here

RATE = ("--false-calls-per-board", 0.2, "--least-planted-recall", 0.5)


def hisir(*arguments: object, timeout: float = 250, **extra: str) -> subprocess.CompletedProcess[str]:
    """A command in this process, where torch is loaded already; a daemon, or other environment, in one of its own."""
    if not extra and arguments[0] != "run":
        return here(*arguments)
    return subprocess.run(
        [sys.executable, "-m", "hisir_edge", *map(str, arguments)],
        capture_output=True, text=True, timeout=timeout, check=False, env={**os.environ, **extra},
    )  # fmt: skip


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The refusal: the last line on standard error, exit code 2, no traceback."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("hisir-edge:")]
    assert len(said) == 1
    return said[0]


def wait_for(build: subprocess.Popen[str], stage: str) -> None:
    """Read what the build says until it names the stage."""
    assert build.stderr is not None
    assert any(stage in line for line in build.stderr), f"ended before {stage!r}"


def manifest_of(bundle: Path) -> dict:
    return json.loads((bundle / MANIFEST).read_text())


def refused(run: Path, out: Path, options: BuildOptions) -> str:
    """What a build says that leaves nothing behind."""
    with pytest.raises(InputError) as caught:
        build_bundle(run, out, options)
    assert list(out.parent.glob(f"*{out.name}*")) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)
