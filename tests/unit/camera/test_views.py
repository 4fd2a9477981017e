"""Several cameras for one board: frames of two boards are never put together, and no board is left out."""

from __future__ import annotations

import json
import random
import time
from importlib import resources

import jsonschema
import numpy as np
import pytest
from support.messages import facts

from hisir_edge.camera.paired import Views
from hisir_edge.camera.source import EndOfFrames
from hisir_edge.config.tables import Settings
from hisir_edge.images import read_rgb
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.verdict import error_judgement, fail_closed, judgement_from_views
from hisir_edge.line.products import products_from_settings
from hisir_edge.line.sockets.message import message_from_judgement
from hisir_edge.line.verdicts import inspect_board
from hisir_edge.records import Frame, GrabFault, Judgement, Region, Result, View


class Camera:
    """Gives what it is told, when it is time."""

    def __init__(self, name: str):
        self.name, self.up, self.armed, self.items, self.asked, self.ended = name, True, True, [], 0, False

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def next(self, timeout_s: float):
        if self.items and self.items[0][0] <= time.monotonic():
            return self.items.pop(0)[1]
        if self.ended and not self.items:
            raise EndOfFrames
        time.sleep(timeout_s / 10)
        return None

    def trigger(self):
        self.asked += 1

    def rearm(self):
        self.items.clear()

    def give(self, board: int, at_s: float = 0.0):
        pixels = np.full((4, 4, 3), board, np.uint8)
        self.items.append(
            (
                time.monotonic() + at_s,
                Frame(
                    image=Pixels(pixels), source=self.name, frame_id=board, unit=f"{self.name}-{board}", grabbed_at_ns=0
                ),
            )
        )

    def fail(self, reason: str, boards: int | None = 1, at_s: float = 0.0):
        self.items.append(
            (
                time.monotonic() + at_s,
                GrabFault(source=self.name, frame_id=0, unit="", reason=reason, grabbed_at_ns=0, boards=boards),
            )
        )


@pytest.fixture
def pair():
    top, bottom = Camera("top"), Camera("bottom")
    with Views([top, bottom], 0.06) as views:  # type: ignore[list-item]
        yield views, top, bottom


def drained(views: Views, for_s: float) -> list[Frame | GrabFault]:
    end, found = time.monotonic() + for_s, []
    while time.monotonic() < end:
        item = views.next(0.01)
        if item is not None:
            found.append(item)
    return found


def test_frames_of_a_board_come_together_whichever_is_first(pair):
    views, top, bottom = pair
    top.give(1)
    bottom.give(1, 0.02)
    bottom.give(2, 0.2)
    top.give(2, 0.22)
    found = drained(views, 0.4)
    assert [(f.frame_id, f.source, f.more[0].frame_id, f.more[0].source) for f in found] == [
        (1, "top", 1, "bottom"), (2, "top", 2, "bottom")
    ]  # fmt: skip


def test_a_board_that_one_did_not_see_is_one_fault_and_the_next_is_whole(pair):
    views, top, bottom = pair
    top.give(1)
    bottom.give(2, 0.3)
    top.give(2, 0.31)
    first, second = drained(views, 0.6)
    assert isinstance(first, GrabFault)
    assert first.reason == "no frame of bottom within 60 ms of the others'"
    assert first.boards == 1
    assert (second.frame_id, second.more[0].frame_id) == (2, 2)


def test_a_late_frame_is_not_taken_for_the_next_board(pair):
    views, top, bottom = pair
    top.give(1)
    bottom.give(1, 0.1)  # later than the 60 ms, when board 1 is a fault already
    top.give(2, 0.3)
    bottom.give(2, 0.31)
    found = drained(views, 0.6)
    assert [type(f) for f in found] == [GrabFault, Frame]
    assert (found[1].frame_id, found[1].more[0].frame_id) == (2, 2)


def test_faults_name_their_camera(pair):
    views, top, bottom = pair
    top.give(1)
    bottom.fail("incomplete frame: 3 of 4 bytes", at_s=0.01)
    bottom.fail("camera lost: x", None, at_s=0.3)
    found = drained(views, 0.5)
    assert [(f.reason, f.boards) for f in found] == [
        ("bottom: incomplete frame: 3 of 4 bytes", 1), ("bottom: camera lost: x", None)
    ]  # fmt: skip
    bottom.up = False
    assert not views.up
    views.trigger()
    assert (top.asked, bottom.asked) == (1, 1)


def test_the_end_of_a_replay_leaves_no_half_board(pair):
    views, top, bottom = pair
    top.give(1)
    bottom.ended = True
    assert isinstance(views.next(1.0), GrabFault)
    top.ended = True
    with pytest.raises(EndOfFrames):
        drained(views, 0.1)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_lost_boards_are_never_mixed_and_all_are_answered(pair, seed):
    """Boards 0.2 s apart; each camera loses some frames, and gives some late."""
    views, rng, boards = pair[0], random.Random(seed), 8
    for camera in pair[1:]:
        for board in range(boards):
            if rng.random() < 0.8:
                camera.give(board, 0.2 * board + (0.09 if rng.random() < 0.1 else rng.uniform(0, 0.02)))
    seen = {f.frame_id for camera in pair[1:] for _, f in camera.items}
    found = drained(views, 0.2 * boards + 0.3)
    whole = [f for f in found if isinstance(f, Frame)]
    assert all(f.frame_id == f.more[0].frame_id for f in whole), "never mixed"
    answered = len(whole) + sum(f.boards for f in found if isinstance(f, GrabFault))  # type: ignore[misc]
    assert answered >= len(seen), "each board that any camera saw"


def _configured(small_bundle, other) -> Settings:
    table = {"type": "replay", "folder": "x"}
    return Settings.model_validate(
        {
            "bundle": {"path": str(small_bundle)}, "source": {**table, "name": "top"},
            "also": [{"source": {**table, "name": "bottom"}, "bundle": {"path": str(other)}}],
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def two_views(small_bundle):
    """A product with a bundle for each of two cameras."""
    products = products_from_settings(_configured(small_bundle, small_bundle), "e" * 32)
    yield products.by_name["p3"]
    products.close()


@pytest.fixture(scope="module")
def pictures(small_boards):
    """A good board and one with a missing part."""
    return {kind: read_rgb(min((small_boards / "test" / kind).iterdir())) for kind in ("good", "missing")}


def board(top, bottom):
    below = Frame(image=Pixels(bottom), source="bottom", frame_id=6, unit="x", grabbed_at_ns=1)
    return Frame(image=Pixels(top), source="top", frame_id=5, unit="B", grabbed_at_ns=1, more=(below,))


def judged(product, frame):
    return fail_closed(lambda: inspect_board(product, 0, frame), error_judgement)


def test_one_verdict_of_two_views(two_views, pictures):
    schema = json.loads((resources.files("hisir_edge.mes") / "verdict.schema.json").read_text())
    good, bad = pictures["good"], pictures["missing"]
    for frame, result, of_views in (
        (board(good, good), Result.PASS, ["PASS", "PASS"]),
        (board(good, bad), Result.FAIL, ["PASS", "FAIL"]),
        (board(bad, good[:100]), Result.ERROR, ["FAIL", "ERROR"]),
    ):
        judgement = judged(two_views, frame)
        message = message_from_judgement(two_views.provenance, 7, frame, judgement)
        jsonschema.validate(message.body, schema)
        assert judgement.result is result
        assert [v["result"] for v in facts(message.body)["views"]] == of_views
        assert all(d.camera == "bottom" for d in facts(message.body)["defects"])


def test_masks_of_two_views_lie_one_below_the_other(two_views, pictures):
    found = judged(two_views, board(pictures["good"], pictures["missing"]))
    h, w = pictures["good"].shape[:2]
    assert found.mask.shape == (2 * h, w)
    assert not found.mask[:h].any()
    x, y, rw, rh = found.regions[0].box_xywh
    assert found.mask[h + y : h + y + rh, x : x + rw].any()
    assert "bottom: " in found.reason


def test_a_board_without_the_second_camera_is_an_error(two_views, pictures):
    alone = Frame(image=Pixels(pictures["good"]), source="top", frame_id=1, unit="B", grabbed_at_ns=1)
    found = judged(two_views, alone)
    assert (found.result, found.reason) == (Result.ERROR, "expected frames of 2 cameras; got 1")


def test_views_of_different_sizes_lie_one_below_the_other():
    def view(name, hw):
        mask = np.zeros(hw, bool)
        mask[-1, -1] = True
        region = Region(box_xywh=(0, 0, 1, 1), area_px=9, peak=2.0, contour_xy=((0, 0),))
        return View(
            name,
            1,
            hw,
            "a",
            Judgement(
                result=Result.FAIL, reason="1 region(s)", score=2.0, regions=(region,), regions_total=1, mask=mask
            ),
        )

    found = judgement_from_views([view("t", (4, 10)), view("b", (7, 3))])
    assert found.mask.shape == (11, 10)
    assert np.argwhere(found.mask).tolist() == [[3, 9], [10, 2]]  # type: ignore[arg-type]
    assert (found.reason, found.regions_total) == ("t: 1 region(s); b: 1 region(s)", 2)
