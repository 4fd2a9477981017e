"""A pick-and-place file onto a bundle's golden image, or onto a picture: from files to components and an overlay."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hisir_edge.arrays import F64, U8
from hisir_edge.bundle.files import GOLDEN
from hisir_edge.bundle.load import manifest_from_folder
from hisir_edge.engine.parts.find import LEAST_PARTS, found_on_picture, share_on_things
from hisir_edge.engine.parts.fit import Fit, disc_near, fit_of_points
from hisir_edge.engine.parts.packages import Size
from hisir_edge.engine.parts.place import Placed, placed, upright_sizes_mm
from hisir_edge.engine.parts.placements import Placement, placements_from_file
from hisir_edge.errors import InputError
from hisir_edge.images import read_rgb

MOST_OFF_MM, MOST_OFF_PX = 0.5, 4.0
"""How far a point may be off the common fit."""
LEAST_ON_THINGS = 0.3
"""Below this share of parts that lie on something there is a doubt."""
FIDUCIAL = re.compile(r"fid|fiducial|^fm\d", re.IGNORECASE)
AT = re.compile(r"([^=]{1,64})=([0-9]{1,6}(?:\.[0-9]*)?),([0-9]{1,6}(?:\.[0-9]*)?)")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person has said. ``at``: ``NAME=X,Y`` in pixels of the picture; ``mirrored``: None: by the side."""

    side: str = "top"
    unit: str = ""
    at: tuple[str, ...] = ()
    mirrored: bool | None = None
    table: dict[str, Size] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Imported:
    """``lines``: what came of it, to be read; ``points_px`` (n, 2): fiducials in the picture."""

    placed: Placed
    fit: Fit
    share: float | None
    """Of the parts of known size that lie on something of that size; None: too few to tell."""
    scale: float
    """Pixels of the camera's frame that are one of the picture."""
    points_px: F64 = field(repr=False)
    picture: U8 = field(repr=False)
    lines: tuple[str, ...]


def imported(file: Path, on: Path, wanted: Wanted) -> Imported:
    """``on``: a bundle, or a picture as the line's camera takes it. InputError says what to do about it."""
    parts, unit = placements_from_file(file, wanted.unit)
    picture, scale = _picture(on)
    here = tuple(one for one in parts if one.side == wanted.side)
    if not here:
        raise InputError(
            expected=f"parts on the {wanted.side} side", received=f"{len(parts)} on the other", fix="name it: --side"
        )
    fit, points_px, share, how = _laid(here, picture, wanted)
    if scale != 1:
        fit = Fit(fit.matrix * scale, fit.mirrored, fit.residual_px * scale)
    mounted = tuple(one for one in here if not _is_fiducial(one))
    h, w = picture.shape[:2]
    made = placed(mounted, fit, wanted.table, (round(w * scale), round(h * scale)))
    lines = (
        f"{len(made.components)} of {len(parts)} parts: {wanted.side} side, in {unit}",
        *how,
        f"1 mm is {fit.px_per_mm:.2f} px (--mm-per-px {1 / fit.px_per_mm:.5f}), {_way(fit)}",
        *_missing(mounted, made),
    )
    return Imported(made, fit, share, scale, points_px, picture, lines)


def _picture(on: Path) -> tuple[U8, float]:
    """The picture, and how many pixels of the camera's frame are one of its own."""
    if not on.is_dir():
        return read_rgb(on), 1.0
    manifest = manifest_from_folder(on)
    golden = read_rgb(on / GOLDEN)
    return golden, manifest.recipe.frame_width / golden.shape[1]


def _laid(
    parts: tuple[Placement, ...], picture: U8, wanted: Wanted
) -> tuple[Fit, F64, float | None, tuple[str, ...]]:  # fmt: skip
    """By what a person has clicked at; else found."""
    mirrored = wanted.side == "bottom" if wanted.mirrored is None else wanted.mirrored
    sizes = upright_sizes_mm(parts, wanted.table)
    known = np.isfinite(sizes).all(1)
    all_mm = np.array([(one.x_mm, one.y_mm) for one in parts], np.float64)
    if wanted.at:
        names, clicked = _clicked(wanted.at)
        by_name = {one.designator.lower(): one for one in parts}
        if unknown := [name for name in names if name.lower() not in by_name]:
            raise InputError(
                expected=f"designators of the file's {wanted.side} side", received=unknown[0],
                fix="correct --at or --side",
            )  # fmt: skip
        discs = [
            disc_near(picture, at) if _is_fiducial(by_name[name.lower()]) else None
            for name, at in zip(names, clicked, strict=True)
        ]
        points_px = np.array([disc or at for disc, at in zip(discs, clicked, strict=True)], np.float64)
        points_mm = np.array([(by_name[n.lower()].x_mm, by_name[n.lower()].y_mm) for n in names], np.float64)
        fit = fit_of_points(points_mm, points_px, mirrored, wanted.mirrored is not None)
        _check_points(names, fit)
        told = ", ".join(
            f"{name} {'found' if disc else 'as clicked'}, off by {off:.1f} px"
            for name, disc, off in zip(names, discs, fit.residual_px, strict=True)
        )
        told += "" if len(names) > 2 else " (two points always fit: a third one checks them)"
        if known.sum() < LEAST_PARTS:
            return fit, points_px, None, (told,)
        share = share_on_things(fit, all_mm[known], sizes[known], picture)
        doubt = "" if share >= LEAST_ON_THINGS else "; few: look at the overlay"
        return (
            fit,
            points_px,
            share,
            (told, f"{share:.0%} of the parts of known size lie on something of that size{doubt}"),
        )
    ways = (mirrored, not mirrored) if wanted.mirrored is None else (mirrored,)
    found = found_on_picture(all_mm[known], sizes[known], picture, ways)
    told = (
        f"found: {found.share:.0%} of the parts of known size lie on something of that size, {found.lead:.1f} times as "
        "many as in the next best way: look at the overlay"
    )
    return found.fit, np.empty((0, 2)), found.share, (told,)


def _way(fit: Fit) -> str:
    return f"turned by {fit.turned_deg:.1f} degrees{', mirrored' if fit.mirrored else ''}"


def _check_points(names: list[str], fit: Fit) -> None:
    """InputError for points that do not fit each other: one of them is not what it is called."""
    worst = int(np.argmax(fit.residual_px))
    if fit.residual_px[worst] > max(MOST_OFF_MM * fit.px_per_mm, MOST_OFF_PX):
        off = ", ".join(f"{name} {px:.0f} px" for name, px in zip(names, fit.residual_px, strict=True))
        raise InputError(
            expected=f"points that fit each other to {MOST_OFF_MM} mm", received=f"off by: {off}",
            fix="correct the --at that is wrong, --unit or --side",
        )  # fmt: skip


def _clicked(at: tuple[str, ...]) -> tuple[list[str], list[tuple[float, float]]]:
    names: list[str] = []
    points: list[tuple[float, float]] = []
    for one in at:
        found = AT.fullmatch(one.strip())
        if found is None:
            raise InputError(
                expected="NAME=X,Y with pixels of the picture, such as FID1=412,377", received=one, fix="correct --at"
            )
        if found[1].lower() in {name.lower() for name in names}:
            raise InputError(expected="each name once", received=f"{found[1]} twice", fix="correct --at")
        names.append(found[1])
        points.append((float(found[2]), float(found[3])))
    return names, points


def _is_fiducial(part: Placement) -> bool:
    return bool(FIDUCIAL.search(part.designator) or FIDUCIAL.search(part.package))


def _missing(mounted: tuple[Placement, ...], made: Placed) -> list[str]:
    """What a person has to know of parts that are not as the file says."""
    packages = {one.designator: one.package for one in mounted}
    lines = []
    if made.unsized:
        names = sorted({packages[name] or "no name" for name in made.unsized})
        lines.append(
            f"note: {len(made.unsized)} parts of {len(names)} packages of unknown size are taken as 1.5 x 1.5 mm: "
            f"{', '.join(names[:8])}{', ...' if len(names) > 8 else ''}; add them to --packages"
        )
    if made.outside:
        lines.append(f"note: {len(made.outside)} parts lie beside the picture: {', '.join(made.outside[:8])}")
    return lines
