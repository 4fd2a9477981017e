"""What this processor can do with eight bits."""

from __future__ import annotations

from pathlib import Path

INT8_FLAGS = ("avx512_vnni", "avx_vnni", "asimddp")
"""Without one of these, products of eight bits are summed in sixteen and may saturate: other scores than with them."""


def int8_instructions() -> str:
    """The eight-bit instructions of this processor, comma separated; empty where there are none or nothing says."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return ""
    return ", ".join(name for name in INT8_FLAGS if name in flags)
