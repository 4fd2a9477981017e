"""Places that a line missed, and the export of reviewed boards."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.messages import sample_message

from hisir_edge.archive.board_file import board_bytes
from hisir_edge.errors import InputError
from hisir_edge.images.pixels import Pixels
from hisir_edge.learn.review.boards import check_same_reviews, load_reviewed, picture_of, unpack_reviewed
from hisir_edge.mes.verdict import verdict_from_frames
from hisir_edge.records import Frame, Judgement, Result
from hisir_edge.view.history import History
from hisir_edge.view.statistics import last_words
from hisir_edge.view.teach.reviewed import draw_missed, missed_on, polygon_from_json, remove_missed, reviewed_of

EPOCH = "9f6c" * 8
SQUARE = [[0.0, 0.0], [4.0, 0.0], [4.0, 4.0]]


def archived(seq: int, fails: bool) -> bytes:
    """A board's file as the line archives it, of 8x6."""
    verdict = sample_message(seq, EPOCH, fails).frames()[1]
    pixels = np.full((6, 8, 3), seq, np.uint8)
    frame = Frame(image=Pixels(pixels), source="cam", frame_id=seq, unit=f"unit-{seq}", grabbed_at_ns=seq * 10**9)
    judgement = Judgement(
        result=Result.FAIL if fails else Result.PASS, reason="", score=1.0, regions=(), regions_total=0, mask=None
    )
    return board_bytes(verdict, b"", frame, judgement, "png")


@pytest.fixture
def history(tmp_path):
    """Boards 1 to 3 called with a defect each, 4 and 5 passed."""
    found = History(tmp_path / "state")
    for seq in range(1, 6):
        found.add(verdict_from_frames(sample_message(seq, EPOCH, seq < 4).frames()))
    yield found
    found.close()


def board(history: History, seq: int) -> dict:
    found = history.board("l", EPOCH, seq)
    assert found is not None
    return found


def word(history: History, seq: int) -> str | None:
    return last_words(history.decisions("l", EPOCH, seq)).get(0)


def test_a_missed_place_makes_an_escape_and_its_removal_takes_that_back(history):
    first = draw_missed(history, board(history, 4), "cam", SQUARE, "eva")
    second = draw_missed(history, board(history, 4), "cam", SQUARE, "eva")
    assert [one["id"] for one in missed_on(history, "l", EPOCH, 4)] == [first, second]
    assert word(history, 4) == "DefectConfirmed"
    assert len(history.decisions("l", EPOCH, 4)) == 1
    remove_missed(history, board(history, 5), first, "eva")
    assert len(missed_on(history, "l", EPOCH, 4)) == 2, "a place of another board is not removed"
    remove_missed(history, board(history, 4), first, "eva")
    assert word(history, 4) == "DefectConfirmed"
    remove_missed(history, board(history, 4), second, "eva")
    assert word(history, 4) == "NotVerifiedYet"
    history.decide("l", EPOCH, 5, 0, "DefectConfirmed", "seen by hand", "eva")
    number = draw_missed(history, board(history, 5), "cam", SQUARE, "eva")
    remove_missed(history, board(history, 5), number, "eva")
    assert word(history, 5) == "DefectConfirmed", "what was said apart from the drawing stays"
    draw_missed(history, board(history, 1), "cam", SQUARE, "eva")
    assert word(history, 1) is None, "a board that is called is no escape"


def test_a_place_lies_in_the_frame_and_there_are_not_too_many(history):
    assert polygon_from_json(SQUARE, (6, 8)) == SQUARE
    for wrong in (None, 7, [], SQUARE[:2], [[0, 0], [9, 0], [4, 4]], [["a", 0]] * 3, [[0, 0, 0]] * 3, [[0, 0]] * 201,
                  [[float("nan"), 0]] * 3, [[float("inf"), 0]] * 3,
                  [[0, 0], [4, 0], [8, 0]], [["0", "0"], ["4", "0"], ["4", "4"]],
                  [[False, False], [4, 0], [4, 4]]):  # fmt: skip
        with pytest.raises(InputError):
            polygon_from_json(wrong, (6, 8))
    for _ in range(50):
        draw_missed(history, board(history, 4), "cam", SQUARE, "eva")
    with pytest.raises(InputError, match="places on a board"):
        draw_missed(history, board(history, 4), "cam", SQUARE, "eva")


def exported(history: History, folder: Path, gone: tuple[int, ...] = ()) -> tuple[Path, dict[str, int]]:
    def fetch(line: str, epoch: str, seq: int) -> bytes:
        if seq in gone:
            raise InputError(expected="a board that is archived", received=str(seq), fix="none", code="unknown")
        return archived(seq, seq < 4)

    file, counts = reviewed_of(history, "l", "p", 0.0, fetch)
    out = folder / "reviewed.zip"
    out.write_bytes(file.read())
    file.close()
    return out, counts


def test_what_was_decided_and_drawn_is_exported_and_read_again(history, tmp_path):
    history.decide("l", EPOCH, 1, 1, "DefectRejected", "", "eva")
    history.decide("l", EPOCH, 2, 0, "DefectConfirmed", "", "eva")
    history.decide("l", EPOCH, 3, 1, "DefectRejected", "", "eva")
    history.decide("l", EPOCH, 3, 1, "NotVerifiedYet", "", "eva")  # taken back: nobody has decided
    draw_missed(history, board(history, 4), "cam", SQUARE, "kim")
    file, counts = exported(history, tmp_path)
    kinds = {"confirmed": 1, "false call": 1, "repaired": 0, "open": 0, "escape": 1, "boards": 3, "left_out": 0}
    assert counts == kinds
    with zipfile.ZipFile(file) as archive:
        listed = json.loads(archive.read("reviewed.json"))["boards"]
        assert [one["seq"] for one in listed if not one["file"]] == [3], "what was taken back is told, too"
    run = tmp_path / "run"
    run.mkdir()
    assert unpack_reviewed((file,), run, (6, 8)) == 3
    found = {one.unit: one for one in load_reviewed(run)}
    assert {name: [place.kind for place in one.places] for name, one in found.items()} == {
        "unit-1": ["false call"], "unit-2": ["confirmed"], "unit-4": ["escape"]
    }  # fmt: skip
    assert found["unit-1"].is_good and not found["unit-2"].is_good and not found["unit-4"].is_good
    assert found["unit-1"].places[0].polygon == ((1, 2), (3, 2), (3, 3), (1, 3))
    assert found["unit-4"].places[0].who == "kim"
    from hisir_edge.images import read_rgb

    assert (read_rgb(picture_of(run, found["unit-2"])) == 2).all()
    assert unpack_reviewed((file,), run, (6, 8)) == 0, "nothing new"
    check_same_reviews((file,), run)
    history.decide("l", EPOCH, 2, 0, "DefectRejected", "", "eva")
    file, _ = exported(history, tmp_path)
    with pytest.raises(InputError, match="that it does not have so, such as l/"):
        check_same_reviews((file,), run)
    assert unpack_reviewed((file,), run, (6, 8)) == 1
    assert {one.unit: one for one in load_reviewed(run)}["unit-2"].is_good
    # taken back, and what was drawn rejected: nothing of it counts any more; and what is archived no more is told
    history.decide("l", EPOCH, 1, 1, "NotVerifiedYet", "", "eva")
    history.decide("l", EPOCH, 4, 0, "DefectRejected", "", "eva")
    history.decide("l", EPOCH, 2, 0, "DefectConfirmed", "", "eva")
    file, counts = exported(history, tmp_path, gone=(2,))
    assert (counts["boards"], counts["left_out"]) == (0, 1)
    assert unpack_reviewed((file,), run, (6, 8)) == 3
    assert {one.unit: one.places[0].kind for one in load_reviewed(run)} == {"unit-2": "confirmed"}
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    with pytest.raises(InputError, match="none that is archived and decided on"):
        unpack_reviewed((file,), fresh, (6, 8))


def test_what_is_not_archived_any_more_is_counted(history, tmp_path):
    for seq in (1, 2):
        history.decide("l", EPOCH, seq, 1, "DefectRejected", "", "eva")
    _, counts = exported(history, tmp_path, gone=(2,))
    assert (counts["boards"], counts["left_out"]) == (1, 1)


def test_what_is_no_such_export_is_told_in_one_line(history, tmp_path):
    history.decide("l", EPOCH, 1, 1, "DefectRejected", "", "eva")
    good, _ = exported(history, tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(InputError, match="of 9x9"):
        unpack_reviewed((good,), run, (9, 9))
    with pytest.raises(InputError, match="--camera"):
        unpack_reviewed((good,), run, (6, 8), camera="other")
    with zipfile.ZipFile(good) as archive:
        raw = json.loads(archive.read("reviewed.json"))
        member = archive.read(raw["boards"][0]["file"])

    def written(change) -> Path:
        other = json.loads(json.dumps(raw))
        change(other)
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            archive.writestr("reviewed.json", json.dumps(other))
            archive.writestr(raw["boards"][0]["file"], member)
        path = tmp_path / "changed.zip"
        path.write_bytes(data.getvalue())
        return path

    changes = (
        lambda r: r.update(schema="other"), lambda r: r.update(boards=3), lambda r: r["boards"][0].pop("line"),
        lambda r: r["boards"][0].update(file="none"), lambda r: r.update(product="another"),
        lambda r: r["boards"][0].update(seq=2), lambda r: r["boards"][0].update(epoch="../x"),
        lambda r: r["boards"][0].update(seq="1"), lambda r: r["boards"][0].update(places=None),
        lambda r: r["boards"][0]["places"][0].update(kind="odd"),
        lambda r: r["boards"][0]["places"][0].update(polygon=[]),
        lambda r: r["boards"][0]["places"][0].update(polygon=[["a", "b"]]),
        lambda r: r["boards"][0]["places"][0].update(polygon=[[1e9, 0]]),
    )  # fmt: skip
    for change in changes:
        with pytest.raises(InputError, match=r"export them again|copy it again"):
            unpack_reviewed((written(change),), run, (6, 8))
    damaged = bytearray(good.read_bytes())
    encrypted = bytearray(damaged)
    encrypted[6] |= 1  # the flag of the first member, and of its entry in the directory
    encrypted[encrypted.rindex(b"PK\x01\x02") + 8] |= 1
    for wrong in (bytes(encrypted), b"", b"PK\x03\x04", good.read_bytes()[:-30]):
        path = tmp_path / "cut.zip"
        path.write_bytes(wrong)
        with pytest.raises(InputError, match="export them again"):
            unpack_reviewed((path,), run, (6, 8))
    with pytest.raises(InputError, match="export them again"):
        unpack_reviewed((written(lambda r: r.update(boards=[])),), tmp_path / "run2", (6, 8))
