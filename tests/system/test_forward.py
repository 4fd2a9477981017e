"""``hisir-edge forward`` into real files, databases, brokers and web servers; killed and started again."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.commands import here
from support.journal_line import JournalLine
from support.postgres import process
from support.sockets import free_port

from hisir_edge.line.journal.reading import read_journal

TESTS = Path(__file__).parents[1]
COUNT = 240


class ForwardedLine(JournalLine):
    def forward(self, to: str, target: str, folder: Path, count: int = 0, *more):
        return process(
            sys.executable, "-m", "hisir_edge", "forward", self.verdicts, "--to", to, "--target", target,
            "--name", f"to-{to}", "--state", folder / "state", "--from-beginning", "--count", count, *more,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip


@pytest.fixture
def line(tmp_path):
    return ForwardedLine(tmp_path / "journal", rate_hz=400)


def whole_over_kills(line: ForwardedLine, to: str, target: str, tmp_path: Path, stored, kills: int = 3, *more) -> None:
    """Forward all that a line gives, both killed in between; ``stored`` tells how many have come."""
    with line.started(COUNT // 2):
        for kill in range(1, kills + 1):
            with line.forward(to, target, tmp_path, 0, *more) as forward:
                until(lambda n=kill: stored() >= n * COUNT // 2 // (kills + 2), forward)
                forward.kill()
    with line.started(COUNT), line.forward(to, target, tmp_path, 0, *more) as forward:
        until(lambda: stored() >= COUNT, forward)
        forward.send_signal(signal.SIGTERM)
        assert forward.wait(20) == 0


def until(condition, process_=None, timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        if process_ is not None and process_.poll() is not None:
            raise AssertionError(f"it ended: {process_.stderr.read()}")
        assert time.monotonic() < end
        time.sleep(0.02)


def test_to_jsonl_each_once_with_masks(line, tmp_path):
    target = tmp_path / "out" / "verdicts.jsonl"

    def stored():
        return target.read_bytes().count(b"\n") if target.exists() else 0

    whole_over_kills(line, "jsonl", str(target), tmp_path, stored, 3, "--masks")
    epoch, entries, _ = read_journal(line.folder)
    assert target.read_bytes().splitlines() == [e.body for e in entries]
    masks = tmp_path / "out" / "verdicts.jsonl.masks"
    assert all((masks / f"{epoch}_{e.seq:08d}.png").read_bytes() == e.mask for e in entries if e.mask)
    # a line that a power cut left half written is taken off and comes again
    with target.open("r+b") as file:
        file.truncate(target.stat().st_size - 7)
    with line.started(COUNT), line.forward("jsonl", str(target), tmp_path, 1) as forward:
        assert forward.wait(30) == 0
    assert target.read_bytes().splitlines() == [e.body for e in entries]
    target.write_text("something else\n")
    done = here("forward", line.verdicts, "--to", "jsonl", "--target", target, "--state", tmp_path)
    assert done.returncode == 2
    assert "a last line that is no verdict" in done.stderr
    assert target.read_text() == "something else\n", "it is left as it was"
    target.write_text('{"settings": 1}')
    done = here("forward", line.verdicts, "--to", "jsonl", "--target", target, "--state", tmp_path)
    assert "a last line of something else" in done.stderr
    assert target.read_text() == '{"settings": 1}'


def test_to_sqlite_each_once(line, tmp_path):
    target = tmp_path / "verdicts.sqlite"

    def rows(what: str):
        with contextlib.closing(sqlite3.connect(f"file:{target}?mode=ro", uri=True)) as db:
            return db.execute(f"SELECT {what} FROM verdict ORDER BY seq").fetchall()

    def stored():
        with contextlib.suppress(sqlite3.Error):
            return rows("count(*)")[0][0]
        return 0

    whole_over_kills(line, "sqlite", str(target), tmp_path, stored)
    assert [(e, s, b.encode()) for e, s, b in rows("epoch, seq, body")] == line.expected()
    assert {r for (r,) in rows("result")} == {"PASS", "FAIL"}
    (tmp_path / "nonsense").write_bytes(b"no database" * 1000)
    done = here("forward", line.verdicts, "--to", "sqlite", "--target", tmp_path / "nonsense", "--state", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_to_postgres_each_once_over_kills_and_a_database_that_goes_away(line, tmp_path, postgres):
    import psycopg

    def rows(target: str, what: str):
        with psycopg.connect(target, connect_timeout=5) as db:
            return db.execute(f"SELECT {what} FROM hisir_verdict ORDER BY seq").fetchall()

    def counted(target: str):
        with contextlib.suppress(psycopg.Error, IndexError):
            return rows(target, "count(*) OVER ()")[0][0]
        return 0

    with line.started(COUNT):
        with postgres() as target:
            for share in (4, 3):
                with line.forward("postgres", target, tmp_path) as forward:
                    until(lambda s=share: counted(target) >= COUNT // s, forward)
                    forward.kill()
        with line.forward("postgres", target, tmp_path) as forward:  # there is no database yet
            assert "waiting" in forward.stderr.readline()
            with postgres():
                until(lambda: counted(target) >= COUNT, forward)
                forward.send_signal(signal.SIGTERM)
                assert forward.wait(20) == 0
                assert [(e, s, b.encode()) for e, s, b in rows(target, "epoch, seq, body")] == line.expected()
                units = rows(target, "body::jsonb #>> '{InspectedUnits,0,UnitIdentifier}'")
                assert units[0] == ("unit-1",)
    done = here("forward", line.verdicts, "--to", "postgres", "--target", "nonsense", "--state", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_to_mqtt_in_order_over_kills_and_a_broker_that_goes_away(line, tmp_path):
    if shutil.which("mosquitto") is None and not Path("/usr/sbin/mosquitto").exists():
        pytest.skip("no MQTT broker here (Debian: apt-get install mosquitto)")
    import paho.mqtt.client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    port, config = free_port(), tmp_path / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 100000\n"
        f"persistence true\npersistence_location {tmp_path}/\nuser {pwd.getpwuid(os.geteuid()).pw_name}\n"
    )
    got: list[bytes] = []
    topics: set[str] = set()

    def on_message(client, userdata, message):
        got.append(message.payload)
        topics.add(message.topic)

    @contextlib.contextmanager
    def broker():
        """It ends in order and so keeps its subscriptions: the forwarder may be back before the subscriber is."""
        command = (shutil.which("mosquitto") or "/usr/sbin/mosquitto", "-c", config)
        with process(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            yield
            server.send_signal(signal.SIGTERM)
            server.wait(20)

    client = mqtt.Client(CallbackAPIVersion.VERSION2, "mes", clean_session=False)
    client.on_message = on_message
    client.on_connect = lambda c, *_: c.subscribe("plant/#", qos=1)
    client.reconnect_delay_set(1, 1)

    @contextlib.contextmanager
    def subscribed():
        client.loop_start()
        try:
            yield
        finally:
            client.disconnect()
            client.loop_stop()

    target = f"mqtt://127.0.0.1:{port}/plant"
    with line.started(COUNT), contextlib.ExitStack() as stack:
        with broker():
            until(lambda: _connected(client, port))
            stack.enter_context(subscribed())
            for share in (4, 3):
                with line.forward("mqtt", target, tmp_path) as forward:
                    until(lambda s=share: len(got) >= COUNT // s, forward)
                    forward.kill()
        with line.forward("mqtt", target, tmp_path) as forward:
            assert "waiting" in forward.stderr.readline()
            with broker():
                until(lambda: got and json.loads(got[-1])["seq"] == COUNT, forward)
                forward.send_signal(signal.SIGTERM)
                assert forward.wait(20) == 0
    assert list(dict.fromkeys(got)) == [body for _, _, body in line.expected()], "in order; again only what was said"
    assert len(got) <= COUNT + 10
    assert topics == {"plant/l/PASS", "plant/l/FAIL"}


def _connected(client, port: int) -> bool:
    with contextlib.suppress(OSError):
        client.connect("127.0.0.1", port)
        return True
    return False


class Receiver(BaseHTTPRequestHandler):
    """Takes verdicts; every seventh time it says that it cannot just now."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        size = int(self.headers["Content-Length"])
        body = self.rfile.read(size)
        if len(body) < size:  # who sent it was killed
            self.close_connection = True
            return
        self.server.asked += 1  # type: ignore[attr-defined]
        if self.path == "/gone":
            self._say(404)
        elif self.server.asked % 50 == 0:  # type: ignore[attr-defined]
            self._say(503)
        else:
            self.server.got.append((self.headers["Idempotency-Key"], body))  # type: ignore[attr-defined]
            self._say(204)

    def _say(self, code: int):
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_to_a_webhook_in_order_over_kills_and_answers_that_are_none(line, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.asked, server.got = 0, []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    target = f"http://127.0.0.1:{server.server_port}/verdicts"
    try:
        whole_over_kills(line, "webhook", target, tmp_path, lambda: len(dict(server.got)))  # type: ignore[attr-defined]
        done = here(
            "forward", line.verdicts, "--to", "webhook", "--target", "ftp://x", "--state", tmp_path, "--timeout-s", 1
        )
        assert "expected --target https://HOST/PATH" in done.stderr
        with line.started(COUNT), line.forward("webhook", target[:-8] + "gone", tmp_path / "b") as forward:
            assert forward.wait(30) == 2
            assert "got HTTP 404" in forward.stderr.read()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    expected = line.expected()
    assert list(dict.fromkeys(body for _, body in server.got)) == [body for _, _, body in expected]  # type: ignore[attr-defined]
    assert {key for key, _ in server.got} == {f"{epoch}-{seq}" for epoch, seq, _ in expected}  # type: ignore[attr-defined]
    assert len(server.got) <= COUNT + 10  # type: ignore[attr-defined]
