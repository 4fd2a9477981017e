"""Calls are answered by what the map shows at their places: never false where something is near or nothing is known."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hisir_edge.archive.judge_again import JudgeAgain
from hisir_edge.bundle.thresholds import Zone
from hisir_edge.images import read_rgb
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.calls.answer import CallRules, _cut, _golden_box, _highest, answered
from hisir_edge.inspection.calls.crops import frames_of_crops, moved_box
from hisir_edge.inspection.windows import pose_of_evidence
from hisir_edge.records import Answer, Call, CallSheet, Crop, Result

RULES = CallRules(0.5, 16, True)


def sheet(*boxes: tuple[int, int, int, int], **more) -> CallSheet:
    calls = tuple(Call(id=str(n), box_xywh=box) for n, box in enumerate(boxes))
    return CallSheet(delivery="a.json", sha256="0" * 64, calls=calls, **more)


@pytest.fixture(scope="module")
def judged(inspector, small_boards):
    """A board with a defect, and one without."""
    inspector.keep_evidence()
    yield {
        kind: inspector.inspect(read_rgb(min((small_boards / "test" / kind).glob("*.png"))))
        for kind in ("missing", "good", "shifted")
    }
    inspector._keeps_evidence = False


@pytest.mark.parametrize("seed", range(40))
def test_false_is_said_only_where_the_whole_map_is_low(inspector, judged, seed):
    rng = np.random.default_rng(seed)
    kind, false_below = rng.choice(["missing", "good", "shifted"]), rng.uniform(0.3, 1.0)
    x, y, w, h = (int(rng.integers(*span)) for span in ((-40, 520), (-40, 400), (1, 200), (1, 200)))
    one, box = judged[kind], (x, y, w, h)
    manifest = inspector.bundle.manifest
    found = answered([one], sheet(box), replace(RULES, false_below=false_below), inspector.gain, manifest)
    (answer,) = found.calls
    whole = JudgeAgain(inspector.bundle).calibrated(one.evidence)
    grown = (max(x - 16, 0), max(y - 16, 0), min(x + w + 16, 512), min(y + h + 16, 384))
    frame = (grown[0], grown[1], max(grown[2] - grown[0], 0), max(grown[3] - grown[1], 0))
    hw = inspector.gain.hw
    y0, y1, x0, x1 = _cut(_golden_box(frame, pose_of_evidence(one.evidence), 1.0), hw)
    highest = float(whole[y0:y1, x0:x1].max(initial=0.0))
    # below 0.25 regions are kept only where they lie beside others, and all of it is as low
    found_here = _highest(one.evidence, frame, inspector.gain, 1.0)
    assert max(found_here, 0.25) == pytest.approx(max(highest, 0.25), rel=1e-5)
    touched = bool(one.mask[grown[1] : max(grown[3], 0), grown[0] : max(grown[2], 0)].any())
    on_golden = _golden_box(box, pose_of_evidence(one.evidence), 1.0)
    inside = x >= 0 and y >= 0 and x + w <= 512 and y + h <= 384 and on_golden == _cut(on_golden, hw)
    low = max(highest, 0.25) / manifest.thresholds.region_peak < false_below
    assert (answer.answer is Answer.CONFIRMED) == touched
    assert (answer.answer is Answer.FALSE) == (inside and low and not touched)
    assert (answer.reason != "") == (answer.answer is Answer.UNSURE)
    unsure = answer.answer is Answer.UNSURE
    assert found.regions_total == one.regions_total + unsure == len(found.regions)
    assert found.result is (Result.FAIL if found.regions_total else Result.PASS)
    for region in found.regions:
        left, top, width, height = region.box_xywh
        assert left >= 0 and top >= 0 and left + width <= 512 and top + height <= 384


def test_nothing_is_false_on_what_was_not_judged(inspector, judged):
    manifest, box = inspector.bundle.manifest, (100, 100, 20, 20)
    good = judged["good"]
    error = replace(good, result=Result.ERROR, mask=None, score=None, reason="dark")
    blind = replace(good, evidence=None)
    nothing = replace(good.evidence, scores=good.evidence.scores * np.nan)
    for one in (error, blind):
        (answer,) = answered([one], sheet(box), RULES, inspector.gain, manifest).calls
        assert (answer.answer, answer.score) == (Answer.UNSURE, None) and answer.reason
    cells = nothing.cells_yx
    at = (int(cells[0, 1]) * 16 + 4, int(cells[0, 0]) * 16 + 4, 8, 8)
    (answer,) = answered([replace(good, evidence=nothing)], sheet(at), RULES, inspector.gain, manifest).calls
    assert answer.answer is Answer.UNSURE, "no number is not low"
    # a corner of the box, a few pixels of a region of 16 x 16 that is inspected else
    corner = Zone("label", ((95, 95), (103, 95), (103, 103), (95, 103)), 0.0)
    gain, _ = inspector.gain.with_zones((corner,))
    (answer,) = answered([good], sheet(box), RULES, gain, manifest).calls
    assert answer.reason == "lies where nothing is inspected"
    aside = replace(good.evidence, matrix=np.array([[1.0, 0, -30], [0, 1, 0], [0, 0, 1]]), bend=None)
    (answer,) = answered(
        [replace(good, evidence=aside)], sheet((0, 100, 60, 20)), RULES, inspector.gain, manifest
    ).calls
    assert answer.reason == "reaches beyond what was inspected of the board"


def test_regions_that_no_call_lies_on_stay_or_go(inspector, judged):
    one, manifest = judged["shifted"], inspector.bundle.manifest
    assert one.regions_total
    away = (400, 5, 10, 10) if not one.mask[:40, 380:430].any() else (5, 5, 10, 10)
    stays = answered([one], sheet(away), RULES, inspector.gain, manifest)
    assert (stays.elsewhere, stays.regions[: one.regions_total]) == (one.regions_total, one.regions)
    goes = answered([one], sheet(away), replace(RULES, elsewhere=False), inspector.gain, manifest)
    assert goes.elsewhere == one.regions_total and not goes.mask.any()
    first = one.regions[0]
    kept = answered(
        [one], sheet(first.box_xywh), replace(RULES, margin_px=0, elsewhere=False), inspector.gain, manifest
    )
    assert kept.regions[0] == first and kept.elsewhere == one.regions_total - len(kept.regions)
    x, y, w, h = first.box_xywh
    assert np.array_equal(kept.mask[y : y + h, x : x + w], one.mask[y : y + h, x : x + w])
    assert kept.calls[0].answer is Answer.CONFIRMED


def picture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.integers(40, 215, (30, 40, 3), np.uint8)
    return cv2.GaussianBlur(cv2.resize(small, (640, 480), interpolation=cv2.INTER_CUBIC), (0, 0), 2)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 5), st.floats(-9, 9), st.floats(-9, 9), st.floats(-0.6, 0.6), st.floats(0.75, 1.3))
def test_a_crop_lies_where_it_belongs_in_its_light(seed, dx, dy, turn_deg, light):
    golden = picture(seed)
    turn = cv2.getRotationMatrix2D((320, 240), turn_deg, 1.0)
    turn[:, 2] += (dx, dy)
    taken = np.clip(cv2.warpAffine(golden, turn, (640, 480), borderMode=cv2.BORDER_REFLECT) * light, 0, 255)
    crop = Crop(file="a.png", calls=("0",), at_xy=(220, 160), image=Pixels(taken[160:320, 220:420].astype(np.uint8)))
    (frame,), (laid,) = frames_of_crops(golden, (crop,))
    assert not laid.fault
    inner = (slice(175, 305), slice(235, 405))
    assert np.abs(frame[inner].astype(int) - golden[inner]).mean() < 6
    x, y, w, h = moved_box((300, 220, 40, 40), laid)
    back = cv2.invertAffineTransform(turn) @ np.array([320.0, 240.0, 1.0])
    assert abs(x + w / 2 - back[0]) < 1.5 and abs(y + h / 2 - back[1]) < 1.5


def test_what_is_no_crop_of_the_place_is_left_out():
    golden, other = picture(0), picture(1)
    flat = np.full((80, 80, 3), 128, np.uint8)

    def laid(image, at_xy):
        (frame,), (crop,) = frames_of_crops(golden, (Crop(file="a", calls=("0",), at_xy=at_xy, image=Pixels(image)),))
        assert np.array_equal(frame, golden)
        return crop.fault

    assert "does not look like" in laid(other[100:200, 100:200], (100, 100))
    assert "does not look like" in laid(flat, (100, 100))
    assert "beyond the board" in laid(golden[100:200, 100:200], (600, 100))
    assert "16x16" in laid(golden[100:110, 100:200], (100, 100))


def test_crops_on_each_other_are_judged_by_their_own_pixels():
    golden = picture(0)
    dark = np.ascontiguousarray(golden[100:220, 100:220])
    marked = dark.copy()
    marked[40:60, 40:60] = 255
    crops = tuple(
        Crop(file=name, calls=(name,), at_xy=at, image=Pixels(image))
        for name, at, image in (("a", (100, 100), marked), ("b", (100, 100), dark),
                                ("c", (110, 90), golden[90:210, 110:230]), ("d", (400, 300), golden[300:400, 400:500]))
    )  # fmt: skip
    frames, laid = frames_of_crops(golden, crops)
    assert [crop.layer for crop in laid] == [0, 1, 2, 0] and len(frames) == 3
    assert frames[0][150, 150].min() > 200 and np.abs(frames[1].astype(int) - golden).max() < 30
    _, many = frames_of_crops(golden, crops[:1] * 9)
    assert [bool(crop.fault) for crop in many] == [False] * 8 + [True]


@pytest.mark.parametrize(
    ("box", "why"),
    [((60, 60, 30, 20), ""), ((20, 60, 30, 20), "edge of its crop"), ((120, 60, 60, 20), "edge of its crop"),
     ((50, 50, 100, 100), "edge of its crop"), ((300, 200, 20, 20), "edge of its crop")],
)  # fmt: skip
def test_a_call_that_its_crop_does_not_show_is_not_false(inspector, judged, box, why):
    """A golden image around it was looked at, not the board."""
    crop = Crop(
        file="a", calls=("0",), at_xy=(50, 50), image=Pixels(np.zeros((100, 100, 3), np.uint8)), moved=np.eye(2, 3)
    )
    (answer,) = answered(
        [judged["good"]], sheet(box, crops=(crop,)), RULES, inspector.gain, inspector.bundle.manifest
    ).calls
    assert (why in answer.reason) and (answer.answer is Answer.UNSURE) == bool(why)
