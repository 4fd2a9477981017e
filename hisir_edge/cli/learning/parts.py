"""``hisir-edge parts``: parts and their places from CAD."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from hisir_edge.cli.console import needs_training_packages

parts_app = typer.Typer(help="Parts and their places from CAD, so that verdicts name them.", no_args_is_help=True)


class Side(str, Enum):
    """Which side the camera sees."""

    top = "top"
    bottom = "bottom"


@parts_app.callback()
def _parts() -> None:
    """Keep ``import`` a command of its own."""


@parts_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Pick-and-place file: KiCad, Altium, Eagle, or a table.")],
    on: Annotated[Path, typer.Option(help="A bundle, or a picture of a board as the line takes it.")],
    out: Annotated[Path, typer.Option(help="CSV list for build-engine --components; the overlay lies beside it.")],
    at: Annotated[
        list[str] | None,
        typer.Option(help="NAME=X,Y: a fiducial, or a part, and where it lies in the picture; two or more."),
    ] = None,
    side: Annotated[Side, typer.Option(help="The side that the camera sees.")] = Side.top,
    unit: Annotated[str, typer.Option(help="mm, mil or inch, where the file does not say.")] = "",
    packages: Annotated[
        Path | None, typer.Option(help="CSV table package,width_mm,height_mm for names that say no size.")
    ] = None,
    mirrored: Annotated[
        bool | None,
        typer.Option("--mirrored/--not-mirrored", help="Whether the file's x is mirrored; default: by the side."),
    ] = None,
    into: Annotated[Path | None, typer.Option(help="Write the bundle of --on here, too, with these parts.")] = None,
) -> None:
    """Lay the parts of a pick-and-place file onto the golden image, by fiducials that are named, or found."""
    from hisir_edge.bundle.files import MANIFEST

    try:
        from hisir_edge.engine.parts.importing import Wanted, imported
    except ModuleNotFoundError:
        needs_training_packages()
        raise
    from hisir_edge.engine.parts.packages import sizes_from_csv
    from hisir_edge.engine.parts.place import csv_of_components, overlay, write_text
    from hisir_edge.errors import InputError
    from hisir_edge.images import write_atomic

    if into is not None and not on.is_dir():
        raise InputError(expected="--on BUNDLE with --into", received=str(on), fix="name the bundle")
    shown = out.with_name(f"{out.stem}.overlay.jpg")
    inputs = {path.resolve() for path in (file, on, packages) if path is not None}
    if out.suffix.lower() != ".csv":
        raise InputError(expected="--out NAME.csv", received=str(out), fix="name the list that is to be written")
    if into is not None and into.resolve() == on.resolve():
        raise InputError(expected="--into another bundle than --on", received=str(into), fix="name a new one")
    for path in (out, shown):
        if (path.parent / MANIFEST).exists() or (into is not None and path.resolve().is_relative_to(into.resolve())):
            raise InputError(expected="--out outside of bundles", received=str(path), fix="name another --out")
        if path.resolve() in inputs or (on.is_dir() and path.resolve().is_relative_to(on.resolve())):
            raise InputError(expected="--out elsewhere than what is read", received=str(path), fix="name another --out")
    table = sizes_from_csv(packages) if packages is not None else {}
    found = imported(file, on, Wanted(side.value, unit.lower(), tuple(at or ()), mirrored, table))
    write_text(out, csv_of_components(found.placed.components))
    write_atomic(shown, overlay(found.picture, found.placed, found.points_px, found.scale))
    print("\n".join(found.lines))
    print(f"{out}; look at {shown}")
    if into is not None:
        needs_training_packages()
        from hisir_edge.engine.parts.into import bundle_with_parts

        bundle_with_parts(on, into, found)
        print(f"{into}: the bundle with these parts")
