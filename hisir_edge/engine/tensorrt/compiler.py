"""Classic TensorRT and TensorRT for RTX as compilers of the build stage."""

from __future__ import annotations

from hisir_edge.engine.compiler import OnPhase, Plan
from hisir_edge.engine.recipe import TensorRtTable
from hisir_edge.engine.tensorrt.compile import check_target, engine_from_onnx
from hisir_edge.engine.tensorrt.onnx_limits import check_network
from hisir_edge.engine.tensorrt.releases import takes_int8
from hisir_edge.machine.tensorrt import module_of


class TensorRtCompiler:
    """See ``engine.compiler.Compiler``; ``target``: tensorrt or tensorrt-rtx."""

    def __init__(self, target: str) -> None:
        self._target = target

    @property
    def version(self) -> str:
        """See ``Compiler``."""
        return str(module_of(self._target).__version__)

    @property
    def takes_int8(self) -> bool:
        """See ``Compiler``."""
        return takes_int8(self._target, self.version)

    def check(self, options: TensorRtTable, gpu_arch: tuple[str, ...], precision: str) -> None:
        """See ``Compiler``."""
        check_target(self._target, options, gpu_arch, precision)

    def check_network(self, gpu_arch: tuple[str, ...], onnx_model: bytes) -> None:
        """See ``Compiler``."""
        check_network(self._target, self.version, gpu_arch, onnx_model)

    def engine_from_onnx(
        self, onnx_model: bytes, tile_px: int, options: TensorRtTable, gpu_arch: tuple[str, ...], on_phase: OnPhase
    ) -> Plan:
        """See ``Compiler``."""
        return engine_from_onnx(self._target, onnx_model, tile_px, options, gpu_arch, on_phase)
