"""ONNX -> TensorRT engine: classic TensorRT 10.3 to 11.x and TensorRT for RTX 1.x on one path.

Networks are strongly typed: precision is in the ONNX file (half precision by casts, int8 by explicit Q/DQ), never in
builder flags, which TensorRT 11 no longer has. Every difference between releases and flavours is in this file.
TensorRT for RTX builds without a GPU, for one or more compute capabilities; classic TensorRT for the GPU at hand.
https://docs.nvidia.com/deeplearning/tensorrt/latest/api/migration/tensorrt-10x-to-11x-python-api-reference.html
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from hisir_edge.engine.compiler import OnPhase, Plan, Tensor
from hisir_edge.engine.recipe import TensorRtTable
from hisir_edge.engine.tensorrt.releases import RTX_WITH_INT8, not_built, takes_int8
from hisir_edge.engine.tensorrt.terminal import kept_off_the_terminal
from hisir_edge.errors import InputError
from hisir_edge.images import write_atomic
from hisir_edge.machine.tensorrt import INSTALL, module_of


def engine_from_onnx(
    target: str,
    onnx_model: bytes,
    tile_px: int,
    options: TensorRtTable,
    gpu_arch: tuple[str, ...] = (),
    on_phase: OnPhase = lambda phase, done, total: True,
) -> Plan:
    """Compile an ONNX file; InputError with the parser's own words, the node and the fix when it cannot be."""
    trt = module_of(target)
    log = _log_of(trt)
    builder = _builder(trt, log, target)
    network = builder.create_network(_strongly_typed(trt))
    _parse(trt, network, log, onnx_model, target)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    config.builder_optimization_level = options.optimization_level
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default: it would take 13 of the 23 bits of what stays float32
    config.add_optimization_profile(_profile(builder, network, options, tile_px))
    monitor = _monitor(trt, on_phase)
    config.progress_monitor = monitor
    archs = _set_architectures(trt, config, target, gpu_arch)
    _set_compatibility(trt, config, options)
    cache = _load_timing_cache(config, target, options)
    with kept_off_the_terminal() as said:
        serialized = builder.build_serialized_network(network, config)
        words = [*log.errors, *said()]
    if serialized is None:
        name = f"{target} {trt.__version__}"
        raise not_built(name, words, options.workspace_mib, monitor.stopped, b"QuantizeLinear" in onnx_model)
    if cache is not None:
        _keep_timing_cache(config, Path(options.timing_cache))
    inputs = tuple(_tensor(network.get_input(i)) for i in range(network.num_inputs))
    outputs = tuple(_tensor(network.get_output(i)) for i in range(network.num_outputs))
    return Plan(
        engine=bytes(serialized),
        target=target,
        version=trt.__version__,
        gpu_arch=archs,
        inputs=inputs,
        outputs=outputs,
        network_layers=_layer_types(trt, network),
    )


def _log_of(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps what TensorRT says; nothing goes to the user's terminal."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(" ".join(message.split())[:300])

    return Log()


def _builder(trt: Any, log: Any, target: str) -> Any:
    try:
        builder = trt.Builder(log)
    except Exception as error:  # pybind raises TypeError or RuntimeError where CUDA cannot be initialised
        raise InputError(
            expected=f"{target} {trt.__version__} to start",
            received=(log.errors or [str(error)])[-1].splitlines()[0][:200],
            fix="classic TensorRT needs the target's GPU at hand; --target tensorrt-rtx builds without one",
        ) from error
    return builder


def _strongly_typed(trt: Any) -> int:
    """The creation flags: strong typing is asked for on 10.x; 11.x always has it, and accepts the flag."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parse(trt: Any, network: Any, log: Any, onnx_model: bytes, target: str) -> None:
    parser = trt.OnnxParser(network, log)
    if parser.parse(onnx_model):
        return
    said = "no message"
    if parser.num_errors:
        error = parser.get_error(parser.num_errors - 1)
        said = f"node {error.node_name()!r} ({error.node_operator()}): {' '.join(error.desc().split())[:240]}"
    raise InputError(
        expected=f"a network that {target} {trt.__version__} can parse",
        received=said,
        fix="replace this operator in the backbone by one that TensorRT supports, or build for --target onnxruntime",
    )


def _profile(builder: Any, network: Any, options: TensorRtTable, tile_px: int) -> Any:
    """Every input's first axis is the number of tiles; the others are fixed."""
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        rest = tuple(tensor.shape)[1:]
        if rest[1:] != (tile_px, tile_px):
            raise InputError(
                expected=f"tiles of {tile_px} px", received=f"input {tensor.name} {rest}", fix="export again"
            )
        profile.set_shape(tensor.name, *((n, *rest) for n in options.profile_tiles))
    return profile


def _monitor(trt: Any, on_phase: OnPhase) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """TensorRT calls these from its own threads; an exception here must not reach it."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.totals: dict[str, int] = {}
            self.stopped = False

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.totals[phase_name] = num_steps
            self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return self._tell(phase_name, step + 1)

        def phase_finish(self, phase_name: str) -> None:
            self._tell(phase_name, self.totals.pop(phase_name, 1))

        def _tell(self, phase: str, done: int) -> bool:
            try:
                self.stopped |= not on_phase(phase, done, self.totals.get(phase, done))
            except (Exception, KeyboardInterrupt):
                self.stopped = True
            return not self.stopped

    return Monitor()


def check_target(target: str, options: TensorRtTable, gpu_arch: tuple[str, ...], precision: str = "fp16") -> None:
    """InputError when a target cannot be built here, or not with these options: before any work is done."""
    trt = module_of(target)
    _check_architectures(trt, target, gpu_arch)
    if precision == "int8" and not takes_int8(target, trt.__version__):
        raise InputError(
            expected=f"{target} {'.'.join(map(str, RTX_WITH_INT8))} or later for int8 convolutions",
            received=trt.__version__,
            fix=f"{INSTALL[target]} -U, or build --precision fp16, or let --fallback do so",
        )
    if target == "tensorrt-rtx" and (options.version_compatible or options.hardware_compatible != "none"):
        raise InputError(
            expected="version_compatible and hardware_compatible for classic TensorRT alone",
            received="one of them for tensorrt-rtx, whose engines are bound to its version and portable by themselves",
            fix="take them out of the recipe",
        )


def _set_architectures(trt: Any, config: Any, target: str, gpu_arch: tuple[str, ...]) -> tuple[str, ...]:
    """Tell TensorRT for RTX which GPUs the engine is for; what it says that it has understood."""
    _check_architectures(trt, target, gpu_arch)
    if not gpu_arch:
        return ()
    config.num_compute_capabilities = len(gpu_arch)
    for i, arch in enumerate(gpu_arch):
        config.set_compute_capability(getattr(trt.ComputeCapability, arch.upper()), i)
    return tuple(str(config.get_compute_capability(i)).rsplit(".", 1)[-1].lower() for i in range(len(gpu_arch)))


def _check_architectures(trt: Any, target: str, gpu_arch: tuple[str, ...]) -> None:
    """Only TensorRT for RTX builds for others than the GPU at hand, and for those that it knows."""
    if not gpu_arch:
        return
    if target != "tensorrt-rtx":
        raise InputError(
            expected="no --gpu-arch for classic TensorRT, which builds for the GPU at hand",
            received=", ".join(gpu_arch),
            fix="build on the target machine, or use --target tensorrt-rtx",
        )
    known = [name for name in dir(trt.ComputeCapability) if name.startswith("SM")]
    unknown = [arch for arch in gpu_arch if arch.upper() not in known]
    if unknown:
        raise InputError(
            expected=f"--gpu-arch out of {', '.join(name.lower() for name in known)}",
            received=unknown[0],
            fix="correct it",
        )


def _set_compatibility(trt: Any, config: Any, options: TensorRtTable) -> None:
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible != "none":
        name = {"ampere+": "AMPERE_PLUS", "same-compute-capability": "SAME_COMPUTE_CAPABILITY"}[
            options.hardware_compatible
        ]
        level = getattr(trt.HardwareCompatibilityLevel, name, None)
        if level is None:
            raise InputError(
                expected=f"hardware_compatible that TensorRT {trt.__version__} knows",
                received=options.hardware_compatible,
                fix="leave it out of the recipe, or use a newer TensorRT",
            )
        config.hardware_compatibility_level = level


def _load_timing_cache(config: Any, target: str, options: TensorRtTable) -> Any:
    """The kept timings; TensorRT for RTX times nothing when it builds (it tunes on the user's GPU at run time)."""
    if target != "tensorrt" or not options.timing_cache:
        return None
    path = Path(options.timing_cache)
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")  # of another GPU or release: begun anew
        config.set_timing_cache(cache, False)
    return cache


def _keep_timing_cache(config: Any, path: Path) -> None:
    """Write the timings for the next build; where that fails, it takes as long as this one did."""
    with suppress(InputError, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, bytes(config.get_timing_cache().serialize()))


def _tensor(tensor: Any) -> Tensor:
    return Tensor(tensor.name, str(tensor.dtype).rsplit(".", 1)[-1], tuple(int(n) for n in tensor.shape))


def _layer_types(trt: Any, network: Any) -> dict[str, int]:
    """How many layers, without constants, give each data type: in a strongly typed network, what it computes in."""
    layers = (network.get_layer(i) for i in range(network.num_layers))
    kinds = Counter(
        str(layer.get_output(0).dtype).rsplit(".", 1)[-1]
        for layer in layers
        if layer.num_outputs and layer.type != trt.LayerType.CONSTANT
    )
    return dict(sorted(kinds.items()))
