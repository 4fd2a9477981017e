"""What an MES asks of a line, and what the client makes of that: snapshot, cursors, decisions, asyncio, heartbeats."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
import socket
import sqlite3
import struct
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
import zmq
from support.commands import here
from support.journal_line import JournalLine
from support.messages import sample_message
from support.sockets import free_port, greet

from hisir_edge.config.kept import JournalTable
from hisir_edge.config.sockets import PublishTable, SecurityTable
from hisir_edge.errors import InputError, NoAnswer, TryLater
from hisir_edge.line.journal.reading import read_journal
from hisir_edge.line.journal.records import Decision, Entry
from hisir_edge.line.journal.schema import FILE
from hisir_edge.line.journal.store import Journal
from hisir_edge.line.sockets.context import Wire
from hisir_edge.line.sockets.publish import Publisher
from hisir_edge.mes import subscribe, subscribe_async, verdict_from_frames, verify
from hisir_edge.transport.control_client import Asker, ask

ROOT = Path(__file__).parents[2]


@pytest.fixture
def line(tmp_path):
    return JournalLine(tmp_path / "journal")


@pytest.fixture
def decided(line):
    """A line with forty verdicts of ten boards that came four times each: the line, its epoch and a client."""
    with Journal(line.folder, JournalTable()) as journal:
        epoch = journal.epoch
        for seq in range(1, 41):
            message = sample_message(seq, epoch, seq % 3 == 0, unit=f"B{seq % 10}")
            topic, body, mask = message.frames()
            journal.record(
                [Entry(seq=seq, topic=topic.decode(), body=body, mask=mask, source=f"cam-{seq % 2}", unit=message.unit)]
            )
    with line.started(0), Asker(line.control) as asker:
        yield line, epoch, asker


def snapshot(asker, **more):
    head, frames = asker.ask({"do": "snapshot", **more})
    return head, [verdict_from_frames(frames[n : n + 3]) for n in range(0, len(frames), 3)]


def test_a_snapshot_is_the_last_verdict_of_each_unit(decided):
    _, epoch, asker = decided
    head, verdicts = snapshot(asker)
    assert [v.seq for v in verdicts] == list(range(31, 41))
    assert {v.unit for v in verdicts} == {f"B{n}" for n in range(10)}
    assert (head["seq"], head["epoch"], head["decisions"]) == (40, epoch, [])
    assert [v.seq for v in snapshot(asker, unit="B7")[1]] == [37]
    assert [v.seq for v in snapshot(asker, camera="cam-1")[1]] == [31, 33, 35, 37, 39]
    assert [v.seq for v in snapshot(asker, after=35, most=2)[1]] == [36, 37]
    assert snapshot(asker, unit="none of these")[1] == []


def test_decisions_come_with_the_snapshot_and_are_on_the_disk(decided):
    line, epoch, asker = decided
    one = snapshot(asker)[1][2]
    assert (one.seq, one.result) == (33, "FAIL")
    assert verify(line.control, one, "DefectRejected", "J. Doe", defect=1, detail="glare") == 1
    assert verify(line.control, one, "DefectConfirmed", "A. Smith") == 2
    found = snapshot(asker, unit="B3")[0]["decisions"]
    assert [(d["defect"], d["Verification"], d["operator"]) for d in found] == [
        (1, "DefectRejected", "J. Doe"), (0, "DefectConfirmed", "A. Smith")
    ]  # fmt: skip
    assert snapshot(asker, unit="B4")[0]["decisions"] == []
    assert [d["id"] for d in asker.ask({"do": "decisions", "after": 1})[0]["decisions"]] == [2]
    for number, name in ((3, "decide"), (4, "verify")):  # the command, and its old name
        done = here(name, line.control, "NotVerifiedYet", "--epoch", epoch, "--seq", 33, "--operator", "x")
        assert (done.returncode, done.stdout) == (0, f"{number}\n")
        assert ("now called 'hisir-edge decide'" in done.stderr) == (name == "verify")
    with closing(sqlite3.connect(f"file:{line.folder / FILE}?mode=ro", uri=True)) as db:
        assert db.execute("SELECT count(*) FROM decision").fetchone() == (4,)


def test_a_decision_that_cannot_be_meant_is_refused(decided):
    _, epoch, asker = decided
    good = {"do": "verify", "epoch": epoch, "seq": 33, "verification": "DefectRejected", "operator": "o"}
    for wrong, said in (
        ({"seq": 99}, "a verdict that is in the journal"), ({"epoch": "0" * 32}, f"the epoch {epoch}"),
        ({"verification": "Maybe"}, "verification out of DefectConfirmed"), ({"operator": ""}, "operator as text"),
        ({"defect": -1}, "defect as a whole number"), ({"defect": 2}, "defect from 1 to 1 of verdict 33"),
        ({"seq": 34, "defect": 1}, "defect 0, the board"), ({"why": 1}, "only epoch, seq"),
        ({"seq": True}, "seq as a whole number"), ({"detail": "x" * 201}, "detail as text"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            asker.ask({**good, **wrong})
    assert asker.ask({"do": "decisions"})[0]["decisions"] == []


def test_a_decision_and_heartbeats_are_told_live(line):
    context = zmq.Context()
    sub = context.socket(zmq.SUB)
    sub.linger, sub.rcvtimeo = 0, 10_000
    sub.subscribe(b"heartbeat/")
    sub.subscribe(b"verification/")
    sub.connect(line.verdicts)
    try:
        with line.started(5):
            beats, times = [], []
            while len(beats) < 3:
                topic, text = sub.recv_multipart()
                assert topic == b"heartbeat/l"
                beats.append(json.loads(text))
                times.append(time.monotonic())
            assert all(0.5 < b - a < 2.0 for a, b in itertools.pairwise(times)), "each second"
            assert (beats[-1]["seq"], beats[-1]["schema"]) == (5, "hisir-edge/heartbeat/1.0")
            assert beats[-1]["control"] == "tcp://*:" + line.control.rsplit(":", maxsplit=1)[1]
            epoch = beats[-1]["epoch"]
            request = {"do": "verify", "epoch": epoch, "seq": 5, "verification": "DefectAccepted", "operator": "o"}
            ask(line.control, request)
            while (message := sub.recv_multipart())[0] != b"verification/l":
                pass
            told = json.loads(message[1])
            assert (told["id"], told["seq"], told["Verification"]) == (1, 5, "DefectAccepted")
    finally:
        sub.close()
        context.term()


def test_what_is_acknowledged_is_known_at_the_line_and_never_goes_back(line, tmp_path):
    with line.started(100):
        got = [v.seq for v in subscribe(line.verdicts, "mes-1", tmp_path, since="beginning", timeout_s=2.5)]
        assert got == list(range(1, 101))
        with Asker(line.control) as asker:
            status = asker.ask({"do": "status"})[0]
            assert status["acknowledged"] == {"mes-1": 100}
            epoch = asker.ask({"do": "replay", "most": 0})[0]["epoch"]

            def ack(name, seq, epoch=epoch):
                return asker.ask({"do": "ack", "name": name, "epoch": epoch, "seq": seq})[0]["seq"]

            assert [ack("mes-1", 40), ack("mes-2", 7), ack("mes-2", 9)] == [100, 7, 9]
            for name, seq, of, said in (
                ("mes-3", 101, epoch, "a number up to 100"), ("a/b", 1, epoch, "letters, digits"),
                ("mes-3", 1, "f" * 32, "the epoch"), ("", 1, epoch, "name as text"),
            ):  # fmt: skip
                with pytest.raises(InputError, match=said):
                    ack(name, seq, of)
            for n in range(62):
                ack(f"n{n}", 1)
            with pytest.raises(InputError, match="at most 64 names"):
                ack("one-more", 1)
            assert asker.ask({"do": "forget", "name": "mes-2"})[0]["known"]
            assert not asker.ask({"do": "forget", "name": "mes-2"})[0]["known"]
    with contextlib.closing(sqlite3.connect(line.folder / FILE)) as db:
        assert db.execute("SELECT seq FROM cursor WHERE name = 'mes-1'").fetchone() == (100,)


def test_for_asyncio_each_once_over_cancellation_and_restarts(line, tmp_path):
    got: list[int] = []

    async def read(until: int) -> None:
        stream = subscribe_async(line.verdicts, "mes-1", tmp_path, since="beginning", timeout_s=30)
        async with contextlib.aclosing(stream):
            async for verdict in stream:
                await asyncio.sleep(0)
                if verdict.seq not in got[-1:]:  # what it was busy with when it was cancelled comes again
                    got.append(verdict.seq)
                if verdict.seq >= until:
                    return

    async def cancelled() -> None:
        task = asyncio.create_task(read(10**9))
        while len(got) < 60:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with line.started(400, rate_hz=200):
        asyncio.run(read(20))
        asyncio.run(cancelled())
        asyncio.run(read(150))
    with line.started(400, rate_hz=200):
        asyncio.run(read(400))
    assert got == list(range(1, 401))


def test_json_alone_and_what_a_filter_leaves(line, tmp_path):
    with line.started(60):
        stream = subscribe(line.verdicts, "brief", tmp_path, masks=False, since="beginning", timeout_s=2.5)
        got = list(stream)
    assert [v.seq for v in got] == list(range(1, 61))
    assert {v.mask for v in got} == {b""}
    _, entries, _ = read_journal(line.folder)
    assert [v.text for v in got] == [e.body for e in entries]


def test_a_line_without_a_control_socket_says_so(tmp_path):
    """Verdicts that are missed there could not be asked for: better a word at the start than a gap later."""
    table = PublishTable(endpoint=f"tcp://127.0.0.1:{free_port()}")
    with Wire(SecurityTable()) as wire, Publisher(table, wire) as publisher:
        stream = subscribe(table.endpoint, "mes-1", tmp_path, timeout_s=20)
        end = threading.Event()

        def beat():
            while not end.wait(0.05):
                publisher.beat("l", "0" * 32, 1, control="")

        thread = threading.Thread(target=beat)
        thread.start()
        try:
            with pytest.raises(InputError, match=r"add \[control\]"):
                next(stream)
        finally:
            end.set()
            thread.join()


def test_a_journal_of_the_layout_before_is_taken_over(tmp_path):
    frozen = json.loads((ROOT / "tests/data/messages/1.1/fail.json").read_text())
    with Journal(tmp_path, JournalTable()) as journal:
        epoch = journal.epoch
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as db:  # as the version before left it
        for table in ("last_of_unit", "decision"):
            db.execute(f"DROP TABLE {table}")
        for column in ("used_ns", "form"):
            db.execute(f"ALTER TABLE verdict DROP COLUMN {column}")
        for seq, unit in ((1, "B-7"), (2, "B-8"), (3, "B-7")):
            text = json.dumps({**frozen["body"], "seq": seq, "unit": unit, "epoch": epoch})
            db.execute("INSERT INTO verdict VALUES (?, 1, ?, ?, ?)", (seq, frozen["topic"], text.encode(), b""))
        db.execute("UPDATE meta SET value = '1' WHERE name = 'layout'")
        db.commit()
    for _ in range(2):
        with Journal(tmp_path, JournalTable()) as journal:
            assert (journal.epoch, journal.last_seq, journal.last_recorded) == (epoch, 3, 3)
            found = [verdict_from_frames(e.frames()) for e in journal.snapshot("camera", "", 0)]
            assert [(v.unit, v.seq, v.result) for v in found] == [("B-8", 2, "FAIL"), ("B-7", 3, "FAIL")]


def test_what_is_deleted_takes_its_decisions_along(tmp_path):
    with Journal(tmp_path, JournalTable(keep_days=1e-9)) as journal:
        for seq in range(1, 6):
            topic, body, mask = sample_message(seq).frames()
            journal.record([Entry(seq=seq, topic=topic.decode(), body=body, mask=mask, source="cam", unit=f"u{seq}")])
            journal.decide(
                Decision(seq=seq, defect=0, verification="DefectRejected", detail="", operator="o", client="", at_ns=1)
            )
        journal.acknowledge("mes-1", 3)
        while journal.prune():
            pass
        assert [e.seq for e in journal.entries(0)] == [4, 5], "the rest is not acknowledged"
        assert [d.seq for d in journal.decisions()] == [4, 5]
        assert [e.seq for e in journal.snapshot("", "", 0)] == [4, 5]
        journal.forget_name("mes-1")
        while journal.prune():
            pass
        assert [e.seq for e in journal.entries(0)] == [5]


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
def test_floods_that_break_off_do_not_end_the_line(line, reset):
    """Requests with PINGs among them on connections that then break: on a queue that was full libzmq ended the line."""
    port = int(line.control.rsplit(":", maxsplit=1)[1])
    request, ping = b"\x00\x10" + b'{"do": "status"}', b"\x04\x07\x04PING\x00\x00"
    with line.started(5) as process:
        for _ in range(8):
            with socket.create_connection(("127.0.0.1", port)) as raw, contextlib.suppress(OSError, AssertionError):
                greet(raw)
                raw.settimeout(1.0)
                if reset:
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raw.sendall(request * 1350 + (ping + request) * 3000)
        end, answers = time.monotonic() + 30, []
        while len(answers) < 20:  # others are answered all the same
            assert time.monotonic() < end
            start = time.monotonic()
            with contextlib.suppress(NoAnswer):
                ask(line.control, {"do": "replay", "most": 0}, 2)
                answers.append(time.monotonic() - start)
        assert process.poll() is None
        assert sorted(answers)[10] < 0.5


def test_a_journal_that_was_put_back_is_said_not_passed_over(line, tmp_path):
    """Numbers that are given anew would be taken for known: verdicts of other boards, lost without a word."""
    with line.started(20):
        pass
    shutil.copytree(line.folder, tmp_path / "backup")
    with line.started(60):
        assert [v.seq for v in subscribe(line.verdicts, "mes-1", tmp_path, since="beginning", timeout_s=2.5)][-1] == 60
    shutil.rmtree(line.folder)
    shutil.copytree(tmp_path / "backup", line.folder)
    with line.started(20):
        stream = subscribe(line.verdicts, "mes-1", tmp_path, timeout_s=20)
        with pytest.raises(InputError, match=r"60 or beyond.*got #20 in the same epoch|a number up to 20"):
            next(stream)


def test_a_slow_link_gets_less_at_a_time(line, tmp_path):
    """2 MB an answer do not arrive within its time at 100 kB a second: smaller ones do."""
    with Journal(line.folder, JournalTable()) as journal:
        for seq in range(1, 26):
            topic, body, _ = sample_message(seq, journal.epoch).frames()
            journal.record([Entry(seq=seq, topic=topic.decode(), body=body, mask=bytes(40_000))])
    port, target = free_port(), int(line.control.rsplit(":", maxsplit=1)[1])
    end = threading.Event()
    thread = threading.Thread(target=slowly, args=(port, target, 300_000, end))
    thread.start()
    try:
        with line.started(25):
            stream = subscribe(
                line.verdicts, "mes-1", tmp_path, since="beginning", control=f"tcp://127.0.0.1:{port}", timeout_s=60
            )
            assert [next(stream).seq for _ in range(25)] == list(range(1, 26))
            stream.close()
    finally:
        end.set()
        thread.join()


def slowly(port: int, target: int, bytes_a_second: int, end: threading.Event) -> None:
    """A cable that takes so much: what the line sends is passed on piece by piece."""
    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(0.1)
        pairs: list[tuple[socket.socket, socket.socket]] = []
        while not end.is_set():
            with contextlib.suppress(TimeoutError):
                server.settimeout(0.001)
                one = server.accept()[0]
                other = socket.create_connection(("127.0.0.1", target))
                for each in (one, other):
                    each.setblocking(False)
                other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
                pairs.append((one, other))
            for one, other in pairs:
                for source, sink, most in ((one, other, 65536), (other, one, bytes_a_second // 50)):
                    with contextlib.suppress(OSError):
                        if piece := source.recv(most):
                            sink.setblocking(True)
                            sink.sendall(piece)
                            sink.setblocking(False)
            end.wait(0.02)
        for pair in pairs:
            for one in pair:
                one.close()


def test_while_the_line_cannot_write_its_subscribers_wait(line, tmp_path, monkeypatch):
    """A disk that is full at the line ends no subscriber: it is asked again."""
    told = []
    with line.started(5):
        real, refused = Asker.ask, []

        def full(self, request, *more):
            if request["do"] == "ack" and len(refused) < 2:
                refused.append(request)
                raise TryLater(expected="a journal that can be written", received="disk full", fix="see the log")
            return real(self, request, *more)

        monkeypatch.setattr(Asker, "ask", full)
        stream = subscribe(
            line.verdicts, "mes-1", tmp_path, since="beginning", timeout_s=4, waiting=told.append, control=line.control
        )
        assert [v.seq for v in stream] == [1, 2, 3, 4, 5]
        assert len(refused) == 2
        assert ask(line.control, {"do": "status"})["acknowledged"] == {"mes-1": 5}


def test_two_lines_at_one_address_are_said(tmp_path):
    table = PublishTable(endpoint=f"tcp://127.0.0.1:{free_port()}")
    with Wire(SecurityTable()) as wire, Publisher(table, wire) as publisher:
        end = threading.Event()

        def beat():
            while not end.wait(0.05):
                for name in ("a", "b"):
                    publisher.beat(name, "0" * 32, 1, control="tcp://*:1")

        thread = threading.Thread(target=beat)
        thread.start()
        try:
            with pytest.raises(InputError, match="one line at"):
                next(subscribe(table.endpoint, "mes-1", tmp_path, timeout_s=20))
        finally:
            end.set()
            thread.join()


def test_nothing_heard_is_said(tmp_path):
    told = []
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    assert list(subscribe(endpoint, "mes-1", tmp_path, timeout_s=5.5, waiting=told.append)) == []
    assert len(told) == 1
    assert "are the keys the right ones" in told[0]
