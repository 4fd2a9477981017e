"""``hisir-edge opcua`` before a real line: asyncua's client and node-opcua's, kill -9, certificates."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
from asyncua import Client, ua
from support.commands import here
from support.daemon import DaemonProcess, replay
from support.journal_line import JournalLine
from support.opcua import URI, Connected, Events, OpcUaServer, make_identity

from hisir_edge.mes.opcua.model import AWAY, LAST_KNOWN
from hisir_edge.mes.opcua.pki import Pki
from hisir_edge.mes.opcua.server import Options, _configured

NODE = Path(__file__).parents[1] / "conformance" / "opcua"
STATE = "VisionStateMachine/CurrentState"
AUTOMATIC = "VisionStateMachine/AutomaticModeStateMachine/CurrentState"
VERDICT = "ResultManagement/LastResult/Verdict"


def text_is(text: str):
    return lambda found: found.Value is not None and getattr(found.Value.Value, "Text", None) == text


def test_a_client_sees_states_and_results_and_when_nobody_knows_them(small_bundle, small_boards, tmp_path):
    line = DaemonProcess(
        tmp_path, small_bundle, replay(small_boards / "test" / "missing", "software"), '[journal]\nfolder = "journal"\n'
    )
    with line, OpcUaServer(tmp_path, line.endpoint, line.control) as server:
        asyncio.run(_states_and_results(line, server))
        assert server.end() == 0


async def _states_and_results(line: DaemonProcess, server: OpcUaServer) -> None:
    loop = asyncio.get_running_loop()
    async with Connected(server.url) as seen:
        await seen.until(STATE, text_is("Operational"))
        await seen.until(AUTOMATIC, text_is("Ready"))
        assert (await seen.read(f"{AUTOMATIC}/Id")).Identifier.endswith("AutomaticModeStateMachine/Ready")
        assert await seen.read(VERDICT) == "", "nothing was judged yet"
        assert await seen.read("RecipeManagement/Products") == [await seen.read("RecipeManagement/ActiveProduct")]
        events, of_server = await seen.events(), await seen.events(of_server=True)
        await loop.run_in_executor(None, lambda: line.ask("trigger", unit="B-1"))
        await seen.until_events(events, lambda e: bool(e.seen))
        (event,) = events.seen
        assert (event["Verdict"].Value, event["PartId"].Value) == ("FAIL", "B-1")
        await seen.until_events(of_server, lambda e: bool(e.seen))
        assert of_server.seen[0]["SourceName"].Value == event["SourceName"].Value == "VisionSystem"
        assert event["Severity"].Value == 500 and event["DefectCount"].Value >= 1
        assert len(event["DefectBoxes"].Value) == 4 * len(event["DefectPeaks"].Value)
        result_id = await seen.read("ResultManagement/LastResult/ResultId")
        content, error, _ = await seen.call("ResultManagement/GetResultById", result_id)
        assert error == 0 and json.loads(content)["InspectedUnits"][0]["UnitIdentifier"] == "B-1"
        assert await seen.read("ResultManagement/LastResult/ResultContent") == content
        await seen.until("Counters/Failed", lambda found: found.Value.Value == 1)

        line.process.kill()
        line.process.wait()
        await seen.until(STATE, lambda found: found.StatusCode == AWAY)
        assert (await seen.value(AUTOMATIC)).StatusCode == AWAY
        assert (await seen.value("Counters/Passed")).StatusCode == AWAY
        assert await seen.read("Diagnostics/LineAnswers") is False
        assert (await seen.value(VERDICT)).StatusCode == LAST_KNOWN, "it may be an old one"
        content, error, why = await seen.call("ResultManagement/GetResultById", result_id)
        assert (content, error) == ("", 2) and "control.endpoint" in why

        line.start()
        await seen.until(AUTOMATIC, text_is("Ready"))
        assert (await seen.value(VERDICT)).StatusCode.is_good()
        await loop.run_in_executor(None, lambda: line.ask("trigger", unit="B-2"))
        await seen.until_events(events, lambda e: len(e.seen) == 2)
        assert events.numbers() == [1, 2]


def test_a_session_stays_with_the_channel_that_made_it(tmp_path):
    """A client that names another one's session over a channel of its own gets none."""

    async def asked() -> None:
        options = Options("tcp://127.0.0.1:9", "", ("", ""), "opc.tcp://127.0.0.1:4840", tmp_path / "pki", False)
        pki = Pki(options.pki, URI, "server")
        server = await _configured(options, pki, "127.0.0.1", 4840)
        session = server.iserver.create_session("operator", external=True)
        assert server.iserver.lookup_external_session(session.auth_token) is None
        await session.close_session()

    asyncio.run(asked())


def test_a_result_is_the_last_one_only_while_the_line_answers_and_tells(tmp_path):
    line = JournalLine(tmp_path / "line", rate_hz=50)
    with OpcUaServer(tmp_path, line.verdicts, line.control) as server:
        asyncio.run(_last_results(line, server, tmp_path))
        assert server.end() == 0


async def _last_results(line: JournalLine, server: OpcUaServer, folder: Path) -> None:
    async with Connected(server.url) as seen:
        with line.started(20, there=20):
            await seen.until(VERDICT, lambda found: found.StatusCode.is_good() and bool(found.Value.Value))
        shutil.copytree(line.folder, folder / "backup")
        await seen.until(VERDICT, lambda found: found.StatusCode == LAST_KNOWN)
        with line.started(30, there=30):
            await seen.until("ResultManagement/LastResult/SequenceNumber", lambda found: found.Value.Value == 30)
        await seen.until(VERDICT, lambda found: found.StatusCode == LAST_KNOWN)
        shutil.rmtree(line.folder)
        shutil.copytree(folder / "backup", line.folder)
        with line.started(25, there=25):
            await seen.until(
                "ResultManagement/LastResult/SequenceNumber",
                lambda found: found.Value.Value == 25 and found.StatusCode.is_good(),
            )


def test_methods_are_for_those_whose_certificate_allows_it(small_bundle, small_boards, tmp_path):
    line = DaemonProcess(tmp_path, small_bundle, replay(small_boards / "test" / "missing", "software"))
    with line, OpcUaServer(tmp_path, line.endpoint, line.control, "0.0.0.0") as server:  # noqa: S104
        line.up()
        asyncio.run(_methods(server, tmp_path))
        assert server.end() == 0


async def _methods(server: OpcUaServer, folder: Path) -> None:
    endpoints = await Client(server.url).connect_and_get_server_endpoints()
    assert len(endpoints) == 6
    assert ua.MessageSecurityMode.None_ not in {one.SecurityMode for one in endpoints}, "others reach this address"
    own, stranger, viewer, operator = (
        server.pki / "own" / "certificate.der", *(make_identity(folder, name) for name in ("stranger", "viewer", "op"))
    )  # fmt: skip
    with pytest.raises((ua.UaError, ConnectionError, TimeoutError, asyncio.TimeoutError)):
        async with Connected(server.url):
            pass
    shutil.copy(viewer[0], server.pki / "trusted")
    shutil.copy(operator[0], server.pki / "operators")
    with pytest.raises(ua.UaError):
        async with Connected(server.url, stranger, own):
            pass
    (kept,) = (server.pki / "rejected").iterdir()
    assert kept.read_bytes() == stranger[0].read_bytes()
    assert "a client was refused: stranger" in server.errors.read_text()

    async with Connected(server.url, viewer, own) as seen:
        await seen.until(AUTOMATIC, text_is("Ready"))
        for path, arguments in (
            ("VisionStateMachine/Pause", ()), ("VisionStateMachine/Resume", ()),
            ("RecipeManagement/SelectProduct", ("p3",)),
        ):  # fmt: skip
            with pytest.raises(ua.uaerrors.BadUserAccessDenied):
                await seen.call(path, *arguments)
        with pytest.raises(ua.UaError):
            await seen.client.get_node(f"ns={seen.index};s=VisionSystem/{VERDICT}").write_value("PASS")
        assert await seen.read("VisionStateMachine/Paused") is False

    async with Connected(server.url, operator, own) as seen:
        assert await seen.call("VisionStateMachine/Pause") == [0, ""]
        await seen.until("VisionStateMachine/Paused", lambda found: found.Value is not None and found.Value.Value)
        assert await seen.call("VisionStateMachine/Resume") == [0, ""]
        (product,) = await seen.read("RecipeManagement/Products")
        assert await seen.call("RecipeManagement/SelectProduct", product) == [0, ""]
        error, why = await seen.call("RecipeManagement/SelectProduct", "other")
        assert error == 1 and f"one of the products {product}" in why, "in the line's words"
        for wrong in ((), (7,), ("a", "b")):
            with pytest.raises(ua.UaError):
                await seen.call("RecipeManagement/SelectProduct", *wrong)
        (server.pki / "operators" / operator[0].name).unlink()
        with pytest.raises((ua.UaError, ConnectionError)):
            await seen.call("VisionStateMachine/Pause")


def _has(number: int, events: Events) -> bool:
    return bool(events.seen) and events.numbers()[-1] >= number


def test_each_verdict_is_one_event_over_kills_of_the_line(tmp_path):
    line = JournalLine(tmp_path / "line", rate_hz=200)
    with OpcUaServer(tmp_path, line.verdicts, line.control) as server:
        asyncio.run(_events(line, server))
        assert server.end() == 0


async def _events(line: JournalLine, server: OpcUaServer) -> None:
    async with Connected(server.url) as seen:
        events = await seen.events()
        for until in (150, 300, 450):
            with line.started(until + 60, there=1) as process:
                await seen.until_events(events, partial(_has, until))
                process.kill()
        with line.started(600, rate_hz=0):
            await seen.until_events(events, lambda e: e.numbers()[-1] >= 600)
        assert events.numbers() == list(range(events.numbers()[0], 601)), "each once, in order"
        told = {seq: body for _, seq, body in line.expected()}
        for event in events.seen:
            body = json.loads(told[int(event["SequenceNumber"].Value)])
            assert body["InspectedUnits"][0]["UnitIdentifier"] == event["PartId"].Value
        server.kill()
    server.start()
    with line.started(600, rate_hz=0):
        async with Connected(server.url) as seen:
            await seen.until("ResultManagement/LastResult/SequenceNumber", lambda found: found.Value.Value == 600)


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node.js and npm")
def test_a_client_that_is_not_python(tmp_path):
    shutil.copytree(NODE, tmp_path / "node")
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=tmp_path / "node", check=True, timeout=240)
    line = JournalLine(tmp_path / "line", rate_hz=20)
    with line.started(10**6, there=5), OpcUaServer(tmp_path, line.verdicts, line.control) as server:
        command = ["node", "client.js", server.url, str(tmp_path / "node-pki")]

        def run(security: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*command, security, "10"], cwd=tmp_path / "node", capture_output=True, text=True, timeout=90
            )

        told = json.loads(run("open").stdout.splitlines()[-1])
        assert told["selected"]["status"] == "BadUserAccessDenied"
        assert run("secure").returncode == 1, "nobody has looked at its certificate yet"
        (kept,) = (server.pki / "rejected").iterdir()
        kept.rename(server.pki / "operators" / kept.name)
        told = json.loads(run("secure").stdout.splitlines()[-1])
    assert told["state"]["status"] == "Good" and told["verdict"]["value"] in ("PASS", "FAIL")
    assert told["again"]["status"] == "Good" and json.loads(told["again"]["outputs"][0])["line"] == "l"
    assert told["selected"]["status"] == "Good", "its certificate lies in operators"
    numbers = [low for _, _, _, (_, low), *_ in told["events"]]
    assert numbers == list(range(numbers[0], numbers[0] + 10))
    assert {event[4] for event in told["events"]} == {"PASS", "FAIL"}


def test_what_cannot_be_used_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"opc.tcp://127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", "hisir_edge", "opcua", "tcp://127.0.0.1:9", "--listen", address, "--pki", tmp_path],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert "expected an address of this machine that is free" in done.stderr
    for line in ("127.0.0.1:9", "foo"):
        no_line = here("opcua", line, "--pki", tmp_path)
        assert no_line.returncode == 2 and "publish.endpoint" in no_line.stderr
    keyless = here("opcua", "tcp://127.0.0.1:9", "--server-key", tmp_path / "x.key", "--pki", tmp_path)
    assert keyless.returncode == 2 and "secret key" in keyless.stderr
    wrong = here("opcua", "tcp://127.0.0.1:9", "--listen", "http://x", "--pki", tmp_path)
    assert wrong.returncode == 2 and "correct --listen" in wrong.stderr
    with patch.dict(sys.modules, {"hisir_edge.mes.opcua.server": None}):
        missing = here("opcua", "tcp://127.0.0.1:9")
    assert missing.returncode == 2 and "pip install 'hisir-edge[opcua]'" in missing.stderr
