"""The journal against crashes, cut power, damage, a second daemon, a full disk; the outbox on top of it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.messages import sample_message

from hisir_edge.config.kept import JournalTable
from hisir_edge.errors import JournalError
from hisir_edge.line.journal.outbox import Outbox
from hisir_edge.line.journal.reading import read_journal
from hisir_edge.line.journal.records import AcceptedTrigger, Entry
from hisir_edge.line.journal.schema import FILE, folder_of
from hisir_edge.line.journal.store import Journal

TABLE = JournalTable()


def entry(seq: int, size: int = 40) -> Entry:
    return Entry(seq=seq, topic="verdict/l/PASS", body=b'{"seq": %d}' % seq, mask=bytes([seq % 256]) * size)


def accepted(seq: int) -> AcceptedTrigger:
    return AcceptedTrigger(seq, f"unit-{seq}", "cam", "p", 1_000 + seq)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    steps=st.lists(
        st.one_of(st.tuples(st.just("accept"), st.booleans()), st.tuples(st.just("answer"), st.integers(1, 3)),
                  st.tuples(st.just("crash"), st.none()), st.tuples(st.just("refuse"), st.none())),
        max_size=30,
    )
)  # fmt: skip
def test_what_was_recorded_is_there_after_any_end(steps, tmp_path_factory):
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder, TABLE).__enter__()
    epoch, seq, open_ones, answered = journal.epoch, 0, [], []
    for what, how in steps:
        if what == "accept":
            seq += 1
            journal.accept(accepted(seq), told=how)
            open_ones.append(seq)
        elif what == "answer" and open_ones:
            now, open_ones = open_ones[:how], open_ones[how:]
            journal.record([entry(n) for n in now])
            answered += now
        elif what == "refuse" and open_ones and open_ones[-1] == seq:
            journal.forget(open_ones.pop())
            seq = max([0, *open_ones, *answered])
        elif what == "crash":
            copy = folder.with_name(folder.name + "-after")  # as the files are now, nothing closed
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(folder, copy)
            journal.__exit__(None, None, None)
            shutil.rmtree(folder)
            copy.rename(folder)
            journal = Journal(folder, TABLE).__enter__()
        assert (journal.epoch, journal.unanswered()) == (epoch, [accepted(n) for n in open_ones])
        assert journal.entries(0) == [entry(n) for n in answered]
        assert journal.last_seq >= max([0, *open_ones, *answered])
    journal.__exit__(None, None, None)
    assert read_journal(folder) == (epoch, [entry(n) for n in answered], open_ones)


def test_power_cut_at_any_byte_of_the_log_leaves_a_beginning(tmp_path):
    """The write-ahead log cut short: whole transactions are there, none without those before it."""
    whole = tmp_path / "whole"
    with Journal(whole, TABLE) as journal:
        epoch = journal.epoch
        for seq in range(1, 13):
            journal.accept(accepted(seq), told=False)
            if seq % 3 == 0:
                journal.record([entry(n, 3000) for n in range(seq - 2, seq + 1)])
        shutil.copytree(whole, tmp_path / "cut")
    log_bytes = (tmp_path / "cut" / f"{FILE}-wal").read_bytes()
    kept = set()
    for n, size in enumerate({*range(0, len(log_bytes), 4999), len(log_bytes)}):
        folder = tmp_path / f"cut-{n}"
        shutil.copytree(tmp_path / "cut", folder)
        os.truncate(folder / f"{FILE}-wal", size)
        (folder / f"{FILE}-shm").unlink(missing_ok=True)
        (folder / "lock").unlink()  # it says how far the log went: see the next test
        with Journal(folder, TABLE) as journal:
            found = [e.seq for e in journal.entries(0)]
            kept.add(len(found))
            assert found == list(range(1, len(found) + 1))
            assert len(found) % 3 == 0
            assert [t.seq for t in journal.unanswered()] == list(range(len(found) + 1, journal.last_seq + 1))
            assert journal.set_aside is None
            assert journal.epoch == epoch or not found
            journal.accept(accepted(journal.last_seq + 1), told=True)
        shutil.rmtree(folder)
    assert {0, 12} <= kept


@pytest.mark.parametrize("harm", ["header", "middle", "text"])
def test_a_damaged_file_is_set_aside_and_a_new_epoch_begins(tmp_path, harm):
    with Journal(tmp_path, TABLE) as journal:
        epoch = journal.epoch
        journal.record([entry(n, 5000) for n in range(1, 40)])
    path = tmp_path / FILE
    data = bytearray(path.read_bytes())
    if harm == "header":
        data[:100] = bytes(100)
    elif harm == "middle":
        data[4096 : len(data) // 2] = os.urandom(len(data) // 2 - 4096)
    else:
        data = bytearray(b"no database at all, and long enough to be one\n" * 1000)
    path.write_bytes(data)
    with Journal(tmp_path, TABLE) as journal:
        assert journal.epoch != epoch
        assert (journal.last_seq, journal.entries(0)) == (0, [])
        assert journal.set_aside is not None
        assert journal.set_aside.read_bytes() == bytes(data), "nothing of it is lost"
        journal.record([entry(1)])
    with Journal(tmp_path, TABLE) as journal:
        assert [e.seq for e in journal.entries(0)] == [1]
        assert journal.set_aside is None


def test_one_daemon_at_a_time(tmp_path):
    with Journal(tmp_path, TABLE), pytest.raises(JournalError, match="another daemon is writing"):
        Journal(tmp_path, TABLE).__enter__()
    with Journal(tmp_path, TABLE):
        pass
    (tmp_path / "file").write_text("x")
    with pytest.raises(JournalError, match="can be written"):
        Journal(tmp_path / "file", TABLE).__enter__()


def test_where_it_lies(monkeypatch):
    assert folder_of(JournalTable(folder="/a"), "l") == Path("/a")
    monkeypatch.setenv("XDG_STATE_HOME", "/s")
    assert folder_of(TABLE, "l") == Path("/s/hisir-edge/l/journal")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/hisir-edge/l:/other")
    assert folder_of(TABLE, "l") == Path("/var/lib/hisir-edge/l/journal")


def test_the_oldest_go_but_none_that_a_subscriber_waits_for(tmp_path):
    with Journal(tmp_path, JournalTable(budget_mb=16)) as journal:
        for first in range(1, 1500, 100):
            journal.record([entry(n, 20_000) for n in range(first, first + 100)])
        journal._connection.execute("INSERT INTO cursor VALUES ('mes', 300, 0)")
        while journal.prune():
            pass
        assert journal.entries(0, 1)[0].seq == 301, "twice the budget is not reached: it waits"
        for first in range(1501, 2500, 100):
            journal.record([entry(n, 20_000) for n in range(first, first + 100)])
        while journal.prune():
            pass
        assert journal.entries(0, 1)[0].seq > 301
        assert journal.entries(0, 5000, 10**9)[-1].seq == 2500
        journal._connection.execute("DELETE FROM cursor")
        while journal.prune():
            pass
        assert sum(len(e.mask) for e in journal.entries(0, 5000, 10**9)) < 16_000_000
    with Journal(tmp_path, JournalTable(keep_days=1e-9)) as journal:
        while journal.prune():
            pass
        assert [e.seq for e in journal.entries(0)] == [2500], "the last one is kept: it says where numbers go on"


def test_verdicts_are_journaled_before_they_are_published_and_in_order(tmp_path):
    sent, done = [], []
    with Journal(tmp_path, TABLE) as journal:

        def send(frames, overlay, rle):
            seq = json.loads(frames[1])["seq"]
            assert journal.entries(seq - 1, 1)[0].frames() == frames
            sent.append(seq)

        outbox = Outbox(journal, send)  # type: ignore[arg-type]
        for seq in range(1, 301):
            outbox.put(sample_message(seq), seq, lambda m: done.append(m.body["seq"]))
        outbox.flush()
        assert sent == done == list(range(1, 301))
        assert (outbox.unwritten, outbox.waits_for_s()) == (0, 0.0)
        outbox.close()


def test_one_that_cannot_be_sent_keeps_no_other_back(tmp_path):
    sent, done = [], []
    with Journal(tmp_path, TABLE) as journal:

        def send(frames, overlay, rle):
            seq = json.loads(frames[1])["seq"]
            if seq % 3 == 0:
                raise OSError("the socket does not want it")
            sent.append(seq)

        def then(m):
            done.append(m.body["seq"])
            if m.body["seq"] % 5 == 0:
                raise RuntimeError("no picture of this one")

        outbox = Outbox(journal, send)  # type: ignore[arg-type]
        for seq in range(1, 31):
            outbox.put(sample_message(seq), seq, then)
        outbox.close()
        assert sent == [n for n in range(1, 31) if n % 3]
        assert done == [e.seq for e in journal.entries(0)] == list(range(1, 31))


def test_a_log_that_cannot_be_written_costs_nothing_else(tmp_path, monkeypatch):
    """Standard error on a full disk, or into a pipe that nobody reads any more."""
    from hisir_edge.logs import configure_logging

    class Broken:
        def write(self, text):
            raise OSError("no space left on device")

        def flush(self):
            raise ValueError("I/O operation on closed file")

        def isatty(self):
            return False

    before, sent = structlog.get_config(), []
    monkeypatch.setattr(sys, "stderr", Broken())
    try:
        configure_logging()
        with Journal(tmp_path, TABLE) as journal:
            outbox = Outbox(journal, lambda frames, *_: sent.append(json.loads(frames[1])["seq"]))
            for seq in (1, 2, 2, 3):  # a number twice: the second one is logged and left out of the journal
                outbox.put(sample_message(seq), seq, lambda m: structlog.get_logger().info("verdict"))
                outbox.flush()
            outbox.close()
            assert not outbox.failed
            assert sent == [1, 2, 2, 3]
            assert [e.seq for e in journal.entries(0)] == [1, 2, 3]
    finally:
        structlog.configure(**before)


def test_a_number_that_was_published_is_not_given_again(tmp_path):
    with Journal(tmp_path, TABLE) as journal:
        journal.record([entry(1)])
        journal._lock_file.mark_published(journal.epoch, 7)
    with Journal(tmp_path, TABLE) as journal:
        assert journal.last_seq == 7
        journal.record([entry(8)])
    with Journal(tmp_path, TABLE) as journal:
        assert journal.last_seq == 8
    (tmp_path / FILE).write_bytes(b"damaged" * 1000)
    with Journal(tmp_path, TABLE) as journal:
        assert journal.last_seq == 0, "another epoch, other numbers"


def test_whatever_goes_wrong_with_it_is_an_error_of_the_journal(tmp_path):
    with Journal(tmp_path, TABLE) as journal:
        with pytest.raises(sqlite3.Error):
            journal.accept(AcceptedTrigger(1, "b\udcff", "cam", "p", 0), told=False)
        journal.accept(accepted(1), told=True)
        assert journal.unanswered() == [accepted(1)]
        with journal._lock, pytest.raises(sqlite3.OperationalError, match="not answered"):
            journal.accept(accepted(2), told=True)
    with Journal(tmp_path, TABLE) as journal:
        assert journal.left == [accepted(1)]


FULL_DISK = textwrap.dedent(
    """
    import json, os, sys
    from pathlib import Path
    from hisir_edge.config.kept import JournalTable
    from hisir_edge.line.journal.store import Journal
    from hisir_edge.line.journal.outbox import Outbox
    sys.path.insert(0, {tests!r})
    from support.messages import facts, sample_message
    folder, sent = Path({folder!r}), []
    with Journal(folder / "journal", JournalTable()) as journal:
        outbox = Outbox(journal, lambda frames, *_: sent.append(facts(json.loads(frames[1]))["result"]))

        def put(seq):
            outbox.put(sample_message(seq), seq, lambda m: None)
            outbox.flush()
            return sent[-1]

        assert put(1) == "PASS"
        filling = os.open(folder / "filling", os.O_CREAT | os.O_WRONLY)
        def fill():
            try:
                while True:
                    os.write(filling, bytes(4096))
            except OSError:
                pass
        fill()
        seq = 1
        while sent[-1] == "PASS":  # on what was held in reserve; then that is full, too
            seq += 1
            assert seq < 100_000
            put(seq)
            if seq == 50:
                assert not (folder / "journal" / "reserve").exists()
                fill()
        assert seq > 50
        assert outbox.unwritten == 1
        assert put(seq + 1) == "ERROR"
        os.ftruncate(filling, 0)
        assert put(seq + 2) == "PASS"
        assert outbox.unwritten == 0
        outbox.close()
        found = journal.entries(0, 100_000)
        assert [e.seq for e in found] == list(range(1, seq + 3))
        assert [facts(json.loads(e.body))["result"] for e in found[-3:]] == ["ERROR", "ERROR", "PASS"]
        assert "could not be journaled" in facts(json.loads(found[-3].body))["reason"]
    os.write(filling, b"x")
    (folder / "journal" / "reserve").unlink(missing_ok=True)
    with Journal(folder / "journal", JournalTable()):  # it holds some in reserve again
        assert (folder / "journal" / "reserve").exists()
    fill()
    with Journal(folder / "journal", JournalTable()) as journal:  # and starts on a full disk with it
        assert journal.last_seq == seq + 2
    print("fine")
    """
)


def test_on_a_full_disk_verdicts_go_on_as_errors_and_are_written_later(tmp_path):
    """A file system of 12 MB in a mount namespace of the test's own."""
    mount = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size=12m none {tmp_path} && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("no right to mount a small file system here")
    script = FULL_DISK.format(tests=str(Path(__file__).parents[2]), folder=str(tmp_path))
    command = [*mount, sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip().endswith("fine"), done.stdout[-2000:] + done.stderr[-4000:]


def test_a_disk_that_hangs_is_seen(tmp_path):
    with Journal(tmp_path, TABLE) as journal:
        outbox = Outbox(journal, lambda frames, *_: None)
        with journal._lock:  # the disk does not come back
            outbox.put(sample_message(1), 1, lambda m: None)
            while outbox.waits_for_s() < 0.05:
                time.sleep(0.005)
        outbox.flush()
        assert outbox.waits_for_s() == 0.0
        outbox.close()
