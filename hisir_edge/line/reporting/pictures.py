"""Pictures of boards on disk, within a budget: the oldest go first, and a disk that refuses costs pictures alone."""

from __future__ import annotations

import re
import time
from collections import deque
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from queue import Full, Queue
from threading import Thread

import structlog

from hisir_edge.config.kept import OutputTable
from hisir_edge.errors import InputError
from hisir_edge.images import write_atomic
from hisir_edge.inspection.overlay import overlay_of_views_jpeg
from hisir_edge.records import Frame, GrabFault, Judgement, Result

log = structlog.get_logger()

MOST_WAITING = 4
CLOSE_S = 10.0
OURS = re.compile(r"\d{8}T\d{6}_\d{6,}_.*_(PASS|FAIL|ERROR)\.jpg")
"""Time (UTC), number, unit, result: in the order of their names they were taken."""


class OverlayFolder:
    """The folder of ``[output]``; without one nothing is kept. Used by one thread."""

    def __init__(self, settings: OutputTable) -> None:
        """InputError for a folder that cannot be made."""
        self.settings = settings
        self.passes = 0
        self._kept: deque[tuple[Path, int]] = deque()
        self._total = 0
        if settings.overlay_folder:
            folder = Path(settings.overlay_folder)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                for path in sorted(path for path in folder.iterdir() if OURS.fullmatch(path.name)):
                    self._add(path, path.stat().st_size)
                self._make_room(0)
            except OSError as error:
                raise InputError(
                    expected="a writable output.overlay_folder",
                    received=f"{settings.overlay_folder} ({error.strerror})",
                    fix="correct it",
                ) from error

    def keep(self, item: Frame | GrabFault, judgement: Judgement, seq: int) -> None:
        """Write the picture if it is asked for; whatever goes wrong costs the picture, never the verdict."""
        if not self.settings.overlay_folder or not isinstance(item, Frame) or not self._wanted(judgement):
            return
        now = datetime.fromtimestamp(item.grabbed_at_ns / 1e9, timezone.utc)
        name = f"{now:%Y%m%dT%H%M%S}_{seq:06d}_{_safe(item.unit)}_{judgement.result.value}.jpg"
        path = Path(self.settings.overlay_folder) / name
        try:
            picture = overlay_of_views_jpeg(item, judgement)
            self._make_room(len(picture))
            write_atomic(path, picture)
            self._add(path, len(picture))
        except Exception as error:  # memory, a codec, the disk: whatever it is
            log.error("overlay not written", error=f"{type(error).__name__}: {error}")

    def _wanted(self, judgement: Judgement) -> bool:
        if judgement.result is not Result.PASS or self.settings.overlay_of == "all":
            return True
        self.passes += 1
        return self.settings.pass_each > 0 and self.passes % self.settings.pass_each == 0

    def _add(self, path: Path, size: int) -> None:
        self._kept.append((path, size))
        self._total += size

    def _make_room(self, size: int) -> None:
        """Delete the oldest until so many bytes fit into the budget."""
        while self._kept and self._total + size > self.settings.budget_mb * 1_000_000:
            path, of_path = self._kept.popleft()
            self._total -= of_path
            path.unlink(missing_ok=True)


class PictureWriter:
    """Pictures are drawn and written by a thread of their own: a disk that hangs keeps no verdict back."""

    def __init__(self, pictures: OverlayFolder) -> None:
        self._pictures = pictures
        self._queue: Queue[tuple[Frame | GrabFault, Judgement, int] | None] = Queue(MOST_WAITING)
        self._thread = Thread(target=self._run, name="pictures", daemon=True)
        self._thread.start()

    @property
    def settings(self) -> OutputTable:
        """The present settings."""
        return self._pictures.settings

    def use(self, pictures: OverlayFolder) -> None:
        """Write to these from now on."""
        self._pictures = pictures

    def put(self, item: Frame | GrabFault, judgement: Judgement, seq: int) -> None:
        """Have a picture written if it is asked for; where the disk is too slow it is left out, and that is logged."""
        if not self._pictures.settings.overlay_folder or not isinstance(item, Frame):
            return
        try:
            self._queue.put_nowait((item, judgement, seq))
        except Full:
            log.error("overlay not written", error="the disk is slower than the line", seq=seq)

    def close(self) -> None:
        """Write what is waiting, for ``CLOSE_S`` at most."""
        end = time.monotonic() + CLOSE_S
        with suppress(Full):
            self._queue.put(None, timeout=CLOSE_S)
        self._thread.join(max(end - time.monotonic(), 0.0))

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            self._pictures.keep(*job)
            del job


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:80]
