"""Rows of a fleet's tables: whatever a verdict says, its board is stored, and no clock hides or deletes it."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.messages import sample_message

from hisir_edge.errors import InputError
from hisir_edge.fleet.address import connection_of, is_database, shown
from hisir_edge.fleet.collect import _agrees
from hisir_edge.fleet.rows import DEFECT, MOST_INTEGER, VERDICT, Now, decision_row, filed_on, rows_of
from hisir_edge.mes import Verdict

AT = datetime(2026, 11, 30, 12, tzinfo=timezone.utc)
NOW = Now(AT, True)
STRANGE = st.one_of(
    st.none(), st.booleans(), st.text(max_size=20), st.integers(), st.floats(allow_nan=True, allow_infinity=True),
    st.lists(st.integers(), max_size=2),
)  # fmt: skip


def body_of(fails: bool = True) -> dict:
    return json.loads(sample_message(7, "e" * 32, fails).frames()[1])


def rows(body: dict):
    text = json.dumps(body).encode()
    return rows_of(Verdict(topic="", text=text, mask=b"", body=body), "north", 400, True, NOW)


@given(blur=STRANGE, peak=STRANGE, x=STRANGE, score=STRANGE, unit=st.text(max_size=9000))
def test_what_no_column_holds_is_null_and_the_board_is_stored(blur, peak, x, score, unit):
    body = body_of()
    unit_of = body["InspectedUnits"][0]
    unit_of["UnitIdentifier"] = unit
    vision = unit_of["Inspections"][0]["vision"]
    vision["optics"] = {"blur_px": blur}
    defect = unit_of["Inspections"][0]["DefectsFound"][0]
    defect["vision"]["peak"], defect["RegionOfInterest"]["px"]["x"] = peak, x
    body["vision"]["score"] = score if isinstance(score, float) else 1.0
    row, defects = rows(body)
    assert len(row) == len(VERDICT)
    assert all(len(one) == len(DEFECT) for one in defects)
    for column, value in zip((*VERDICT, *DEFECT), (*row, *defects[0]), strict=True):
        if column.kind == "number":
            assert value is None or (isinstance(value, float) and math.isfinite(value))
        if column.kind == "integer":
            assert value is None or (type(value) is int and abs(value) <= MOST_INTEGER)
        if column.kind == "text" and value is not None:
            assert "\0" not in value
            value.encode()
            assert column.name == "body" or column.name == "reason" or len(value) <= 400


@given(st.datetimes(timezones=st.just(timezone.utc)), st.integers(1, 36500))
def test_a_board_is_filed_where_it_is_neither_hidden_nor_deleted(at, keep_days):
    day = filed_on(at, NOW, keep_days)
    assert AT.date() - timedelta(days=keep_days) <= day <= AT.date() + timedelta(days=1)
    if AT - timedelta(days=keep_days) <= at <= AT:
        assert day == at.date()
    assert filed_on(at, Now(AT, False), keep_days) == at.date(), "nobody knows what time it is: the line's word counts"


def test_a_decision_is_read_or_refused():
    told = {
        "epoch": "e", "seq": 3, "id": 9, "defect": 1, "Verification": "DefectConfirmed", "operator": "Ada\0",
        "VerificationDetail": "", "TimeStamp": "2026-11-29T10:00:00Z",
    }  # fmt: skip
    row = decision_row("smt-1", told, 400, NOW)
    assert row[:6] == ("smt-1", "e", 3, date(2026, 11, 29), 9, 1)
    assert row[7] == "Ada"
    with pytest.raises(InputError, match="decisions of smt-1"):
        decision_row("smt-1", {**told, "TimeStamp": "yesterday"}, 400, NOW)


@pytest.mark.parametrize("target", [
    "postgresql://u:geheim@h/d", "Postgres://u:geheim@h/d", "postgresql://h/d?user=u&password=geheim",
    "s3://key:geheim@bucket/path", "postgresql://u:geheim[@h/d", "s3://key:geheim[@bucket/path",
])  # fmt: skip
def test_no_log_shows_a_password(target):
    assert "geheim" not in shown(target)
    assert shown(target)


@pytest.mark.parametrize("target", ["postgresql://u:ge%heim@h/d", "postgresql://u:geheim@h"])
def test_no_message_repeats_an_address_that_is_none(target):
    with pytest.raises(InputError) as told:
        connection_of(target, "store.target")
    assert "heim" not in str(told.value)
    assert is_database(target)


@pytest.mark.parametrize(("off", "agrees"), [
    ([], False), ([0], True), ([0, 0, 9000], True), ([9000], False), ([9000, 9000, 0], False), ([0, 9000], False),
])  # fmt: skip
def test_nothing_is_deleted_by_a_clock_that_most_lines_do_not_share(off, agrees):
    lines: list[Any] = [SimpleNamespace(newest_at=AT - timedelta(days=days)) for days in off]
    lines.append(SimpleNamespace(newest_at=None))
    assert _agrees(NOW, lines) == agrees
    assert not _agrees(Now(AT, False), lines)
