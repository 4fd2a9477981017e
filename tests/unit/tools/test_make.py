"""What the two commands run: packages come from the locks, which are not made on the way."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
@pytest.mark.parametrize("goal", [("demo",), ("demo", "VIEW=1"), ("demo", "TEACH=1"), ("test",)])
def test_locks_are_installed_and_not_made(goal, tmp_path):
    command = ["make", "--dry-run", "--no-print-directory", f"VENV={tmp_path}/venv", *goal]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "--require-hashes -r requirements/base.lock" in done.stdout
    assert "uv pip compile" not in done.stdout
    assert ("requirements/extras/view.lock" in done.stdout) == ("VIEW=1" in goal)
    assert ("hisir-edge teach build/taught-boards" in done.stdout) == ("TEACH=1" in goal)
