"""The interface of a camera, whichever kind it is."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from hisir_edge.records import Frame, GrabFault


class EndOfFrames(Exception):
    """The source will give no more frames (a replay without loop)."""


class Source(Protocol):
    """A camera or its stand-in, opened on entry and closed on exit."""

    name: str

    @property
    def up(self) -> bool:
        """Whether it is there, as far as is known."""
        ...

    @property
    def frame_wh(self) -> tuple[int, int] | None:
        """Width and height of its frames, px, where an opened camera says so."""
        ...

    @property
    def pixel_format(self) -> str | None:
        """The format of its frames (``images.pixels.CONVERSIONS``), where an opened camera says so."""
        ...

    def __enter__(self) -> Source:
        """Open the device; CameraError with the fix when it cannot be."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop and close; leaves no process, thread or shared memory."""
        ...

    def next(self, timeout_s: float) -> Frame | GrabFault | None:
        """The next frame or fault in the camera's order, None when none came in time.

        The frame's pixels are its own: nothing overwrites them later. Raises EndOfFrames at the end.
        """
        ...

    @property
    def armed(self) -> bool:
        """False from ``rearm`` until the camera says that what was asked for before is gone."""
        ...

    def trigger(self) -> None:
        """With ``trigger = "software"``: take a frame now; from any thread. CameraError where it cannot be asked."""
        ...

    def rearm(self) -> None:
        """Forget frames that were asked for and have not come: none of them is given any more."""
        ...
