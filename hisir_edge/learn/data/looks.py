"""What each good board shows at the places where good boards differ."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hisir_edge.arrays import I64, U8, u8
from hisir_edge.bundle.variants import Place, paste


@dataclass(frozen=True, slots=True)
class Variants:
    """Places, and what each board shows there, (boards, places).

    ``own``: by board and place the picture of its group without it, where the group is small.
    """

    places: tuple[Place, ...] = ()
    looks: I64 = field(default_factory=lambda: np.zeros((0, 0), np.int64), repr=False)
    own: dict[tuple[int, int], U8] = field(default_factory=dict, repr=False)

    def put_into(self, cue: U8, at_yx: tuple[int, int], board: int) -> None:
        """What a board shows into a crop (t, t, 4) of the board memory; the crop is changed."""
        for number, place in enumerate(self.places):
            picture = self.own.get((board, number))
            if picture is None:
                picture = u8(place.pictures[self.looks[board, number]])
            paste(cue, at_yx, place, picture)
