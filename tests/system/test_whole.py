"""A subscriber that loses nothing: kill -9 of the daemon, ends of its own, a line that is down, a new journal."""

from __future__ import annotations

import shutil
import time

import pytest
from support.commands import here
from support.daemon import JOURNAL, DaemonProcess, replay
from support.sockets import free_port

from hisir_edge.errors import InputError
from hisir_edge.line.journal.reading import read_journal
from hisir_edge.mes import CursorFile, subscribe
from hisir_edge.transport.control_client import ask, ask_frames


def test_every_verdict_once_over_kills_of_the_line_and_ends_of_the_subscriber(small_bundle, small_boards, tmp_path):
    daemon = DaemonProcess(tmp_path, small_bundle, replay(small_boards / "test" / "missing", rate_hz=40), JOURNAL)
    state = tmp_path / "state"
    got: list[tuple[str, int, bytes]] = []
    busy_with = None

    def read(until, timeout_s=30.0):
        nonlocal busy_with
        stream = subscribe(daemon.endpoint, "mes-1", state, timeout_s=timeout_s, control=daemon.control)
        start = len(got)
        for verdict in stream:
            one = (verdict.epoch, verdict.seq, verdict.text)
            if one == busy_with:  # the one that it ended with comes again, the same to the letter
                busy_with = None
                continue
            got.append(one)
            if until(len(got) - start):
                busy_with = one
                break
        stream.close()

    daemon.start()
    try:
        daemon.up()
        read(lambda n: n >= 5)
        daemon.kill()
        daemon.start()
        daemon.up()
        time.sleep(0.5)  # verdicts that nobody listens to
        read(lambda n: n >= 40)
        read(lambda n: n >= 3)
        daemon.kill()
        daemon.start()
        daemon.up()
        daemon.drain()
        daemon.start()
        daemon.up()
        head, frames = ask_frames(daemon.control, {"do": "replay", "after": 2, "most": 3})
        assert (head["first"], head["count"], len(frames)) == (3, 3, 9)
        with pytest.raises(InputError, match="after as a whole number"):
            ask(daemon.control, {"do": "replay", "after": -1})
        with pytest.raises(InputError, match="only epoch, after, most, masks"):
            ask(daemon.control, {"do": "replay", "since": 1})
        ask(daemon.control, {"do": "pause"})
        read(lambda n: False, timeout_s=4.0)  # until it has been quiet
        daemon.drain()
    finally:
        daemon.kill()
    epoch, entries, open_ones = read_journal(tmp_path / "journal")
    assert open_ones == []
    first = got[0][1]
    expected = [(epoch, e.seq, e.body) for e in entries if e.seq >= first]
    assert got == expected
    assert len(got) >= 48
    before = len(got)
    shutil.rmtree(tmp_path / "journal")  # the line loses its journal: a new epoch, from its first verdict on
    daemon.start()
    try:
        daemon.up()
        read(lambda n: n >= 3)
        assert [seq for _, seq, _ in got[before:]] == [1, 2, 3]
        assert got[-1][0] != epoch
    finally:
        daemon.kill()


def test_what_a_name_needs_is_said(tmp_path):
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    for arguments, said in (
        (["--name", "a b", "--state", tmp_path], "letters, digits"),
        (["--name", "a", "--state", tmp_path, "--topic", "verdict/l/FAIL"], "all verdicts"),
        (["--name", "a", "--state", tmp_path, "--control", "nonsense"], "an address such as"),
        (["--name", "a", "--state", "/proc/nowhere"], "that can be written"),
        (["--server-key", tmp_path / "none"], "your secret key"),
        (["--server-key", tmp_path / "none", "--key", tmp_path / "none"], "a key file"),
    ):
        done = here("watch", endpoint, *arguments, "--timeout-s", 5)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert said in done.stderr
    done = here("watch", endpoint, "--name", "a", "--state", tmp_path, "--timeout-s", 1)
    assert done.returncode == 1, "the line is down: nothing came"
    (tmp_path / "b.cursor").write_text("nonsense")
    done = here("watch", endpoint, "--name", "b", "--state", tmp_path)
    assert done.returncode == 2
    assert "a cursor file of this program" in done.stderr
    other = CursorFile(tmp_path / "c.cursor")
    with pytest.raises(InputError, match="another program is using"):
        next(subscribe(endpoint, "c", tmp_path))
    other.close()
