"""The source ``calls``: each file of calls in a folder, with its pictures, is a board."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISREG
from types import TracebackType

import structlog

from hisir_edge.camera.calls.sheet import (
    DONE,
    PICTURES,
    SUFFIXES,
    content_of_sheet,
    files_of,
    hash_in_folder,
    is_delivery,
    picture_of,
    rejected_sheet,
    sheet_from_bytes,
)
from hisir_edge.config.from_files import CallsSource
from hisir_edge.errors import CameraError, InputError
from hisir_edge.images import Rules, header_of_picture, read_pixels
from hisir_edge.records import CallSheet, Crop, Frame, GrabFault

log = structlog.get_logger()

POLL_S = 0.05
MOST_LATE, STALE_S = 1000, 60.0
MOST_CROP_PX = 100_000_000
"""Of all crops of a board together: more is no board."""


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
        self._there: dict[str, _File] = {}
        self._seen_at: dict[_File, float] = {}
        self._taken: set[_File] = set()
        self._sheets: dict[_File, CallSheet] = {}
        self._failed: dict[_File, tuple[_File, ...]] = {}
        """Boards that could not be read, and the files that they had then: they are read again once one changes."""
        self._reasons: dict[_File, str] = {}
        self._calls: dict[_File, bytes] = {}
        """Hashes of the calls as they were read."""
        self._late: dict[str, None] = {}
        """Stems of pictures that did not come in time, the last ones."""
        self._passed_over: set[str] = set()

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

    def put_back(self, item: Frame | GrabFault) -> None:
        """Give a board again that was not accepted."""
        if item.sheet is not None:
            self._taken = {file for file in self._taken if file.name != item.sheet.delivery}

    def next(self, timeout_s: float) -> Frame | GrabFault | None:
        """See ``Source.next``; a board that cannot be read is a fault with its calls, so that they are answered."""
        end = time.monotonic() + timeout_s
        while True:
            for file in self._whole_sheets():
                item = self._item(file)
                if item is not None:
                    self._taken.add(file)
                    return item
            left = end - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(POLL_S, left))

    def _whole_sheets(self) -> list[_File]:
        """Files of calls that were not taken and have not changed for a while, oldest first."""
        try:
            with os.scandir(self.folder) as entries:
                files = [file for entry in entries if (file := _file(entry))]
        except OSError as error:
            if self.up:
                log.error("the folder of calls cannot be read", folder=str(self.folder), reason=error.strerror)
            self.up = False
            return []
        self.up, now = True, time.monotonic()
        self._there = {file.name: file for file in files}
        self._seen_at = {file: self._seen_at.get(file, now) for file in files}
        sheets = {file for file in files if self._is_delivery(file.name)}
        self._taken &= sheets
        for kept in (self._sheets, self._failed, self._reasons, self._calls):
            for file in set(kept) - sheets:
                del kept[file]
        self._put_aside_late()
        whole = [file for file in sheets - self._taken if self._is_whole(file)]
        return sorted(whole, key=lambda file: (file.mtime_ns, file.name))

    def _is_delivery(self, name: str) -> bool:
        if is_delivery(name):
            return True
        if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".") and name not in self._passed_over:
            self._passed_over.add(name)
            log.warning("a file of calls is passed over: its name is too long, or two suffixes", name=name)
        return False

    def _is_whole(self, file: _File) -> bool:
        """Whether it has not changed for a while, by this PC's clock: a share may have another one."""
        return time.monotonic() - self._seen_at[file] >= self.settings.settle_s

    def _item(self, file: _File) -> Frame | GrabFault | None:
        """The board of a file of calls; None while something of it is still to come, or may still be written."""
        sheet = rejected_sheet(file.name)
        try:
            with suppress(InputError):
                sheet = replace(sheet, picture=picture_of(sheet, self._there))
            sheet = self._sheet(file)
            missing = self._missing(sheet)
            if not missing and self._failed.get(file) != self._files(file, sheet):  # else as it was when it failed
                return self._frame(file, sheet)
            if missing:
                self._reasons[file] = str(
                    InputError(
                        expected=f"the pictures of {file.name} within {self.settings.wait_s:g} s",
                        received=f"no {missing}",
                        fix="deliver them before the calls",
                    )
                )
        except Exception as error:  # whatever a file does to a decoder, it is this board's fault alone
            self._failed[file] = self._files(file, sheet)
            self._reasons[file] = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        return self._fault(file, sheet)

    def _fault(self, file: _File, sheet: CallSheet) -> GrabFault | None:
        """What is wrong with a board, once it has been so for ``wait_s`` since the last of its files changed."""
        since = max(self._seen_at.get(one, 0.0) for one in self._files(file, sheet))
        if time.monotonic() - since < self.settings.wait_s + self.settings.settle_s:
            return None
        for name in files_of(sheet) or (file.name,):
            if Path(name).suffix.lower() in SUFFIXES or name not in self._there:
                self._late[Path(name).stem] = None
        while len(self._late) > MOST_LATE:
            del self._late[next(iter(self._late))]
        return GrabFault(
            source=self.name, frame_id=self._next_id(), unit=sheet.unit, reason=self._reasons[file],
            grabbed_at_ns=time.time_ns(), sheet=replace(sheet, sha256=self._hash(file, sheet)),
        )  # fmt: skip

    def _hash(self, file: _File, sheet: CallSheet) -> str:
        """Of the calls as they were read, and the pictures as they are."""
        return hash_in_folder(self.folder, sheet, self._calls.get(file))

    def _files(self, file: _File, sheet: CallSheet) -> tuple[_File, ...]:
        """The files of a board as they are now, those that are there."""
        return (file, *(self._there[name] for name in files_of(sheet) if name in self._there))

    def _put_aside_late(self) -> None:
        """Pictures that came after their board was answered without them are not to be the next one's.

        Those are told by their age: a board that is delivered anew has its picture little before its calls.
        """
        for delivery in [file for file in self._there.values() if self._late and is_delivery(file.name)]:
            stem = Path(delivery.name).stem
            for name in [f"{stem}{suffix}" for suffix in PICTURES] if stem in self._late else []:
                picture = self._there.get(name)
                if picture is None or self._seen_at[delivery] - self._seen_at[picture] < STALE_S:
                    continue
                log.warning("a picture that came too late is put aside", picture=name)
                with suppress(OSError):
                    (self.folder / name).replace(self.folder / DONE / f"{time.time_ns()}-{name}")
                del self._there[name]

    def _sheet(self, file: _File) -> CallSheet:
        """The calls, read once, with the picture that is there now."""
        sheet = self._sheets.get(file)
        if sheet is None:
            data = content_of_sheet(self.folder / file.name)
            self._calls[file] = hashlib.sha256(data).digest()
            sheet = self._sheets[file] = sheet_from_bytes(file.name, data)
        return replace(sheet, picture=picture_of(sheet, self._there))

    def _missing(self, sheet: CallSheet) -> str:
        """What is not there, or not whole yet; empty: nothing."""
        if not sheet.crops and not sheet.picture:
            return f"picture {Path(sheet.delivery).stem}.*"
        for name in files_of(sheet):
            file = self._there.get(name)
            if file is None:
                return name
            if not self._is_whole(file):
                return f"{name} that is whole"
        return ""

    def _frame(self, file: _File, sheet: CallSheet) -> Frame | None:
        """The board; None where one of its files was changed while it was read."""
        sha256 = self._hash(file, sheet)
        crops = self._read_crops(sheet)
        image = read_pixels(self.folder / sheet.picture, rules=self.rules) if sheet.picture else crops[0].image
        if image is None:
            raise InputError(expected="a picture of the board", received="none", fix="deliver one")
        if sha256 != hash_in_folder(self.folder, sheet):
            self._sheets.pop(file, None)
            return None
        for name in files_of(sheet):
            self._late.pop(Path(name).stem, None)
        return Frame(
            image=image, source=self.name, frame_id=self._next_id(), unit=sheet.unit, grabbed_at_ns=time.time_ns(),
            sheet=replace(sheet, crops=crops, sha256=sha256),
        )  # fmt: skip

    def _read_crops(self, sheet: CallSheet) -> tuple[Crop, ...]:
        """The crops with their pixels, each file read once; InputError where they are larger than any board."""
        paths = {crop.file: self.folder / crop.file for crop in sheet.crops}
        headers = [header_of_picture(path).upright_hw for path in paths.values()]
        if (total := sum(h * w for h, w in headers)) > MOST_CROP_PX:
            raise InputError(
                expected=f"crops of at most {MOST_CROP_PX} px", received=str(total), fix="cut smaller ones"
            )
        images = {name: read_pixels(path, rules=self.rules) for name, path in paths.items()}
        return tuple(replace(crop, image=images[crop.file]) for crop in sheet.crops)

    def _next_id(self) -> int:
        self.frame_id += 1
        return self.frame_id


def _file(entry: os.DirEntry[str]) -> _File | None:
    """A file; None for what is none, and for one that was taken away in this moment."""
    try:
        stat = entry.stat(follow_symlinks=False)
        return _File(entry.name, stat.st_size, stat.st_mtime_ns) if S_ISREG(stat.st_mode) else None
    except OSError:
        return None
