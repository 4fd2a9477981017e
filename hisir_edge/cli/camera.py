"""``hisir-edge camera``: what the camera of a line is, how it is set, and a profile of that to check at each start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hisir_edge.errors import InputError

if TYPE_CHECKING:
    from hisir_edge.config.sources import CameraTable


def camera(
    config: Annotated[Path, typer.Option(help="The line's TOML file; the line must not run.")],
    name: Annotated[str, typer.Option(help="source.name of one of several cameras; default: the first.")] = "",
    save: Annotated[Path | None, typer.Option(help="Write the settings to this file, for source.profile.")] = None,
) -> None:
    """Open the camera of a line as configured and print every setting; --save them as a profile for source.profile.

    Its frames are compared with what the line's bundles were built for, as far as they are there yet. Of a camera on a
    network it says where the kernel gives its socket too little room.
    """
    from hisir_edge.camera.kinds import camera_profile
    from hisir_edge.config.file import settings_from_toml
    from hisir_edge.config.sources import CameraTable
    from hisir_edge.images import write_atomic

    settings = settings_from_toml(config)
    sources, bundles = {settings.source.name: settings.source}, {settings.source.name: settings.bundle}
    for view in settings.also:
        sources[view.source.name], bundles[view.source.name] = view.source, view.bundle
    if name and name not in sources:
        raise InputError(expected=f"--name out of {', '.join(sources)}", received=name, fix="correct it")
    source = sources[name or settings.source.name]
    if not isinstance(source, CameraTable):
        raise InputError(
            expected='source.type = "genicam", "aravis" or "viva"',
            received=f'"{source.type}"',
            fix="name another --config",
        )
    found = camera_profile(source)
    notes = found.pop("notes")
    if save is not None:
        try:
            write_atomic(save, (json.dumps(found, indent=1) + "\n").encode())
        except OSError as error:
            raise InputError(
                expected="a writable --save", received=f"{save} ({error.strerror})", fix="choose another"
            ) from error
        print(f"{len(found['features'])} settings in {save}; check them at each start with source.profile")
    else:
        for feature, value in {**found["camera"], **found["features"]}.items():
            print(f"{feature:40s} {value}")
    for note in notes:
        print(note)
    bundle = bundles[source.name]
    for folder in (bundle.path, *bundle.others):
        print(_compared(source, found["features"], Path(folder)))


def _compared(source: CameraTable, features: dict[str, str], folder: Path) -> str:
    """That an open camera's frames are those of a bundle, or that it is not there; InputError where they are not."""
    from hisir_edge.bundle.fit import check_colours, check_settings, check_size
    from hisir_edge.bundle.load import manifest_from_folder, recipe_from_manifest
    from hisir_edge.images.wire import WIRE_FORMATS

    if not folder.exists():
        return f"bundle {folder}: not there yet, nothing compared"
    recipe = recipe_from_manifest(manifest_from_folder(folder))
    check_settings(source, folder, recipe)
    h, w = recipe.frame_hw
    unknown = []
    wide, high = (features.get(side, "") for side in ("Width", "Height"))
    if wide.isdecimal() and high.isdecimal():
        check_size(source.name, (int(wide), int(high)), recipe)
    else:
        unknown.append("the size, which the camera does not say")
    known = WIRE_FORMATS.get(features.get("PixelFormat", ""))
    if known is not None and recipe.grey is not None:
        check_colours(known.line_format, recipe.grey)
    else:
        unknown.append("grey or colour")
    left = f"; not compared: {', '.join(unknown)}" if unknown else ""
    return f"bundle {folder}: these are the frames that it was built for, {w}x{h}{left}"
