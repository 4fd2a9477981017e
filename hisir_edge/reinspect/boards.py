"""The boards of archives: folders as a line keeps them, or the same on object storage (``s3://``, ``gs://``)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hisir_edge.archive.folder import EPOCH, OURS
from hisir_edge.errors import InputError

FSSPEC_MISSING = InputError(
    expected="the package fsspec, and the one of the storage (s3fs, gcsfs)", received="none",
    fix="pip install 'hisir-edge[reinspect]' s3fs",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class BoardRef:
    """One archived board: its archive as it was named, its name within, and what that says."""

    archive: str
    name: str
    epoch: str
    seq: int
    result: str

    @property
    def key(self) -> str:
        """By which it is known in tables."""
        return f"{self.archive}/{self.name}"


def boards_in(archives: Iterable[str]) -> list[BoardRef]:
    """All boards, by archive, epoch and number; InputError where an archive has none."""
    found = []
    for archive in dict.fromkeys(_plain(one) for one in archives):
        names = _names(archive)
        here = [_ref(archive, name) for name in names]
        boards = sorted((one for one in here if one is not None), key=lambda one: (one.epoch, one.seq, one.name))
        if not boards:
            raise InputError(
                expected="archives as lines keep them (EPOCH/NUMBER-TIME-RESULT-BOARD.zip)",
                received=f"{archive} without a board", fix="name the folder of [archive]",
            )  # fmt: skip
        found += boards
    return found


class Unreadable(InputError):
    """A board's file cannot be read now; it may be later."""


def content_of(board: BoardRef) -> bytes:
    """A board's file; Unreadable where it cannot be read."""
    try:
        if is_remote(board.archive):
            files, root = _filesystem(board.archive)
            with files.open(f"{root}/{board.name}", "rb") as file:
                return bytes(file.read())
        return (Path(board.archive) / board.name).read_bytes()
    except OSError as error:
        raise Unreadable(
            expected="a board's file", received=f"{board.key}: {error.strerror or error}", fix="is the archive there?"
        ) from error


def _plain(archive: str) -> str:
    """An archive by one name, whichever way it was spelled; InputError for a name that is no text."""
    try:
        archive.encode()
    except UnicodeEncodeError as error:
        raise InputError(expected="archives whose names are UTF-8", received=repr(archive), fix="rename it") from error
    return archive.rstrip("/") if is_remote(archive) else str(Path(archive).resolve())


def is_remote(archive: str) -> bool:
    """Whether an archive is on another storage than this machine's files."""
    return "://" in archive


def _filesystem(archive: str) -> tuple[Any, str]:
    """The storage of an address, and the path there; InputError for one that is not known."""
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError as error:
        raise FSSPEC_MISSING from error
    try:
        files, root = url_to_fs(archive)
    except (ImportError, ValueError) as error:
        raise InputError(expected="an archive's address", received=f"{archive}: {error}", fix="correct it") from error
    return files, str(root)


def _names(archive: str) -> list[str]:
    """Names EPOCH/FILE in an archive."""
    try:
        if is_remote(archive):
            files, root = _filesystem(archive)
            return [str(path)[len(root) :].lstrip("/") for path in files.find(root)]
        return [
            f"{epoch.name}/{file.name}"
            for epoch in os.scandir(archive) if epoch.is_dir() and EPOCH.fullmatch(epoch.name)
            for file in os.scandir(epoch.path)
        ]  # fmt: skip
    except OSError as error:
        raise InputError(
            expected="an archive", received=f"{archive}: {error.strerror or error}", fix="name the folder of [archive]"
        ) from error


def _ref(archive: str, name: str) -> BoardRef | None:
    epoch, _, file = name.rpartition("/")
    said = OURS.fullmatch(file)
    if said is None or not EPOCH.fullmatch(epoch) or int(said["seq"]) >= 1 << 62:
        return None
    return BoardRef(archive, name, epoch, int(said["seq"]), said["result"])
