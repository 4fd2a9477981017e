"""Verdicts and states as IPC-CFX: every field, states and faults in their order, requests, addresses."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proton import Message

from hisir_edge.errors import InputError
from hisir_edge.mes.cfx.address import address_from_text
from hisir_edge.mes.cfx.messages import of_verdict, recipe_activated
from hisir_edge.mes.cfx.outbox import MOST_TOLD, Outbox
from hisir_edge.mes.cfx.requests import Identity, answer, request_from_bytes
from hisir_edge.mes.cfx.states import PAUSED, STATES, UNKNOWN, span
from hisir_edge.mes.cfx.station import OFFLINE_S, Station
from hisir_edge.mes.verdict import Verdict

MESSAGES = Path(__file__).parents[2] / "data" / "messages"
ME = Identity("plant.smt-3", "smt-3", "amqp://broker:5672", "/queue/smt-3")


def verdict(name: str, version: str = "2.4") -> Verdict:
    body = json.loads((MESSAGES / version / f"{name}.json").read_text())["body"]
    return Verdict(topic="", text=b"", mask=b"", body=body)


def sent(envelope) -> dict:
    return json.loads(envelope.json("plant.smt-3"))


def test_a_failed_board_has_every_field_of_the_standard():
    started, inspected, completed = map(sent, of_verdict(verdict("fail")))
    for one in (started, inspected, completed):
        assert set(one) == {
            "MessageName", "Version", "TimeStamp", "UniqueID", "Source", "Target", "RequestID", "MessageBody"
        }  # fmt: skip
        assert uuid.UUID(one["UniqueID"]) and re.search(r"[+-]\d\d:\d\d$", one["TimeStamp"]), "with a zone"
    body = inspected["MessageBody"]
    assert set(body) == {
        "$type", "TransactionId", "InspectionMethod", "SamplingInformation", "Inspector", "RecipeName",
        "RecipeRevision", "InspectedUnits",
    }  # fmt: skip
    assert started["MessageBody"]["TransactionID"] == completed["MessageBody"]["TransactionID"] == body["TransactionId"]
    assert completed["MessageBody"]["Result"] == "Failed", "the work is done, its result is not wanted"
    (unit,) = body["InspectedUnits"]
    assert (unit["UnitIdentifier"], unit["OverallResult"]) == ("B-7", "Failed")
    (inspection,) = unit["Inspections"]
    first, second = inspection["DefectsFound"]
    assert first["ComponentOfInterest"] == {"ReferenceDesignator": "R22", "PartNumber": "11123-8897"}
    assert first["RegionOfInterest"]["StartPointX"] == pytest.approx(0.85)
    assert second["RegionOfInterest"] is None and second["ConfidenceLevel"] == 96.1
    values = {m["MeasurementName"]: m["MeasuredValue"]["Value"] for m in first["RelatedMeasurements"]}
    assert values == {"peak": 14.21, "area": 24, "left": 17, "top": 9, "width": 6, "height": 4}
    measured = {m["MeasurementName"]: m["MeasuredValue"] for m in inspection["Measurements"]}
    assert measured["score"]["Value"] == 14.21 and measured["score"]["MaximumAcceptableValue"] == 2.5
    assert {m["$type"] for m in inspection["Measurements"]} == {"CFX.Structures.NumericMeasurement, CFX"}
    assert [m["Sequence"] for m in inspection["Measurements"]] == list(range(1, len(measured) + 1))
    assert '"vision"' not in json.dumps(body) and "contour" not in json.dumps(body)


@pytest.mark.parametrize("version", ["1.1", "2.0", "2.1", "2.2", "2.3", "2.4"])
@pytest.mark.parametrize("name", ["pass", "fail", "error", "views"])
def test_every_verdict_that_was_ever_published_can_be_told(name, version):
    one = verdict(name, version)
    envelopes = of_verdict(one)
    assert [e.unique_id for e in envelopes] == [e.unique_id for e in of_verdict(one)], "the same when it is sent again"
    assert len({e.unique_id for e in (*envelopes, recipe_activated(one))}) == 4
    unit = sent(envelopes[1])["MessageBody"]["InspectedUnits"][0]
    assert {"Passed": "PASS", "Failed": "FAIL", "Error": "ERROR"}[unit["OverallResult"]] == one.result
    work = {"PASS": "Completed", "FAIL": "Failed", "ERROR": "Aborted"}[one.result]
    assert sent(envelopes[2])["MessageBody"]["Result"] == work
    if name == "views" and version != "1.1":
        assert len(unit["Inspections"]) == unit["TotalInspectionCount"] == 2


@given(st.floats(0, 10**8))
def test_spans_are_those_of_dot_net(seconds):
    days, hours, minutes, whole, ticks = re.fullmatch(
        r"(?:(\d+)\.)?(\d\d):(\d\d):(\d\d)(?:\.(\d{7}))?", span(seconds)
    ).groups(default="0")  # type: ignore[union-attr]
    assert int(hours) < 24 and int(minutes) < 60 and int(whole) < 60
    total = ((int(days) * 24 + int(hours)) * 60 + int(minutes)) * 60 + int(whole) + int(ticks) / 1e7
    assert total == pytest.approx(seconds, abs=1e-6)


def names(envelopes) -> list[str]:
    return [e.name.rpartition(".")[2] for e in envelopes]


def test_states_and_faults_are_told_once_and_in_their_order():
    station, up = Station(), {"state": "Ready", "camera_up": True, "journal_error": "", "paused": False}
    first = station.seen(up, 10.0)
    assert names(first) == ["StationOnline", "StationStateChanged"]
    assert first[0].body == {"OfflineDuration": None}
    assert station.seen(up, 11.0) == []
    (busy,) = station.seen(up | {"state": "ContinuousExecution"}, 12.5)
    assert (busy.body["OldState"], busy.body["NewState"]) == (STATES["Ready"], 1100)
    assert busy.body["OldStateDuration"] == "00:00:02.5000000"
    lost = station.seen(up | {"state": "Error", "camera_up": False}, 13.0)
    assert names(lost) == ["FaultOccurred", "StationStateChanged"]
    fault = lost[0].body["Fault"]
    assert (fault["FaultCode"], fault["Severity"]) == ("CAMERA", "Error")
    assert lost[1].body["RelatedFault"] == fault
    assert station.seen(up | {"state": "Error", "camera_up": False}, 14.0) == []
    back = station.seen(up, 15.0)
    assert names(back) == ["FaultCleared", "StationStateChanged"]
    assert back[0].body["FaultOccurrenceId"] == fault["FaultOccurrenceId"]
    again = station.seen(up | {"journal_error": "disk full"}, 16.0)
    assert again[0].body["Fault"]["Description"].endswith("disk full")
    assert station.seen(up | {"paused": True, "journal_error": "disk full"}, 17.0)[-1].body["NewState"] == PAUSED
    assert station.seen(None, 17.0 + OFFLINE_S - 0.1) == [], "one question without an answer is nothing"
    gone = station.seen(None, 17.0 + OFFLINE_S)
    assert names(gone) == ["StationOffline", "StationStateChanged"] and gone[1].body["NewState"] == UNKNOWN
    assert station.seen(None, 90.0) == []
    assert station.seen(up, 100.0)[0].body == {"OfflineDuration": "00:01:23"}


@pytest.mark.parametrize(
    ("name", "body", "response"),
    [
        ("CFX.WhoIsThereRequest", {}, "CFX.WhoIsThereResponse"),
        ("CFX.WhoIsThereRequest", {"SupportedTopicQueryType": "Any", "SupportedTopics": [
            {"TopicName": "CFX.X"}]}, None),
        ("CFX.WhoIsThereRequest", {"SupportedTopicQueryType": "Any", "SupportedTopics": 7}, "CFX.WhoIsThereResponse"),
        ("CFX.WhoIsThereRequest", {"SupportedTopicQueryType": "All", "SupportedTopics": [
            {"TopicName": "CFX.Production"}, {"TopicName": "CFX.X"}]}, None),
        ("CFX.AreYouThereRequest", {"CFXHandle": "plant.smt-3"}, "CFX.AreYouThereResponse"),
        ("CFX.AreYouThereRequest", {"CFXHandle": "plant.smt-4"}, None),
        ("CFX.GetEndpointInformationRequest", {"CFXHandle": "plant.smt-3"}, "CFX.GetEndpointInformationResponse"),
        ("CFX.Production.LockStationRequest", {}, "CFX.NotSupportedResponse"),
        ("CFX.WhoIsThereRequest", {"SupportedTopicQueryType": "Any", "SupportedTopics": [
            {"TopicName": ["x"]}]}, None),
        ("CFX.Heartbeat", {}, None),
    ],
)  # fmt: skip
def test_requests_are_answered_where_they_are_meant(name, body, response):
    request = request_from_bytes(
        json.dumps({"MessageName": name, "Source": "mes", "RequestID": "1", "MessageBody": body}).encode()
    )
    assert request is not None
    found = answer(request, ME)
    assert (None if found is None else found.name) == response
    if found is not None:
        assert (found.target, found.request_id) == ("mes", "1")


@given(st.one_of(st.binary(max_size=400), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["MessageName", "MessageBody", "Source", "RequestID", "CFXHandle", "SupportedTopics", "x"]),
        inner, max_size=5), max_leaves=12).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_whatever_comes_in_is_a_request_or_nothing(content):
    request = request_from_bytes(content)
    response = None if request is None else answer(request, ME)
    assert response is None or sent(response)["MessageName"].endswith("Response")


@pytest.mark.parametrize(
    ("text", "target", "port", "tls"),
    [
        ("amqp://h/amq/queue/a%20b", "/amq/queue/a b", 5672, False),
        ("amqps://u:p%40@h/cfx.events?handle=x", "cfx.events", 5671, True),
        ("amqp://h:1/queue/x?requests=/queue/y&heartbeat_s=5", "/queue/x", 1, False),
        ("amqp://[::1]:7/plain", "plain", 7, False),
    ],
)
def test_addresses(text, target, port, tls):
    found = address_from_text(text)
    assert (found.target, found.port, found.tls) == (target, port, tls)
    assert "p@" not in repr(found), "a password is not shown"


@pytest.mark.parametrize(
    "text",
    ["mqtt://h/x", "amqp://h", "amqp://h/", "amqp:///x", "amqp://h:99999/x", "amqp://h/x?surprise=1",
     "amqp://h/x?heartbeat_s=0", "amqp://h/x?heartbeat_s=nan", "amqp://h/x?heartbeat_s=301", "amqp://u:secret@/x", "x"],
)  # fmt: skip
def test_what_is_no_address_is_one_line(text):
    with pytest.raises(InputError) as caught:
        address_from_text(text)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_what_waits_stays_in_order_and_bounded():
    box = Outbox()
    box.add([Message(id="v1")])
    box.add([Message(id=f"s{n}") for n in range(MOST_TOLD + 5)], told=True)
    for turn in "12":
        box.add_first([Message(id=f"hello{turn}"), Message(id="beat")])
    first = box.next()
    assert first is not None and first.message.id == "hello2", "one greeting, however often it connected"
    first.delivery = "one"  # type: ignore[assignment]
    assert box.next() is None, "one is on its way at a time"
    box.again()
    assert box.next() is first
    first.delivery = "two"  # type: ignore[assignment]
    box.accepted("two")  # type: ignore[arg-type]
    assert first.done.is_set() and first.delivery is None
    left = []
    while (item := box.next()) is not None:
        left.append(item.message.id)
        item.delivery = "three"  # type: ignore[assignment]
        box.accepted("three")  # type: ignore[arg-type]
    assert left[:3] == ["beat", "v1", "s5"] and len(left) == MOST_TOLD + 2, "a verdict's are never dropped"
    assert box.is_empty


def test_a_window_of_messages_is_on_its_way_and_what_is_refused_goes_first():
    box = Outbox()
    items = box.add([Message(id=str(n)) for n in range(6)])
    for n in range(3):
        item = box.next(3)
        assert item is items[n]
        item.delivery = f"d{n}"  # type: ignore[assignment]
    assert box.next(3) is None, "three are on their way"
    box.accepted("d1")  # type: ignore[arg-type]
    assert items[1].done.is_set() and not items[0].done.is_set()
    assert box.next(3) is items[3]
    box.refused("d0")  # type: ignore[arg-type]
    assert box.next(3) is items[0], "before all that were not sent"
    box.again()
    assert [box.next(1), box.next(3)] == [items[0], items[0]], "on another connection everything, from the first on"


@pytest.mark.parametrize(("window", "right"), [("1", 1), ("1000", 1000), ("0", 0), ("1001", 0), ("-1", 0), ("x", 0)])
def test_a_window_in_the_address(window, right):
    text = f"amqp://broker/amq/queue/cfx?window={window}"
    if right:
        assert address_from_text(text).window == right
        return
    with pytest.raises(InputError, match="window of 1 to 1000"):
        address_from_text(text)


@given(st.text(st.sampled_from("ab/?#@:%2\ud800[]"), max_size=12))
def test_no_address_shows_a_password(secret):
    try:
        found = address_from_text(f"amqp://user:{secret}XYZ@host/queue")
    except InputError as error:
        assert "XYZ" not in str(error) and "\n" not in str(error)
    else:
        assert "XYZ" not in found.shown + found.url + found.target
