"""The weights that are shipped: for each backbone, one network that has seen many products and none of yours."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hisir_edge.errors import InputError
from hisir_edge.net.backbones import default_width
from hisir_edge.registry import BACKBONES

FOLDER = "weights"
COUNTERS = "num_batches_tracked"


def weights_bytes(state: dict[str, Tensor]) -> bytes:
    """A network's weights as shipped: half floats, without counters of batches."""
    kept = {name: value.detach().cpu() for name, value in state.items() if not name.endswith(COUNTERS)}
    lowest = torch.finfo(torch.float16).smallest_normal
    buffer = io.BytesIO()
    # a running variance below what half floats can hold would be 0, and its reciprocal huge
    half = {name: (v.clamp_min(lowest) if name.endswith("running_var") else v).half() for name, v in kept.items()}
    np.savez_compressed(buffer, **{name: value.numpy() for name, value in half.items()})  # type: ignore[arg-type]
    return buffer.getvalue()


def has_pretrained(backbone: str, width: int) -> bool:
    """Whether weights are shipped for a backbone of this width."""
    return width == default_width(backbone) and _file(backbone).is_file()


def pretrained_state(backbone: str, width: int) -> dict[str, Tensor]:
    """The shipped weights, float32, for ``HisirNet.load_state_dict``; InputError where there are none."""
    if not has_pretrained(backbone, width):
        shipped = [f"{name} of width {default_width(name)}" for name in sorted(BACKBONES) if _file(name).is_file()]
        raise InputError(
            expected=f"a network that weights are shipped for ({', '.join(shipped) or 'none'})",
            received=f"{backbone} of width {width}",
            fix="choose another --backbone, or train --from scratch",
        )
    with np.load(io.BytesIO(_file(backbone).read_bytes()), allow_pickle=False) as stored:
        state = {name: torch.from_numpy(stored[name].astype(np.float32)) for name in stored.files}
    counters = {f"{name[: -len('running_mean')]}{COUNTERS}" for name in state if name.endswith("running_mean")}
    return {**state, **{name: torch.tensor(0) for name in counters}}


def _file(backbone: str) -> Path:
    return Path(__file__).parent / FOLDER / f"{backbone}.npz"
