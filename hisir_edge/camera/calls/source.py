"""The source ``calls``: each file of calls in a folder, with its pictures, is a board."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import structlog

from hisir_edge.camera.calls.sheet import SUFFIXES, content_of_sheet, picture_of, rejected_sheet, sheet_from_bytes
from hisir_edge.config.from_files import CallsSource
from hisir_edge.errors import CameraError, InputError
from hisir_edge.images import Rules, read_pixels
from hisir_edge.records import CallSheet, Crop, Frame, GrabFault

log = structlog.get_logger()

POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it is now: one that was written again is another one."""

    name: str
    size: int
    mtime_ns: int


class CallsCamera:
    """Gives the boards of a folder, oldest first, each once; whoever answers takes the files away."""

    def __init__(self, settings: CallsSource) -> None:
        self.settings, self.name, self.up, self.armed = settings, settings.name, True, True
        self.folder = Path(settings.folder)
        self.rules = Rules(settings.levels, None)
        self.frame_id = 0
        self._seen_at: dict[_File, float] = {}
        self._taken: set[_File] = set()

    def __enter__(self) -> CallsCamera:
        """CameraError for a folder that cannot be read."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            list(self.folder.iterdir())
        except OSError as error:
            raise CameraError(
                expected="a folder of calls that can be read and written",
                received=f"{self.folder}: {error.strerror}",
                fix="correct source.folder, or its owner",
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing is held."""

    @property
    def frame_wh(self) -> None:
        """See ``Source.frame_wh``: each picture has its own."""
        return

    @property
    def pixel_format(self) -> None:
        """See ``Source.pixel_format``: each picture has its own."""
        return

    def trigger(self) -> None:
        """See ``Source.trigger``."""
        raise CameraError(expected="boards of a folder", received="a trigger", fix="deliver calls instead")

    def rearm(self) -> None:
        """See ``Source.rearm``."""

    def next(self, timeout_s: float) -> Frame | GrabFault | None:
        """See ``Source.next``; a board that cannot be read is a fault with its calls, so that they are answered."""
        end = time.monotonic() + timeout_s
        while True:
            for file in self._whole_files():
                item = self._item(file)
                if item is not None:
                    self._taken.add(file)
                    return item
            left = end - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(POLL_S, left))

    def _whole_files(self) -> list[_File]:
        """Files of calls that were not taken and have not changed for a while, oldest first."""
        try:
            with os.scandir(self.folder) as entries:
                files = [file for entry in entries if (file := _sheet_file(entry))]
        except OSError as error:
            if self.up:
                log.error("the folder of calls cannot be read", folder=str(self.folder), reason=error.strerror)
            self.up = False
            return []
        self.up = True
        now, there = time.monotonic(), set(files)
        self._taken &= there
        self._seen_at = {file: self._seen_at.get(file, now) for file in files}
        whole = [file for file in there - self._taken if now - self._seen_at[file] >= self.settings.settle_s]
        return sorted(whole, key=lambda file: (file.mtime_ns, file.name))

    def _item(self, file: _File) -> Frame | GrabFault | None:
        """The board of a file of calls; None while its pictures are still to come."""
        sheet = rejected_sheet(file.name)
        try:
            data = content_of_sheet(self.folder / file.name)
            sheet = rejected_sheet(file.name, data)
            sheet = sheet_from_bytes(file.name, data)
            sheet = replace(sheet, picture=picture_of(sheet, self.folder))
            if missing := self._missing(sheet):
                if time.monotonic() - self._seen_at[file] < self.settings.wait_s:
                    return None
                raise InputError(
                    expected=f"the pictures of {file.name} within {self.settings.wait_s:g} s",
                    received=f"no {missing}",
                    fix="deliver them before the calls",
                )
            return self._frame(sheet)
        except Exception as error:  # whatever a file does to a decoder, it is this board's fault alone
            reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            return GrabFault(
                source=self.name, frame_id=self._next_id(), unit=sheet.unit, reason=reason,
                grabbed_at_ns=time.time_ns(), sheet=sheet,
            )  # fmt: skip

    def _missing(self, sheet: CallSheet) -> str:
        """What is not there, or not whole yet; empty: nothing."""
        if not sheet.crops and not sheet.picture:
            return f"picture {Path(sheet.delivery).stem}.*"
        now = time.time_ns()
        for name in (sheet.picture, *(crop.file for crop in sheet.crops)):
            try:
                still_ns = now - (self.folder / name).stat().st_mtime_ns if name else 1 << 62
            except OSError:
                return name
            if 0 <= still_ns < self.settings.settle_s * 1e9:
                return f"{name} that is whole"
        return ""

    def _frame(self, sheet: CallSheet) -> Frame:
        crops = tuple(self._read(crop) for crop in sheet.crops)
        image = read_pixels(self.folder / sheet.picture, rules=self.rules) if sheet.picture else crops[0].image
        if image is None:
            raise InputError(expected="a picture of the board", received="none", fix="deliver one")
        return Frame(
            image=image, source=self.name, frame_id=self._next_id(), unit=sheet.unit, grabbed_at_ns=time.time_ns(),
            sheet=replace(sheet, crops=crops),
        )  # fmt: skip

    def _read(self, crop: Crop) -> Crop:
        return replace(crop, image=read_pixels(self.folder / crop.file, rules=self.rules))

    def _next_id(self) -> int:
        self.frame_id += 1
        return self.frame_id


def _sheet_file(entry: os.DirEntry[str]) -> _File | None:
    """A file of calls; None for another one, and for one that was taken away in this moment."""
    if not entry.name.lower().endswith(SUFFIXES) or entry.name.startswith("."):
        return None
    try:
        stat = entry.stat()
        return _File(entry.name, stat.st_size, stat.st_mtime_ns) if entry.is_file() else None
    except OSError:
        return None
