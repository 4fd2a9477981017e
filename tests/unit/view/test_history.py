"""What the page keeps: each verdict once, decisions until the line has them; and the figures that come of it."""

from __future__ import annotations

import csv
import json
import sqlite3
import zipfile
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.messages import sample_message

from hisir_edge.archive.board_file import ArchivedBoard, board_bytes
from hisir_edge.errors import InputError, NoAnswer
from hisir_edge.images.pixels import Pixels
from hisir_edge.mes.verdict import verdict_from_frames
from hisir_edge.records import Frame, Judgement, Result
from hisir_edge.view.export import coco_of, csv_of
from hisir_edge.view.history import FILE, History, Search
from hisir_edge.view.lines import Names
from hisir_edge.view.statistics import Range, control_chart, drift, heat, outcome_of, pareto, run_rules, summary

EPOCH = "9f6c" * 8


def verdict(seq, fails=False, unit="", line="l"):
    return verdict_from_frames(sample_message(seq, EPOCH, fails, unit, line).frames())


@pytest.fixture
def history(tmp_path):
    made = History(tmp_path / "state")
    yield made
    made.close()


def told(seq, defect=0, word="DefectRejected", number=1):
    return {
        "id": number, "epoch": EPOCH, "seq": seq, "defect": defect, "Verification": word, "VerificationDetail": "",
        "operator": "J", "client": "", "TimeStamp": "2026-03-02T09:14:07.201311+00:00",
    }  # fmt: skip


def test_a_verdict_is_kept_once_and_found_by_what_is_asked(history):
    for seq in range(1, 8):
        history.add(verdict(seq, fails=seq % 2 == 0, unit=f"PSU-{seq}"))
        history.add(verdict(seq, fails=seq % 2 == 0, unit=f"PSU-{seq}"))
    history.add(verdict(1, unit="[x]?", line="m"))
    assert len(history.boards(Search())) == 8
    assert [row["seq"] for row in history.boards(Search(line="l", result="FAIL"))] == [6, 4, 2]
    assert [row["unit"] for row in history.boards(Search(unit="PSU-3"))] == ["PSU-3"]
    assert len(history.boards(Search(unit="PSU-*"))) == 7
    assert [row["unit"] for row in history.boards(Search(unit="[x]?*"))] == ["[x]?"]
    assert history.boards(Search(unit="' OR 1=1 --")) == []
    assert history.boards(Search(until=1.0)) == []
    seen, before = [], None
    while page := history.boards(Search(before=before, most=3)):
        seen += [(row["line"], row["seq"]) for row in page]
        before = (page[-1]["at"], page[-1]["line"], page[-1]["seq"])
    assert len(seen) == len(set(seen)) == 8
    board = history.board("l", EPOCH, 4)
    assert board["body"]["seq"] == 4 and board["decisions"] == []
    assert history.board("l", EPOCH, 99) is None


def test_a_decision_waits_until_the_line_has_it_and_is_there_once(history):
    history.add(verdict(2, fails=True))
    first = history.decide("l", EPOCH, 2, 1, "DefectConfirmed", "", "J")
    second = history.decide("l", EPOCH, 2, 1, "DefectRejected", "glare", "K")
    assert [one["id"] for one in history.waiting("l")] == [first, second]
    assert history.waiting("m") == []
    # the line tells of it before its answer has come
    assert history.told("l", told(2, 1, "DefectConfirmed", 7))
    history.sent(first, 7)
    assert not history.told("l", told(2, 1, "DefectConfirmed", 7))
    history.refused(second, "expected a verdict; got none; look at it")
    assert history.waiting("l") == []
    found = history.decisions("l", EPOCH, 2)
    assert [(one["operator"], one["line_id"], bool(one["refused"])) for one in found] == [
        ("J", 7, False),
        ("K", None, True),
    ]
    assert history.last_told("l", EPOCH) == 7


def test_a_decision_whose_answer_was_lost_is_known_when_the_line_tells_of_it(history):
    history.add(verdict(2, fails=True))
    first, second = (history.decide("l", EPOCH, 2, 1, "DefectRejected", "", "J") for _ in range(2))
    history.trying(first)  # and no answer
    assert history.told("l", told(2, 1, "DefectRejected", 5))
    assert [one["id"] for one in history.waiting("l")] == [second]
    assert not history.told("l", told(2, 1, "DefectRejected", 5))
    # another person's is another one
    history.trying(second)
    assert history.told("l", {**told(2, 1, "DefectRejected", 6), "operator": "K"})
    assert [one["id"] for one in history.waiting("l")] == [second]
    assert len(history.decisions("l", EPOCH, 2)) == 3


def test_what_others_decided_before_ours_is_not_passed_over(history):
    """The line numbers another's decision just before ours: ours is known at once, theirs is told later."""
    history.add(verdict(2, fails=True))
    mine = history.decide("l", EPOCH, 2, 1, "DefectRejected", "", "J")
    history.trying(mine)
    history.sent(mine, 8)
    assert history.last_told("l", EPOCH) == 0
    assert history.told("l", {**told(2, 1, "DefectConfirmed", 7), "operator": "K"})
    assert not history.told("l", told(2, 1, "DefectRejected", 8))
    assert history.last_told("l", EPOCH) == 8
    assert [one["operator"] for one in history.decisions("l", EPOCH, 2)] == ["K", "J"]  # as the line has them


def test_what_was_kept_is_there_again_and_a_later_layout_is_refused(tmp_path):
    first = History(tmp_path)
    first.add(verdict(1))
    first.decide("l", EPOCH, 1, 0, "DefectConfirmed", "", "J")
    first.close()
    again = History(tmp_path)
    assert again.board("l", EPOCH, 1) is not None and len(again.waiting("l")) == 1
    again.close()
    db = sqlite3.connect(tmp_path / FILE)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(InputError, match="layout up to 1"):
        History(tmp_path)


def test_old_boards_leave_with_what_was_decided_on_them(history):
    for seq in (1, 2):
        history.add(verdict(seq, fails=True))
        history.told("l", told(seq, 1, number=seq))
    newest = history.boards(Search())[0]["at"]
    assert history.prune(newest) == 1
    assert history.board("l", EPOCH, 1) is None and history.decisions("l", EPOCH, 1) == []
    assert history.board("l", EPOCH, 2) is not None and len(history.decisions("l", EPOCH, 2)) == 1
    assert history.query("SELECT count(*) AS n FROM defect") == [{"n": 1}]
    assert history.prune(newest) == 0


def test_outcomes_follow_the_last_word_on_each_defect():
    assert outcome_of("FAIL", 2, {}) == "waiting"
    assert outcome_of("FAIL", 2, {1: "DefectRejected"}) == "waiting"
    assert outcome_of("FAIL", 2, {1: "DefectRejected", 2: "DefectRejected"}) == "false call"
    assert outcome_of("FAIL", 2, {0: "DefectRejected"}) == "false call"
    assert outcome_of("FAIL", 2, {1: "DefectRejected", 2: "DefectConfirmed"}) == "confirmed"
    assert outcome_of("FAIL", 1, {1: "NotVerifiedYet"}) == "waiting"
    assert outcome_of("PASS", 0, {0: "DefectConfirmed"}) == "escape"
    assert outcome_of("PASS", 0, {}) == "passed"
    assert outcome_of("ERROR", 0, {}) == "error"


def test_rates_name_what_they_are_of(history):
    for seq in range(1, 11):
        history.add(verdict(seq, fails=seq <= 4))
    for number, (seq, word) in enumerate([(1, "DefectRejected"), (2, "DefectConfirmed"), (9, "DefectConfirmed")], 1):
        history.told("l", told(seq, 0, word, number))
    found = summary(history, Range(), 3600)
    every = found["all"]
    assert (every["boards"], every["judged"], every["reviewed"]) == (10, 10, 8)
    assert (every["passed"], every["waiting"], every["confirmed"], every["false_call"], every["escape"]) == (
        5,
        2,
        1,
        1,
        1,
    )
    assert every["false_calls_per_board"] == 1 / 8
    assert every["first_pass_yield"] == 6 / 10
    assert sum(step["boards"] for step in found["series"]) == 10
    assert summary(history, Range(line="m"), 3600)["all"]["first_pass_yield"] is None
    history.add(verdict(1, fails=True, line="n"))
    history.add(verdict(2, line="n"))
    assert summary(history, Range(line="n"), 3600)["all"]["false_calls_per_board"] is None  # nobody has looked yet
    (place,) = pareto(history, Range(line="l"))
    assert (place["called"], place["false_calls"], place["confirmed"]) == (4, 1, 1)
    (cells,) = heat(history, Range(line="l"))
    assert (cells["cells"], cells["width"], cells["height"]) == ([(0, 0, 4)], 8, 6)
    assert cells["board"] == f"l/{EPOCH}/4/0"


def test_a_lamp_that_ages_breaks_a_rule_and_noise_does_not():
    rng = np.random.default_rng(4)
    at = np.arange(2000.0)
    steady = rng.normal(1.0, 0.01, 2000)
    assert len(control_chart(at, steady)["broken"]) <= 0.06 * 2000 / 8
    ageing = steady - 0.02 * np.clip((at - 1000) / 1000, 0, 1)
    found = control_chart(at, ageing)
    assert found["now"] and min(one["at"] for one in found["broken"] if one["at"] > 1000) < 1700
    few = control_chart(at[:96], steady[:96])
    assert (few["tested"], few["broken"], few["needed"]) == (False, [], 312)
    constant = np.ones(800)
    assert control_chart(at[:800], constant)["broken"] == []
    constant[600:] = 50
    assert control_chart(at[:800], constant)["now"]


@pytest.mark.parametrize("kind", ["normal", "lognormal", "exponential"])
def test_stable_boards_seldom_break_a_rule_whatever_their_distribution(kind):
    rng = np.random.default_rng(6)
    at, charts = np.arange(1200.0), []
    for _ in range(200):
        value = {"normal": rng.normal, "lognormal": rng.lognormal}.get(kind, lambda a, b, n: rng.exponential(1, n))(
            0, 1, 1200
        )
        charts.append(control_chart(at, value))
    assert all(chart["tested"] for chart in charts)
    assert np.mean([bool(chart["now"]) for chart in charts]) < 0.1


@given(st.lists(st.floats(-5, 5), max_size=40))
@settings(max_examples=200)
def test_run_rules_are_those_of_western_electric(z):
    def count(index, of, test):
        return sum(test(value) for value in z[max(index - of + 1, 0) : index + 1])

    expected = set()
    for index, value in enumerate(z):
        for side in (1, -1):
            v = value * side
            if (
                v > 3
                or (v > 2 and count(index, 3, lambda x, s=side: x * s > 2) >= 2)
                or (v > 1 and count(index, 5, lambda x, s=side: x * s > 1) >= 4)
                or (v > 0 and count(index, 8, lambda x, s=side: x * s > 0) >= 8)
            ):
                expected.add(index)
    found = run_rules(z)
    assert {index for index, _ in found} == expected
    assert all(a[0] < b[0] for a, b in pairwise(found))


def test_drift_says_nothing_of_a_few_boards(history):
    for seq in range(1, 6):
        history.add(verdict(seq))
    assert drift(history, Range()) == []


def test_a_table_for_spreadsheets_holds_no_formula(history):
    history.add(verdict(1, unit='=HYPERLINK("http://x")'))
    history.add(verdict(2, unit='B,"7" ü', fails=True))
    rows = list(csv.reader("".join(csv_of(history, Search())).splitlines()))
    assert rows[0][:3] == ["line", "epoch", "seq"]
    units = {row[4] for row in rows[1:]}
    assert units == {'\'=HYPERLINK("http://x")', 'B,"7" ü'}
    assert {row[7] for row in rows[1:]} == {"passed", "waiting"}
    assert json.dumps(rows)


def test_an_export_holds_each_board_once_and_says_what_it_left_out(history):
    other = "0" * 32
    for seq in (1, 2, 3):
        history.add(verdict(seq, fails=True))
    history.add(verdict_from_frames(sample_message(2, other, True).frames()))
    history.told("l", told(1, 1, "DefectConfirmed"))

    def fetch(line, epoch, seq):
        if seq == 3:
            raise InputError(expected="a board", received="none", fix="", code="unknown")
        frame = Frame(
            image=Pixels(np.full((6, 8, 3), seq, np.uint8)), source="cam", frame_id=seq, unit="u", grabbed_at_ns=0
        )
        _, body, mask = sample_message(seq, epoch, True).frames()
        judged = Judgement(result=Result.FAIL, reason="", score=2.0, regions=(), regions_total=1, mask=None)
        return ArchivedBoard(board_bytes(body, mask, frame, judged, "png"))

    file, left_out = coco_of(history, Search(), fetch)
    assert left_out == 1
    with file, zipfile.ZipFile(file) as made:
        assert made.testzip() is None
        content = json.loads(made.read("annotations.json"))
        names = [one["file_name"] for one in content["images"]]
        assert len(names) == len(set(names)) == 3 and set(names) <= set(made.namelist())
        assert content["info"]["left_out"] == 1
        said = {one["image_id"]: one["decision"] for one in content["annotations"]}
        first = next(one["id"] for one in content["images"] if one["seq"] == 1)
        assert said[first] == "DefectConfirmed" and set(said.values()) == {"DefectConfirmed", "NotVerifiedYet"}
        assert content["annotations"][0]["bbox"] == [1, 2, 3, 2]

    def silent(line, epoch, seq):
        raise NoAnswer(expected="an answer", received="none", fix="")

    with pytest.raises(NoAnswer):
        coco_of(history, Search(), silent)
    with pytest.raises(InputError, match="shorter time"):
        coco_of(history, Search(), fetch, most_bytes=500)


def test_two_lines_of_one_name_are_told_apart():
    names = Names()
    names.check("smt-3", "tcp://a:1")
    names.check("smt-3", "tcp://a:1")
    with pytest.raises(InputError, match=r"smt-3 at tcp://a:1 and at tcp://b:1"):
        names.check("smt-3", "tcp://b:1")
