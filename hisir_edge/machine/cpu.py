"""The eight-bit instructions of this processor."""

from __future__ import annotations

import os
from pathlib import Path

INT8_FLAGS = ("avx512_vnni", "avx_vnni", "asimddp")
"""Without one of these, products of eight bits are summed in sixteen and may saturate: other scores than with them."""


BF16_FLAGS = ("avx512bw", "amx_bf16", "bf16")
"""With one of these, oneDNN has kernels for bfloat16; elsewhere a step takes 3.5 times as long as in float32."""


def int8_instructions() -> str:
    """The eight-bit instructions of this processor, comma separated; empty where there are none or nothing says."""
    return ", ".join(name for name in INT8_FLAGS if name in _flags())


def has_bfloat16() -> bool:
    """Whether arithmetic in bfloat16 is quicker here than in float32."""
    return not _flags().isdisjoint(BF16_FLAGS)


def _flags() -> set[str]:
    try:
        return set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return set()


def available_threads() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))
