"""The device as pycuda and the driver give it."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from hisir_edge.by_name import optional_module
from hisir_edge.cuda.device import Argument, Buffer, Event, Graph, Host, Stream
from hisir_edge.cuda.fatbin import kernels_for
from hisir_edge.errors import InputError, InspectionError

BLOCK = (32, 4, 1)

NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: the legacy default stream is not waited for."""

CAPTURE_THREAD_LOCAL = 1

INSTALL = "pip install 'hisir-edge[gpu]' (it compiles: CUDA toolkit with nvcc, and a C++ compiler)"


class PycudaDevice:
    """A GPU by pycuda, on its primary context, which TensorRT uses as well."""

    def __init__(self, index: int = 0) -> None:
        """InputError where there is no pycuda or no such GPU, or its kernels cannot be had."""
        try:
            self.cuda: Any = optional_module("pycuda.driver")
        except (ImportError, OSError) as error:  # without the driver's library it is an OSError
            raise InputError(
                expected="pycuda, for bundles that run on a GPU", received=str(error).splitlines()[0], fix=INSTALL
            ) from error
        try:
            self.cuda.init()
            device = self.cuda.Device(index)
            major, minor = device.compute_capability()
            image = kernels_for(f"sm{major}{minor}", device.name())
            self.context = device.retain_primary_context()
        except self.cuda.Error as error:
            raise InputError(
                expected=f"CUDA device {index}", received=str(error), fix="check the GPU and its driver with nvidia-smi"
            ) from error
        try:
            with self.active():
                self.module = self.cuda.module_from_buffer(image)
        except self.cuda.Error as error:
            self._end()
            raise InputError(
                expected=f"the driver to load the line's kernels on {device.name()} (sm{major}{minor})",
                received=str(error),
                fix="install a driver of the toolkit's version or later; remove kernels-*.fatbin (hisir-edge check "
                "names it) to have them compiled again",
            ) from error
        self._kernels: dict[str, Any] = {}
        atexit.register(self._end)

    def _end(self) -> None:
        """Left to itself, pycuda takes the primary context for one of its own when the process ends, and complains."""
        with contextlib.suppress(self.cuda.Error):
            self.context.detach()

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """See ``Device``."""
        self.context.push()
        try:
            yield
        finally:
            self.cuda.Context.pop()

    def kernel(self, name: str, arguments: tuple[Argument, ...]) -> Any:
        """A kernel, made ready for arguments of these kinds: those that it declares."""
        found = self._kernels.get(name)
        if found is None:
            found = self.module.get_function(name)
            found.prepare("".join("i" if isinstance(a, int) else "P" for a in arguments))
            self._kernels[name] = found  # ready: another thread may take it
        return found

    def alloc(self, nbytes: int) -> Buffer:
        """See ``Device``."""
        owner = self.cuda.mem_alloc(nbytes)
        return Buffer(int(owner), nbytes, owner)

    def upload(self, host: Host) -> Buffer:
        """See ``Device``."""
        there, stream, done = self.alloc(host.nbytes), self.stream(), self.event()
        source = self.pinned(host.shape, host.dtype)
        np.copyto(source, host)
        stream.copy_in(there, source)  # in a stream: the whole context cannot be waited for while a graph is recorded
        done.record(stream)
        done.wait()
        self.free(source)
        return there

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Host:
        """See ``Device``."""
        host: Host = self.cuda.pagelocked_zeros(shape, dtype)
        return host

    def stream(self) -> Stream:
        """See ``Device``."""
        return PycudaStream(self)

    def event(self, timed: bool = False) -> Event:
        """See ``Device``; whoever waits for it sleeps."""
        flags = self.cuda.event_flags
        return PycudaEvent(self, flags.BLOCKING_SYNC if timed else flags.BLOCKING_SYNC | flags.DISABLE_TIMING)

    def used_bytes(self) -> int:
        """See ``Device``."""
        free, total = self.cuda.mem_get_info()
        return int(total - free)

    def free(self, *memory: Buffer | Host) -> None:
        """See ``Device``."""
        for one in memory:
            with contextlib.suppress(self.cuda.Error):  # of a context that is dead there is nothing to give back
                owner: Any = one.owner if isinstance(one, Buffer) else one.base
                owner.free()


@functools.lru_cache(maxsize=1)
def first_device() -> PycudaDevice:
    """The first GPU, opened once a process: its kernels and context are shared by all bundles."""
    return PycudaDevice()


class PycudaStream:
    """A CUDA stream; see ``Stream``."""

    def __init__(self, device: PycudaDevice) -> None:
        self.device, self.cuda = device, device.cuda
        self.stream = self.cuda.Stream(NON_BLOCKING)
        self.handle = int(self.stream.handle)

    def copy_in(self, to: Buffer, host: Host) -> None:
        """See ``Stream``."""
        self.cuda.memcpy_htod_async(to.ptr, host, self.stream)

    def copy_out(self, host: Host, source: Buffer, offset_bytes: int = 0) -> None:
        """See ``Stream``."""
        self.cuda.memcpy_dtoh_async(host, source.ptr + offset_bytes, self.stream)

    def copy_within(self, to: Buffer, source: Buffer) -> None:
        """See ``Stream``."""
        self.cuda.memcpy_dtod_async(to.ptr, source.ptr, source.nbytes, self.stream)

    def launch(self, kernel: str, threads_xyz: tuple[int, int, int], *arguments: Argument) -> None:
        """See ``Stream``."""
        grid = tuple(-(-n // b) for n, b in zip(threads_xyz, BLOCK, strict=True))
        given = [a if isinstance(a, int) else 0 if a is None else a.ptr for a in arguments]
        self.device.kernel(kernel, arguments).prepared_async_call(grid, BLOCK, self.stream, *given)

    def recorded(self, work: Callable[[], None]) -> Graph:
        """See ``Stream``. pycuda has no graphs: calls of the driver's own library."""
        driver, stream = _driver(), ctypes.c_void_p(self.handle)
        graph, made = ctypes.c_void_p(), ctypes.c_void_p()
        _call(driver, "cuStreamBeginCapture_v2", stream, ctypes.c_int(CAPTURE_THREAD_LOCAL))
        try:
            work()
        except BaseException:
            driver.cuStreamEndCapture(stream, ctypes.byref(graph))
            if graph:
                driver.cuGraphDestroy(graph)
            raise
        ended = driver.cuStreamEndCapture(stream, ctypes.byref(graph))
        if ended:
            raise _failed("cuStreamEndCapture", ended)
        try:
            _call(driver, "cuGraphInstantiateWithFlags", ctypes.byref(made), graph, ctypes.c_ulonglong(0))
        finally:
            driver.cuGraphDestroy(graph)
        return DriverGraph(driver, made, stream)


class PycudaEvent:
    """A CUDA event; see ``Event``."""

    def __init__(self, device: PycudaDevice, flags: int) -> None:
        self.cuda, self.event = device.cuda, device.cuda.Event(flags)

    def record(self, stream: Stream) -> None:
        """See ``Event``."""
        if not isinstance(stream, PycudaStream):
            raise TypeError(type(stream).__name__)
        self.event.record(stream.stream)

    def wait(self) -> None:
        """See ``Event``."""
        try:
            self.event.synchronize()
        except self.cuda.Error as error:
            raise InspectionError(
                expected="the GPU to finish a frame", received=str(error), fix="see the driver's log (dmesg)"
            ) from error

    def seconds_since(self, other: Event) -> float:
        """See ``Event``."""
        if not isinstance(other, PycudaEvent):
            raise TypeError(type(other).__name__)
        return float(self.event.time_since(other.event)) / 1e3


class DriverGraph:
    """See ``Graph``."""

    def __init__(self, driver: ctypes.CDLL, made: ctypes.c_void_p, stream: ctypes.c_void_p) -> None:
        self._driver, self._made, self._stream = driver, made, stream

    def __call__(self) -> None:
        """See ``Graph``."""
        _call(self._driver, "cuGraphLaunch", self._made, self._stream)

    def free(self) -> None:
        """See ``Graph``."""
        self._driver.cuGraphExecDestroy(self._made)


def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def _call(driver: ctypes.CDLL, name: str, *arguments: Any) -> None:
    code = getattr(driver, name)(*arguments)
    if code:
        raise _failed(name, code)


def _failed(name: str, code: int) -> InspectionError:
    return InspectionError(
        expected=f"{name} to succeed", received=f"CUDA error {code}", fix="see the driver's log (dmesg)"
    )
