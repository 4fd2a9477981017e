"""The small bundle, ready to inspect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hisir_edge.backends import engine_from_bundle
from hisir_edge.bundle.load import load_bundle
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.selftest import self_test


@pytest.fixture(scope="module")
def inspector(small_bundle: Path) -> Iterator[CpuInspector]:
    bundle = load_bundle(small_bundle)
    made = CpuInspector(bundle, engine_from_bundle(bundle, 2))
    self_test(made)  # starts the threads, which then are no test's own
    yield made
    made.workers.close()
