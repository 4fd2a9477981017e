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
        if before is None:
            if self._planes:
                np.copyto(self._host, memory)
            else:
                tiles_from_planes(self._plan, memory, numbers, self._host)
            stream.copy_in(self._there, self._host)
        elif before != chosen:
            seen = [tiles for tiles, now, then in zip(tiles_of_places, chosen, before, strict=True) if now != then]
            changed = np.flatnonzero(np.isin(numbers, np.concatenate(seen)))
            if self._planes:
                self._copy_rows(stream, memory, numbers[changed])
            else:
                self._copy_tiles(stream, memory, numbers, changed)
        self._shown = chosen

    def _copy_tiles(self, stream: Stream, memory: U8, numbers: I64, changed: I64) -> None:
        for row in changed.tolist():
            tiles_from_planes(self._plan, memory, numbers[row : row + 1], self._host[row : row + 1])
            self._copy(stream, self._host[row], row * self._host[row].nbytes)

    def _copy_rows(self, stream: Stream, memory: U8, tiles: I64) -> None:
        """The rows of the planes that the tiles see, each once."""
        h, w = memory.shape[1:]
        tops = np.unique([self._plan.origins_yx[n][0] for n in tiles.tolist()])
        rows = np.zeros(h + 2, np.int8)
        for top in tops.tolist():
            rows[1 + top : 1 + top + self._plan.tile_px] = 1
        for first, end in np.flatnonzero(np.diff(rows)).reshape(-1, 2).tolist():
            for plane in range(len(memory)):
                np.copyto(self._host[plane, first:end], memory[plane, first:end])
                self._copy(stream, self._host[plane, first:end], (plane * h + first) * w)

    def _copy(self, stream: Stream, host: U8, offset: int) -> None:
        stream.copy_in(Buffer(self._there.ptr + offset, host.nbytes, self._there.owner), host)
