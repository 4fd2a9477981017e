"""Limits of the releases of TensorRT for RTX, and the reason of a build that failed."""

from __future__ import annotations

import re

from hisir_edge.errors import InputError
from hisir_edge.machine.tensorrt import release

RTX_WITH_INT8 = RTX_WITHOUT_SM75_FLOAT_PRODUCTS = (1, 7)
REQUESTED = re.compile(r"OutOfMemory \(Requested size was (\d+) bytes")


def takes_int8(target: str, version: str) -> bool:
    """Whether a release compiles int8 convolutions: TensorRT for RTX 1.4 to 1.6 fail at them inside Myelin."""
    return target != "tensorrt-rtx" or release(version) >= RTX_WITH_INT8


def not_built(builder: str, words: list[str], workspace_mib: int, stopped: bool, int8: bool) -> InputError:
    """Why there is no engine: stopped by the user, too little workspace, or what TensorRT says last."""
    if stopped:
        return InputError(expected=f"{builder} to build the engine", received="stopped", fix="build again")
    sizes = [int(size) for size in REQUESTED.findall(" ".join(words))]
    if sizes:
        return InputError(
            expected=f"tensorrt.workspace_mib of {-(-max(sizes) >> 20)} or more in the recipe",
            received=f"{workspace_mib}, which {builder} has used up",
            fix="raise it; 2048 is the default, and a little more may be asked for again step by step",
        )
    return InputError(
        expected=f"{builder} to build the engine",
        received="; ".join(words[-2:]) or "no engine and no message",
        fix="check --gpu-arch and the recipe" + (", or build fp16 instead of int8" if int8 else ""),
    )
