"""Whether a camera is set as the one that a bundle was built for: else each of its frames would be an ERROR."""

from __future__ import annotations

from pathlib import Path

from hisir_edge.bundle.load import Recipe
from hisir_edge.config.from_files import CallsSource, ReplaySource
from hisir_edge.config.sources import AnySource, CameraTable
from hisir_edge.errors import InputError, InspectionError
from hisir_edge.images.wire import WIRE_FORMATS


def check_settings(source: AnySource, folder: Path, recipe: Recipe) -> None:
    """InputError where the configuration alone shows that frames are not those of the bundle in ``folder``."""
    h, w = recipe.frame_hw
    if isinstance(source, CameraTable | ReplaySource | CallsSource) and source.levels != recipe.levels:
        want = "none" if recipe.levels is None else f"levels = {list(recipe.levels)}"
        raise InputError(
            expected=f"source.levels as {folder} was trained with: {want}",
            received="none" if source.levels is None else f"levels = {list(source.levels)}",
            fix="set source.levels so, or train with --levels",
        )
    if isinstance(source, CameraTable) and source.pixel_format is not None:
        check_colours(WIRE_FORMATS[source.pixel_format].line_format, recipe.grey)
    if isinstance(source, CameraTable) and (source.width or w, source.height or h) != (w, h):
        raise InputError(
            expected=f"source.width and source.height of {w}x{h}, for which the bundle was built",
            received=f"{source.width or w}x{source.height or h}",
            fix="correct them",
        )


def check_size(camera: str, frame_wh: tuple[int, int], recipe: Recipe) -> None:
    """InputError for an open camera whose frames (width, height) are of another size."""
    h, w = recipe.frame_hw
    if frame_wh != (w, h):
        raise InputError(
            expected=f"camera {camera} to give {w}x{h}, for which the bundle was built",
            received=f"{frame_wh[0]}x{frame_wh[1]}",
            fix="set source.width and source.height, or build the bundle for this camera",
        )


def check_colours(line_format: str, grey: bool | None) -> None:
    """InputError for a camera of the other kind, grey or colour; ``line_format``: as frames travel in the line."""
    if grey is not None and (line_format == "Mono8") != grey:
        wrong = not_of_these_colours(grey, line_format)
        raise InputError(expected=wrong.expected, received=wrong.received, fix=wrong.fix)


def not_of_these_colours(grey: bool, line_format: str) -> InspectionError:
    """For frames of a camera of the other kind than the bundle's."""
    want, other = ("grey", "colour") if grey else ("colour", "grey")
    return InspectionError(
        expected=f"frames in {want}, for which the bundle was built",
        received=f"frames in {other} ({line_format})",
        fix=f"set source.pixel_format to one in {want}, or build a bundle from {other} photos",
    )
