"""The journal over years: wrong clocks, kills on a full disk, files that are moved, replaced, copied, or half there."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from support.messages import facts, sample_message

from hisir_edge.config.kept import JournalTable
from hisir_edge.errors import JournalError
from hisir_edge.line.journal import age
from hisir_edge.line.journal.age import Clocks, JournalTime
from hisir_edge.line.journal.outbox import Outbox
from hisir_edge.line.journal.packing import DEFLATED, packed, unpacked
from hisir_edge.line.journal.reading import read_journal
from hisir_edge.line.journal.records import AcceptedTrigger, Entry
from hisir_edge.line.journal.schema import FILE
from hisir_edge.line.journal.spill import Spill
from hisir_edge.line.journal.store import Journal

TABLE = JournalTable()
DAY_NS = 86_400 * 10**9
HOUR_NS = 3600 * 10**9


def entry(seq: int, size: int = 40) -> Entry:
    return Entry(
        seq=seq, topic="verdict/l/PASS", body=b'{"seq": %d}' % seq, mask=bytes([seq % 256]) * size, source="camera",
        unit=f"u-{seq}",
    )  # fmt: skip


class Machine:
    """A machine whose clocks are set by hand."""

    def __init__(self) -> None:
        self.boot, self.boottime_ns, self.wall_ns, self.synchronised = 1, 0, 1_800_000_000 * 10**9, True

    def __call__(self) -> Clocks:
        return Clocks(str(self.boot), self.boottime_ns, self.wall_ns, self.synchronised)

    def run(self, ns: int) -> None:
        self.boottime_ns += ns
        self.wall_ns += ns

    def restart(self, off_ns: int) -> None:
        self.boot, self.boottime_ns = self.boot + 1, 0
        self.wall_ns += off_ns


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("run"), st.integers(0, 3 * DAY_NS)), st.tuples(st.just("set"), st.integers(-9999, 9999)),
            st.tuples(st.just("off"), st.integers(0, 40 * DAY_NS)), st.tuples(st.just("again"), st.just(0)),
        ),
        max_size=25,
    )
)  # fmt: skip
def test_the_journal_is_never_older_than_time_has_passed_but_for_clocks_wrong_for_hours(steps):
    """Its time goes forward alone, by what passed; a clock that is set adds nothing while the daemon runs."""
    machine = Machine()
    journal, true_ns, gaps_ns = JournalTime("", machine), 0, 0
    at = journal.look()
    for what, how in steps:
        before = at
        if what == "run":
            machine.run(how)
            true_ns += how
        elif what == "set":
            machine.wall_ns += how * HOUR_NS
        elif what == "off":
            journal.look()
            machine.restart(how)
            gaps_ns += int(age.MOST_GAP_S * 1e9)
            journal = JournalTime(journal.kept(), machine)
        else:
            journal.look()
            journal = JournalTime(journal.kept(), machine)
        at = journal.look()
        assert at >= before
        assert at <= true_ns + gaps_ns
        if what != "off" and gaps_ns == 0:
            assert at == true_ns


@pytest.mark.parametrize("synchronised", [True, False])
def test_time_off_counts_where_the_clock_was_synchronised_for_hours_before_and_after(synchronised):
    machine = Machine()
    machine.synchronised = synchronised
    journal = JournalTime("", machine)
    for _ in range(60):
        machine.run(HOUR_NS // 12)
        journal.look()
    machine.restart(off_ns=2 * DAY_NS)
    journal = JournalTime(journal.kept(), machine)
    assert journal.look() == 5 * HOUR_NS
    for _ in range(60):
        machine.run(HOUR_NS // 12)
        journal.look()
    assert journal.look() == 10 * HOUR_NS + (2 * DAY_NS if synchronised else 0)


@pytest.mark.parametrize("kept", ["", "no json", "[]", '{"used_ns": "x"}', '{"used_ns": 1, "steady_ns": 1}'])
def test_what_is_not_known_of_the_time_keeps_everything(kept):
    assert JournalTime(kept, Machine()).look() == 0


def test_a_clock_a_year_ahead_or_in_2001_deletes_nothing_and_what_goes_is_told(tmp_path, monkeypatch):
    now = {"ahead_ns": 0}
    true = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: true() + now["ahead_ns"])
    with Journal(tmp_path, TABLE) as journal, structlog.testing.capture_logs() as logs:
        for ahead in (0, 365 * DAY_NS, -25 * 365 * DAY_NS, 0):
            now["ahead_ns"] = ahead
            first = journal.last_seq + 1
            journal.record([entry(n) for n in range(first, first + 20)])
            journal.look()
            assert journal.prune() == 0
        assert [e.seq for e in journal.entries(0)] == list(range(1, 81))
        assert sum(line["event"] == "this machine's clock was set" for line in logs) == 3
    with Journal(tmp_path, JournalTable(keep_days=1e-9)) as journal, structlog.testing.capture_logs() as logs:
        while journal.prune():
            pass
        journal.retention.tell(at_once=True)
        told = [line for line in logs if line["event"] == "old verdicts deleted"]
        assert sum(line["count"] for line in told) == 79 == journal.retention.deleted["age"]
        assert (told[0]["first_seq"], told[-1]["last_seq"]) == (1, 79)
        assert "keep_days" in told[0]["reason"]


def test_a_verdicts_body_comes_back_to_the_byte():
    for body in (b"", b"{}", os.urandom(3000), sample_message(7).frames()[1]):
        assert unpacked(*packed(body)) == body
    assert packed(sample_message(7).frames()[1])[0] == DEFLATED
    with pytest.raises(ValueError, match="form 9"):
        unpacked(9, b"x")
    with pytest.raises(ValueError, match=r"damaged|cut short"):
        unpacked(DEFLATED, packed(sample_message(7).frames()[1])[1][:-9])


def test_a_passed_board_takes_little(tmp_path):
    """8.9 kB before, most of it the picture of an empty mask."""
    with Journal(tmp_path, TABLE) as journal:
        for first in range(1, 3000, 50):
            messages = [sample_message(n) for n in range(first, first + 50)]
            journal.record(
                [Entry(seq=first + i, topic=m.topic, body=m.frames()[1], mask=b"", source="c", unit=f"u{first + i}")
                 for i, m in enumerate(messages)]
            )  # fmt: skip
        room = journal.room()
    assert room["verdicts"] == 3000
    assert room["bytes_each"] < 1200
    assert room["room_for"] > 1_600_000


FULL = textwrap.dedent(
    """
    import json, os, sys, time
    from pathlib import Path
    from hisir_edge.config.kept import JournalTable
    from hisir_edge.line.journal.store import Journal
    from hisir_edge.line.journal.outbox import Outbox
    sys.path.insert(0, {tests!r})
    from hisir_edge.logs import configure_logging
    from support.messages import sample_message
    configure_logging()
    from support.published_file import told
    folder, out = Path({folder!r}), open({published!r}, "ab", buffering=0)
    out.truncate(told(Path({published!r}))[1])
    journal = Journal(folder / "journal", JournalTable()).__enter__()

    def send(frames, *_):
        out.write(len(frames[1]).to_bytes(4, "big") + frames[1])

    outbox = Outbox(journal, send)
    (folder / "journal" / "reserve").unlink(missing_ok=True)
    filling = os.open(folder / "filling", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        while True:
            os.write(filling, bytes(4096))
    except OSError:
        pass
    seq = journal.last_seq
    print("full", flush=True)
    while True:
        seq += 1
        outbox.put(sample_message(seq), seq, lambda m: None)
        if outbox.unwritten > {most}:
            print("held", flush=True)
            time.sleep(60)
    """
)


def test_killed_on_a_full_disk_no_published_verdict_is_missing_or_told_twice(tmp_path):
    """A file system of 12 MB in a mount namespace of the test's own, filled; kill -9; then room again."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size=12m none {small} && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("no right to mount a small file system here")
    published, rounds = tmp_path / "published", textwrap.dedent(
        """
        import os, signal, subprocess, sys
        from pathlib import Path
        from hisir_edge.config.kept import JournalTable
        from hisir_edge.line.journal.store import Journal
        sys.path.insert(0, {tests!r})
        from support.published_file import told
        folder = Path({folder!r})
        for most in (30, 10**9):
            command = [sys.executable, "-c", {script!r}.replace("MOST", str(most))]
            done = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert done.stdout.readline() == b"full\\n"
            if most < 10**9:
                assert done.stdout.readline() == b"held\\n"
            else:  # until there is no room beside the journal either: then nothing is published any more
                size, before = -1, 0
                while size != before:
                    before = size
                    try:
                        done.wait(1)
                    except subprocess.TimeoutExpired:
                        pass
                    size = os.path.getsize({published!r})
            done.send_signal(signal.SIGKILL)
            done.wait()
            with Journal(folder / "journal", JournalTable()) as journal:  # it starts on the full disk, too
                assert journal.spilled
            os.unlink(folder / "filling")
            with Journal(folder / "journal", JournalTable()) as journal:
                known = {{e.seq: e.body for e in journal.entries(0, 10**6, 10**10)}}
                numbers = []
                for seq, body in told(Path({published!r}))[0]:
                    numbers.append(seq)
                    assert known[seq] == body, seq
                assert numbers == sorted(set(numbers))
                assert journal.last_seq >= numbers[-1]
                assert not [t for t in journal.left if t.seq <= numbers[-1]]
        print("fine", len(numbers))
        """
    )  # fmt: skip
    script = FULL.format(tests=str(Path(__file__).parents[2]), folder=str(small), published=str(published), most="MOST")
    outer = rounds.format(
        tests=str(Path(__file__).parents[2]), folder=str(small), published=str(published), script=script
    )
    done = subprocess.run([*mount, sys.executable, "-c", outer], capture_output=True, text=True, timeout=240)
    assert "\nfine " in done.stdout, done.stdout[-2000:] + done.stderr[-4000:]
    assert int(done.stdout.split()[-1]) > 100


def test_numbers_that_were_given_and_have_no_verdict_are_answered_at_the_next_start(tmp_path):
    with Journal(tmp_path, TABLE) as journal:
        journal.record([entry(n) for n in (1, 2, 5)])
        journal.accept(AcceptedTrigger(7, "B", "cam", "p", 5), told=True)
        journal._lock_file.mark_published(journal.epoch, 9)
    with Journal(tmp_path, TABLE) as journal:
        assert [t.seq for t in journal.left] == [3, 4, 6, 7, 8, 9]
        assert [t.unit for t in journal.left if t.seq == 7] == ["B"]
        assert journal.last_seq == 9
        journal.record([entry(n) for n in (3, 4, 6, 7, 8, 9)])
    with Journal(tmp_path, TABLE) as journal:
        assert journal.left == []
        journal._connection.execute("DELETE FROM verdict WHERE seq = 4")  # a hole is looked for once
    with Journal(tmp_path, TABLE) as journal:
        assert journal.left == []


@pytest.mark.parametrize("harm", ["deleted", "moved", "replaced", "written over", "an older copy"])
def test_a_journal_that_is_taken_away_is_seen_at_once_and_nothing_passes_without_it(tmp_path, harm):
    path, sent = tmp_path / FILE, []
    with Journal(tmp_path, TABLE) as journal:
        journal.record([entry(1)])
    shutil.copy(path, tmp_path / "copy")
    with Journal(tmp_path / "other", TABLE) as other:
        other.record([entry(1)])
    with Journal(tmp_path, TABLE) as journal:
        outbox = Outbox(journal, lambda frames, *_: sent.append(facts(json.loads(frames[1]))["result"]))

        def put(seq):
            outbox.put(sample_message(seq), seq, lambda m: None)
            outbox.flush()
            return sent[-1]

        assert put(2) == "PASS"
        if harm == "deleted":
            path.unlink()
        elif harm == "moved":
            path.rename(tmp_path / "elsewhere")
        elif harm == "replaced":
            path.unlink()
            shutil.copy(tmp_path / "other" / FILE, path)
        elif harm == "an older copy":
            (tmp_path / "copy").replace(path)
        else:
            journal._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            path.write_bytes((tmp_path / "other" / FILE).read_bytes())
        deadline = time.monotonic() + 20
        while not journal.look():
            assert time.monotonic() < deadline
        assert "journal was" in journal.wrong
        assert put(3) == "ERROR"
        assert outbox.unwritten == 1
        assert journal.last_seq == 3, "who got it may acknowledge it"
        with pytest.raises(sqlite3.OperationalError, match="journal was"):
            journal.accept(AcceptedTrigger(4, "u", "c", "p", 0), told=True)
        if harm == "moved":  # put back, it goes on, with what was published meanwhile
            (tmp_path / "elsewhere").rename(path)
            while journal.look():
                assert time.monotonic() < deadline
            assert put(4) == "PASS"
            assert [e.seq for e in journal.entries(0)] == [1, 2, 3, 4]
            assert journal.wrong == ""
        epoch = journal.epoch
        outbox.close()
    with Journal(tmp_path, TABLE) as journal:
        if harm == "moved":
            assert (journal.epoch, journal.last_seq) == (epoch, 4)
        elif journal.epoch == epoch:  # its log was beside the copy, and made it whole
            assert [json.loads(e.body)["seq"] for e in journal.entries(0)][1:] == [2, 3]
        else:
            assert journal.last_seq == 0, "its numbers are given to nobody else"
            assert (journal.set_aside is None) == (harm == "deleted")


def test_an_older_copy_or_one_without_its_log_begins_a_new_epoch_and_says_so(tmp_path):
    path = tmp_path / FILE
    with Journal(tmp_path, TABLE) as journal:
        journal.record([entry(1)])
        epoch = journal.epoch
    shutil.copy(path, tmp_path / "copy")
    with Journal(tmp_path, TABLE) as journal:
        journal.record([entry(2)])
    (tmp_path / "copy").replace(path)
    with structlog.testing.capture_logs() as logs, Journal(tmp_path, TABLE) as journal:
        assert (journal.epoch != epoch, journal.last_seq) == (True, 0)
        assert "not-used" in str(journal.set_aside)
    said = next(line for line in logs if line["event"] == "journal not used, a new epoch begins")
    assert "ends with verdict 1, and 2 was recorded" in said["reason"]
    journal = Journal(tmp_path, TABLE).__enter__()
    journal.record([entry(1), entry(2)])
    crashed = tmp_path / "crashed"
    shutil.copytree(tmp_path, crashed, ignore=shutil.ignore_patterns("crashed", "*-wal", "*-shm"))
    journal.__exit__(None, None, None)
    with structlog.testing.capture_logs() as logs, Journal(crashed, TABLE) as journal:
        assert journal.last_seq == 0
    said = next(line for line in logs if line["event"] == "journal not used, a new epoch begins")
    assert f"{FILE}-wal was not kept" in said["reason"]


def test_a_journal_that_was_closed_starts_unchecked_and_damage_is_found_behind(tmp_path):
    with Journal(tmp_path, TABLE) as journal:
        journal.record([entry(n, 9000) for n in range(1, 400)])
    with Journal(tmp_path, TABLE):
        pass
    path = tmp_path / FILE
    found = path.stat()
    with path.open("r+b") as file:  # pages gone bad on the disk: nothing else shows it
        file.seek(found.st_size // 2)
        file.write(os.urandom(100_000))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    with Journal(tmp_path, TABLE) as journal:
        deadline = time.monotonic() + 30
        while not journal.look():
            assert time.monotonic() < deadline
        assert "damaged" in journal.wrong
        with pytest.raises(sqlite3.OperationalError, match="damaged"):
            journal.record([entry(400)])
    with Journal(tmp_path, TABLE) as journal:
        assert "damaged-" in str(journal.set_aside)
        assert journal.last_seq == 0


def test_the_start_after_a_kill_tells_what_it_is_at(tmp_path):
    with Journal(tmp_path, TABLE) as journal:
        journal.record([entry(n, 9000) for n in range(1, 1500)])
        shutil.copytree(tmp_path, tmp_path / "after")
    told: list[str] = []
    with Journal(tmp_path / "after", TABLE, told.append) as journal:
        assert journal.last_seq == 1499
    assert any(text.startswith("reading the journal, ") for text in told)
    assert "checking the journal" in told
    told.clear()
    with Journal(tmp_path / "after", TABLE, told.append):
        assert told == []


def test_a_journal_of_the_layout_before_goes_on(tmp_path):
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        db.executescript(
            """
            PRAGMA journal_mode = WAL;
            CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
            CREATE TABLE accepted (seq INTEGER PRIMARY KEY, unit TEXT NOT NULL, source TEXT NOT NULL,
              product TEXT NOT NULL, accepted_at_ns INTEGER NOT NULL);
            CREATE TABLE verdict (seq INTEGER PRIMARY KEY, written_at_ns INTEGER NOT NULL, topic TEXT NOT NULL,
              body BLOB NOT NULL, mask BLOB NOT NULL);
            CREATE TABLE last_of_unit (source TEXT NOT NULL, unit TEXT NOT NULL, seq INTEGER NOT NULL,
              PRIMARY KEY (source, unit)) WITHOUT ROWID;
            INSERT INTO meta VALUES ('epoch', 'abc'), ('layout', '2');
            INSERT INTO verdict VALUES (1, 1, 'verdict/l/PASS', CAST('{"seq": 1}' AS BLOB), x'00'),
              (2, 1, 'verdict/l/PASS', CAST('{}' AS BLOB), x'');
            INSERT INTO verdict SELECT 60, 1, 'verdict/l/PASS', CAST('{}' AS BLOB), x'';
            INSERT INTO last_of_unit VALUES ('camera', 'u', 2);
            """
        )
    assert [e.body for e in read_journal(tmp_path)[1]] == [b'{"seq": 1}', b"{}", b"{}"]
    with Journal(tmp_path, JournalTable(keep_days=1)) as journal:
        assert (journal.epoch, journal.last_seq, journal.set_aside) == ("abc", 60, None)
        assert journal.left == [], "what it left out by a wrong clock is not published anew"
        journal.record([entry(61)])
        assert journal.prune() == 0, "when they were written nobody can be sure of: they stay the longer"
        assert [e.seq for e in journal.entries(0)] == [1, 2, 60, 61]
        assert [e.seq for e in journal.snapshot("", "u", 0)] == [2]
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        db.execute("UPDATE meta SET value = '4' WHERE name = 'layout'")
        db.commit()
    with pytest.raises(JournalError, match=r"layout 4.*the version that wrote it"):
        Journal(tmp_path, TABLE).__enter__()


@pytest.mark.parametrize(("camera", "unit"), [("camera", "u-7"), ("", "u-7"), ("camera", ""), ("", "")])
def test_a_snapshot_is_looked_up_not_searched(tmp_path, camera, unit):
    with Journal(tmp_path, TABLE) as journal:
        for first in range(1, 3000, 100):
            journal.record([entry(n) for n in range(first, first + 100)])
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        made = journal._reader

        def counting() -> sqlite3.Connection:
            db = made()
            db.set_progress_handler(count, 1)
            return db

        journal._reader = counting  # type: ignore[method-assign]
        found = journal.snapshot(camera, unit, 0, 3)
        assert [e.seq for e in found] == ([7] if unit else [1, 2, 3])
        assert steps < 500


def test_a_lowered_budget_gives_the_disk_its_room_back(tmp_path):
    with Journal(tmp_path, JournalTable(budget_mb=60)) as journal:
        for first in range(1, 1400, 100):
            journal.record([entry(n, 20_000) for n in range(first, first + 100)])
    size = (tmp_path / FILE).stat().st_size
    with Journal(tmp_path, JournalTable(budget_mb=16)) as journal:
        longest_s = 0.0
        while True:
            began = time.perf_counter()
            count = journal.prune()
            longest_s = max(longest_s, time.perf_counter() - began)
            if not count:
                break
        assert journal.entries(0, 1)[0].seq > 500
        assert journal.retention.deleted["budget"] > 500
    assert (tmp_path / FILE).stat().st_size < 18e6 < size
    assert longest_s < 2, "each step is small"


def test_room_beside_the_journal_holds_what_it_is_given_in_order(tmp_path):
    spill = Spill(tmp_path)
    spill.open()
    spill.enlarge()
    body = os.urandom(900)
    held = [Entry(seq=n, topic="verdict/l/ERROR", body=body, mask=b"m", source="c", unit="ü") for n in (1, 2, 3)]
    assert spill.keep("e1", held[:2]) == 2
    assert spill.keep("e1", held[2:]) == 1
    spill.close()
    spill = Spill(tmp_path)
    spill.open()
    assert spill.held("e1") == held
    with (tmp_path / "unjournaled").open("r+b") as file:  # cut off in the middle of the last one
        file.seek(2600)
        file.write(bytes(50))
    assert spill.held("e1") == held[:2]
    assert spill.held("e2") == [], "another journal's numbers are not mixed in"
    assert list(tmp_path.glob("unjournaled-of-another-epoch-*"))
    spill.clear()
    assert spill.held("e1") == []
    many = [Entry(seq=n, topic="t", body=os.urandom(60_000), mask=b"") for n in range(200)]
    assert 0 < spill.keep("e1", many) < 200
    spill.close()


def test_a_program_that_reads_the_journal_beside_the_daemon_takes_no_log_away(tmp_path):
    """To close any descriptor of a file gives up a process's locks on it (sqlite.org/howtocorrupt): no check may."""
    with Journal(tmp_path, TABLE) as journal:
        journal.record([entry(n) for n in range(1, 50)])
    for _ in range(2):  # after a clean stop, and as after a kill
        with Journal(tmp_path, TABLE) as journal:
            deadline = time.monotonic() + 20
            while journal._check is not None and journal._check._thread.is_alive():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            journal.record([entry(journal.last_seq + 1)])
            outsider = f"import sqlite3; db = sqlite3.connect({str(tmp_path / FILE)!r}); "
            outsider += "print(db.execute('SELECT count(*) FROM verdict').fetchone()[0]); db.close()"
            done = subprocess.run([sys.executable, "-c", outsider], capture_output=True, text=True, timeout=30)
            assert int(done.stdout) == journal.last_seq
            assert (tmp_path / f"{FILE}-wal").exists()
            assert journal.look() == ""
            last = journal.last_seq
        (tmp_path / "lock").write_bytes(b"")
    with Journal(tmp_path, TABLE) as journal:
        assert [e.seq for e in journal.entries(0)] == list(range(1, last + 1))


def test_a_log_that_is_deleted_is_noticed(tmp_path):
    with Journal(tmp_path, TABLE) as journal:
        journal.record([entry(1)])
        (tmp_path / f"{FILE}-wal").unlink()
        with pytest.raises(sqlite3.OperationalError, match="-wal is not there any more"):
            journal.record([entry(2)])
        assert "-wal" in journal.look()


def test_what_was_published_is_what_the_journal_has_whatever_the_disk_kept_of_it(tmp_path):
    """A commit that failed at fsync may be in the log after a kill, under the number that was published as ERROR."""
    with Journal(tmp_path, TABLE) as journal:
        journal.record([entry(1)])
        published = Entry(
            seq=2, topic="verdict/l/ERROR", body=b'{"why": "disk"}', mask=b"", source="camera", unit="u-2"
        )
        assert journal.keep_beside([published]) == 1
        journal.record([entry(2)])  # as recovery would find it
    with Journal(tmp_path, TABLE) as journal:
        assert journal.entries(1)[0].frames() == published.frames()
        assert [e.seq for e in journal.entries(0)] == [1, 2]


def test_a_new_epoch_stays_the_one_over_restarts_before_its_first_verdict(tmp_path):
    with Journal(tmp_path, TABLE) as journal:
        journal.record([entry(1)])
    (tmp_path / FILE).write_bytes(b"damaged" * 1000)
    with Journal(tmp_path, TABLE) as journal:
        epoch = journal.epoch
        journal.accept(AcceptedTrigger(1, "told", "c", "p", 0), told=True)
    for _ in range(2):
        with Journal(tmp_path, TABLE) as journal:
            assert (journal.epoch, [t.unit for t in journal.left], journal.set_aside) == (epoch, ["told"], None)


def test_a_power_cut_with_synchronous_normal_costs_the_last_verdicts_alone(tmp_path):
    table = JournalTable(synchronous="NORMAL")
    with Journal(tmp_path, table) as journal:
        journal.record([entry(n) for n in range(1, 10)])
    with Journal(tmp_path, table) as journal:
        epoch = journal.epoch
        before = {path.name: path.read_bytes() for path in (tmp_path / FILE, tmp_path / f"{FILE}-wal")}
        journal.record([entry(10)])
        lock = (tmp_path / "lock").read_bytes()
    for path in tmp_path.glob(f"{FILE}*"):
        path.unlink()
    for name, data in before.items():  # the mark is on the disk, the log is not
        (tmp_path / name).write_bytes(data)
    (tmp_path / "lock").write_bytes(lock)
    with Journal(tmp_path, table) as journal:
        assert (journal.epoch, journal.last_seq, journal.set_aside) == (epoch, 9, None)


def test_a_verdict_that_cannot_be_read_keeps_no_other_back(tmp_path):
    with Journal(tmp_path, TABLE) as journal:
        journal.record([Entry(seq=n, topic="t", body=sample_message(n).frames()[1], mask=b"") for n in (1, 2, 3)])
        journal._connection.execute("UPDATE verdict SET body = x'00010203' WHERE seq = 2")
        assert [e.seq for e in journal.entries(0)] == [1, 3]
