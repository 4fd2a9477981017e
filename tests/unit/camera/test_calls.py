"""Files of another machine's calls: what is read, and that whatever else there is has a reason."""

from __future__ import annotations

import json
import os
import time

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hisir_edge.camera.calls.sheet import sheet_from_bytes
from hisir_edge.camera.calls.source import CallsCamera
from hisir_edge.config.from_files import CallsSource
from hisir_edge.errors import InputError
from hisir_edge.records import Call, Frame, GrabFault

CALL = {"id": "1", "x": 10, "y": 20, "w": 30, "h": 40}


def of_json(*calls: dict, **board):
    return sheet_from_bytes("B-1.json", json.dumps({"calls": calls, **board}).encode())


def test_json_and_csv_say_the_same():
    said = of_json({**CALL, "class": "bridge", "part": "R1", "truth": "real"}, {**CALL, "id": 2, "x": 0.5},
                   unit="SN 7", product="psu", picture="b.png")  # fmt: skip
    assert said.calls == (
        Call(id="1", box_xywh=(10, 20, 30, 40), kind="bridge", component="R1", truth="real"),
        Call(id="2", box_xywh=(0, 20, 31, 40)),
    )
    assert (said.unit, said.product, said.picture, said.delivery) == ("SN 7", "psu", "b.png", "B-1.json")
    names = ["id", "x", "y", "w", "h", "class", "part", "truth", "unit", "product", "picture"]
    commas = [",".join(names), "1,10,20,30,40,bridge,R1,Defect,SN 7,psu,b.png", "2,.5,20,30,40,,,,,,", ""]
    marks = [
        "\ufeff" + "; ".join(names).upper(),
        "1;10,0;20;30;40;bridge;R1;real;SN 7;psu;b.png",
        "2;0,5;20;30;40;;;;;;",
    ]
    for table in ("\n".join(commas), "\r\n".join(marks)):
        read = sheet_from_bytes("B-1.csv", table.encode())
        assert (read.calls, read.unit, read.product, read.picture) == (said.calls, "SN 7", "psu", "b.png")
    assert sheet_from_bytes("B-2.csv", b"id\tx\ty\tw\th\n").calls == (), "the other machine has called nothing"
    assert of_json().unit == "B-1"


def test_crops_have_their_places():
    on_a = {**CALL, "crop": "a.png", "crop_x": 0, "crop_y": 5}
    sheet = of_json(on_a, {**on_a, "id": "2"}, {**CALL, "id": "3", "crop": "b.png"})
    assert [(crop.file, crop.calls, crop.at_xy) for crop in sheet.crops] == [
        ("a.png", ("1", "2"), (0, 5)), ("b.png", ("3",), (10, 20))
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", b"", "a.json"), ("a.json", b"[]", "a list"), ("a.json", b'{"calls": [1]}', "no object"),
        ("a.json", b'{"calls": [], "calls": []}', "twice"), ("a.json", b'{"calls": [], "clls": 1}', "unknown key clls"),
        ("a.json", b'{"calls": [{"id": "1"}]}', "x None"), ("a.json", b'{"calls": [{"id": true}]}', "without its id"),
        ("a.csv", b"", "id, x, y, w, h"), ("a.csv", b"id,x,y,w,h\n1,2,3,4\n", "line 2 with 4 cells"),
        ("a.csv", b"id,x,y,w,h,h\n", "twice"), ("a.csv", b"id,x,y,w,h,z\n", "unknown column z"),
        ("a.csv", b"id,x,y,w,h\n1,1,1,1,1\n1,1,1,1,1\n", "the call 1 twice"),
        ("a.csv", b"id,x,y,w,h,unit\n1,1,1,1,1,a\n2,1,1,1,1,b\n", "more than one unit"),
        ("a.csv", b"id,x,y,w,h\n1,nan,1,1,1\n", "x nan"), ("a.csv", b"id,x,y,w,h\n1,1e9,1,1,1\n", "x 1e9"),
        ("a.csv", b"id,x,y,w,h\n1,1,1,0,1\n", "of 0x1"), ("a.csv", b"id,x,y,w,h,truth\n1,1,1,1,1,perhaps\n", "perhaps"),
        ("a.csv", b"id,x,y,w,h,crop\n1,1,1,1,1,a.png\n2,1,1,1,1,\n", "none of others"),
        ("a.csv", b"id,x,y,w,h,picture\n1,1,1,1,1,/etc/passwd\n", "beside the calls"),
        ("a.csv", b"id,x,y,w,h,crop\n1,1,1,1,1,..\n", "beside the calls"), ("a.csv", b"\xff\x81\x00", "a.csv"),
        ("a.json", b'{"calls": [], "picture": "done"}', "the picture done"),
        ("a.json", b'{"calls": [], "picture": "b.json"}', "the picture b.json"),
        ("a.json", b'{"calls": [], "picture": ".b.png"}', "beside the calls"),
        ("a.csv", b"id,x,y,w,h,crop,picture\n1,1,1,1,1,a.png,b.png\n", "not both"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(name, content, words):
    with pytest.raises(InputError) as told:
        sheet_from_bytes(name, content)
    assert words in str(told.value), told.value


@given(st.binary(max_size=200), st.sampled_from(["a.json", "a.csv"]))
def test_any_bytes_are_calls_or_an_error(data, name):
    try:
        sheet = sheet_from_bytes(name, data)
    except InputError:
        return
    assert len({call.id for call in sheet.calls}) == len(sheet.calls)


KEYS = st.sampled_from([*CALL, "crop", "calls", "truth", "unit", "picture"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.integers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=9),
    max_leaves=30,
)


@given(VALUES)
def test_any_json_is_calls_or_an_error(value):
    for said in (value, {"calls": value}, {"calls": [value]}, {"calls": [{**CALL, "crop": value}], "unit": value}):
        try:
            sheet = sheet_from_bytes("a.json", json.dumps(said).encode())
        except InputError:
            continue
        for call in sheet.calls:
            assert call.box_xywh[2] > 0 and call.box_xywh[3] > 0 and call.truth in ("real", "false", "")


def a_board(folder, name, age_s=0.0, **board):
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / f"{name}.png"), np.full((8, 8, 3), 90, np.uint8))
    (folder / f"{name}.json").write_text(json.dumps({"calls": [CALL], **board}))
    for path in folder.glob(f"{name}.*"):
        stat = path.stat()
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - int(age_s * 1e9)))


def camera(folder, **more) -> CallsCamera:
    return CallsCamera(CallsSource(type="calls", folder=str(folder), **{"settle_s": 0, "wait_s": 0, **more}))


def test_boards_come_oldest_first_and_once(tmp_path):
    for name, age_s in (("c", 30), ("a", 10), ("b", 20)):
        a_board(tmp_path / "in", name, age_s)
    with camera(tmp_path / "in") as source:
        items = [source.next(0) for _ in range(4)]
        assert [item and item.unit for item in items] == ["c", "b", "a", None]
        assert [item.frame_id for item in items[:3]] == [1, 2, 3]
        assert all(isinstance(item, Frame) and item.sheet.calls[0].id == "1" for item in items[:3])
        a_board(tmp_path / "in", "b", unit="again")
        assert source.next(0).unit == "again", "what is written anew is another board"
        (tmp_path / "in" / "notes.txt").write_text("no calls")
        (tmp_path / "in" / ".draft.json").write_text("{")
        assert source.next(0) is None


def test_what_still_changes_is_waited_for_and_what_never_comes_is_a_fault(tmp_path):
    a_board(tmp_path, "a")
    with camera(tmp_path, settle_s=60) as source:
        assert source.next(0) is None
    (tmp_path / "a.png").rename(tmp_path / "elsewhere")
    with camera(tmp_path, wait_s=3600) as source:
        assert source.next(0) is None
        (tmp_path / "elsewhere").rename(tmp_path / "a.png")
        assert source.next(0).unit == "a"
    (tmp_path / "a.png").unlink()
    with camera(tmp_path) as source:
        fault = source.next(0)
        assert isinstance(fault, GrabFault) and "no picture a.*" in fault.reason and len(fault.sheet.calls) == 1
        (tmp_path / "done").mkdir()
        (tmp_path / "a.json").unlink()
        cv2.imwrite(str(tmp_path / "a.png"), np.full((8, 8, 3), 90, np.uint8))
        assert source.next(0) is None
        for file in source._seen_at:
            source._seen_at[file] -= 100
        (tmp_path / "a.json").write_text(json.dumps({"calls": [CALL]}))
        assert isinstance(source.next(0), GrabFault), "a picture of long ago, that came too late, is not its own"
        assert [path.name.endswith("-a.png") for path in (tmp_path / "done").iterdir()] == [True]
        a_board(tmp_path, "a", unit="anew")
        assert isinstance(source.next(0), Frame), "delivered again as it should be"


@pytest.mark.parametrize("settle_s", [0.0, 0.2])
def test_a_picture_may_come_after_its_calls(tmp_path, settle_s):
    a_board(tmp_path, "a")
    (tmp_path / "a.png").rename(tmp_path / "elsewhere")
    with camera(tmp_path, settle_s=settle_s, wait_s=60) as source:
        assert source.next(3 * settle_s) is None
        (tmp_path / "elsewhere").rename(tmp_path / "a.png")
        item = source.next(30)
        assert isinstance(item, Frame), item


def test_what_is_no_picture_ends_nothing(tmp_path):
    a_board(tmp_path, "a")
    os.truncate(tmp_path / "a.png", 1 << 40)
    (tmp_path / "b.json").write_text(json.dumps({"calls": [CALL], "picture": "pipe.png"}))
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "c.json").write_text(json.dumps({"calls": [CALL], "picture": "link.png"}))
    (tmp_path / "link.png").symlink_to("/dev/zero")
    with camera(tmp_path) as source:
        assert all(isinstance(source.next(0), GrabFault) for _ in range(3))


def test_calls_that_were_rewritten_under_the_same_time_are_not_taken_for_the_old_ones(tmp_path):
    a_board(tmp_path, "a")
    (tmp_path / "a.png").rename(tmp_path / "elsewhere")
    with camera(tmp_path, wait_s=3600) as source:
        assert source.next(0) is None
        stat = (tmp_path / "a.json").stat()
        other = json.dumps({"calls": [{**CALL, "x": 77}]})
        (tmp_path / "a.json").write_text(other)
        os.utime(tmp_path / "a.json", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert (tmp_path / "a.json").stat().st_size == stat.st_size
        (tmp_path / "elsewhere").rename(tmp_path / "a.png")
        item = source.next(5)
        assert item.sheet.calls[0].box_xywh[0] == 77


@pytest.mark.parametrize("torn", ["a.json", "a.png"])
def test_what_is_half_written_is_read_again_once_it_changes(tmp_path, torn):
    a_board(tmp_path, "a")
    whole = (tmp_path / torn).read_bytes()
    (tmp_path / torn).write_bytes(whole[: len(whole) // 2])
    with camera(tmp_path, wait_s=3600) as source:
        assert source.next(0) is None and source.next(0) is None
        (tmp_path / torn).write_bytes(whole)
        assert isinstance(source.next(0), Frame)
    (tmp_path / torn).write_bytes(whole[: len(whole) // 2])
    with camera(tmp_path) as source:
        assert isinstance(source.next(0), GrabFault)


def test_a_picture_of_tomorrow_is_not_whole_yet(tmp_path):
    """The clock of a share may be ahead of this PC's."""
    a_board(tmp_path, "a", age_s=-90)
    with camera(tmp_path, settle_s=60) as source:
        assert source.next(0) is None


def test_two_pictures_of_one_name_are_a_fault(tmp_path):
    a_board(tmp_path, "a")
    cv2.imwrite(str(tmp_path / "a.jpg"), np.full((8, 8, 3), 90, np.uint8))
    with camera(tmp_path) as source:
        assert "a.png, a.jpg" in source.next(0).reason


def test_a_crop_is_read_once_and_no_board_takes_all_memory(tmp_path):
    cv2.imwrite(str(tmp_path / "c.png"), np.full((20, 20, 3), 90, np.uint8))
    calls = [{**CALL, "id": n, "crop": "c.png", "crop_x": n} for n in range(50)]
    (tmp_path / "a.json").write_text(json.dumps({"calls": calls}))
    with camera(tmp_path) as source:
        images = {id(crop.image) for crop in source.next(0).sheet.crops}
        assert len(images) == 1
        for n in range(3):
            cv2.imwrite(str(tmp_path / f"large-{n}.png"), np.zeros((6000, 6000), np.uint8))
        large = [{**CALL, "id": n, "crop": f"large-{n}.png"} for n in range(3)]
        (tmp_path / "b.json").write_text(json.dumps({"calls": large}))
        assert "crops of at most" in source.next(0).reason


def test_many_boards_that_wait_for_pictures_hold_nobody_up(tmp_path):
    for n in range(1500):
        (tmp_path / f"{n}.json").write_text(json.dumps({"calls": [CALL]}))
    with camera(tmp_path, wait_s=3600) as source:
        assert source.next(0) is None
        a_board(tmp_path, "last")
        start = time.monotonic()
        assert source.next(0).unit == "last"
        assert time.monotonic() - start < 3, "seconds where each is read again"


def test_a_folder_that_goes_away_comes_back(tmp_path):
    with camera(tmp_path / "in") as source:
        assert source.next(0) is None and source.up
        (tmp_path / "in").rmdir()
        assert source.next(0) is None and not source.up
        a_board(tmp_path / "in", "a")
        assert source.next(0).unit == "a" and source.up
