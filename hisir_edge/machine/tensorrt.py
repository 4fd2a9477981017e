"""TensorRT as it is installed here: classic TensorRT, and TensorRT for RTX."""

from __future__ import annotations

import re
from typing import Any

from hisir_edge.by_name import optional_module
from hisir_edge.errors import InputError

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
INSTALL = {
    "tensorrt": "install TensorRT (on Jetson it comes with JetPack; on a PC: pip install tensorrt)",
    "tensorrt-rtx": "pip install 'hisir-edge[tensorrt-rtx]'",
}
LEAST_VERSION = {"tensorrt": (10, 3), "tensorrt-rtx": (1, 0)}


def release(version: str) -> tuple[int, ...]:
    """``1.7.1.116`` -> (1, 7)."""
    return tuple(int(found[0]) for part in version.split(".")[:2] if (found := re.match(r"\d+", part)))


def module_of(target: str) -> Any:
    """The TensorRT module of a target; InputError when it is not installed, does not load, or is too old."""
    try:
        trt = optional_module(MODULES[target])
    except (ImportError, OSError) as error:  # a missing CUDA library is an OSError
        raise InputError(
            expected=f"{MODULES[target]} for --target {target}",
            received=str(error).splitlines()[0],
            fix=INSTALL[target],
        ) from error
    if release(trt.__version__) < LEAST_VERSION[target]:
        raise InputError(
            expected=f"{MODULES[target]} {'.'.join(map(str, LEAST_VERSION[target]))} or later",
            received=trt.__version__,
            fix=INSTALL[target],
        )
    return trt
