"""Places where one good board alone looks otherwise: a bad board among the good ones, or a variant seen once.

Each registered board is compared with the golden image of all, which a few odd boards cannot move. What differs far
more than good boards differ there, on one board alone, is shown to a person and, by default, neither learnt nor
counted.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from hisir_edge.arrays import F32, I64, U8, Bool, max_of_channels, u8
from hisir_edge.bundle.variants import Place
from hisir_edge.images import png_bytes, write_atomic
from hisir_edge.inspection.light import without_light
from hisir_edge.inspection.registration.finder import inside_outline, outline_of
from hisir_edge.inspection.registration.pose import straightened
from hisir_edge.learn.data.memory import GoodBoards
from hisir_edge.learn.data.run import OddPlace, RunRecord
from hisir_edge.learn.data.statistics import BoardMemory
from hisir_edge.net.position import DEVIATION_GAIN

BLUR_PX = 5
MOST_SHOWN = 40
"""Pictures of odd places, the strongest ones."""
USUAL_LEVELS, DEVIATIONS = 12.0, 4.0
"""A place differs where its colour is off by so many levels and so many deviations of the good boards beside it."""
EDGE_PX = 2
"""The colours within so many pixels are as good: edges lie a little otherwise on each board."""
LEAST_AREA_PX, LEAST_PEAK = 80, 2.0
"""A place covers so much at least, and is somewhere off by so many times what makes it differ."""
MARGIN_PX, LEAST_SHOWN_PX = 8, 160
LEAST_BOARDS = 5
SHARED_SHARE, ALONE_SHARE = 0.3, 0.03
"""Another board shares a place where it differs in so much of it; of all boards so many may share what is odd."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A place where a board differs: box in golden pixels, its pixels as flat indices, how far off, the board there."""

    box_xywh: tuple[int, int, int, int]
    inside: I64 = field(repr=False)
    peak: float
    board_rgb: U8 = field(repr=False)


@dataclass(frozen=True, slots=True)
class Differing:
    """Where a board differs from the golden image: one bit a pixel, packed, and the pieces that are large and clear."""

    bits: U8 = field(repr=False)
    pieces: tuple[Piece, ...] = field(repr=False)


def differing_boards(boards: GoodBoards) -> list[Differing]:
    """Where each board differs from the golden image; none where boards are not registered or too few."""
    if not boards.registered or not boards.frames:
        return []
    hw = (boards.memory.mean_rgb.shape[0], boards.memory.mean_rgb.shape[1])
    on_board = None if boards.area is None else inside_outline(hw, outline_of(hw, boards.area))
    reference = _Reference.of(boards.memory, on_board)
    found = []
    for number in range(len(boards.frames)):
        picture = _flat(boards, number)
        for place in boards.variants.places:
            reference.renew(boards, number, place)
        off = reference.difference(picture)
        found.append(Differing(u8(np.packbits(off >= 1)), tuple(_pieces(off, picture))))
    return found


def odd_pieces(seen: list[Differing]) -> list[tuple[int, Piece]]:
    """(Number of the board, piece) of what one board alone shows, the strongest first."""
    if len(seen) < LEAST_BOARDS:
        return []
    most = max(1, int(ALONE_SHARE * len(seen)))
    found = []
    for number, one in enumerate(seen):
        for piece in one.pieces:
            rows, bits = piece.inside >> 3, np.uint8(128) >> (piece.inside & 7).astype(np.uint8)
            share = [float(((other.bits[rows] & bits) > 0).mean()) for other in seen]
            if sum(part >= SHARED_SHARE for part in share) <= most:
                found.append((number, piece))
    return sorted(found, key=lambda pair: -pair[1].peak)


def piece_picture(piece: Piece, golden_rgb: U8) -> U8:
    """The board and, to its right, the golden image at a place, enlarged where it is small."""
    x, y, w, h = piece.box_xywh
    both = np.hstack([piece.board_rgb, np.full((h, 4, 3), 255, np.uint8), golden_rgb[y : y + h, x : x + w]])
    times = max(1, LEAST_SHOWN_PX // max(h, 1))
    return u8(np.repeat(np.repeat(both, times, 0), times, 1))


def _flat(boards: GoodBoards, number: int) -> U8:
    """A board in golden coordinates with its light taken out."""
    hw = (boards.memory.mean_rgb.shape[0], boards.memory.mean_rgb.shape[1])
    return without_light(straightened(boards.frames[number], boards.poses[number], hw), boards.lights[number])


@dataclass(frozen=True, slots=True)
class _Reference:
    """Lowest and highest usual colour (h, w, 3) and tolerance (h, w) of good boards at each place."""

    low: F32
    high: F32
    tolerance: F32
    on_board: Bool | None

    @classmethod
    def of(cls, memory: BoardMemory, on_board: Bool | None) -> _Reference:
        return cls(*_usual(memory.mean_rgb, memory.deviation), on_board)

    def renew(self, boards: GoodBoards, number: int, place: Place) -> None:
        """What is usual at a place on this board, by the variant that it shows."""
        m, reach = place.model, BLUR_PX // 2 + EDGE_PX
        memory, (h, w) = boards.memory, self.tolerance.shape
        inner = _box(m.y, m.x, m.y + m.height, m.x + m.width, reach, (h, w))
        outer = _box(m.y, m.x, m.y + m.height, m.x + m.width, 2 * reach, (h, w))
        cue = np.dstack([memory.mean_rgb[outer], memory.deviation[outer]])
        boards.variants.put_into(u8(cue), (outer[0].start, outer[1].start), number)
        here = tuple(slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))
        for whole, part in zip(
            (self.low, self.high, self.tolerance), _usual(u8(cue[..., :3]), u8(cue[..., 3])), strict=True
        ):
            whole[inner] = part[here]

    def difference(self, picture: U8) -> F32:
        """How far a board (h, w, 3) is off at each place, in units of what is tolerated, (h, w)."""
        blurred = cv2.blur(picture.astype(np.float32), (BLUR_PX, BLUR_PX))
        beyond = max_of_channels(np.maximum(self.low - blurred, blurred - self.high))
        off = np.maximum(beyond, 0) / self.tolerance
        return np.asarray(off if self.on_board is None else off * self.on_board, np.float32)


def _usual(golden_rgb: U8, deviation: U8) -> tuple[F32, F32, F32]:
    """Lowest and highest usual colour (h, w, 3) and tolerance (h, w)."""
    golden = cv2.blur(golden_rgb.astype(np.float32), (BLUR_PX, BLUR_PX))
    near = np.ones((2 * EDGE_PX + 1, 2 * EDGE_PX + 1), np.uint8)
    spread = cv2.dilate(deviation, near).astype(np.float32) / DEVIATION_GAIN
    return (
        np.asarray(cv2.erode(golden, near), np.float32),
        np.asarray(cv2.dilate(golden, near), np.float32),
        np.asarray(USUAL_LEVELS + DEVIATIONS * spread, np.float32),
    )


def _box(top: int, left: int, bottom: int, right: int, reach: int, hw: tuple[int, int]) -> tuple[slice, slice]:
    rows = slice(max(top - reach, 0), min(bottom + reach, hw[0]))
    return rows, slice(max(left - reach, 0), min(right + reach, hw[1]))


def _pieces(off: F32, picture: U8) -> list[Piece]:
    """The pieces, each with a margin, that are large and clear enough."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(u8((off >= 1).astype(np.uint8)), connectivity=8)
    h, w = off.shape
    found = []
    for label, (x, y, wide, high, area) in enumerate(stats.tolist()):
        if label == 0 or area < LEAST_AREA_PX:
            continue
        rows, columns = np.nonzero(labels[y : y + high, x : x + wide] == label)
        inside = (rows + y) * w + columns + x
        peak = float(off.ravel()[inside].max())
        if peak < LEAST_PEAK:
            continue
        left, top = max(x - MARGIN_PX, 0), max(y - MARGIN_PX, 0)
        right, bottom = min(x + wide + MARGIN_PX, w), min(y + high + MARGIN_PX, h)
        shown = picture[top:bottom, left:right].copy()
        found.append(Piece((left, top, right - left, bottom - top), inside.astype(np.int64), peak, u8(shown)))
    return found


def without_odd_places(
    record: RunRecord, boards: GoodBoards, held_out: list[Differing], run: Path
) -> tuple[RunRecord, GoodBoards]:
    """The record with the places of single boards, shown in the run's folder, and the boards that leave them out."""
    shutil.rmtree(run / "odd", ignore_errors=True)
    if not boards.registered:
        return record, boards
    pictures = (*record.train, *record.held_out)
    found = odd_pieces([*differing_boards(boards), *held_out])
    if found:
        (run / "odd").mkdir()
    for number, (board, piece) in enumerate(found[:MOST_SHOWN], 1):
        x, y = piece.box_xywh[:2]
        name = f"{number:02d}-{Path(pictures[board]).stem}-x{x}-y{y}.png"
        write_atomic(run / "odd" / name, png_bytes(piece_picture(piece, boards.memory.mean_rgb)))
    places = tuple(OddPlace(pictures[board], piece.box_xywh, round(piece.peak, 2)) for board, piece in found)
    if record.settings.keep_odd:
        return replace(record, odd=()), boards
    ignored = tuple((board, piece.box_xywh) for board, piece in found if board < len(boards.frames))
    return replace(record, odd=places), replace(boards, ignored=ignored)
