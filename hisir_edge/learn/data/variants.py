"""Places where good boards look in one of several ways, learnt from the good boards.

Where several boards are off the golden image, their pictures are put into groups (k-medoids). Another variant is
believed in where it makes a board that was not looked at more like its group, and where enough boards show it: what one
or two boards have never becomes a variant, so a defect among the good boards does not.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from hisir_edge.arrays import F32, F64, I64, U8, Bool, max_of_channels, u8
from hisir_edge.bundle.files import VARIANTS
from hisir_edge.bundle.variants import MOST_PLACES, Place, PlaceModel, atlas_from_places
from hisir_edge.images import png_bytes, write_atomic
from hisir_edge.inspection.light import without_light
from hisir_edge.inspection.memory.variants import FURTHEST_LEVELS, Chooser, blurred, crop_of
from hisir_edge.inspection.registration.finder import inside_outline, outline_of
from hisir_edge.inspection.registration.pose import straightened
from hisir_edge.learn.data.looks import Variants
from hisir_edge.learn.data.memory import GoodBoards
from hisir_edge.learn.data.statistics import BoardMemory, deviation_of_stack

LEAST_BOARDS, LEAST_SHARE = 3, 0.06
"""So many good boards, and so large a share of them, show a variant at least."""
HOT_LEVELS, EDGE_PX, CLOSING_PX = 30.0, 3, 5
"""A board is off where no colour of the golden image within so many pixels comes so near."""
LEAST_AREA_PX = 48
WHOLE_PX, CELL_PX = 96, 64
"""Places up to this side are taken whole, larger ones in cells."""
WORTH = 0.7
"""What a further variant must make of the difference that is left."""
LEAST_GAIN_LEVELS = 1.0
MOST_SAMPLES = 512
LEAST_SHOWN_PX = 160
OWN_PICTURE_UPTO = 6
MOST_BYTES = 400_000_000
"""Of pictures of places that are compared; the hottest places first."""
"""In groups of so few boards each board would see much of itself in its group's median: it learns without it."""


OnDone = Callable[[], None]


def _nothing() -> None:
    pass


def variants_of_boards(boards: GoodBoards, most: int, on_done: OnDone = _nothing) -> Variants:
    """The places where good boards differ, with up to ``most`` variants each, the largest differences first.

    ``on_done`` is called twice a board.
    """
    shown = np.array(boards.boards or range(len(boards.frames)))
    count = len(np.unique(shown))
    least = max(LEAST_BOARDS, int(np.ceil(LEAST_SHARE * count)))
    if most < 2 or not boards.registered or count < 2 * least:
        return Variants()
    spots = _spots(boards, least, on_done)
    cut: list[list[U8]] = [[] for _ in spots]
    for flat in _flat_boards(boards):
        for pieces, (x, y, inside) in zip(cut, spots, strict=True):
            pieces.append(u8(flat[y : y + inside.shape[0], x : x + inside.shape[1]].copy()))
        on_done()
    made = []
    for (x, y, inside), pieces in zip(spots, cut, strict=True):
        stack = np.stack(pieces)
        groups, gain = _groups(stack, inside, shown, least, most)
        if groups is not None:
            place = _place(stack, inside, groups, (x, y))
            made.append((gain * float(inside.sum()), place, _own(stack, inside, groups, shown)))
    made.sort(key=lambda one: -one[0])
    if not made:
        return Variants()
    looks = np.array([one.model.looks for _, one, _ in made], np.int64).T
    own = {(board, number): picture for number, (_, _, of) in enumerate(made) for board, picture in of.items()}
    return Variants(tuple(one for _, one, _ in made), looks, own)


def variants_like(variants: Variants, boards: GoodBoards) -> GoodBoards:
    """More boards with the variants that the line would choose for them."""
    if not variants.places:
        return boards
    hw = boards.memory.mean_rgb.shape[:2]
    chooser = Chooser(variants.places, (hw[0], hw[1]))
    chosen = [chooser.choose(crop_of(flat), None) for flat in _flat_boards(boards)]
    looks = np.array(chosen, np.int64).reshape(len(chosen), len(variants.places))
    return replace(boards, variants=Variants(variants.places, looks))


def with_variants(boards: GoodBoards, most: int, on_done: OnDone = _nothing) -> GoodBoards:
    """The boards with what they have in variants; their golden image shows the first variant of each place."""
    variants = variants_of_boards(boards, most, on_done)
    golden = boards.memory.mean_rgb.copy()
    for place in variants.places:
        golden[place.rows, place.columns][place.inside] = place.pictures[0][place.inside]
    return replace(boards, variants=variants, memory=BoardMemory(golden, boards.memory.deviation))


def place_picture(place: Place) -> U8:
    """The variants of a place side by side, enlarged where they are small."""
    gap = np.full((place.model.height, 4, 3), 255, np.uint8)
    side_by_side = np.hstack([part for picture in place.pictures for part in (picture, gap)][:-1])
    times = max(1, LEAST_SHOWN_PX // place.model.height)
    return u8(np.repeat(np.repeat(side_by_side, times, 0), times, 1))


def save_variants(run: Path, variants: Variants) -> None:
    """The pictures of all variants as they are shipped, and those of each place for a person to look at."""
    shutil.rmtree(run / "variants", ignore_errors=True)
    if not variants.places:
        return
    write_atomic(run / VARIANTS, png_bytes(atlas_from_places(variants.places)))
    (run / "variants").mkdir()
    for number, place in enumerate(variants.places, 1):
        shares = "-".join(str(place.model.looks.count(look)) for look in range(place.model.variants))
        name = f"{number:03d}-boards-{shares}-x{place.model.x}-y{place.model.y}.png"
        write_atomic(run / "variants" / name, png_bytes(place_picture(place)))


def _flat_boards(boards: GoodBoards) -> Iterator[U8]:
    """The boards in golden coordinates, their light taken out."""
    hw = (boards.memory.mean_rgb.shape[0], boards.memory.mean_rgb.shape[1])
    for frame, pose, light in zip(boards.frames, boards.poses, boards.lights, strict=True):
        yield without_light(straightened(frame, pose, hw), light)


def _spots(boards: GoodBoards, least: int, on_done: OnDone) -> list[tuple[int, int, Bool]]:
    """x, y and pixels (h, w) of the places where several boards are off the golden image, the hottest first."""
    golden = boards.memory.mean_rgb
    hw = (golden.shape[0], golden.shape[1])
    near = np.ones((2 * EDGE_PX + 1, 2 * EDGE_PX + 1), np.uint8)
    smooth = blurred(golden)
    low, high = cv2.erode(smooth, near), cv2.dilate(smooth, near)
    count = np.zeros(hw, np.uint16)
    for flat in _flat_boards(boards):
        seen = blurred(flat)
        count += max_of_channels(np.maximum(low - seen, seen - high)) > HOT_LEVELS
        on_done()
    hot = (count >= least).astype(np.uint8)
    if boards.area is not None:
        hot *= inside_outline(hw, outline_of(hw, boards.area))
    closed = cv2.morphologyEx(hot, cv2.MORPH_CLOSE, np.ones((CLOSING_PX, CLOSING_PX), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    found = []
    for label, (x, y, w, h, area) in enumerate(stats.tolist()):
        if label == 0 or area < LEAST_AREA_PX:
            continue
        inside = labels[y : y + h, x : x + w] == label
        step_y, step_x = (h if h <= WHOLE_PX else CELL_PX), (w if w <= WHOLE_PX else CELL_PX)
        for top in range(0, h, step_y):
            for left in range(0, w, step_x):
                cell = np.asarray(inside[top : top + step_y, left : left + step_x], np.bool_)
                if cell.sum() >= LEAST_AREA_PX:
                    found.append((x + left, y + top, cell))
    found.sort(
        key=lambda one: (
            -int((count[one[1] : one[1] + one[2].shape[0], one[0] : one[0] + one[2].shape[1]] * one[2]).sum())
        )
    )
    bytes_so_far = np.cumsum([3 * cell.size * len(boards.frames) for _, _, cell in found])
    return found[: min(MOST_PLACES, int((bytes_so_far <= MOST_BYTES).sum()))]


def _groups(stack: U8, inside: Bool, shown: I64, least: int, most: int) -> tuple[I64 | None, float]:
    """The group of each picture (n,), the largest group 0, and the levels gained; None where one look explains all.

    ``shown`` (n,): the board of each picture.
    """
    pixels = np.stack([blurred(one)[inside] for one in stack])
    sample = pixels[:, :: max(1, -(-pixels.shape[1] // MOST_SAMPLES))]
    apart = np.array([np.minimum(max_of_channels(np.abs(sample - one)), FURTHEST_LEVELS).mean(1) for one in sample])
    best: I64 | None = None
    first = left = _left_over(sample, np.zeros(len(sample), np.int64), shown)
    medoids = [int(apart.sum(1).argmin())]
    while len(medoids) < most:
        nearest = apart[medoids].min(0)
        medoids.append(int(np.maximum(nearest[None] - apart, 0).sum(1).argmax()))
        groups = _large_groups(apart, medoids, shown, least)
        if int(groups.max()) + 1 < 2:
            continue
        now = _left_over(sample, groups, shown)
        if now <= WORTH * left and now <= left - LEAST_GAIN_LEVELS:
            best, left = groups, now
    return best, first - left


def _large_groups(apart: F64, medoids: list[int], shown: I64, least: int) -> I64:
    """Pictures in groups around medoids; groups of few boards join the nearest other one; the largest is number 0."""
    centres = list(medoids)
    while True:
        groups = np.asarray(apart[centres].argmin(0))
        for _ in range(3):  # the middle of each group
            centres = [
                int(np.flatnonzero(groups == g)[apart[np.ix_(groups == g, groups == g)].sum(1).argmin()])
                for g in range(len(centres))
                if (groups == g).any()
            ]
            groups = np.asarray(apart[centres].argmin(0))
        sizes = [len(np.unique(shown[groups == g])) for g in range(len(centres))]
        if len(centres) == 1 or min(sizes) >= least:
            break
        centres.pop(int(np.argmin(sizes)))
    order = np.argsort(-np.bincount(groups, minlength=len(centres)), kind="stable")
    return np.asarray(np.argsort(order)[groups], np.int64)


def _left_over(sample: F32, groups: I64, shown: I64) -> float:
    """Mean difference of the pictures from the nearest group's median; each group is taken without the same board."""
    off = np.full((int(groups.max()) + 1, len(sample)), np.inf)
    for group in range(len(off)):
        members = np.flatnonzero(groups == group)
        off[group] = _mean_off(sample, np.median(sample[members], 0))
        ordered = np.sort(sample[members], 0)
        for picture in np.flatnonzero(np.isin(shown, shown[members])).tolist():
            own = members[shown[members] == shown[picture]]
            if len(own) == len(members):
                off[group, picture] = np.inf
            elif len(own) == 1 and own[0] == picture:
                off[group, picture] = _mean_off(sample[picture][None], _median_without(ordered, sample[picture]))[0]
            else:
                rest = np.median(sample[np.setdiff1d(members, own)], 0)
                off[group, picture] = _mean_off(sample[picture][None], rest)[0]
    return float(off.min(0).mean())


def _median_without(ordered: F32, one: F32) -> F32:
    """The median of values sorted along the first axis, without one of them at each place."""
    n = len(ordered) - 1
    low, high = (n - 1) // 2, n // 2

    def left(k: int) -> F32:
        return np.asarray(np.where(one > ordered[k], ordered[k], ordered[k + 1]), np.float32)

    return np.asarray((left(low) + left(high)) / 2, np.float32)


def _mean_off(sample: F32, picture: F32) -> F64:
    return np.asarray(np.minimum(max_of_channels(np.abs(sample - picture)), FURTHEST_LEVELS).mean(-1), np.float64)


def _place(stack: U8, inside: Bool, groups: I64, at_xy: tuple[int, int]) -> Place:
    count = int(groups.max()) + 1
    common = _median(stack)
    pictures = np.stack([common] * count)
    for group in range(count):
        pictures[group][inside] = _median(stack[groups == group])[inside]
    pictures[:, ~inside] = common[~inside]
    off = stack.astype(np.int16) - pictures[groups]
    usual = np.abs(off).max(3)[:, inside].astype(np.float64).mean()
    model = PlaceModel(
        x=at_xy[0], y=at_xy[1], width=inside.shape[1], height=inside.shape[0], variants=count,
        looks=tuple(groups.tolist()), usual_levels=max(float(usual), 1.0),
    )  # fmt: skip
    return Place(model=model, pictures=u8(pictures), deviation=deviation_of_stack(off))


def _own(stack: U8, inside: Bool, groups: I64, shown: I64) -> dict[int, U8]:
    """By picture the picture of its group without its board, where the group is small."""
    found = {}
    for board, group in enumerate(groups):
        others = np.flatnonzero((groups == group) & (shown != shown[board]))
        if 0 < len(others) < OWN_PICTURE_UPTO:
            found[board] = _median(stack[others])
    return found


def _median(stack: U8) -> U8:
    return u8(np.median(stack, 0).astype(np.uint8))
