"""A compiled TensorRT engine on the GPU: classic TensorRT and TensorRT for RTX, the same calls."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol

from hisir_edge.cuda.device import Stream
from hisir_edge.errors import BundleError, InspectionError
from hisir_edge.inspection.cascade.planes import PLANES

INPUTS, OUTPUTS = {"tile": "UINT8", "cue": "UINT8"}, {"score": "FLOAT", "misfit": "FLOAT"}
LOOK = {"planes": "UINT8", "expected": "FLOAT"}


class DeviceContext(Protocol):
    """One frame's right to run the engine; frames in flight have one each."""

    def enqueue(self, count: int, tile: int, cue: int, score: int, misfit: int, stream: Stream) -> None:
        """Put ``count`` tiles into the stream; InspectionError where the engine refuses.

        Addresses of uint8 (n, 3, t, t) and (n, 4, t, t), and float32 (n, t, t) and (n, t / 16, t / 16). An engine with
        ``half_planes`` has half floats (n, 7, t, t) as tile, and no cue.
        """
        ...


class DeviceEngine(Protocol):
    """A network on the GPU: ``batch`` tiles at most a call."""

    batch: int
    least: int
    """Tiles a call at least."""
    captures: bool
    """Whether it makes CUDA graphs itself; then its calls must not be recorded into another."""
    half_planes: bool
    """Whether it takes tile and cue as half floats about 0 in seven planes, else both as bytes in two inputs."""

    def context(self) -> DeviceContext:
        """Another frame's; within ``Device.active``."""
        ...


class _Loaded:
    """An engine with its runtime and log, which are to live as long; BundleError where it does not load."""

    def __init__(self, trt: Any, plan: bytes, kinds: dict[str, str], version_compatible: bool) -> None:
        self.log = trt.Logger(trt.Logger.ERROR)
        self.runtime = trt.Runtime(self.log)
        if version_compatible:
            self.runtime.engine_host_code_allowed = True
        self.engine = self.runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise BundleError(
                expected=f"an engine that TensorRT {trt.__version__} loads on this GPU",
                received="one that it refuses",
                fix="build the bundle again on this machine with hisir-edge build-engine",
            )
        for name, wanted in kinds.items():
            found = str(self.engine.get_tensor_dtype(name)).rsplit(".", 1)[-1]
            if found != wanted:
                raise BundleError(
                    expected=f"an engine whose {name} is {wanted}", received=found, fix="build the bundle again"
                )


class TensorRtEngine:
    """An engine of a bundle; made and used within ``Device.active``."""

    half_planes = False

    def __init__(self, trt: Any, plan: bytes, tile_px: int, version_compatible: bool = False) -> None:
        """``trt``: the module of the bundle's target. BundleError where the engine does not load or is another one.

        ``version_compatible``: it carries its runtime along, which is code; its hash was verified with the bundle.
        """
        self.trt, self.tile_px = trt, tile_px
        self.loaded = _Loaded(trt, plan, INPUTS | OUTPUTS, version_compatible)
        self.engine = self.loaded.engine
        self.captures = hasattr(trt, "CudaGraphStrategy")
        shapes = self.engine.get_tensor_profile_shape("tile", 0)
        self.least, self.batch = int(shapes[0][0]), int(shapes[2][0])

    def context(self) -> TensorRtContext:
        """See ``DeviceEngine``."""
        return TensorRtContext(self)


class TensorRtLook:
    """A first look of a bundle (``rig.LookEngine``); made and used within ``Device.active``."""

    def __init__(self, trt: Any, plan: bytes, tile_px: int, version_compatible: bool = False) -> None:
        """See ``TensorRtEngine``."""
        self.trt, self.tile_px = trt, tile_px
        self.loaded = _Loaded(trt, plan, LOOK, version_compatible)
        self.engine = self.loaded.engine
        self.batch = int(self.engine.get_tensor_profile_shape("planes", 0)[2][0])

    def context(self) -> TensorRtLookContext:
        """See ``LookEngine``."""
        return TensorRtLookContext(self)


class TensorRtLookContext:
    """An execution context of a first look."""

    def __init__(self, engine: TensorRtLook) -> None:
        self.tile_px, self.context, self.count = engine.tile_px, _context(engine.trt, engine.engine), 0

    def enqueue(self, count: int, planes: int, expected: int, stream: Stream) -> None:
        """See ``LookContext``."""
        context, t = self.context, self.tile_px
        done = count == self.count or context.set_input_shape("planes", (count, PLANES, t, t))
        self.count = count
        for name, address in (("planes", planes), ("expected", expected)):
            done = done and context.set_tensor_address(name, address)
        if not (done and context.execute_async_v3(stream.handle)):
            self.count = 0
            raise InspectionError(
                expected="TensorRT to take a first look", received="a refusal", fix="verify or rebuild the bundle"
            )


class TensorRtContext:
    """An execution context with the shapes that it was last given."""

    def __init__(self, engine: TensorRtEngine) -> None:
        self.tile_px, self.context, self.count = engine.tile_px, _context(engine.trt, engine.engine), 0

    def enqueue(self, count: int, tile: int, cue: int, score: int, misfit: int, stream: Stream) -> None:
        """See ``DeviceContext``."""
        context, t = self.context, self.tile_px
        done = True
        if count != self.count:
            done = context.set_input_shape("tile", (count, 3, t, t)) and context.set_input_shape(
                "cue", (count, 4, t, t)
            )
            self.count = count
        for name, address in (("tile", tile), ("cue", cue), ("score", score), ("misfit", misfit)):
            done = done and context.set_tensor_address(name, address)
        if not (done and context.execute_async_v3(stream.handle)):
            self.count = 0
            raise InspectionError(
                expected="TensorRT to take a batch of tiles", received="a refusal", fix="verify or rebuild the bundle"
            )


def _context(trt: Any, engine: Any) -> Any:
    """An execution context; TensorRT for RTX makes its kernels at once, not behind the first frames' backs, and graphs.

    https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/work-with-dynamic-shapes.html
    """
    with suppress(AttributeError):
        settings = engine.create_runtime_config()
        settings.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        settings.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return _made(engine.create_execution_context(settings))
    return _made(engine.create_execution_context())


def _made(context: Any) -> Any:
    if context is None:
        raise InspectionError(expected="memory of the GPU for another frame", received="none", fix="lower infer.slots")
    return context
