"""An archived board holds the frame and the verdict as they were; damage is told, and never guessed over."""

from __future__ import annotations

import io
import json
import time
import zipfile

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.messages import sample_message

from hisir_edge.archive.board_file import ArchivedBoard, board_bytes, evidence_from_npz, frame_from_picture
from hisir_edge.archive.board_file import View as ArchivedView
from hisir_edge.archive.folder import OURS, ArchiveFolder, name_of
from hisir_edge.errors import InputError
from hisir_edge.images.pixels import CONVERSIONS, Pixels
from hisir_edge.records import Evidence, Frame, Judgement, Result, View

EPOCH = "9f6c" * 8
RNG = np.random.default_rng(3)
_, VERDICT, MASK = sample_message(41, EPOCH, fails=True, unit="B 7").frames()


def frame(pixel_format="RGB8", hw=(37, 52), source="cam", more=()):
    channels = CONVERSIONS[pixel_format][0]
    data = RNG.integers(0, 256, hw if channels == 1 else (*hw, channels), np.uint8)
    return Frame(
        image=Pixels(data, pixel_format), source=source, frame_id=5, unit="B 7", grabbed_at_ns=time.time_ns(), more=more
    )


def judgement(evidence=None, views=()):
    return Judgement(
        result=Result.FAIL, reason="1 region(s)", score=2.0, regions=(), regions_total=1, mask=None, evidence=evidence,
        views=views,
    )  # fmt: skip


EVIDENCE = Evidence(
    cells_yx=np.array([[0, 1], [2, 3]], np.int32),
    scores=RNG.random((2, 18, 18), np.float32),
    highest=np.ones(2, np.float32),
    matrix=np.eye(3) * 1.01,
)


@pytest.mark.parametrize("pixel_format", CONVERSIONS)
def test_png_keeps_a_frame_to_the_bit_in_every_format(pixel_format):
    taken = frame(pixel_format)
    with ArchivedBoard(board_bytes(VERDICT, MASK, taken, judgement(), "png")) as board:
        (view,) = board.facts.views
        again = board.frame(view)
        assert np.array_equal(again.rgb, taken.rgb)
        if taken.image.data.ndim == 2:  # a mosaic stays one
            assert again.pixel_format == pixel_format
            assert np.array_equal(again.data, taken.image.data)
        assert (board.verdict, board.mask_png) == (VERDICT, MASK)
        assert (board.facts.seq, board.facts.unit, board.facts.result) == (41, "B 7", "FAIL")
        assert board.evidence(view) is None


@pytest.mark.parametrize("pixel_format", ["RGB8", "Mono8", "BayerRG8"])
def test_jpeg_keeps_it_nearly(pixel_format):
    smooth = np.linspace(0, 255, 64, dtype=np.uint8)[None, :].repeat(48, 0)
    channels = CONVERSIONS[pixel_format][0]
    taken = Frame(
        image=Pixels(smooth if channels == 1 else np.dstack([smooth] * 3), pixel_format), source="cam", frame_id=1,
        unit="u", grabbed_at_ns=0,
    )  # fmt: skip
    with ArchivedBoard(board_bytes(VERDICT, MASK, taken, judgement(), "jpeg")) as board:
        again = board.frame(board.facts.views[0])
        assert np.abs(again.rgb.astype(int) - taken.rgb).max() <= 6
        assert (again.pixel_format == "Mono8") == (pixel_format == "Mono8")


def test_each_camera_of_a_board_has_its_own_frame_and_evidence():
    second = frame("Mono8", (20, 24), "side")
    first = frame(more=(second,))
    parts = tuple(
        View(one.source, one.frame_id, one.image.hw, "a" * 64, judgement(EVIDENCE if one is second else None))
        for one in (first, second)
    )
    with ArchivedBoard(board_bytes(VERDICT, MASK, first, judgement(views=parts), "png")) as board:
        assert [view.camera for view in board.facts.views] == ["cam", "side"]
        assert board.evidence(board.facts.views[0]) is None
        again = board.evidence(board.facts.views[1])
        assert np.array_equal(again.scores, EVIDENCE.scores) and np.array_equal(again.cells_yx, EVIDENCE.cells_yx)
        assert again.matrix is not None and again.matrix.tolist() == (np.eye(3) * 1.01).tolist()
        assert again.bend is None
        assert np.array_equal(board.frame(board.facts.views[1]).data, second.image.data)
    # not judged as a whole: an unknown product, a missing frame
    with ArchivedBoard(board_bytes(VERDICT, MASK, first, judgement(), "png")) as board:
        assert [view.camera for view in board.facts.views] == ["cam", "side"]


WHOLE = board_bytes(VERDICT, MASK, frame(), judgement(EVIDENCE), "png")


def everything_of(data: bytes) -> tuple:
    with ArchivedBoard(data) as board:
        (view,) = board.facts.views
        evidence = board.evidence(view)
        return (
            board.facts, board.verdict, board.mask_png, board.frame(view).data.tobytes(), evidence.scores.tobytes(),
            evidence.cells_yx.tobytes(), evidence.matrix.tobytes(),
        )  # fmt: skip


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_file_is_told_or_says_the_same(data):
    at = data.draw(st.integers(0, len(WHOLE) - 1))
    changed = bytearray(WHOLE)
    if data.draw(st.booleans()):
        changed[at] ^= data.draw(st.integers(1, 255))
    else:
        del changed[at:]
    try:
        found = everything_of(bytes(changed))
    except InputError as error:
        assert "as the line wrote it" in str(error)
    else:
        assert found == everything_of(WHOLE)


def test_facts_of_another_kind_are_told():
    def with_facts(facts: dict) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("board.json", json.dumps(facts))
        return out.getvalue()

    with ArchivedBoard(WHOLE) as board:
        facts = {name: getattr(board.facts, name) for name in board.facts.__slots__ if name != "views"}
    good = {"schema": "hisir-edge/archive/1.0", **facts, "views": []}
    assert ArchivedBoard(with_facts(good)).facts.views == ()
    for wrong in (
        {**good, "schema": "hisir-edge/archive/2.0"}, {**good, "seq": "41"}, {**good, "unit": 7},
        {**good, "views": [{"camera": "c"}]}, {**good, "views": 3}, {"schema": good["schema"]},
    ):  # fmt: skip
        with pytest.raises(InputError):
            ArchivedBoard(with_facts(wrong))


def test_the_folder_keeps_its_budget_and_finds_boards_again(tmp_path):
    folder = ArchiveFolder(tmp_path / "a", 10_000)
    for seq in range(1, 9):
        folder.write(EPOCH, name_of(seq, "20260302T091407", "PASS", f"b/{seq}"), bytes(2000))
    assert [seq for seq, _ in folder.after(EPOCH, 0, 100)] == [4, 5, 6, 7, 8]
    assert folder.find(EPOCH, 3) is None
    assert folder.size == (5, 10_000)
    other = "0" * 32
    folder.write(other, name_of(1, "20260302T091500", "FAIL", ""), bytes(9000))
    assert folder.size == (1, 9000)
    assert not (tmp_path / "a" / EPOCH).exists()
    (tmp_path / "a" / "notes.txt").write_text("mine")
    (tmp_path / "a" / other / ".half.zip.77.tmp").write_bytes(b"x" * 50)
    again = ArchiveFolder(tmp_path / "a", 10_000)
    assert again.size == (1, 9000)
    assert again.find(other, 1).result == "FAIL"
    assert sorted(path.name for path in (tmp_path / "a").rglob("*") if path.is_file()) == sorted(
        ["notes.txt", name_of(1, "20260302T091500", "FAIL", "")]
    )
    with pytest.raises(InputError, match="archive\\.budget_mb"):
        again.write(other, name_of(2, "20260302T091500", "FAIL", ""), bytes(10_001))
    assert again.size == (1, 9000)


def test_a_file_that_cannot_be_deleted_stays_in_the_account(tmp_path, monkeypatch):
    folder = ArchiveFolder(tmp_path, 5000)
    for seq in (1, 2):
        folder.write(EPOCH, name_of(seq, "20260302T091407", "PASS", ""), bytes(2000))

    def refused(path, missing_ok=False):
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(type(tmp_path), "unlink", refused)
        with pytest.raises(InputError, match="not permitted"):
            folder.write(EPOCH, name_of(3, "20260302T091407", "PASS", ""), bytes(2000))
    assert folder.size == (2, 4000)
    folder.write(EPOCH, name_of(3, "20260302T091407", "PASS", ""), bytes(2000))
    assert folder.size == (2, 4000) and folder.find(EPOCH, 1) is None


@given(st.text(max_size=200), st.integers(0, 2**62))
def test_every_board_has_a_name_that_a_folder_takes(unit, seq):
    name = name_of(seq, "20260302T091407", "ERROR", unit)
    assert OURS.fullmatch(name) and len(name.encode()) < 200


@pytest.mark.parametrize("pixel_format", ["Mono8", "RGB8", "BayerRG8", "RGBa8", "Mono12"])
def test_a_picture_of_other_channels_than_its_format_is_told(pixel_format):
    data = cv2.imencode(".png", np.zeros((20, 30) if pixel_format == "RGB8" else (20, 30, 3), np.uint8))[1].tobytes()
    with pytest.raises(InputError, match="board 7 as the line wrote it") as told:
        frame_from_picture(data, ArchivedView("camera", 1, "0.png", pixel_format, ""), "board 7")
    assert told.value.code == "damaged"


@pytest.mark.parametrize("matrix", [np.zeros((3, 3)), np.full((3, 3), np.nan), np.eye(2)])
def test_evidence_with_a_pose_that_is_none_is_told(matrix):
    out = io.BytesIO()
    np.savez(out, cells_yx=np.zeros((1, 2), np.int32), scores=np.zeros((1, 18, 18), np.float32),
             highest=np.zeros(1, np.float32), matrix=matrix)  # fmt: skip
    with pytest.raises(ValueError, match="no pose"):
        evidence_from_npz(out.getvalue())
