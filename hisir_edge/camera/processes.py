"""The programs that hold a camera's library, each a process of its own."""

from __future__ import annotations

MODULES = {
    "genicam": "hisir_edge.camera.harvesters_process",
    "aravis": "hisir_edge.camera.aravis_process",
}
"""By ``source.type``."""


def process_module(source_type: str) -> str:
    """The module that ``python -m`` runs for cameras of a type."""
    return MODULES[source_type]
