"""Places that no other good board shows: where they are, and pictures of them for a person to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hisir_edge.arrays import F32, u8
from hisir_edge.bundle.manifest import NotCountedModel
from hisir_edge.bundle.thresholds import Thresholds
from hisir_edge.engine.acceptance.maps import Maps
from hisir_edge.errors import HisirEdgeError
from hisir_edge.images import png_bytes, read_rgb, write_atomic
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.inspection.regions import regions_from_map
from hisir_edge.learn.data.odd import MARGIN_PX, Piece, piece_picture
from hisir_edge.learn.data.run import RunRecord


@dataclass(frozen=True, slots=True)
class Alone:
    """A place that no other good board shows, and that did not count.

    ``box_xywh`` in the network's pixels; ``strength`` in units of the region threshold.
    """

    picture: str
    box_xywh: tuple[int, int, int, int]
    strength: float


def places_alone(
    maps: Maps, boards: tuple[int, ...], counts: tuple[int, ...], gain_of: Callable[[int], F32], here: Thresholds
) -> dict[int, list[Alone]]:
    """By board where the peaks lie that were not counted, strongest first: on the picture that shows them best.

    ``boards``: which board each good map shows; ``counts``: by board, in the order in which they come, how many peaks.
    ``gain_of``: what calibrates a map, (h, w), with the noise of the other boards; ``here``: thresholds in its pixels.
    """
    by_board = dict(zip(dict.fromkeys(boards), counts, strict=True))
    found = dict[int, list[Alone]]()
    for number, board in ((i, board) for i, board in enumerate(boards) if by_board[board]):
        calibrated = np.load(maps.good[number]) * gain_of(number)
        regions = regions_from_map(calibrated, replace(here, region_peak=1.0)).regions[: by_board[board]]
        picture = maps.pictures[number] if maps.pictures else ""
        shown = [Alone(picture, one.box_xywh, one.peak / here.region_peak) for one in regions]
        found[board] = max(found.get(board, []), shown, key=lambda places: sum(place.strength for place in places))
    return found


def models_of(places: tuple[Alone, ...], scale: float) -> tuple[NotCountedModel, ...]:
    """For the manifest: boxes in golden-image pixels of the camera's frame."""
    out = []
    for place in places:
        x, y, w, h = (round(value / scale, 1) for value in place.box_xywh)
        name = Path(place.picture).name
        out.append(NotCountedModel(picture=name, x=x, y=y, width=w, height=h, strength=round(place.strength, 3)))
    return tuple(out)


def show_places(
    inspector: CpuInspector, record: RunRecord, places: tuple[Alone, ...], run: Path, on_stage: Callable[[str], None]
) -> None:
    """Write a picture of each place into the run's folder: the board and, to its right, the golden image.

    A folder that takes none costs the pictures, not the bundle.
    """
    try:
        _show(inspector, record, places, run)
    except (OSError, HisirEdgeError) as error:
        on_stage(f"no pictures of what one board alone shows: {error}")


def _show(inspector: CpuInspector, record: RunRecord, places: tuple[Alone, ...], run: Path) -> None:
    folder = run / "odd"
    for old in folder.glob("judged-*.png"):
        old.unlink()
    h, w = inspector.plan.frame_hw
    for number, place in enumerate(places, 1):
        folder.mkdir(exist_ok=True)
        inspector.prepare(Pixels(read_rgb(Path(place.picture), rules=record.rules)))
        x, y, wide, high = place.box_xywh
        left, top = max(x - MARGIN_PX, 0), max(y - MARGIN_PX, 0)
        right, bottom = min(x + wide + MARGIN_PX, w), min(y + high + MARGIN_PX, h)
        board = u8(inspector.padded[top:bottom, left:right].copy())
        piece = Piece((left, top, right - left, bottom - top), np.empty(0, np.int64), place.strength, board)
        file = folder / f"judged-{number:02d}-{Path(place.picture).stem}-x{x}-y{y}.png"
        write_atomic(file, png_bytes(piece_picture(piece, u8(inspector.bundle.memory_rgbd[..., :3]))))
