"""Replay source: a folder of images as a camera, decoded one frame ahead in a thread."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import replace
from pathlib import Path
from threading import Semaphore
from types import TracebackType

import structlog

from hisir_edge.camera.source import EndOfFrames
from hisir_edge.config.from_files import ReplaySource
from hisir_edge.errors import CameraError, InputError
from hisir_edge.images import Rules, pictures_in, read_pixels
from hisir_edge.records import Frame, GrabFault

log = structlog.get_logger()


class ReplayCamera:
    """Plays a folder's images in name order; an unreadable one is a fault, not the end."""

    def __init__(self, settings: ReplaySource) -> None:
        self.settings, self.name, self.up, self.armed = settings, settings.name, True, True
        self.asked = Semaphore(0)
        self.paths: list[Path] = []
        self.frame_id = 0
        self.due = 0.0
        self.pool: ThreadPoolExecutor | None = None
        self.ahead: Future[Frame | GrabFault] | None = None

    def __enter__(self) -> ReplayCamera:
        """List the folder and start decoding its first image."""
        try:
            found = pictures_in(Path(self.settings.folder), self.settings.recursive)
        except InputError as error:
            raise CameraError(expected=error.expected, received=error.received, fix="correct source.folder") from error
        self.paths = list(found.paths)
        if found.left_out:
            log.warning("pictures left out", reason=found.left_out.replace("--recursive", "source.recursive = true"))
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="replay")
        self.due = time.monotonic()
        self._fetch()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the decoding thread."""
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)

    def next(self, timeout_s: float) -> Frame | GrabFault | None:
        """See ``Source.next``; at ``rate_hz`` frames a second, or at once for 0."""
        if self.settings.trigger == "software":
            if not self.asked.acquire(timeout=timeout_s):
                return None
            item = self._asked()
            self._fetch()
            return item
        if self.ahead is None:
            raise EndOfFrames
        wait = self.due - time.monotonic()
        if wait > timeout_s:
            time.sleep(timeout_s)
            return None
        if wait > 0:
            time.sleep(wait)
        try:
            item = self.ahead.result(timeout=timeout_s)
        except FutureTimeoutError:
            return None
        if self.settings.rate_hz > 0:
            self.due = max(self.due + 1 / self.settings.rate_hz, time.monotonic() - 1)
        self._fetch()
        return replace(item, grabbed_at_ns=time.time_ns())  # read ahead, taken now

    @property
    def frame_wh(self) -> None:
        """See ``Source.frame_wh``: each picture has its own."""
        return

    @property
    def pixel_format(self) -> None:
        """See ``Source.pixel_format``: each picture has its own."""
        return

    def trigger(self) -> None:
        """See ``Source.trigger``: the next picture; after the last one a fault for each."""
        self.asked.release()

    def rearm(self) -> None:
        """See ``Source.rearm``."""
        while self.asked.acquire(blocking=False):
            pass

    def _asked(self) -> Frame | GrabFault:
        if self.ahead is None:
            self.frame_id += 1
            return GrabFault(
                source=self.name,
                frame_id=self.frame_id,
                unit="",
                reason="no picture is left in the folder",
                grabbed_at_ns=time.time_ns(),
            )
        return replace(self.ahead.result(), grabbed_at_ns=time.time_ns())  # read ahead, taken now

    def _fetch(self) -> None:
        number = self.frame_id
        if self.pool is None or (number >= len(self.paths) and not self.settings.loop):
            self.ahead = None
            return
        self.frame_id += 1
        self.ahead = self.pool.submit(self._read, self.paths[number % len(self.paths)], number + 1)

    def _read(self, path: Path, frame_id: int) -> Frame | GrabFault:
        try:
            image = read_pixels(path, rules=Rules(self.settings.levels, None))
        except Exception as error:  # whatever a file does to a decoder, it is this frame's fault alone
            reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            return GrabFault(
                source=self.settings.name,
                frame_id=frame_id,
                unit=path.stem,
                reason=reason,
                grabbed_at_ns=time.time_ns(),
            )
        return Frame(
            image=image,
            source=self.settings.name,
            frame_id=frame_id,
            unit=path.stem,
            grabbed_at_ns=time.time_ns(),
        )
