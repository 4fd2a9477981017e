"""The daemon under its control socket and signals: a real process, real sockets, CURVE, kill and reload."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import time

import psutil
import pytest
import zmq
from support.commands import here
from support.daemon import WatchedDaemon
from support.scraping import scraped
from support.sockets import free_port

from hisir_edge.errors import InputError
from hisir_edge.line.hermes.protocol import Decoder, HermesMessage, encoded
from hisir_edge.transport.control_client import ask
from hisir_edge.transport.curve_keys import write_keys


def test_boards_are_triggered_one_by_one(small_bundle, small_boards, tmp_path):
    with WatchedDaemon(tmp_path, small_bundle, small_boards / "test" / "missing", "software") as line:
        line.until(lambda s: s["state"] == "Ready")
        for number in range(1, 6):
            accepted = line.ask("trigger", unit=f"B-{number}")
            assert accepted["seq"] == number
            assert line.wait(number)[-1]["unit"] == f"B-{number}"
        line.ask("trigger", unit="B-x", product="other")
        assert "unknown product other" in line.wait(6)[-1]["reason"]
        line.ask("pause")
        with pytest.raises(InputError, match="resume it"):
            line.ask("trigger")
        assert here("status", "--config", line.config).returncode == 1
        line.ask("resume")
        status = here("status", "--config", line.config, "--json")
        assert status.returncode == 0
        found = json.loads(status.stdout)
        assert found["verdicts"] == {"PASS": 0, "FAIL": 5, "ERROR": 1}
        assert (found["accepted"], found["in_flight"], found["stuck_slots"]) == (6, 0, 0)
        assert json.loads(here("control", "drain", "--endpoint", line.control).stdout) == {"in_flight": 0}
        assert line.ended() == 0
    assert [v["seq"] for v in line.bodies] == list(range(1, 7))
    gone = here("status", "--endpoint", line.control, "--timeout", "0.2")
    assert gone.returncode == 2
    assert "check that the line runs" in gone.stderr


def test_requests_that_the_line_refuses_and_a_second_daemon_on_its_sockets(small_bundle, small_boards, tmp_path):
    with WatchedDaemon(tmp_path, small_bundle, small_boards / "test" / "missing", "software") as line:
        line.until(lambda s: s["state"] == "Ready")
        with pytest.raises(InputError, match="one of the products p3"):
            line.ask("select", product="other")
        with pytest.raises(InputError, match="only unit, product"):
            line.ask("trigger", units="B-7")
        with pytest.raises(InputError, match="unit as text"):
            line.ask("trigger", unit="x" * 500)
        with pytest.raises(InputError, match="name it in the trigger"):
            line.ask("announce", unit="B-9")
        # another daemon with these sockets would take them over without a word: it is refused, and this one goes on
        thief = tmp_path / "thief.toml"
        text = line.config.read_text() + '[journal]\nfolder = "other"\n'
        thief.write_text(text.replace(line.control, f"ipc://{tmp_path}/control"))
        refused = here("run", "--config", thief)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "publish.endpoint" in refused.stderr
        assert "already in use" in refused.stderr
        nobody = here("control", "forget", "--name", "mse-1", "--endpoint", line.control)
        assert (nobody.returncode, nobody.stderr.count("\n")) == (2, 1) and "got mse-1; status lists" in nobody.stderr
        assert line.ask("trigger", unit="after all")["seq"] == 1
        assert line.wait(1)[0]["unit"] == "after all"


def test_figures_are_served_on_this_machine_alone(small_bundle, small_boards, tmp_path):
    port = free_port()
    more = f"[metrics]\nport = {port}\n"
    with WatchedDaemon(tmp_path, small_bundle, small_boards / "test" / "missing", "software", more) as line:
        line.until(lambda s: s["state"] == "Ready")
        for number in (1, 2):
            line.ask("trigger")
            line.wait(number)
        line.ask("trigger", product="gremlin")
        line.wait(3)
        text = scraped(port, 'hisir_stage_duration_seconds_count{stage="total"} 3.0')
        found = {name: float(value) for name, value in re.findall(r"^(\w+(?:{[^}]*})?) (\S+)$", text, re.MULTILINE)}
        assert found['hisir_inspections_total{product="p3",result="FAIL"}'] == 2
        assert found['hisir_inspections_total{product="unknown",result="ERROR"}'] == 1
        assert found['hisir_stage_duration_seconds_count{stage="total"}'] == 3
        assert found['hisir_camera_up{camera="replay"}'] == 1
        assert sum(value for name, value in found.items() if name.startswith("hisir_state{")) == 1
        assert "gremlin" not in text
        listening = [c.laddr.ip for c in psutil.Process(line.process.pid).net_connections() if c.laddr.port == port]
        assert set(listening) == {"127.0.0.1"}
        line.process.send_signal(signal.SIGTERM)
        assert line.ended() == 0
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with WatchedDaemon(tmp_path, small_bundle, small_boards / "test" / "good", "software", more) as line:
            assert line.process.wait(60) == 2
            assert f"metrics.port {port}" in line.log.read_text()


def test_nonsense_is_answered_and_ends_nothing(small_bundle, small_boards, tmp_path):
    with WatchedDaemon(tmp_path, small_bundle, small_boards / "test" / "good", "software") as line:
        line.until(lambda s: s["state"] == "Ready")
        context = zmq.Context()
        talker = context.socket(zmq.REQ)
        talker.setsockopt(zmq.LINGER, 0)
        talker.connect(line.control)
        for nonsense in (
            b"",
            b"\xff\xfe",
            b"[1]",
            b'{"do": 3}',
            b'{"do": "dance"}',
            b'{"do": "status", "x": 1}',
            b"null",
        ):
            talker.send(nonsense)
            assert talker.poll(5000)
            answer = json.loads(talker.recv())
            assert answer["ok"] is False
            assert {"expected", "received", "fix"} < set(answer)
        talker.close()
        large = context.socket(zmq.DEALER)
        large.setsockopt(zmq.LINGER, 0)
        large.connect(line.control)
        large.send(b"x" * 200_000)  # the connection is dropped
        assert not large.poll(300)
        large.close()
        context.term()
        assert line.ask("trigger", unit="after all")["seq"] == 1
        assert line.wait(1)[0]["result"] == "PASS"
        line.process.send_signal(signal.SIGTERM)
        assert line.ended() == 0


def test_only_those_with_a_key_are_heard(small_bundle, small_boards, tmp_path):
    if not zmq.has("curve"):
        pytest.skip("libzmq was built without CURVE")
    write_keys(tmp_path / "keys", ("line", "mes", "stranger"))
    (tmp_path / "clients").mkdir()
    shutil.copy(tmp_path / "keys" / "mes.key", tmp_path / "clients")
    with pytest.raises(InputError, match="new names"):
        write_keys(tmp_path / "keys", ("mes",))
    assert (tmp_path / "keys" / "mes.key_secret").stat().st_mode & 0o077 == 0
    keys = tmp_path / "keys"
    table = 'server_key = "keys/line.key_secret"\nclients = "clients"'
    with WatchedDaemon(
        tmp_path, small_bundle, small_boards / "test" / "good", "software", more=f"[security]\n{table}\n"
    ) as line:

        def asked(name: str, timeout_s: float) -> dict:
            secret = str(keys / f"{name}.key_secret")
            return ask(line.control, {"do": "status"}, timeout_s, str(keys / "line.key"), secret)

        assert asked("mes", 30)["products"] == ["p3"]
        for refused in (lambda: asked("stranger", 1), lambda: ask(line.control, {"do": "status"}, 1)):
            with pytest.raises(InputError, match="an answer from"):
                refused()
        assert asked("mes", 5)["line"] == "line-1"
        line.process.send_signal(signal.SIGTERM)
        assert line.ended() == 0


def test_others_are_let_in_only_with_keys(small_bundle, tmp_path):
    config = tmp_path / "line.toml"
    config.write_text(
        f'[bundle]\npath = "{small_bundle}"\n[source]\ntype = "replay"\nfolder = "x"\n'
        '[control]\nendpoint = "tcp://*:5557"\n'
    )
    done = here("run", "--config", config)
    assert done.returncode == 2
    assert "security.server_key and security.clients" in done.stderr


def test_reloading_loses_no_trigger_and_a_bad_file_changes_nothing(small_bundle, small_boards, tmp_path):
    ours = tmp_path / "bundle"
    shutil.copytree(small_bundle, ours)
    context = zmq.Context()
    deaf = context.socket(zmq.SUB)  # a subscriber that never reads costs the others nothing
    deaf.setsockopt(zmq.RCVHWM, 1)
    deaf.setsockopt(zmq.LINGER, 0)
    deaf.setsockopt(zmq.SUBSCRIBE, b"")
    with WatchedDaemon(tmp_path, ours, small_boards / "test" / "good", "free-run") as line:
        line.wait(5)
        deaf.connect(line.endpoint)
        good = line.config.read_text()
        (ours / "golden.jpg").rename(
            ours / "kept"
        )  # replaced under it: what is loaded stays, what is not whole is refused
        shutil.copy(small_boards / "synth.json", ours / "golden.jpg")
        line.process.send_signal(signal.SIGHUP)
        line.wait(len(line.bodies) + 20)
        (ours / "kept").rename(ours / "golden.jpg")
        line.config.write_text(good.replace("rate_hz = 20", "rate_hz = 7"))
        line.process.send_signal(signal.SIGHUP)
        line.wait(len(line.bodies) + 20)
        line.config.write_text("nonsense [")
        line.process.send_signal(signal.SIGHUP)
        line.wait(len(line.bodies) + 20)
        line.config.write_text(good + f'[output]\noverlay_folder = "{tmp_path}/pictures"\noverlay_of = "all"\n')
        for _ in range(500):
            line.process.send_signal(signal.SIGHUP)
        threads = psutil.Process(line.process.pid).num_threads
        end, before = time.monotonic() + 60, len(line.bodies)
        while not list((tmp_path / "pictures").glob("*.jpg")) and time.monotonic() < end:
            line.wait(len(line.bodies) + 1)
        settled = threads()
        for _ in range(5):
            line.process.send_signal(signal.SIGHUP)
            line.wait(len(line.bodies) + 10)
        assert threads() <= settled + 4, "engines of the old configuration are gone"
        assert len(line.bodies) > before
        line.process.send_signal(signal.SIGTERM)
        assert line.ended() == 0
    assert [v["seq"] for v in line.bodies] == list(range(1, len(line.bodies) + 1))
    assert {v["result"] for v in line.bodies} == {"PASS"}
    deaf.close()
    context.term()
    refused = [one["reason"] for one in line.logged("reload refused, the old configuration stays")]
    assert any("[source] as it was" in reason for reason in refused)
    assert any("golden.jpg" in reason for reason in refused)
    assert any("expected TOML" in reason for reason in refused)
    assert line.logged("reloaded")


def test_products_are_switched_between_two_boards(small_bundle, small_run, small_boards, tmp_path):
    from hisir_edge.engine.build import build_bundle
    from hisir_edge.engine.options import BuildOptions

    build_bundle(
        small_run,
        tmp_path / "q",
        BuildOptions(least_planted_recall=0.5, precision="fp32", product="q", false_calls_per_board=0.2),
    )
    more = f'[bundle]\nothers = ["{tmp_path}/q"]\n'
    line = WatchedDaemon(tmp_path, small_bundle, small_boards / "test" / "good", "software")
    text = line.config.read_text().replace("[source]", more.replace("[bundle]\n", "") + "[source]", 1)
    line.config.write_text(text)
    with line:
        status = line.until(lambda s: s["state"] == "Ready")
        assert status["products"] == ["p3", "q"]
        for number, product in enumerate(("p3", "q", "p3", "q"), 1):
            start = time.monotonic()
            line.ask("select", product=product)
            took_s = time.monotonic() - start
            line.ask("trigger")
            body = line.wait(number)[-1]
            assert (body["product"], body["result"]) == (product, "PASS")
            assert took_s < 5  # a switch is one assignment; docs/RESULTS.md has its time
        line.ask("trigger", product="p3")
        assert line.wait(5)[-1]["product"] == "p3"
        assert line.ask("status")["product"] == "q"
        line.ask("drain")
        assert line.ended() == 0
    assert len({v["bundle_sha256"] for v in line.bodies}) == 2


def test_systemd_is_told(small_bundle, small_boards, tmp_path, monkeypatch):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.settimeout(30)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    with WatchedDaemon(tmp_path, small_bundle, small_boards / "test" / "good", "free-run") as line:
        said: list[str] = []

        def until(word: str) -> None:
            while word not in "\n".join(said):
                said.append(listener.recv(4096).decode())

        until("READY=1")
        until("WATCHDOG=1")
        until("STATUS=ContinuousExecution")
        said.clear()
        line.wait(1)
        line.process.send_signal(signal.SIGHUP)
        until("RELOADING=1")
        assert "MONOTONIC_USEC=" in "\n".join(said)
        said.clear()
        until("READY=1")
        line.process.send_signal(signal.SIGTERM)
        until("STOPPING=1")
        assert line.ended() == 0
    listener.close()


class Sender:
    """The machine before the line, on a real socket: a script of what it says."""

    def __init__(self):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(60)
        self.port = self.server.getsockname()[1]

    def accept(self):
        self.link, _ = self.server.accept()
        self.link.settimeout(60)
        self.decoder, self.got = Decoder(), []
        self.expect("ServiceDescription")
        self.say("ServiceDescription", MachineId="printer", LaneId="1", Version="1.2")

    def say(self, name: str, **values: str) -> None:
        self.link.sendall(encoded(HermesMessage(name, values)))

    def expect(self, name: str) -> HermesMessage:
        while not self.got:
            data = self.link.recv(65536)
            assert data, f"closed, while {name} is expected"
            self.got += [m for m in self.decoder.feed(data) if m.name != "CheckAlive"]
        message = self.got.pop(0)
        assert message.name == name
        return message

    def hand_over(self, board: str, product: str) -> None:
        self.say("BoardAvailable", BoardId=board, ProductTypeId=product, TopBarcode=f"T-{board}", WorkOrderId="W1")
        self.expect("MachineReady")
        assert self.expect("StartTransport").values["BoardId"] == board
        self.say("TransportFinished", TransferState="3", BoardId=board)
        assert self.expect("StopTransport").values["TransferState"] == "3"


def test_the_machine_before_says_which_board_comes(small_bundle, small_boards, tmp_path):
    sender = Sender()
    more = (
        f'[hermes]\nhost = "127.0.0.1"\nport = {sender.port}\nunit = "TopBarcode"\nproducts = {{ "4711" = "p3" }}\n'
        f'[journal]\nfolder = "journal"\n'
    )
    with WatchedDaemon(tmp_path, small_bundle, small_boards / "test" / "missing", "software", more) as line:
        sender.accept()
        for number, (board, product) in enumerate((("b1", "4711"), ("b2", ""), ("b3", "other")), 1):
            sender.hand_over(board, product)
            assert line.wait(number)[-1]["unit"] == f"T-{board}"
        assert [v["result"] for v in line.bodies] == ["FAIL", "FAIL", "ERROR"]
        assert "unknown product other" in line.bodies[2]["reason"]
        assert line.until(lambda s: s["hermes"] == "MachineReady")["in_flight"] == 0
        line.ask("pause")
        sender.expect("MachineReady")
        sender.expect("RevokeMachineReady")
        line.ask("resume")
        sender.expect("MachineReady")
        sender.say("BoardAvailable", BoardId="b4")
        sender.expect("StartTransport")
        sender.link.close()  # while the board is under way: nobody knows where it is
        body = line.wait(4)[-1]
        assert (body["unit"], body["result"]) == ("b4", "ERROR")
        assert "broke while it was under way" in body["reason"]
        sender.accept()
        sender.say("Nonsense")
        sender.link.sendall(b"<Hermes>no end</Hermes>")
        sender.link.close()
        sender.accept()
        sender.hand_over("b5", "")
        assert line.wait(5)[-1]["unit"] == "T-b5"
        line.ask("drain")
        assert line.ended() == 0
        sender.link.close()
    sender.server.close()
    assert [v["seq"] for v in line.bodies] == [1, 2, 3, 4, 5]


def test_two_cameras_give_one_verdict_for_each_board(small_bundle, small_boards, tmp_path):
    test = small_boards / "test"
    more = (
        '[[also]]\nsource = { type = "replay", name = "bottom", trigger = "software", loop = true, '
        f'folder = "{test / "missing"}" }}\nbundle = {{ path = "{small_bundle}" }}\n'
        f'[output]\noverlay_folder = "{tmp_path}/pictures"\n'
    )
    with WatchedDaemon(tmp_path, small_bundle, test / "good", "software", more) as line:
        line.until(lambda s: s["state"] == "Ready")
        for number in (1, 2):
            line.ask("trigger", unit=f"B-{number}")
            body = line.wait(number)[-1]
            assert (body["unit"], body["result"]) == (f"B-{number}", "FAIL")
            assert [(v["source"], v["result"]) for v in body["views"]] == [("replay", "PASS"), ("bottom", "FAIL")]
            assert {d.camera for d in body["defects"]} == {"bottom"}
        line.process.send_signal(signal.SIGTERM)
        assert line.ended() == 0
    assert len(list((tmp_path / "pictures").glob("*B-1_FAIL.jpg"))) == 1
