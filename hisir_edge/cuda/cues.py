"""The cues of one frame on a GPU, where good boards differ: changed where the frame shows another variant."""

from __future__ import annotations

import numpy as np

from hisir_edge.arrays import I64, U8
from hisir_edge.cuda.device import Buffer, Stream
from hisir_edge.geometry.tile import TilePlan, tiles_from_planes


class OwnCues:
    """Cues of a slot: ``there`` on the GPU, ``host`` page-locked, tiles (n, 4, t, t) or ``planes`` (4, h, w)."""

    def __init__(self, plan: TilePlan, there: Buffer, host: U8, planes: bool) -> None:
        self._plan, self._there, self._host, self._planes = plan, there, host, planes
        self._shown: tuple[int, ...] | None = None

    def show(
        self, stream: Stream, memory: U8, chosen: tuple[int, ...], numbers: I64, tiles_of_places: list[I64]
    ) -> None:
        """Copy in what a frame's board memory (4, h, w) has otherwise than the frame before.

        ``chosen``: the variant of each place; ``numbers``: the tiles that are run; ``tiles_of_places``: those that see
        each place. The stream's work before is over.
        """
        before, self._shown = self._shown, None  # whatever fails on the way: all of it next time
        if before is None or (self._planes and before != chosen):
            if self._planes:
                np.copyto(self._host, memory)
            else:
                tiles_from_planes(self._plan, memory, numbers, self._host)
            stream.copy_in(self._there, self._host)
        elif before != chosen:
            seen = [tiles for tiles, now, then in zip(tiles_of_places, chosen, before, strict=True) if now != then]
            for row in np.flatnonzero(np.isin(numbers, np.concatenate(seen))).tolist():
                tiles_from_planes(self._plan, memory, numbers[row : row + 1], self._host[row : row + 1])
                nbytes = self._host[row].nbytes
                part = Buffer(self._there.ptr + row * nbytes, nbytes, self._there.owner)
                stream.copy_in(part, self._host[row])
        self._shown = chosen
