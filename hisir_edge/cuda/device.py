"""What the line needs of a GPU, as Protocols; ``pycuda_device.py`` is the real one.

``CudaInspector`` and ``Slot`` are written against them. Tests have another ``Device`` that runs the same kernels on the
CPU's memory, so that all but the calls of the driver is tested without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy.typing as npt

Host = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory of the GPU; ``owner`` keeps it."""

    ptr: int
    nbytes: int
    owner: Any = field(repr=False)


Argument = Buffer | int | None
"""An argument of a kernel: memory, a 32-bit number, or a null pointer."""


class Graph(Protocol):
    """Work that was recorded; a call launches it in its stream."""

    def __call__(self) -> None:
        """Launch it once more."""
        ...

    def free(self) -> None:
        """Give up what the driver keeps for it."""
        ...


class Event(Protocol):
    """A place in a stream's work."""

    def record(self, stream: Stream) -> None:
        """Put it where the stream's work ends now."""
        ...

    def wait(self) -> None:
        """Until everything before it is done, other threads run meanwhile; InspectionError where something failed."""
        ...

    def seconds_since(self, other: Event) -> float:
        """From another event to this one, both over, both ``timed``."""
        ...


class Stream(Protocol):
    """Work in order, beside that of other streams."""

    handle: int

    def copy_in(self, to: Buffer, host: Host) -> None:
        """Copy pinned host memory, contiguous, into the GPU's."""
        ...

    def copy_out(self, host: Host, source: Buffer, offset_bytes: int = 0) -> None:
        """Copy into pinned host memory, contiguous."""
        ...

    def copy_within(self, to: Buffer, source: Buffer) -> None:
        """Copy within the GPU's memory, buffers of one size."""
        ...

    def launch(self, kernel: str, threads_xyz: tuple[int, int, int], *arguments: Argument) -> None:
        """Run a kernel of ``kernels.cu`` over at least so many threads."""
        ...

    def recorded(self, work: Callable[[], None]) -> Graph:
        """Record ``work``'s calls in this stream as one graph; it is not run now."""
        ...


class Device(Protocol):
    """One GPU."""

    def active(self) -> AbstractContextManager[None]:
        """Make this GPU the calling thread's; every use of it is within."""
        ...

    def alloc(self, nbytes: int) -> Buffer:
        """Memory of the GPU, its content not defined."""
        ...

    def upload(self, host: Host) -> Buffer:
        """A copy of an array, done when it returns."""
        ...

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Host:
        """Page-locked host memory, zeroed."""
        ...

    def stream(self) -> Stream:
        """A new one; never the default stream."""
        ...

    def event(self, timed: bool = False) -> Event:
        """A new one."""
        ...

    def used_bytes(self) -> int:
        """Memory of the GPU in use, by whomever."""
        ...

    def free(self, *memory: Buffer | Host) -> None:
        """Give back what ``alloc``, ``upload`` and ``pinned`` gave, now: no garbage collector does that reliably.

        pycuda frees only where its own context object is current (https://github.com/inducer/pycuda/issues/305).
        """
        ...
