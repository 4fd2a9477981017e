"""The slider's points: what each strength would have called."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hisir_edge.bundle.load import manifest_from_folder
from hisir_edge.geometry.box import BoxXYWH, meet
from hisir_edge.view.teach.strengths import SeenBoard, points_of, scale_of, seen_board

DEMO = manifest_from_folder(Path(__file__).parents[3] / "engines" / "demo")


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 40)), max_size=6), st.integers(1, 40))
def test_halving_finds_the_last_strength_of_a_board_and_of_each_defect(regions, count):
    """Each region lies alone, 10 px wide, and is called up to a place of the scale."""
    boxes = [((10 * n, 0, 10, 10), min(last, count - 1)) for n, (_, last) in enumerate(regions)]
    asked: list[tuple[int, BoxXYWH | None]] = []

    def calls(place: int, within: BoxXYWH | None) -> bool:
        asked.append((place, within))
        return any(last >= place for box, last in boxes if within is None or meet(box, within))

    found = seen_board(calls, count, [(box, f"word {n}") for n, (box, _) in enumerate(boxes)], "waiting")
    assert found.last == max((last for _, last in boxes), default=-1)
    assert found.defects == tuple((last, f"word {n}") for n, (_, last) in enumerate(boxes))
    assert len(asked) == len(set(asked)), "nothing is judged twice"


def test_points_count_boards_and_decided_defects():
    scale = scale_of(DEMO)
    now = scale.index(1.0)
    assert list(scale) == sorted(scale) and scale[0] * DEMO.thresholds.region_peak >= 1 - 1e-3
    boards = [
        SeenBoard(now + 2, ((now + 2, "DefectRejected"), (now, "DefectRejected")), "false call"),
        SeenBoard(now + 5, ((now + 5, "DefectConfirmed"), (now + 1, "DefectAccepted")), "confirmed"),
        SeenBoard(now, ((now, "NotVerifiedYet"),), "waiting"),
        SeenBoard(now - 1, (), "passed"),
        SeenBoard(-1, (), "passed"),
    ]
    names = ("called", "false_calls", "waiting", "new", "confirmed_found", "confirmed_lost", "rejected_gone")
    points = {point["strength"]: tuple(point[name] for name in names) for point in points_of(boards, DEMO)}
    assert points[scale[now - 1]] == (4, 1, 1, 1, 2, 0, 0)
    assert points[1.0] == (3, 1, 1, 0, 2, 0, 0)
    assert points[scale[now + 1]] == (2, 1, 0, 0, 2, 0, 1)
    assert points[scale[now + 2]] == (2, 1, 0, 0, 1, 1, 1)
    assert points[scale[now + 3]] == (1, 0, 0, 0, 1, 1, 2)
    assert points[scale[now + 6]] == (0, 0, 0, 0, 0, 2, 2)
