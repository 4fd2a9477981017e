"""The handshake with a PLC: each way through it, and that nothing but a fresh PASS is one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hisir_edge.errors import InputError
from hisir_edge.mes.plc.handshake import STATUS_S, Asked, Awaited, Handshake, Phase, Timing
from hisir_edge.mes.plc.registers import (
    MAP_VERSION,
    Code,
    Command,
    FromPlc,
    Outcome,
    Status,
    ToPlc,
    clipped,
    registers_from_text,
    text_from_registers,
)
from hisir_edge.mes.plc.server import options
from hisir_edge.mes.verdict import Verdict

MESSAGES = Path(__file__).parents[2] / "data" / "messages" / "2.4"
BODIES = {
    name.upper(): json.loads((MESSAGES / f"{name}.json").read_text())["body"] for name in ("pass", "fail", "error")
}
READY = {"state": "Ready", "paused": False, "camera_up": True, "draining": False}
EPOCH = "ab"


def verdict(result: str, seq: int, unit: str = "B-1", epoch: str = EPOCH) -> Verdict:
    body = json.loads(json.dumps(BODIES[result])) | {"seq": seq, "epoch": epoch}
    body["InspectedUnits"][0]["UnitIdentifier"] = unit
    return Verdict(topic="", text=b"", mask=b"", body=body)


class Plc:
    """A PLC and its line; ``now`` is the clock of both."""

    def __init__(self, timing: Timing | None = None) -> None:
        self.now, self.beats = 100.0, 0
        self.asked: Asked | None = None
        self.handshake = Handshake(timing or Timing(), self.now)
        self.number = 0

    def write(self, address: int, *values: int) -> Asked | None:
        self.asked = self.handshake.wrote(address, list(values), self.now)
        return self.asked

    def live(self) -> Plc:
        """A beat of the PLC and a status of the line."""
        self.beats += 1
        self.write(FromPlc.HEARTBEAT, self.beats)
        self.handshake.status(READY, self.now)
        return self

    def ready(self) -> Plc:
        self.live()
        self.write(FromPlc.COMMAND, 0)
        assert Status.READY in self.status
        return self

    def start(self, unit: str = "B-1", product: str = "") -> Asked | None:
        self.number += 1
        self.write(FromPlc.REQUEST, self.number)
        self.write(FromPlc.UNIT, *registers_from_text(unit, 16))
        self.write(FromPlc.PRODUCT, *registers_from_text(product, 16))
        return self.write(FromPlc.COMMAND, Command.START)

    def read(self, address: int) -> int:
        return self.handshake.image(self.now)[address - ToPlc.HEARTBEAT]

    @property
    def status(self) -> Status:
        return Status(self.read(ToPlc.STATUS))

    @property
    def result(self) -> tuple[Outcome, Code]:
        return Outcome(self.read(ToPlc.RESULT)), Code(self.read(ToPlc.ERROR_CODE))


def passed() -> Plc:
    plc = Plc().ready()
    asked = plc.start()
    assert asked is not None
    plc.handshake.taken(asked.turn, Awaited(EPOCH, 7))
    plc.handshake.verdict(verdict("PASS", 7))
    assert plc.result == (Outcome.PASS, Code.NONE)
    return plc


def test_a_board_from_start_to_release():
    plc = Plc()
    assert plc.status == 0 and plc.read(ToPlc.PHASE) == Phase.RELEASE and plc.read(ToPlc.MAP_VERSION) == MAP_VERSION
    plc.ready()
    asked = plc.start("B-7", "psu")
    assert asked is not None and asked.request == {"unit": "B-7", "product": "psu"}
    assert Status.BUSY in plc.status and Status.READY not in plc.status
    plc.handshake.taken(asked.turn, Awaited(EPOCH, 70000))
    plc.handshake.verdict(verdict("PASS", 69999, "B-6"))
    plc.handshake.verdict(verdict("PASS", 70000, "B-7", "cd"))
    assert plc.result == (Outcome.NONE, Code.NONE), "of another board, of another epoch"
    plc.handshake.verdict(verdict("FAIL", 70000, "B-7"))
    assert plc.result == (Outcome.FAIL, Code.NONE)
    assert (Status.RESULT_VALID | Status.FAIL) & plc.status and Status.PASS not in plc.status
    assert (plc.read(ToPlc.SEQUENCE) << 16) + plc.read(ToPlc.SEQUENCE + 1) == 70000
    assert plc.read(ToPlc.REQUEST) == plc.number and plc.read(ToPlc.DEFECTS) == 2
    assert plc.read(ToPlc.SCORE) == 1421 and [plc.read(ToPlc.LEFT + n) for n in range(4)] == [17, 9, 6, 4]
    image = plc.handshake.image(plc.now)
    at = ToPlc.UNIT - ToPlc.HEARTBEAT
    assert text_from_registers(image[at : at + 16]) == "B-7"
    plc.write(FromPlc.COMMAND, Command.START | Command.ACKNOWLEDGE)
    assert plc.result == (Outcome.NONE, Code.NONE) and Status.READY not in plc.status
    plc.write(FromPlc.COMMAND, Command.ACKNOWLEDGE)
    assert Status.READY not in plc.status
    plc.write(FromPlc.COMMAND, 0)
    assert Status.READY in plc.status
    assert plc.start() is not None


def test_a_verdict_that_is_faster_than_the_answer():
    plc = Plc().ready()
    asked = plc.start()
    assert asked is not None
    plc.handshake.verdict(verdict("PASS", 7))
    assert plc.result[0] is Outcome.NONE
    plc.handshake.taken(asked.turn, Awaited(EPOCH, 7))
    assert plc.result == (Outcome.PASS, Code.NONE)


def test_the_verdict_of_a_withdrawn_board_is_not_the_next_ones_of_the_same_name():
    plc = Plc().ready()
    first = plc.start("B-1")
    assert first is not None and plc.handshake.is_asking(first.turn)
    plc.write(FromPlc.COMMAND, 0)
    assert plc.result == (Outcome.ERROR, Code.WITHDRAWN) and not plc.handshake.is_asking(first.turn)
    plc.write(FromPlc.COMMAND, Command.ACKNOWLEDGE)
    plc.write(FromPlc.COMMAND, 0)
    second = plc.start("B-1")
    assert second is not None
    plc.handshake.verdict(verdict("PASS", 6, "B-1"))
    plc.handshake.taken(first.turn, Awaited(EPOCH, 6))
    assert plc.result[0] is Outcome.NONE and plc.handshake.is_asking(second.turn)
    plc.handshake.taken(second.turn, Awaited(EPOCH, 7))
    plc.handshake.verdict(verdict("FAIL", 7, "B-1"))
    assert plc.result == (Outcome.FAIL, Code.NONE)


def test_a_board_without_a_name_has_none():
    plc = Plc().ready()
    asked = plc.start("")
    assert asked is not None and asked.request == {} and asked.name.startswith("PLC-")


def test_an_error_of_the_line_is_one():
    plc = Plc().ready()
    asked = plc.start()
    assert asked is not None
    plc.handshake.taken(asked.turn, Awaited(EPOCH, 7))
    plc.handshake.verdict(verdict("ERROR", 7))
    assert plc.result == (Outcome.ERROR, Code.NOT_JUDGED)
    assert Status.ERROR in plc.status


def test_what_the_line_refuses_and_what_comes_too_late():
    plc = Plc().ready()
    asked = plc.start()
    assert asked is not None
    plc.handshake.refused(asked.turn, Code.REFUSED, "paused")
    assert plc.result == (Outcome.ERROR, Code.REFUSED)
    plc = Plc(Timing(plc_s=2, verdict_s=5)).ready()
    asked = plc.start()
    assert asked is not None
    plc.handshake.taken(asked.turn, Awaited(EPOCH, 7))
    for _ in range(6):
        plc.now += 1
        plc.live()
    assert plc.result == (Outcome.ERROR, Code.LATE)
    plc.handshake.verdict(verdict("PASS", 7))
    assert plc.result == (Outcome.ERROR, Code.LATE), "it stays what it was"
    plc.write(FromPlc.COMMAND, Command.START | Command.ACKNOWLEDGE)
    plc.write(FromPlc.COMMAND, 0)
    again = plc.start()
    assert again is not None
    plc.handshake.taken(asked.turn, Awaited(EPOCH, 7))
    assert Status.BUSY in plc.status
    plc.handshake.verdict(verdict("PASS", 7))
    assert plc.result[0] is Outcome.NONE, "the answer and the verdict of a request before"


def test_no_fresh_heartbeat_no_pass():
    plc = passed()
    plc.now += 2.1
    plc.handshake.status(READY, plc.now)
    assert plc.result == (Outcome.ERROR, Code.PLC_SILENT) and Status.PASS not in plc.status
    plc.live()
    assert plc.result == (Outcome.ERROR, Code.PLC_SILENT), "it stands until it is acknowledged"
    assert plc.read(ToPlc.SEQUENCE + 1) == 7, "which verdict it was"
    plc.write(FromPlc.COMMAND, Command.START | Command.ACKNOWLEDGE)
    plc.write(FromPlc.COMMAND, 0)
    assert Status.READY in plc.status


@pytest.mark.parametrize("busy", [True, False])
def test_a_line_that_falls_silent_takes_its_pass_back(busy):
    plc = passed()
    if busy:
        plc.write(FromPlc.COMMAND, Command.START | Command.ACKNOWLEDGE)
        plc.write(FromPlc.COMMAND, 0)
        assert plc.start() is not None
    before = plc.read(ToPlc.HEARTBEAT)
    for _ in range(7):
        plc.now += STATUS_S / 6
        plc.beats += 1
        plc.write(FromPlc.HEARTBEAT, plc.beats)
        plc.handshake.status(None, plc.now)
    assert plc.result == (Outcome.ERROR, Code.LINE_AWAY) and Status.ONLINE not in plc.status
    plc.handshake.beat(plc.now)
    assert plc.read(ToPlc.HEARTBEAT) == before, "it stands still"
    plc.live()
    plc.handshake.beat(plc.now)
    assert plc.read(ToPlc.HEARTBEAT) == before + 1


def test_a_fail_stands_whoever_falls_silent():
    plc = Plc().ready()
    asked = plc.start()
    assert asked is not None
    plc.handshake.taken(asked.turn, Awaited(EPOCH, 7))
    plc.handshake.verdict(verdict("FAIL", 7))
    plc.now += 60
    assert plc.result == (Outcome.FAIL, Code.NONE)


def test_starts_that_are_none():
    plc = Plc()
    plc.handshake.status(READY, plc.now)
    assert plc.write(FromPlc.HEARTBEAT, 1, Command.START, 5) is None
    assert plc.result == (Outcome.ERROR, Code.NOT_READY), "it stood when this program began"
    assert plc.read(ToPlc.REQUEST) == 5
    plc.write(FromPlc.COMMAND, Command.ACKNOWLEDGE | Command.START)
    plc.write(FromPlc.COMMAND, 0)
    plc.live()
    for number, unit, code in (
        (0, "B", Code.REQUEST_USED), (5, "B", Code.NONE), (5, "B", Code.REQUEST_USED), (6, "B\x07", Code.TEXT),
        (8, "", Code.NONE),
    ):  # fmt: skip
        plc.number = number - 1
        assert (plc.start(unit) is None) == (code is not Code.NONE), (number, plc.result)
        if code is Code.NONE:
            plc.write(FromPlc.COMMAND, 0)
            code = Code.WITHDRAWN
        assert plc.result == (Outcome.ERROR, code)
        plc.write(FromPlc.COMMAND, Command.ACKNOWLEDGE)
        plc.write(FromPlc.COMMAND, 0)
        assert Status.READY in plc.status


def test_a_result_that_was_not_acknowledged_stands_whatever_is_started():
    plc = passed()
    plc.write(FromPlc.COMMAND, 0)
    assert plc.result == (Outcome.PASS, Code.NONE), "START may fall first"
    before = plc.number
    assert plc.start() is None
    assert plc.result == (Outcome.PASS, Code.NONE) and plc.read(ToPlc.REQUEST) == before
    assert Status.READY not in plc.status
    plc.write(FromPlc.COMMAND, Command.START | Command.ACKNOWLEDGE)
    assert plc.read(ToPlc.PHASE) == Phase.RELEASE
    plc.write(FromPlc.COMMAND, 0)
    assert plc.start() is not None


def test_what_the_plc_has_in_command_is_not_known_before_it_wrote_it():
    plc = Plc().live()
    assert plc.read(ToPlc.PHASE) == Phase.RELEASE, "a heartbeat alone says nothing of START"
    plc.write(FromPlc.REQUEST, 4)
    plc.write(FromPlc.COMMAND, Command.START)
    assert plc.result == (Outcome.ERROR, Code.NOT_READY), "it stood when this program began"


def test_an_error_has_the_number_of_the_verdict_where_the_line_had_taken_the_board():
    plc = Plc().ready()
    asked = plc.start()
    assert asked is not None
    plc.handshake.taken(asked.turn, Awaited(EPOCH, 9))
    plc.write(FromPlc.COMMAND, 0)
    assert plc.result == (Outcome.ERROR, Code.WITHDRAWN) and plc.read(ToPlc.SEQUENCE + 1) == 9


def test_an_acknowledgement_that_stands_acknowledges_nothing():
    plc = Plc().ready()
    plc.write(FromPlc.REQUEST, 1)
    for _ in range(2):
        plc.write(FromPlc.COMMAND, Command.START | Command.ACKNOWLEDGE)
        assert plc.result == (Outcome.ERROR, Code.NOT_READY)
    plc.write(FromPlc.COMMAND, 0)
    plc.write(FromPlc.COMMAND, Command.ACKNOWLEDGE)
    plc.write(FromPlc.COMMAND, 0)
    assert Status.READY in plc.status


@pytest.mark.parametrize("more", [{"paused": True}, {"camera_up": False}, {"state": "Error"}, {"draining": True}])
def test_a_line_that_takes_no_boards_is_not_ready(more):
    plc = Plc().ready()
    plc.handshake.status(READY | more, plc.now)
    assert Status.READY not in plc.status and Status.ONLINE in plc.status


EVENTS = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 3), st.integers(0, 4)),
    st.tuples(st.just("start"), st.integers(0, 3), st.just(0)),
    st.tuples(st.just("status"), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("taken"), st.integers(0, 2), st.integers(0, 3)),
    st.tuples(st.just("verdict"), st.integers(0, 2), st.integers(0, 3)),
    st.tuples(st.just("time"), st.integers(1, 40), st.just(0)),
    st.tuples(st.just("live"), st.just(0), st.just(0)),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(EVENTS, max_size=60))
def test_pass_is_only_what_the_line_judged_so_for_this_request_and_only_while_both_are_there(events):
    plc = Plc(Timing(plc_s=2, verdict_s=4))
    turns: dict[int, tuple[str, int]] = {}
    passed_: set[tuple[int, int]] = set()
    beat_at = status_at = -100.0
    for what, first, second in events:
        if what == "write":
            before = plc.handshake.plc[FromPlc.HEARTBEAT]
            plc.write(first, second)
            beat_at = plc.now if first == FromPlc.HEARTBEAT and second != before else beat_at
        elif what == "start":
            plc.start()
        elif what == "status":
            plc.handshake.status(READY if first else None, plc.now)
            status_at = plc.now if first else status_at
        elif what == "taken" and plc.asked is not None:
            turn = plc.asked.turn - first
            if plc.handshake.phase is Phase.ASKING and turn == plc.asked.turn:
                turns[plc.read(ToPlc.REQUEST)] = (EPOCH, second + 1)
            plc.handshake.taken(turn, Awaited(EPOCH, second + 1))
        elif what == "verdict":
            result = ("PASS", "FAIL", "ERROR")[first]
            if result == "PASS":
                passed_.add((plc.read(ToPlc.REQUEST), second + 1))
            plc.handshake.verdict(verdict(result, second + 1))
        elif what == "time":
            plc.now += first / 10
        elif what == "live":
            plc.live()
            beat_at = status_at = plc.now
        image = plc.handshake.image(plc.now)
        assert len(image) == ToPlc.END - ToPlc.HEARTBEAT and all(0 <= word < 65536 for word in image)
        bits, outcome = plc.status, plc.result[0]
        assert (Status.PASS in bits, Status.FAIL in bits, Status.ERROR in bits) == (
            outcome is Outcome.PASS, outcome is Outcome.FAIL, outcome is Outcome.ERROR
        )  # fmt: skip
        assert (Status.RESULT_VALID in bits) == (outcome is not Outcome.NONE)
        assert not (Status.READY in bits and Status.BUSY in bits)
        if outcome is Outcome.PASS:
            _, seq = turns[plc.read(ToPlc.REQUEST)]
            assert (plc.read(ToPlc.REQUEST), seq) in passed_ and plc.read(ToPlc.SEQUENCE + 1) == seq
            assert plc.now <= beat_at + 2 and plc.now <= status_at + STATUS_S


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=32))
def test_texts_come_back(text):
    assert text_from_registers(registers_from_text(text, 16)) == text


def test_texts_and_numbers_that_do_not_fit():
    assert text_from_registers([0xFFFF]) is None and text_from_registers([0x0741]) is None
    assert text_from_registers(registers_from_text("B  ", 16)) == "B"
    assert registers_from_text("é" * 100, 2) == [0x3F3F, 0x3F3F]
    assert [clipped(value) for value in (-1, 70000, float("nan"), float("inf"), 2.9)] == [0, 65535, 65535, 65535, 2]


@pytest.mark.parametrize(
    ("listen", "only_from", "match"),
    [("127.0.0.1", (), "HOST:PORT"), ("127.0.0.1:0", (), "a port"), ("localhost:5020", (), "addresses such as"),
     ("192.0.2.1:502", (), "--only-from"), ("0.0.0.0:502", (), "--only-from"), ("[::]:502", (), "--only-from"),
     ("127.0.0.1:502", ("plc",), "addresses such as"), ("127.0.0.1:99999", (), "a port")],
)  # fmt: skip
def test_addresses_that_are_refused(listen, only_from, match):
    with pytest.raises(InputError, match=match):
        options("tcp://127.0.0.1:1", "", ("", ""), listen, only_from, Timing())


@pytest.mark.parametrize("timing", [Timing(float("nan")), Timing(2, float("inf"))])
def test_times_that_are_none_are_refused(timing):
    with pytest.raises(InputError, match="seconds"):
        options("tcp://127.0.0.1:1", "", ("", ""), "127.0.0.1:5020", (), timing)


def test_addresses_that_are_taken():
    given_ = options("tcp://127.0.0.1:1", "", ("", ""), "[::1]:5020", ("192.0.2.7",), Timing())
    assert (given_.host, given_.port, given_.only_from) == ("::1", 5020, ("192.0.2.7",))
