"""Rendered boards as CAD files: the same parts as KiCad, Altium, Eagle and spreadsheets write them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hisir_edge.sim.layout import BoardLayout

PX_PER_MM = 20.0
MIL = 0.0254


@dataclass(frozen=True)
class CadPart:
    """Centre in mm with y upwards, rotation counter-clockwise, size at a rotation of 0."""

    name: str
    x: float
    y: float
    angle: float
    w: float
    h: float
    side: str = "top"
    fiducial: bool = False

    @property
    def package(self) -> str:
        return "Fiducial_1mm" if self.fiducial else f"PKG_{self.w:.2f}x{self.h:.2f}mm"


def cad_parts(layout: BoardLayout, origin_px: tuple[float, float] = (0.0, 0.0)) -> list[CadPart]:
    """A layout's parts; the origin lies there in the picture."""
    x0, y0 = origin_px
    return [
        CadPart(
            part.designator, (part.x - x0) / PX_PER_MM, (y0 - part.y) / PX_PER_MM, (-part.angle_deg) % 360,
            part.body_w / PX_PER_MM, part.body_h / PX_PER_MM,
        )
        for part in layout.parts
    ]  # fmt: skip


def kicad_pos(parts: Sequence[CadPart], inches: bool = False) -> str:
    k = 1 / 25.4 if inches else 1.0
    rows = [
        f"{p.name:<8}{'10k':<12}{p.package:<30}{p.x * k:>12.4f}{p.y * k:>12.4f}{p.angle:>10.4f}  {p.side}"
        for p in parts
    ]
    return "\n".join(
        [
            "### Footprint positions - created on 2026-11-30T10:00:00 ###", "### Printed by KiCad version 9.0.2",
            f"## Unit = {'inches' if inches else 'mm'}, Angle = deg.", "## Side : All",
            "# Ref     Val       Package                     PosX       PosY       Rot  Side", *rows, "## End", "",
        ]
    )  # fmt: skip


def kicad_csv(parts: Sequence[CadPart]) -> str:
    rows = [f'"{p.name}","10k","{p.package}",{p.x:.6f},{p.y:.6f},{p.angle:.6f},{p.side}' for p in parts]
    return "\n".join(["Ref,Val,Package,PosX,PosY,Rot,Side", *rows, ""])


def altium_csv(parts: Sequence[CadPart], mil: bool = True) -> str:
    unit, k = ("mil", 1 / MIL) if mil else ("mm", 1.0)
    layer = {"top": "TopLayer", "bottom": "BottomLayer"}
    head = [
        "Altium Designer Pick and Place Locations", r"C:\boards\Pick Place for board.csv", "", "=" * 100,
        "File Design Information:", "", "Date:       30/11/26", "Variant:    No variations", f"Units used: {unit}", "",
        f'"Designator","Comment","Layer","Footprint","Center-X({unit})","Center-Y({unit})","Rotation","Description"',
    ]  # fmt: skip
    rows = [
        f'"{p.name}","10k, 1%","{layer[p.side]}","{p.package}","{p.x * k:.4f}","{p.y * k:.4f}","{p.angle:.0f}","""b"""'
        for p in parts
    ]
    return "\r\n".join([*head, *rows, ""])


def altium_txt(parts: Sequence[CadPart]) -> str:
    """Columns of fixed width, with blanks in comments."""
    layer = {"top": "TopLayer", "bottom": "BottomLayer"}
    cells = [("Designator", "Comment", "Layer", "Footprint", "Center-X(mm)", "Center-Y(mm)", "Rotation", "Description")]
    cells += [
        (p.name, "10k 1%", layer[p.side], p.package, f"{p.x:.4f}", f"{p.y:.4f}", f"{p.angle:.0f}", "Chip resistor")
        for p in parts
    ]
    widths = [max(len(row[n]) for row in cells) + 1 for n in range(8)]
    lines = ["".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(["Altium Designer Pick and Place Locations", "", "Units used: mm", "", *lines, ""])


def eagle_mnt(parts: Sequence[CadPart]) -> str:
    return "\n".join(f"{p.name:<8}{p.x:>8.2f} {p.y:>8.2f} {p.angle:>4.0f}  10k  {p.package}" for p in parts) + "\n"


def german_table(parts: Sequence[CadPart]) -> str:
    """Semicolons and decimal commas, another order, units behind numbers."""
    rows = [
        f"{p.side[0].upper()};{p.name};{p.angle:.1f};{p.package};{p.x:.3f} mm;{p.y:.3f} mm".replace(".", ",").replace(
            p.package.replace(".", ","), p.package
        )
        for p in parts
    ]
    return "\n".join(["TB;RefDes;Rot;Package;X;Y", *rows, ""])


def turned(x: float, y: float, degrees: float) -> tuple[float, float]:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return c * x - s * y, s * x + c * y
