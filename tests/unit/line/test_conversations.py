"""Requests that come faster than their answers are read, and journals that answer slowly: nothing is lost."""

from __future__ import annotations

import json
import threading
import time
from functools import partial

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from support.sockets import free_port

from hisir_edge.config.sockets import ControlTable, SecurityTable
from hisir_edge.line.sockets.context import Wire
from hisir_edge.line.sockets.control import Command, ControlSocket
from hisir_edge.line.sockets.conversations import MOST_OUTSTANDING, MOST_REFUSALS, Conversations, Sent
from hisir_edge.transport.control_client import Asker


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("ask"), st.integers(0, 2)), st.tuples(st.just("do"), st.integers(0, 2)),
            st.tuples(st.just("read"), st.integers(0, 2)), st.tuples(st.just("work"), st.just(0)),
        ),
        max_size=400,
    )
)  # fmt: skip
def test_every_request_that_is_accepted_is_answered_once_and_in_order(steps):
    reads, sent, work = {bytes([n]): 0 for n in range(3)}, {bytes([n]): [] for n in range(3)}, []

    def send(frames):
        if reads[frames[0]] < 1:
            return Sent.LATER
        reads[frames[0]] -= 1
        sent[frames[0]].append(frames[-1])
        return Sent.YES

    talk = Conversations(send, lambda envelope, job: work.append((envelope, job)))
    asked, done = {c: [] for c in reads}, {c: [] for c in reads}
    for number, (what, who) in enumerate(steps):
        connection, name = bytes([who]), b"%d" % number
        if what in ("ask", "do"):
            if talk.room(connection) <= 0:
                continue
            if what == "ask":
                asked[connection].append(name)
                talk.ask([connection], partial(list, (name,)))
            else:
                done[connection].append(name)
                talk.answer([connection], [name])
        elif what == "read":
            reads[connection] += 1
            talk.flush()
        elif work:
            envelope, job = work.pop(0)
            talk.done(envelope, job())
    for connection in reads:
        reads[connection] = 10_000
    talk.flush()
    while work:
        envelope, job = work.pop(0)
        talk.done(envelope, job())
    for connection in reads:
        assert [n for n in sent[connection] if n in asked[connection]] == asked[connection]
        assert [n for n in sent[connection] if n in done[connection]] == done[connection]
        assert len(sent[connection]) == len(asked[connection]) + len(done[connection])
        assert talk.room(connection) == MOST_OUTSTANDING
    assert not talk.waiting


def test_a_connection_has_room_for_so_many_and_what_is_beyond_is_told_or_dropped():
    talk = Conversations(lambda frames: Sent.LATER, lambda envelope, job: None)
    for n in range(MOST_OUTSTANDING):
        assert talk.room(b"a") == MOST_OUTSTANDING - n
        talk.answer([b"a"], [b"x"])
    for _ in range(MOST_REFUSALS + 1):
        assert talk.room(b"a") == 0
        talk.answer([b"a"], [b"refused"])
    assert talk.room(b"a") < 0
    assert talk.room(b"b") == MOST_OUTSTANDING
    talk.clear()
    assert talk.room(b"a") == MOST_OUTSTANDING


class Line:
    """A control socket with a trigger, and a replay that waits until it is let go."""

    def __init__(self) -> None:
        self.endpoint, self.go, self.accepted = f"tcp://127.0.0.1:{free_port()}", threading.Event(), []

    def __enter__(self):
        def trigger(request, client):
            self.accepted.append(len(self.accepted) + 1)
            return {"seq": self.accepted[-1]}

        def replay(request, client):
            assert self.go.wait(30)
            return {"frames": [bytes(request.get("bytes", 0))]}

        commands = {"trigger": Command("control", trigger), "replay": Command("read", replay, beside=True)}
        self.wire = Wire(SecurityTable()).__enter__()
        self.socket = ControlSocket(ControlTable(endpoint=self.endpoint), self.wire, commands).__enter__()
        return self

    def __exit__(self, *error):
        self.go.set()
        self.socket.__exit__(None, None, None)
        self.wire.__exit__(None, None, None)


@pytest.fixture
def line():
    with Line() as line:
        yield line


@pytest.fixture
def dealer():
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVTIMEO, 20_000)
    yield socket
    socket.close()
    context.term()


def test_of_200_triggers_sent_at_once_each_that_was_accepted_is_told(line, dealer):
    dealer.setsockopt(zmq.RCVHWM, 1)
    dealer.setsockopt(zmq.RCVBUF, 2048)
    dealer.connect(line.endpoint)
    for n in range(200):
        dealer.send_multipart([b"%d" % n, b"", b'{"do": "trigger"}'])
    answers = {}
    while len(answers) < 200:
        try:
            name, empty, text = dealer.recv_multipart()
        except zmq.Again:
            break
        assert (name in answers, empty) == (False, b"")
        answers[name] = json.loads(text)
    told = [answer["seq"] for answer in answers.values() if answer["ok"]]
    assert sorted(told) == line.accepted
    assert all(answer["code"] == "busy" and answer["again"] for answer in answers.values() if not answer["ok"])
    assert len(answers) == 200


def test_nothing_that_a_reader_asks_holds_a_trigger_back(line, dealer):
    dealer.connect(line.endpoint)
    for _ in range(8):
        dealer.send(b'{"do": "replay", "bytes": 100000}')
    with Asker(line.endpoint) as other:
        other.ask({"do": "trigger"})  # the connection is made
        slowest_s = 0.0
        for _ in range(20):
            began = time.perf_counter()
            other.ask({"do": "trigger"})
            slowest_s = max(slowest_s, time.perf_counter() - began)
    assert len(line.accepted) == 21, f"while replays wait; the slowest took {slowest_s:.3f} s"
    dealer.send(b'{"do": "trigger"}')
    assert json.loads(dealer.recv_multipart()[0]) == {"ok": True, "seq": 22}, "nor does one's own replay"
    line.go.set()
    for _ in range(8):
        answer, data = dealer.recv_multipart()
        assert (json.loads(answer), len(data)) == ({"ok": True}, 100_000)


def test_a_key_given_twice_is_refused(line, dealer):
    dealer.connect(line.endpoint)
    for text in (b'{"do": "trigger", "do": "replay"}', b'{"do": "trigger", "unit": "a", "unit": "b"}', b'{"do": NaN}'):
        dealer.send(text)
        answer = json.loads(dealer.recv_multipart()[0])
        assert (answer["ok"], answer["code"]) == (False, "malformed")
    assert line.accepted == []
