"""Messages of every schema version: frozen ones are read as they were meant; today's are written as they were frozen.

``tests/data/messages/VERSION/NAME.json`` are never changed: a reader of that version is somewhere. To
freeze a new version: HISIR_FREEZE=1 pytest tests/unit/line/test_message.py -k frozen.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from importlib import resources
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest

from hisir_edge.errors import InputError
from hisir_edge.images import mask_png_bytes
from hisir_edge.images.pixels import Pixels
from hisir_edge.line.sockets.message import SCHEMA, Provenance, as_error, message_from_judgement
from hisir_edge.mes import verdict_from_frames
from hisir_edge.records import (
    Answer,
    AnsweredCall,
    BoardPose,
    Call,
    CallSheet,
    Frame,
    GrabFault,
    Judgement,
    Optics,
    OpticsFault,
    Region,
    Result,
    StageTimes,
    View,
)  # fmt: skip

MESSAGES = Path(__file__).parents[2] / "data" / "messages"
VERSIONS = sorted(path.name for path in MESSAGES.iterdir())
SCHEMAS = {"1": "verdict-1.1.schema.json", "2": "verdict.schema.json"}
NOW_NS = 1_767_323_647_201_311_000
RECIPE = Provenance(
    line="smt-3", epoch="9f6c" * 8, product="psu", bundle_sha256="4d0c" * 16,
    thresholds={"pixel": 0.69, "region_peak": 2.5, "min_area_px": 36, "false_calls_per_board": 0.05},
    engine={"target": "onnxruntime", "precision": "int8", "backbone": "unet", "software_version": "0.1.0"},
)  # fmt: skip
POSE = BoardPose(shift_x_px=12.345678, shift_y_px=-3.0, turn_deg=0.42, scale=1.002, inliers=131, inlier_share=0.873333)
TIMES = StageTimes(register_s=0.04, tile_s=0.02, infer_s=1.45, merge_s=0.08, judge_s=0.06, total_s=1.66)


def validator(version: str) -> jsonschema.Draft202012Validator:
    text = (resources.files("hisir_edge.mes") / SCHEMAS[version.split(".", maxsplit=1)[0]]).read_text()
    return jsonschema.Draft202012Validator(json.loads(text))


def _region(x: int, y: int, w: int, h: int, peak: float, **more) -> Region:
    return Region(
        box_xywh=(x, y, w, h),
        area_px=w * h,
        peak=peak,
        contour_xy=((x, y), (x + w - 1, y), (x + w - 1, y + h - 1), (x, y + h - 1)),
        **more,
    )


def _mask(hw: tuple[int, int], regions: tuple[Region, ...], top: int = 0) -> np.ndarray:
    mask = np.zeros(hw, bool)
    for region in regions:
        x, y, w, h = region.box_xywh
        mask[top + y : top + y + h, x : x + w] = True
    return mask


def samples() -> dict[str, tuple]:
    """(number, item, judgement) of a board of each kind."""
    rgb = np.zeros((48, 64, 3), np.uint8)
    frame = Frame(image=Pixels(rgb), source="camera", frame_id=41, unit="B-7", grabbed_at_ns=NOW_NS - 1_700_000_000,
                  white_share=0.0123)  # fmt: skip
    regions = (
        _region(17, 9, 6, 4, 14.21, confidence=99.9, component="R22", part_number="11123-8897",
                box_mm=(0.85, 0.45, 0.3, 0.2)),
        _region(40, 30, 3, 3, 3.3, confidence=96.1),
    )  # fmt: skip
    failed = Judgement(
        result=Result.FAIL,
        reason="2 region(s)",
        score=14.21,
        regions=regions,
        regions_total=2,
        mask=_mask((48, 64), regions),
        times=TIMES,
        registration_residual_px=0.31,
        board_pose=POSE,
        variants=(0, 2),
    )
    passed = Judgement(
        result=Result.PASS,
        reason="",
        score=0.82,
        regions=(),
        regions_total=0,
        mask=np.zeros((48, 64), bool),
        times=TIMES,
        registration_residual_px=0.29,
        looked_share=0.123456,
        optics=Optics(blur_px=1.23456, brightness=0.98765, white_share=0.001),
        warnings=(OpticsFault("blur", "blurred by 1.2 px against the good boards (at most 0.9)", "check focus"),),
    )
    lost = GrabFault(
        source="camera",
        frame_id=44,
        unit="camera-00000044",
        reason="gap in frame ids: 1 lost",
        grabbed_at_ns=NOW_NS - 5_000_000,
    )
    error = Judgement(result=Result.ERROR, reason=lost.reason, score=None, regions=(), regions_total=0, mask=None)
    below = (_region(5, 6, 7, 8, 4.5, view="bottom", confidence=97.0),)
    one = Judgement(
        result=Result.FAIL,
        reason="1 region(s)",
        score=4.5,
        regions=below,
        regions_total=1,
        mask=_mask((32, 64), below),
        times=TIMES,
        registration_residual_px=None,
    )
    views = (View("camera", 45, (48, 64), "4d0c" * 16, passed), View("bottom", 7, (32, 64), "77aa" * 16, one))
    both = Judgement(
        result=Result.FAIL,
        reason="bottom: 1 region(s)",
        score=4.5,
        regions=below,
        regions_total=1,
        mask=_mask((80, 64), below, 48),
        times=TIMES,
        registration_residual_px=0.29,
        views=views,
    )
    two = Frame(
        image=Pixels(rgb),
        source="camera",
        frame_id=45,
        unit="B-9",
        grabbed_at_ns=NOW_NS - 9,
        device_timestamp_ns=None,
        more=(Frame(image=Pixels(rgb[:32]), source="bottom", frame_id=7, unit="B-9", grabbed_at_ns=NOW_NS),),
    )
    there = Call(id="1", box_xywh=(16, 8, 9, 7), kind="bridge", component="R22")
    beside = Call(id="2", box_xywh=(-3, 30, 9, 7), truth="false")
    sheet = CallSheet(delivery="B-7.json", sha256="ab12" * 16, calls=(there, beside))
    called = replace(
        failed, reason="1 region(s); 1 call(s) unsure", elsewhere=1,
        calls=(AnsweredCall(call=there, answer=Answer.CONFIRMED, score=5.684),
               AnsweredCall(call=beside, answer=Answer.UNSURE, score=0.1, reason="reaches beyond the picture")),
    )  # fmt: skip
    return {
        "pass": (42, frame, passed), "fail": (41, frame, failed), "error": (44, lost, error), "views": (45, two, both),
        "calls": (46, replace(frame, sheet=sheet), called),
    }  # fmt: skip


@pytest.mark.parametrize("name", samples())
def test_todays_messages_are_as_they_were_frozen(name):
    seq, item, judgement = samples()[name]
    message = message_from_judgement(RECIPE, seq, item, judgement, NOW_NS)
    version = SCHEMA.rsplit("/", maxsplit=1)[1]
    validator(version).validate(message.body)
    path = MESSAGES / version / f"{name}.json"
    if os.environ.get("HISIR_FREEZE"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"topic": message.topic, "body": message.body}, indent=1) + "\n")
    frozen = json.loads(path.read_text())
    assert {"topic": message.topic, "body": message.body} == frozen, "a change of keys or meaning is another version"
    assert message_from_judgement(RECIPE, seq, item, judgement, NOW_NS).frames() == message.frames(), "to the byte"


EXPECTED = {
    "pass": ("PASS", "B-7", 42, "", 0, (64, 48)),
    "fail": ("FAIL", "B-7", 41, "2 region(s)", 2, (64, 48)),
    "error": ("ERROR", "camera-00000044", 44, "gap in frame ids: 1 lost", 0, None),
    "views": ("FAIL", "B-9", 45, "bottom: 1 region(s)", 1, (64, 48)),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", EXPECTED)
def test_every_version_that_was_ever_published_is_read(version, name):
    frozen = json.loads((MESSAGES / version / f"{name}.json").read_text())
    validator(version).validate(frozen["body"])
    text = json.dumps(frozen["body"]).encode()
    v = verdict_from_frames([frozen["topic"].encode(), text, b"mask"])
    assert (v.result, v.unit, v.seq, v.reason, v.defects_total, v.frame_wh) == EXPECTED[name]
    assert (v.line, v.epoch, v.product, v.bundle_sha256) == ("smt-3", "9f6c" * 8, "psu", "4d0c" * 16)
    assert (v.topic, v.mask, v.missed, v.camera) == (f"verdict/smt-3/{v.result}", b"mask", 0, "camera")
    assert v.time == "2026-01-02T03:14:07.201311+00:00"
    if name == "fail":
        first, second = v.defects
        assert (first.x, first.y, first.w, first.h, first.area_px, first.peak) == (17, 9, 6, 4, 24, 14.21)
        assert first.contour == ((17, 9), (22, 9), (22, 12), (17, 12))
        assert (v.total_s, v.frame_id, v.score) == (1.66, 41, 14.21)
        if version.startswith("2."):
            assert (first.confidence, first.component) == (99.9, "R22")
            assert first.box_mm == pytest.approx((0.85, 0.45, 0.3, 0.2))
            assert (second.confidence, second.component, second.box_mm) == (96.1, "", None)
    whole = {"pass": 0.1235, "views": 0.1235, "fail": 1.0, "error": None}[name]
    assert v.looked_share == (whole if version in ("2.4", "2.5") else None)
    if version in ("1.1", "2.0", "2.1", "2.2"):
        assert v.warnings == ()
    elif name in ("pass", "views"):
        assert v.warnings == ("camera: blurred by 1.2 px against the good boards (at most 0.9); check focus",)
    if name == "views":
        assert [d.camera for d in v.defects] == ["bottom"]


def test_a_later_minor_version_is_read_and_a_later_major_one_is_not():
    frozen = json.loads((MESSAGES / "2.0" / "fail.json").read_text())["body"]
    later = json.loads(json.dumps(frozen))
    later["schema"] = "hisir-edge/verdict/2.7"
    later["Weather"] = "fine"
    later["InspectedUnits"][0]["Inspections"][0]["DefectsFound"][0]["Smell"] = 1
    validator("2.0").validate(later)
    assert verdict_from_frames([b"t", json.dumps(later).encode(), b""]).defects[0].component == "R22"
    later["schema"] = "hisir-edge/verdict/3.0"
    with pytest.raises(InputError, match="of schema 1 or 2"):
        verdict_from_frames([b"t", json.dumps(later).encode(), b""])


@pytest.mark.parametrize("name", samples())
def test_what_could_not_be_journaled_is_an_error_of_the_same_board(name):
    seq, item, judgement = samples()[name]
    reason = "verdict could not be journaled: x"
    message = as_error(message_from_judgement(RECIPE, seq, item, judgement, NOW_NS), reason)
    validator("2.0").validate(message.body)
    v = verdict_from_frames(message.frames())
    assert (v.result, v.seq, v.unit, v.mask) == ("ERROR", seq, item.unit, b"")
    assert (v.reason, v.defects, v.score) == (reason, (), None)
    assert message.topic == "verdict/smt-3/ERROR"
    calls = (message.body["vision"]["calls"] or {"answers": []})["answers"]
    assert {(one["answer"], one["score"], one["reason"]) for one in calls} <= {("unsure", None, reason)}
    assert len(calls) == len(judgement.calls), "each call has an answer all the same"


def test_a_mask_is_one_bit_a_pixel():
    mask = np.random.default_rng(3).random((33, 65)) > 0.5
    png = mask_png_bytes(mask)
    assert png[24:26] == bytes([1, 0]), "one bit, grey"
    assert np.array_equal(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED) > 0, mask)


@pytest.mark.parametrize(
    ("units", "result"),
    [
        (["Passed"], "PASS"), (["Passed", "Failed"], "FAIL"), (["Failed", "Error"], "ERROR"),
        (["Passed", "New"], "ERROR"), (["Skipped"], "ERROR"), (["Aborted", "Passed"], "ERROR"), (["passed"], "ERROR"),
    ],
)  # fmt: skip
def test_a_reader_takes_nothing_for_a_pass_that_is_not(units, result):
    """Of a later version that tells of several boards in one message, or has results that are not known yet."""
    body = json.loads((MESSAGES / "2.0" / "pass.json").read_text())["body"]
    one = body["InspectedUnits"][0]
    body["InspectedUnits"] = [{**one, "OverallResult": said} for said in units]
    assert verdict_from_frames([b"t", json.dumps(body).encode(), b""]).result == result
    old = json.loads((MESSAGES / "1.1" / "pass.json").read_text())["body"] | {"result": "GOOD"}
    assert verdict_from_frames([b"t", json.dumps(old).encode(), b""]).result == "ERROR"
