"""``hisir-edge plc`` before a real line: a PLC in a script that loses its connection at each step, kill -9 of both."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import pytest
from support.commands import here
from support.daemon import JOURNAL, DaemonProcess, replay
from support.plc import Plc, PlcServer

from hisir_edge.line.journal.reading import read_journal
from hisir_edge.mes.plc.registers import Code, Command, FromPlc, Outcome, Status, ToPlc


def a_line(folder, bundle, photos, trigger="software", **more) -> DaemonProcess:
    return DaemonProcess(folder, bundle, replay(photos, trigger, **more), JOURNAL)


def test_a_plc_that_loses_its_connection_at_each_step(small_bundle, small_boards, tmp_path):
    line = a_line(tmp_path, small_bundle, small_boards / "test" / "good")
    with line, PlcServer(tmp_path, line.endpoint, line.control, "--plc-silent-s", "0.6") as server:
        line.up()
        with Plc(server.port) as plc:
            plc.ready()
            plc.start("B-0")
            outcome, code, unit, seq = plc.result()
            assert (code, unit, seq) == (Code.NONE, "B-0", 1) and outcome in (Outcome.PASS, Outcome.FAIL)
            plc.acknowledge()
            for step in ("ready", "started", "result", "acknowledged"):
                plc.ready()
                if step == "ready":
                    _lose(plc)
                    plc.ready()
                plc.start(f"B-{step}")
                if step == "started":
                    _lose(plc)
                    outcome, code, unit, _ = plc.result()
                    assert (outcome, code) in (
                        (Outcome.ERROR, Code.PLC_SILENT), (Outcome.FAIL, Code.NONE)
                    ), "whatever the line said, no PASS that nobody read"  # fmt: skip
                else:
                    outcome, code, unit, _ = plc.result()
                    assert code is Code.NONE
                    if step == "result":
                        before = outcome
                        _lose(plc)
                        outcome, code, unit, _ = plc.result()
                        assert (outcome, code) == (
                            (Outcome.ERROR, Code.PLC_SILENT) if before is Outcome.PASS else (before, Code.NONE)
                        )
                assert unit == f"B-{step}"
                if step == "acknowledged":
                    plc.write(FromPlc.COMMAND, Command.START | Command.ACKNOWLEDGE)
                    _lose(plc)
                    plc.write(FromPlc.COMMAND, 0)
                else:
                    plc.acknowledge()
            plc.ready()
        line.drain()
    units = units_of(tmp_path / "journal")
    assert units == ["B-0", "B-ready", "B-started", "B-result", "B-acknowledged"], "each board once"


def units_of(journal: Path) -> list[str]:
    bodies = [json.loads(entry.body) for entry in read_journal(journal)[1]]
    return [body["InspectedUnits"][0]["UnitIdentifier"] for body in bodies]


def _lose(plc: Plc) -> None:
    """Long enough that its heartbeat is missed."""
    plc.cut()
    time.sleep(0.9)  # the fault itself: a PLC that is away for so long
    plc.again()


def test_kills_of_the_line_and_of_the_server(small_bundle, small_boards, tmp_path):
    line = a_line(tmp_path, small_bundle, small_boards / "test" / "missing")
    with line, PlcServer(tmp_path, line.endpoint, line.control, "--plc-silent-s", "5") as server:
        line.up()
        with Plc(server.port) as plc:
            plc.ready()
            plc.start("B-1")
            assert plc.result()[:3] == (Outcome.FAIL, Code.NONE, "B-1")
            line.process.kill()
            line.process.wait()
            plc.acknowledge()
            plc.until(lambda status: Status.ONLINE not in status)
            beat = plc.cycle()[0]
            plc.start("B-2")
            assert plc.result()[:3] == (Outcome.ERROR, Code.LINE_AWAY, "B-2")
            assert plc.cycle()[0] == beat, "its heartbeat stands still"
            plc.acknowledge()
            line.start()
            plc.ready()
            plc.start("B-3", "other")
            assert plc.result()[:2] == (Outcome.ERROR, Code.NOT_JUDGED), "a product that the line does not have"
            plc.acknowledge()
            line.ask("pause")
            plc.until(lambda status: Status.PAUSED in status and Status.READY not in status)
            plc.start("B-4")
            assert plc.result()[:2] == (Outcome.ERROR, Code.REFUSED)
            plc.acknowledge()
            line.ask("resume")
            plc.ready()
            plc.start("B-5")
            server.kill()
            server.start()
            plc.again()
            plc.write(FromPlc.HEARTBEAT, 7, Command.START, plc.number)
            assert plc.result()[:2] == (Outcome.ERROR, Code.NOT_READY), "it stood when the server began"
            plc.acknowledge()
            plc.ready()
            plc.start("B-6")
            assert plc.result()[:3] == (Outcome.FAIL, Code.NONE, "B-6")
        line.drain()
    units = units_of(tmp_path / "journal")
    assert units == [unit for unit in ("B-1", "B-3", "B-5", "B-6") if unit in units] and "B-6" in units


def test_boards_of_a_line_that_takes_every_frame(small_bundle, small_boards, tmp_path):
    line = a_line(tmp_path, small_bundle, small_boards / "test" / "missing", "free-run", rate_hz=2)
    with line, PlcServer(tmp_path, line.endpoint, line.control) as server:
        line.up()
        with Plc(server.port) as plc:
            for number in range(3):
                plc.ready()
                plc.start(f"board {number}")
                assert plc.result()[:3] == (Outcome.FAIL, Code.NONE, f"board {number}")
                plc.acknowledge()


def test_a_board_without_a_frame_leaves_its_name_to_no_other(small_bundle, small_boards, tmp_path):
    """A camera that gives a frame every 2.5 s, boards that are due within 0.8 s."""
    line = DaemonProcess(
        tmp_path, small_bundle, replay(small_boards / "test" / "missing", "free-run", rate_hz=0.4),
        JOURNAL + "[line]\ndeadline_ms = 800\n",
    )  # fmt: skip
    seen = []
    with line, PlcServer(tmp_path, line.endpoint, line.control) as server:
        line.up()
        with Plc(server.port) as plc:
            while len(seen) < 4 or len({outcome for outcome, _, _ in seen}) < 2:
                plc.ready()
                plc.start(f"B-{len(seen)}")
                outcome, code, unit, seq = plc.result()
                assert unit == f"B-{len(seen)}" and seq, "its own verdict"
                assert (outcome, code) in ((Outcome.FAIL, Code.NONE), (Outcome.ERROR, Code.NOT_JUDGED))
                seen.append((outcome, code, unit))
                plc.acknowledge()
        line.drain()
    named = [unit for unit in units_of(tmp_path / "journal") if unit.startswith("B-")]
    assert named == [unit for _, _, unit in seen], "each once, in order"


def test_a_board_tried_again_under_its_name_and_one_that_the_line_forgets(small_bundle, small_boards, tmp_path):
    line = DaemonProcess(
        tmp_path, small_bundle, replay(small_boards / "test" / "missing", "free-run", rate_hz=0.5),
        JOURNAL + "[line]\ndeadline_ms = 9000\n",
    )  # fmt: skip
    with line, PlcServer(tmp_path, line.endpoint, line.control) as server:
        line.up()
        with Plc(server.port) as plc:
            plc.ready()
            plc.start("A")
            plc.write(FromPlc.COMMAND, 0)
            outcome, code, _, first = plc.result()
            assert outcome is Outcome.ERROR and code in (Code.WITHDRAWN, Code.REFUSED)
            plc.write(FromPlc.COMMAND, Command.ACKNOWLEDGE)
            plc.write(FromPlc.COMMAND, 0)
            plc.ready()
            plc.start("A")
            outcome, code, unit, seq = plc.result()
            assert (outcome, code, unit) == (Outcome.FAIL, Code.NONE, "A") and seq > first, "its own verdict"
            plc.acknowledge()
        token = line.ask("announce", unit="B", arrived=True)["token"]
        line.ask("pause")
        end = time.monotonic() + 30
        while not (seq := line.ask("numbered", token=token)["seq"]):
            assert time.monotonic() < end, "a board that the pause forgot has its verdict at once"
        line.ask("resume")
        line.drain()
    assert units_of(tmp_path / "journal").count("B") == 1, "a board without a frame has its verdict"


def test_registers_that_are_not_the_plcs_and_strangers(tmp_path):
    with PlcServer(tmp_path, "tcp://127.0.0.1:9", "tcp://127.0.0.1:9") as server:
        with Plc(server.port) as plc:
            for address, values in ((ToPlc.RESULT, [1]), (ToPlc.STATUS, [0xFFFF] * 3), (30, [0] * 80)):
                assert plc.client.write_registers(address, values).isError()
            assert plc.client.write_register(ToPlc.RESULT, 1).isError()
            assert plc.client.write_coil(ToPlc.RESULT * 16, True).isError()
            assert plc.client.mask_write_register(address=FromPlc.COMMAND, and_mask=0, or_mask=1).isError()
            assert plc.client.read_holding_registers(160, count=20).isError()
            words = plc.client.read_input_registers(ToPlc.HEARTBEAT, count=4).registers
            assert words[1] & Status.PASS == 0 and words[3] == Outcome.NONE
            done = plc.client.readwrite_registers(
                read_address=ToPlc.STATUS, read_count=1, write_address=FromPlc.HEARTBEAT, values=[3]
            )
            assert done.registers[0] & Status.PLC_ALIVE
            assert plc.client.read_holding_registers(FromPlc.HEARTBEAT, count=1).registers == [3]
        with socket.create_connection(("127.0.0.1", server.port)) as noise:
            noise.sendall(bytes(range(256)) * 8)
        with Plc(server.port) as plc:
            plc.cycle()
    with (
        PlcServer(tmp_path, "tcp://127.0.0.1:9", "tcp://127.0.0.1:9", "--only-from", "192.0.2.1") as server,
        socket.create_connection(("127.0.0.1", server.port)) as stranger,
    ):
        stranger.settimeout(20)
        with pytest.raises(ConnectionError):
            while stranger.recv(100) == b"":
                raise ConnectionResetError


def test_what_cannot_be_used_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = subprocess.run(
            [sys.executable, "-m", "hisir_edge", "plc", "tcp://127.0.0.1:9", "--listen",
             f"127.0.0.1:{taken.getsockname()[1]}"],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "expected an address of this machine that is free" in done.stderr
    wrong = here("plc", "tcp://127.0.0.1:9", "--listen", "192.0.2.1:502")
    assert wrong.returncode == 2 and "--only-from" in wrong.stderr
    with patch.dict(sys.modules, {"hisir_edge.mes.plc.server": None}):
        missing = here("plc", "tcp://127.0.0.1:9")
    assert missing.returncode == 2 and "pip install 'hisir-edge[plc]'" in missing.stderr
