"""What counts as found and as gone in the gate of reviewed boards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hisir_edge.backends import engine_from_bundle
from hisir_edge.bundle.load import load_bundle
from hisir_edge.engine.acceptance.reviewed import SeenBoard, Where, most_as_said, told_of, where
from hisir_edge.images import read_rgb
from hisir_edge.inspection.cpu.inspector import CpuInspector
from hisir_edge.learn.review.boards import ReviewedBoard, ReviewedPlace

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


def test_the_strength_at_which_most_is_as_people_said_is_what_an_inspection_finds(small_bundle, small_boards):
    """A defect that the threshold of a bundle misses, and a board that must pass, against inspections."""
    bundle = load_bundle(small_bundle)
    good, bad = (min((small_boards / "test" / kind).glob("*.png")) for kind in ("good", "missing"))

    def inspected(times: float):
        limits = replace(bundle.thresholds, region_peak=bundle.thresholds.region_peak * times)
        inspector = CpuInspector(replace(bundle, thresholds=limits), engine_from_bundle(bundle, 2))
        inspector.keep_evidence()
        found = [inspector.inspect(read_rgb(path)) for path in (good, bad)]
        inspector.close()
        return found

    region = inspected(1)[1].regions[0]
    times = next(1.1**n for n in range(1, 40) if not inspected(1.1**n)[1].regions) * 1.05  # just out of reach
    judged = inspected(times)
    boards = [
        SeenBoard(ReviewedBoard("a", "a.png", "a", (away := ReviewedPlace("false call", DRAWN.polygon),)), ("",), "",
                  judged[0].evidence),
        SeenBoard(ReviewedBoard("b", "b.png", "b", (ReviewedPlace("confirmed", region.contour_xy),)), ("not found",),
                  "", judged[1].evidence),
    ]  # fmt: skip
    assert away.kind == "false call" and told_of(boards).not_so[0].endswith("not found")
    high = replace(bundle, thresholds=replace(bundle.thresholds, region_peak=bundle.thresholds.region_peak * times))
    so, strength = most_as_said(boards, high)
    assert so == 2 and 0.7 < strength < 1
    assert [len(one.regions) > 0 for one in inspected(times * strength)] == [False, True]
    assert most_as_said([replace(boards[1], not_so=("",))], high) == (1, 1.0), "nothing is better than all"
    unknown = replace(boards[1], evidence=None)
    assert most_as_said([boards[0], unknown], high) == (1, 1.0), "what was not kept is not guessed at"
