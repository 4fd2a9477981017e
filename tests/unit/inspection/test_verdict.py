"""One place decides a verdict, and one boundary turns whatever is unexpected into an ERROR."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest

import hisir_edge
from hisir_edge.errors import InputError, InspectionError, NotJudgedError
from hisir_edge.inspection.regions import Found
from hisir_edge.inspection.verdict import (
    error_judgement,
    fail_closed,
    frame_of,
    judgement_from_regions,
    judgement_from_views,
    result_of,
)
from hisir_edge.records import GrabFault, Judgement, Region, Result, StageTimes, View

PACKAGE = Path(hisir_edge.__file__).parent
NOTHING = Found((), 0, np.zeros((4, 6), np.bool_))


@pytest.mark.parametrize(
    ("totals", "result"),
    [
        ((), Result.ERROR),
        ((None,), Result.ERROR),
        ((0,), Result.PASS),
        ((1,), Result.FAIL),
        ((300,), Result.FAIL),
        ((0, None, 5), Result.ERROR),
        ((0, 0), Result.PASS),
        ((0, 2), Result.FAIL),
    ],
)
def test_the_result_follows_from_the_regions_alone(totals, result):
    assert result_of(totals) is result


def test_a_board_without_any_frame_judged_never_passes():
    for parts in product((None, 0, 1), repeat=3):
        if None in parts:
            assert result_of(parts) is Result.ERROR


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_not_finite_is_an_error(score):
    found = fail_closed(lambda: judgement_from_regions(NOTHING, score, StageTimes(), None), error_judgement)
    assert (found.result, found.mask, found.score) == (Result.ERROR, None, None)
    assert "expected finite calibrated scores" in found.reason


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (InspectionError(expected="a", received="b", fix="c"), "expected a; got b; c"),
        (InputError(expected="a", received="b", fix="c"), "expected a; got b; c"),
        (NotJudgedError("camera lost"), "camera lost"),
        (MemoryError("no room"), "inspection failed: MemoryError: no room"),
        (ZeroDivisionError(), "inspection failed: ZeroDivisionError: "),
        (cv2.error("bad"), "image processing failed: bad"),
    ],
)
def test_every_exception_is_an_error_with_its_reason(raised, reason):
    def fails() -> Judgement:
        raise raised

    found = fail_closed(fails, error_judgement)
    assert (found.result, found.reason, found.mask, found.regions) == (Result.ERROR, reason, None, ())


def test_what_ends_the_process_is_not_held_back():
    def ends() -> Judgement:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_closed(ends, error_judgement)


def test_a_fault_has_no_frame():
    with pytest.raises(NotJudgedError, match="overrun"):
        frame_of(GrabFault(source="cam", frame_id=1, unit="u", reason="overrun", grabbed_at_ns=0))


def test_regions_name_their_camera_and_the_cut_keeps_the_highest():
    def view(name: str, peaks: list[float]) -> View:
        regions = tuple(Region(box_xywh=(0, 0, 2, 2), area_px=4, peak=peak, contour_xy=((0, 0),)) for peak in peaks)
        found = Found(regions, len(regions), np.ones((4, 6), np.bool_))
        return View(name, 1, (4, 6), "a" * 64, judgement_from_regions(found, max(peaks), StageTimes(), 0.1))

    both = judgement_from_views([view("top", [5.0] * 200), view("bottom", [9.0, 1.5] * 100)])
    assert (both.result, both.regions_total, len(both.regions)) == (Result.FAIL, 400, 256)
    assert [r.view for r in both.regions[:100]] == ["bottom"] * 100 and min(r.peak for r in both.regions) == 5.0
    assert (both.score, both.registration_residual_px) == (9.0, 0.1)


def test_errors_are_made_nowhere_else():
    """Apart from the outbox's, which has the encoded message alone (``as_error``)."""
    makers = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if re.search(r"Judgement\(\s*(result=)?Result\.ERROR", path.read_text())
    }
    assert makers == {"inspection/verdict.py"}
