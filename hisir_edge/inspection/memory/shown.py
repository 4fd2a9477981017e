"""The board memory as one frame shows it: with the variant of each place that was chosen for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

from hisir_edge.arrays import F64, I64, U8, u8
from hisir_edge.geometry.tile import TilePlan, tiles_from_planes
from hisir_edge.inspection.memory.variants import Chooser, Crop

NOT_KNOWN = -1
Slices = tuple[slice, slice, slice]


class Shown(ABC):
    """Which variant of each place one frame shows, ``chosen``; frames in flight have one each."""

    def __init__(self, chooser: Chooser) -> None:
        self._chooser = chooser
        self.chosen = (0,) * len(chooser.places)

    def show(self, crop: Crop, light: F64 | None) -> list[int]:
        """Show what a frame shows, see ``Chooser.choose``; numbers of the places that change by it."""
        if not self._chooser.places:
            return []
        return self.show_variants(self._chooser.choose(crop, light))

    def show_variants(self, chosen: tuple[int, ...]) -> list[int]:
        """Show these; numbers of the places that change by it."""
        changed = [n for n, (now, then) in enumerate(zip(chosen, self.chosen, strict=True)) if now != then]
        self.chosen = chosen
        try:
            self._put(changed)
        except BaseException:
            self.chosen = (NOT_KNOWN,) * len(chosen)  # some may be shown: all of them are put anew next time
            raise
        return changed

    @abstractmethod
    def _put(self, changed: list[int]) -> None:
        """The variants of these places are others from now on."""

    def _picture(self, number: int, look: int) -> U8:
        return u8(self._chooser.places[number].pictures[look])

    def _lay(self, number: int, target: U8) -> None:
        """Lay a place, as it is shown, over the memory (4, h, w) of its box."""
        place = self._chooser.places[number]
        inside, picture = place.inside, self._picture(number, self.chosen[number])
        for channel in range(3):
            target[channel][inside] = picture[..., channel][inside]
        target[3][inside] = place.deviation[inside]


class ShownMemory(Shown):
    """The board memory with the variants that a frame shows.

    ``planes`` (4, h, w), padded: the memory itself where good boards look alike everywhere.
    """

    def __init__(self, chooser: Chooser, planes: U8) -> None:
        super().__init__(chooser)
        self.planes = planes.copy() if chooser.places else planes
        self._put(list(range(len(chooser.places))))

    def _put(self, changed: list[int]) -> None:
        for number in changed:
            place = self._chooser.places[number]
            self._lay(number, self.planes[:, place.rows, place.columns])
        if changed:  # the padding repeats the last row and column, as that of frames does
            h, w = self._chooser.golden_hw
            self.planes[:, h:, :w] = self.planes[:, h - 1 : h, :w]
            self.planes[:, :, w:] = self.planes[:, :, w - 1 : w]


@dataclass(frozen=True, slots=True)
class _Patch:
    """The box of a place, and the padding beside it, as the memory shows it: planes (4, h, w) at y, x."""

    y: int
    x: int
    planes: U8 = field(repr=False)

    @property
    def hw(self) -> tuple[int, int]:
        return self.planes.shape[1], self.planes.shape[2]


class ShownTiles(Shown):
    """The same as ``ShownMemory``, cut in tiles, without a copy of the memory.

    The boxes of places, which do not overlap, are laid over each tile. A frame in flight of a product with variants
    takes 48 MB less by that, at 12 Mpx.
    """

    def __init__(self, chooser: Chooser, base: U8) -> None:
        """``base`` (4, h, w): the padded memory, which is not changed."""
        super().__init__(chooser)
        self.base = base
        self._patches = [self._patch(number) for number in range(len(chooser.places))]
        self._seen: dict[tuple[int, int, int], list[tuple[int, Slices, Slices]]] = {}

    def tiles_into(self, plan: TilePlan, numbers: I64, out: U8) -> None:
        """Copy these tiles into the first ``len(numbers)`` of out (n, 4, t, t)."""
        tiles_from_planes(plan, self.base, numbers, out)
        for number, tile in zip(numbers.tolist(), out, strict=False):
            y, x = plan.origins_yx[number]
            self._lay_over(y, x, tile)

    def whole(self) -> U8:
        """A copy of all of it, padded, (4, h, w)."""
        planes = self.base.copy()
        for patch in self._patches:
            h, w = patch.hw
            planes[:, patch.y : patch.y + h, patch.x : patch.x + w] = patch.planes
        return u8(planes)

    def _lay_over(self, y: int, x: int, tile: U8) -> None:
        key = (y, x, tile.shape[-1])
        if (seen := self._seen.get(key)) is None:
            seen = self._seen[key] = [
                cut for number, patch in enumerate(self._patches) if (cut := _cut(number, patch, *key))
            ]
        for number, of_tile, of_patch in seen:
            tile[of_tile] = self._patches[number].planes[of_patch]

    def _put(self, changed: list[int]) -> None:
        for number in changed:
            self._patches[number] = self._patch(number)

    def _patch(self, number: int) -> _Patch:
        place, (h, w) = self._chooser.places[number], self._chooser.golden_hw
        padded_h, padded_w = self.base.shape[1:]
        below = padded_h - h if place.rows.stop == h else 0
        beside = padded_w - w if place.columns.stop == w else 0
        planes = self.base[:, place.rows, place.columns].copy()
        self._lay(number, planes)
        if below or beside:
            planes = np.pad(planes, ((0, 0), (0, below), (0, beside)), mode="edge")
        return _Patch(place.rows.start, place.columns.start, u8(planes))


def _cut(number: int, patch: _Patch, y: int, x: int, t: int) -> tuple[int, Slices, Slices] | None:
    """What a tile at y, x and a patch have in common: the patch's number, and where it lies in each; None: nothing."""
    h, w = patch.hw
    top, bottom = max(patch.y, y), min(patch.y + h, y + t)
    left, right = max(patch.x, x), min(patch.x + w, x + t)
    if top >= bottom or left >= right:
        return None
    here = np.s_[:, top - y : bottom - y, left - x : right - x]
    return number, here, np.s_[:, top - patch.y : bottom - patch.y, left - patch.x : right - patch.x]
