"""Picture files in folders: which are taken, and which are left out and said to be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hisir_edge.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
OTHER_SUFFIXES = (
    ".webp", ".heic", ".heif", ".gif", ".jp2", ".j2k", ".jxl", ".avif", ".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw",
    ".pgm", ".ppm", ".pnm", ".tga", ".exr", ".jpe", ".jfif", ".npy",
)  # fmt: skip
"""Picture formats that are not read: left out of a folder, with a word."""


@dataclass(frozen=True, slots=True)
class FoundPictures:
    """The pictures of a folder, sorted, and in plain words what was left out ("" for nothing)."""

    paths: tuple[Path, ...]
    left_out: str


def pictures_in(folder: Path, recursive: bool = False) -> FoundPictures:
    """The pictures in a folder, or with ``recursive`` below it, by path; InputError where there is none.

    Names that begin with a dot are left out: file managers keep their own data in them.
    """
    if not folder.is_dir():
        received = f"{folder} ({'not a folder' if folder.exists() else 'does not exist'})"
        raise InputError(expected="a folder of images", received=received, fix="check the path")
    files = [path for path in _visible(folder, recursive) if path.is_file()]
    found = tuple(sorted(path for path in files if is_picture(path)))
    if not found:
        folders = sorted(p.name for p in _visible(folder, False) if p.is_dir())
        raise InputError(
            expected=f"images ({', '.join(IMAGE_SUFFIXES)}) in {folder}",
            received=f"folders only ({_few(folders)})" if folders else "none" + _of_other_formats(files),
            fix="check the path (one folder deeper, or --recursive?), or convert the images",
        )
    return FoundPictures(found, _left_out(folder, files, recursive))


def image_paths(folder: Path, recursive: bool = False) -> list[Path]:
    """The paths of ``pictures_in``."""
    return list(pictures_in(folder, recursive).paths)


def is_picture(path: Path) -> bool:
    """Whether a file is taken for a picture: by its suffix, and not where its name begins with a dot."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _visible(folder: Path, recursive: bool) -> Iterator[Path]:
    """Everything in a folder that is not hidden, and below it; linked folders may lead in a circle: not followed."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(
            expected="a folder that can be read", received=f"{folder} ({error.strerror})", fix="check its permissions"
        ) from error
    for path in paths:
        if path.name.startswith("."):
            continue
        yield path
        if recursive and path.is_dir() and not path.is_symlink():
            yield from _visible(path, recursive)


def pictures_below(folder: Path) -> int:
    """How many pictures lie in a folder and below it; 0 for one that is not there or cannot be read."""
    try:
        return sum(is_picture(path) for path in _visible(folder, True)) if folder.is_dir() else 0
    except InputError:
        return 0


def _of_other_formats(files: list[Path]) -> str:
    others = [path.name for path in files if path.suffix.lower() in OTHER_SUFFIXES]
    return f", but {len(others)} of formats that are not read, such as {others[0]}" if others else ""


def _left_out(folder: Path, files: list[Path], recursive: bool) -> str:
    others = _of_other_formats(files).removeprefix(", but ")
    out = [others] if others else []
    folders = [path for path in _visible(folder, recursive) if path.is_dir() and (not recursive or path.is_symlink())]
    below = [(path.name, count) for path in folders if (count := pictures_below(path))]
    if below:
        total, names = sum(count for _, count in below), _few([name for name, _ in below])
        how = "linked folders are not followed" if recursive else "--recursive takes them"
        out.append(f"{total} in folders below it ({names}); {how}")
    return f"left out of {folder}: {'; '.join(out)}" if out else ""


def check_apart(option: str, out: Path, folders: set[Path]) -> None:
    """InputError when ``out`` is one of the folders that pictures are read from: results would be taken for boards."""
    if out.resolve() in {folder.resolve() for folder in folders}:
        raise InputError(
            expected=f"a folder for {option} that no pictures are read from",
            received=str(out),
            fix="choose another: pictures written there would be taken for boards",
        )
