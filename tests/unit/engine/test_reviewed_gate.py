"""What counts as found and as gone in the gate of reviewed boards."""

from __future__ import annotations

import numpy as np
import pytest

from hisir_edge.engine.acceptance.reviewed import Where, where
from hisir_edge.learn.review.boards import ReviewedPlace

DRAWN = ReviewedPlace("escape", ((20.0, 20.0), (79.0, 20.0), (79.0, 79.0), (20.0, 79.0)))


def mask(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    out = np.zeros((100, 120), np.bool_)
    for x, y, w, h in boxes:
        out[y : y + h, x : x + w] = True
    return out


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([], Where(False, False)),
        ([(90, 0, 20, 90)], Where(False, False)),
        ([(40, 40, 4, 4)], Where(True, True)),  # small, and all of it in the place
        ([(70, 0, 50, 100)], Where(True, True)),  # much of the place, though most of the region lies beside it
        ([(79, 0, 40, 100)], Where(True, False)),  # another region, that reaches into it
        ([(79, 0, 40, 100), (30, 30, 3, 3)], Where(True, True)),
    ],
)
def test_a_defect_is_found_where_its_place_is_called_and_not_its_neighbour(boxes, expected):
    assert where(mask(*boxes), DRAWN) == expected


def test_a_place_outside_of_the_frame_says_nothing():
    away = ReviewedPlace("false call", ((500.0, 500.0), (510.0, 500.0), (510.0, 510.0)))
    assert where(mask(), away) is None


@pytest.mark.parametrize("polygon", [((40.0, 40.0),), ((40.0, 40.0), (44.0, 40.0))])
def test_contours_of_a_pixel_or_two_are_places(polygon):
    assert where(mask((38, 38, 5, 5)), ReviewedPlace("confirmed", polygon)) == Where(True, True)
