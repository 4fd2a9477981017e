"""IPC-HERMES-9852: documents out of a stream however it is cut, and the receiver's states against a scripted sender."""

from __future__ import annotations

import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hisir_edge.config.tables import HermesTable
from hisir_edge.line.hermes.link import HermesLink
from hisir_edge.line.hermes.protocol import (
    MOST_MESSAGE_BYTES,
    Board,
    Channel,
    Decoder,
    HermesError,
    HermesMessage,
    Receiver,
    encoded,
)

TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"), max_size=30
)
MESSAGES = st.lists(
    st.builds(
        HermesMessage,
        st.sampled_from(["BoardAvailable", "Notification", "CheckAlive", "TransportFinished", "Whatever"]),
        st.dictionaries(st.sampled_from(["BoardId", "Type", "Id", "TopBarcode", "TransferState"]), TEXT),
    ),
    max_size=8,
)


@given(MESSAGES, st.lists(st.integers(1, 200), min_size=1, max_size=40))
def test_messages_arrive_however_the_stream_is_cut(messages, cuts):
    stream, decoder, found, at, n = b"".join(map(encoded, messages)), Decoder(), [], 0, 0
    while at < len(stream):
        size = cuts[n % len(cuts)]
        found += decoder.feed(stream[at : at + size])
        at, n = at + size, n + 1
    assert found == messages


@given(st.lists(st.one_of(st.binary(max_size=200), st.sampled_from([
    b"</Hermes>", b"<Hermes>", b"<Hermes><A/></Hermes>", b"<Hermes><A/><B/></Hermes>",
    b"<!DOCTYPE x [<!ENTITY a 'b'>]>",
    b'<Hermes><BoardAvailable BoardId="1"/></Hermes>', b"<?xml version='1.0' encoding='utf-99'?>", b"\x00",
])), max_size=12))  # fmt: skip
def test_nonsense_is_refused_and_nothing_else(chunks):
    decoder, receiver = Decoder(), Receiver("m", 1, lambda board: None)
    receiver.connected()
    try:
        for chunk in chunks:
            for message in decoder.feed(chunk):
                receiver.on(message)
    except HermesError as error:
        assert str(error)


def test_what_could_grow_without_end_is_refused():
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><Hermes><A B="&b;"/></Hermes>'
    with pytest.raises(HermesError, match="declaration"):
        Decoder().feed(bomb)
    decoder = Decoder()
    with pytest.raises(HermesError, match="without an end"):
        for _ in range(100):
            decoder.feed(b"x" * 1000)
    with pytest.raises(HermesError, match="at most"):
        Decoder().feed(b"<Hermes><A B='" + b"x" * MOST_MESSAGE_BYTES + b"'/></Hermes>")
    with pytest.raises(HermesError, match="deeper"):
        Decoder().feed(b"<Hermes>" + b"<A>" * 100)


def test_documents_with_declaration_of_xml_and_space_between_are_read():
    text = b'\r\n<?xml version="1.0" encoding="utf-8"?>\n<Hermes Timestamp="t"><CheckAlive Type="1" Id="7"/></Hermes>\n'
    assert Decoder().feed(text * 2) == [HermesMessage("CheckAlive", {"Type": "1", "Id": "7"})] * 2


class Line:
    def __init__(self):
        self.boards: list[Board] = []
        self.receiver = Receiver("aoi", 1, self.boards.append)
        self.sent = [m.name for m in self.receiver.connected()]

    def on(self, name, **values):
        return [(m.name, dict(m.values)) for m in self.receiver.on(HermesMessage(name, values))]

    def ready(self, ready=True):
        return [(m.name, dict(m.values)) for m in self.receiver.ready(ready)]


AVAILABLE = {"BoardId": "b1", "ProductTypeId": "psu", "TopBarcode": "T", "WorkOrderId": "W"}


@pytest.mark.parametrize("ready_first", [True, False])
def test_a_board_is_handed_over(ready_first):
    line = Line()
    assert line.sent == ["ServiceDescription"]
    assert line.ready() == [], "not before the sender described itself"
    assert line.on("ServiceDescription", MachineId="printer", LaneId="1", Version="1.0") == []
    start = ("StartTransport", {"BoardId": "b1"})
    if ready_first:
        assert line.ready() == [("MachineReady", {"FailedBoard": "0"})]
        assert line.ready() == [], "once"
        assert line.on("BoardAvailable", **AVAILABLE) == [start]
    else:
        assert line.on("BoardAvailable", **AVAILABLE) == []
        assert line.ready(False) == []
        assert line.ready() == [("MachineReady", {"FailedBoard": "0"}), start]
    assert line.receiver.state is Channel.TRANSPORTING
    assert line.ready(False) == [], "nothing is revoked once it is under way"
    assert line.boards == []
    assert line.on("TransportFinished", TransferState="3", BoardId="b1") == [
        ("StopTransport", {"TransferState": "3", "BoardId": "b1"})
    ]
    assert line.boards == [Board("b1", "psu", "T", "", "W")]
    assert line.receiver.state is Channel.NOT_AVAILABLE_NOT_READY  # type: ignore[comparison-overlap]
    with pytest.raises(HermesError, match="in state NotAvailableNotReady"):
        line.on("TransportFinished", TransferState="3", BoardId="b1")
    assert len(line.boards) == 1


def test_only_who_says_so_has_to_answer():
    line = Line()
    line.on("ServiceDescription")
    assert not line.receiver.answers_alive
    line.receiver.connected()
    (told,) = Decoder().feed(
        encoded(HermesMessage("ServiceDescription", {"LaneId": "1"}, ("FeatureCheckAliveResponse",)))
    )
    line.receiver.on(told)
    assert line.receiver.answers_alive
    assert line.receiver.connected()[0].features == ("FeatureCheckAliveResponse",)
    assert not line.receiver.answers_alive


def test_promises_can_be_taken_back_until_the_board_moves():
    line = Line()
    line.on("ServiceDescription")
    line.ready()
    assert line.ready(False) == [("RevokeMachineReady", {})]
    line.on("BoardAvailable", **AVAILABLE)
    assert line.on("RevokeBoardAvailable") == []
    assert line.ready() == [("MachineReady", {"FailedBoard": "0"})]
    line.on("BoardAvailable", **AVAILABLE)
    assert line.on("RevokeBoardAvailable") == [("StopTransport", {"TransferState": "1", "BoardId": "b1"})]
    assert line.boards == []
    assert line.ready() == [], "not before the sender has answered StartTransport"
    assert line.on("TransportFinished", TransferState="1", BoardId="b1") == []
    assert line.ready() == [("MachineReady", {"FailedBoard": "0"})]
    assert line.boards == []


def _in_state(state: Channel) -> Line:
    """A line whose receiver is in this state; ``TransportStopped`` by a board that its sender revoked."""
    line = Line()
    if state is Channel.NOT_CONNECTED:
        line.receiver.disconnected()
    if state in (Channel.NOT_CONNECTED, Channel.SERVICE_DESCRIPTION):
        return line
    line.on("ServiceDescription")
    if state is Channel.MACHINE_READY:
        line.ready()
    if state in (Channel.BOARD_AVAILABLE, Channel.TRANSPORTING, Channel.TRANSPORT_STOPPED):
        line.on("BoardAvailable", **AVAILABLE)
    if state in (Channel.TRANSPORTING, Channel.TRANSPORT_STOPPED):
        line.ready()
    if state is Channel.TRANSPORT_STOPPED:
        line.on("RevokeBoardAvailable")
    assert line.receiver.state is state
    return line


START, STOP = "StartTransport", "StopTransport"
REFUSED = "refused"
STATES = [state for state in Channel if state is not Channel.AVAILABLE_AND_READY]
TABLE = {
    # message: per state (not connected, service description, not available, available, ready, transporting, stopped)
    # the messages sent and the state afterwards
    "ServiceDescription": ((REFUSED,), ((), "NotAvailableNotReady"), ((), ""), ((), ""), ((), ""), ((), ""), ((), "")),
    "BoardAvailable": (
        (REFUSED,), (REFUSED,), ((), "BoardAvailable"), (REFUSED,), ((START,), "Transporting"), (REFUSED,),
        ((), "BoardAvailable"),
    ),
    "RevokeBoardAvailable": (
        (REFUSED,), (REFUSED,), ((), ""), ((), "NotAvailableNotReady"), ((), ""), ((STOP,), "TransportStopped"),
        ((), ""),
    ),
    "TransportFinished 1": (
        (REFUSED,), (REFUSED,), (REFUSED,), (REFUSED,), (REFUSED,), ((STOP,), "NotAvailableNotReady"),
        ((), "NotAvailableNotReady"),
    ),
    "TransportFinished 2": ((REFUSED,),) * 7,
    "TransportFinished 3": (
        (REFUSED,), (REFUSED,), (REFUSED,), (REFUSED,), (REFUSED,), ((STOP,), "NotAvailableNotReady"),
        ((), "NotAvailableNotReady"),
    ),
    "CheckAlive": (((), ""),) * 7,
    "Notification": ((REFUSED,), (REFUSED,), ((), ""), ((), ""), ((), ""), ((), ""), ((), "")),
    "BoardForecast": ((REFUSED,), (REFUSED,), ((), ""), ((), ""), ((), ""), ((), ""), ((), "")),
}  # fmt: skip


@pytest.mark.parametrize("message", TABLE)
@pytest.mark.parametrize("number", range(len(STATES)), ids=[state.value for state in STATES])
def test_every_message_in_every_state(message, number):
    line = _in_state(STATES[number])
    name, _, transferred = message.partition(" ")
    values = {**AVAILABLE, **({"TransferState": transferred} if transferred else {})}
    wanted = TABLE[message][number]
    if wanted == (REFUSED,):
        with pytest.raises(HermesError):
            line.on(name, **values)
        assert line.boards == []
        return
    sent, state = wanted
    assert [one[0] for one in line.on(name, **values)] == list(sent)
    assert line.receiver.state.value == (state or STATES[number].value)
    assert len(line.boards) == (transferred == "3"), "whatever was revoked: what the sender says last holds"


def test_a_sender_that_waits_for_stop_transport_gets_it():
    line = _in_state(Channel.TRANSPORTING)
    assert [(m.name, m.values["TransferState"]) for m in line.receiver.waited()] == [("StopTransport", "3")]
    assert line.ready() == [] and line.boards == [], "the sender has not said yet that the board has left it"
    assert line.on("TransportFinished", TransferState="3", BoardId="b1") == [], "no second StopTransport"
    assert [board.board_id for board in line.boards] == ["b1"]
    line = _in_state(Channel.TRANSPORTING)
    line.receiver.waited()
    with pytest.raises(HermesError, match="no TransportFinished after StopTransport"):
        line.receiver.waited()
    assert line.receiver.disconnected() == Board("b1", "psu", "T", "", "W"), "which is an ERROR verdict of the line"


def test_a_sender_that_forgets_to_finish_what_it_revoked_is_not_waited_for_for_ever():
    line = _in_state(Channel.TRANSPORT_STOPPED)
    assert line.receiver.waited() == []
    assert line.ready() == [("MachineReady", {"FailedBoard": "0"})]
    assert line.on("TransportFinished", TransferState="1", BoardId="b1") == [], "late, and taken once"
    with pytest.raises(HermesError):
        line.on("TransportFinished", TransferState="1", BoardId="b1")
    assert _in_state(Channel.TRANSPORT_STOPPED).receiver.disconnected() is None, "the sender has it still"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (b'<Hermes Timestamp="t"><CheckAlive /></Hermes >', ["CheckAlive"]),
        (b"<Hermes><!-- </Hermes> --><CheckAlive></CheckAlive></Hermes\n\t>", ["CheckAlive"]),
        (b'<Hermes><Notification Description="&lt;/Hermes>"/></Hermes>', ["Notification"]),
        (b'\xef\xbb\xbf<?xml version="1.0"?><Hermes><CheckAlive/></Hermes>', ["CheckAlive"]),
    ],
)
def test_whatever_is_valid_xml_is_read(text, names):
    for size in (1, 7, len(text) * 3):
        decoder, stream, found = Decoder(), text * 3, []
        for at in range(0, len(stream), size):
            found += decoder.feed(stream[at : at + size])
        assert [message.name for message in found] == names * 3


def test_an_empty_document_and_one_cut_within_its_tags():
    with pytest.raises(HermesError, match="0 messages"):
        Decoder().feed(b"<Hermes/>")
    text = b'<Hermes Timestamp="2026-11-28T08:00:00"><TransportFinished TransferState="3" BoardId="b1"/></Hermes>'
    for first in range(1, len(text) - 1, 7):
        for second in range(first + 1, len(text), 11):
            decoder = Decoder()
            found = [m for part in (text[:first], text[first:second], text[second:]) for m in decoder.feed(part)]
            assert [m.name for m in found] == ["TransportFinished"], "delivered with its last byte"


def test_boards_that_are_not_whole_are_no_boards():
    line = Line()
    line.on("ServiceDescription")
    line.ready()
    line.on("BoardAvailable", **AVAILABLE)
    with pytest.raises(HermesError, match="between two machines"):
        line.on("TransportFinished", TransferState="2", BoardId="b1")
    assert line.receiver.disconnected() == Board("b1", "psu", "T", "", "W"), "which is an ERROR verdict of the line"
    for bad in ({}, {"BoardId": ""}):
        line = Line()
        line.on("ServiceDescription")
        with pytest.raises(HermesError, match="without a BoardId"):
            line.on("BoardAvailable", **bad)
    line = Line()
    with pytest.raises(HermesError, match="in state ServiceDescription"):
        line.on("BoardAvailable", **AVAILABLE)
    line.on("ServiceDescription")
    line.ready()
    line.on("BoardAvailable", **AVAILABLE)
    with pytest.raises(HermesError, match="not the board under way"):
        line.on("TransportFinished", TransferState="3", BoardId="other")
    assert line.receiver.disconnected() == Board("b1", "psu", "T", "", "W"), "nobody knows where it is"
    assert line.receiver.disconnected() is None
    assert line.boards == []


def test_it_says_that_it_is_there():
    line = Line()
    assert line.on("CheckAlive", Type="1", Id="9") == [("CheckAlive", {"Type": "2", "Id": "9"})]
    assert line.on("CheckAlive") == []
    line.on("ServiceDescription")
    assert line.on("Notification", NotificationCode="1", Severity="2", Description="x") == []
    assert line.on("SomethingOfVersion3", New="1") == []


def test_a_real_sender_that_waits_for_stop_transport_is_served_over_a_socket():
    """The link's own clock: StopTransport after ``transport_s``, and the board counts when the sender says so."""
    boards: list[Board] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = HermesTable(host="127.0.0.1", port=server.getsockname()[1], transport_s=0.3)
        with HermesLink(settings, "aoi", lambda: not boards, boards.append, lambda board, reason: None):
            sender, _ = server.accept()
            with sender:
                sender.settimeout(20)
                decoder, seen = Decoder(), []

                def until(name: str) -> HermesMessage:
                    while name not in [message.name for message in seen]:
                        data = sender.recv(65536)
                        assert data, [message.name for message in seen]
                        seen.extend(decoder.feed(data))
                    return next(message for message in seen if message.name == name)

                sender.sendall(encoded(HermesMessage("ServiceDescription", {"MachineId": "printer", "LaneId": "1"})))
                until("MachineReady")
                sender.sendall(encoded(HermesMessage("BoardAvailable", AVAILABLE)))
                until("StartTransport")
                assert until("StopTransport").values == {"TransferState": "3", "BoardId": "b1"}
                assert boards == []
                sender.sendall(encoded(HermesMessage("TransportFinished", {"TransferState": "3", "BoardId": "b1"})))
                end = time.monotonic() + 20
                while not boards:
                    assert time.monotonic() < end
                    time.sleep(0.01)
    assert [board.board_id for board in boards] == ["b1"]
