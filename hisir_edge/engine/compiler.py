"""The interface of a target that compiles the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from hisir_edge.by_name import part
from hisir_edge.engine.recipe import TensorRtTable
from hisir_edge.registry import TARGETS

OnPhase = Callable[[str, int, int], bool]
"""(phase, done, total) -> whether to go on; the compiler's own progress."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of an engine; ``shape`` has -1 for the number of tiles, ``dtype`` is the compiler's word."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A compiled engine and what it says of itself. ``network_layers``: how many layers give each data type."""

    engine: bytes = field(repr=False)
    target: str
    version: str
    gpu_arch: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    network_layers: dict[str, int]


class Compiler(Protocol):
    """Compiles a network for one target; InputError from each method where that cannot be, with the fix."""

    @property
    def version(self) -> str:
        """Of what compiles, as the manifest records it."""
        ...

    @property
    def takes_int8(self) -> bool:
        """Whether this version compiles int8 convolutions."""
        ...

    def check(self, options: TensorRtTable, gpu_arch: tuple[str, ...], precision: str) -> None:
        """Refuse what cannot be built here, before any work is done."""

    def check_network(self, gpu_arch: tuple[str, ...], onnx_model: bytes) -> None:
        """Refuse a network that cannot be compiled, by the name of the node."""

    def engine_from_onnx(
        self, onnx_model: bytes, tile_px: int, options: TensorRtTable, gpu_arch: tuple[str, ...], on_phase: OnPhase
    ) -> Plan:
        """Compile an ONNX file whose input is (n, 3, ``tile_px``, ``tile_px``) uint8."""
        ...


def compiler_of(target: str) -> Compiler | None:
    """The compiler of a target; None where the ONNX file itself is run."""
    where = TARGETS[target].compiler
    made: Compiler | None = part(where)(target) if where else None
    return made
