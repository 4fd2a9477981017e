"""``hisir-edge camera``: what the camera of a line is, how it is set, and a profile of that to check at each start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hisir_edge.errors import InputError


def camera(
    config: Annotated[Path, typer.Option(help="The line's TOML file; the line must not run.")],
    name: Annotated[str, typer.Option(help="source.name of one of several cameras; default: the first.")] = "",
    save: Annotated[Path | None, typer.Option(help="Write the settings to this file, for source.profile.")] = None,
) -> None:
    """Open the camera of a line as configured and print every setting; --save them as a profile for source.profile."""
    from hisir_edge.camera.kinds import camera_profile
    from hisir_edge.config.file import settings_from_toml
    from hisir_edge.config.sources import CameraTable
    from hisir_edge.images import write_atomic

    settings = settings_from_toml(config)
    sources = {source.name: source for source in (settings.source, *(view.source for view in settings.also))}
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
    if save is not None:
        try:
            write_atomic(save, (json.dumps(found, indent=1) + "\n").encode())
        except OSError as error:
            raise InputError(
                expected="a writable --save", received=f"{save} ({error.strerror})", fix="choose another"
            ) from error
        print(f"{len(found['features'])} settings in {save}; check them at each start with source.profile")
        return
    for feature, value in {**found["camera"], **found["features"]}.items():
        print(f"{feature:40s} {value}")
