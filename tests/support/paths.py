"""Where things lie."""

from __future__ import annotations

import os
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
WITH_TESTS = {"PYTHONPATH": str(TESTS)}


def environment() -> dict[str, str]:
    """The environment for a script of ``tests/support``."""
    return {**os.environ, **WITH_TESTS}
