"""``hisir-edge forward --to cfx`` into a real broker: nothing is lost, whatever is killed or cut."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter

import pytest
from proton.handlers import MessagingHandler
from proton.reactor import ApplicationEvent, Container, EventInjector
from support.journal_line import JournalLine
from support.rabbitmq import SERVER, Broker
from support.sockets import free_port

from hisir_edge.mes.cfx import messages
from hisir_edge.mes.cfx.address import address_from_text
from hisir_edge.mes.cfx.endpoint import CfxConnection
from hisir_edge.mes.cfx.messages import of_verdict
from hisir_edge.mes.cfx.requests import Identity
from hisir_edge.mes.verdict import Verdict

pytestmark = pytest.mark.skipif(
    not SERVER.exists() or shutil.which("epmd") is None, reason="no RabbitMQ here: apt-get install rabbitmq-server"
)


@pytest.fixture
def broker(tmp_path):
    with Broker(tmp_path / "rabbitmq").started() as one:
        yield one


@pytest.fixture
def line(tmp_path):
    return JournalLine(tmp_path / "journal", rate_hz=150)


def connected(broker: Broker):
    from proton.utils import BlockingConnection

    return BlockingConnection(broker.address, timeout=20, allowed_mechs="PLAIN")


def made(broker: Broker, name: str) -> str:
    """A durable queue that is there from now on."""
    from hisir_edge.mes.cfx.endpoint import Durable

    connection = connected(broker)
    connection.create_receiver(f"/queue/{name}", credit=0, options=Durable())
    connection.close()
    return f"/amq/queue/{name}"


def taken(broker: Broker, queue: str, until, most_s: float = 60) -> list[tuple]:
    """(envelope, AMQP message) of all that lies in a queue, until that is enough."""
    from proton import Timeout

    connection, found, end = connected(broker), [], time.monotonic() + most_s
    receiver = connection.create_receiver(queue, credit=500)
    while not until(found):
        assert time.monotonic() < end, Counter(envelope["MessageName"] for envelope, _ in found)
        with contextlib.suppress(Timeout):
            message = receiver.receive(timeout=1)
            found.append((json.loads(bytes(message.body)), message))
            receiver.accept()
    connection.close()
    return found


@contextlib.contextmanager
def forwarding(line: JournalLine, target: str, folder, *more, **environment):
    command = [
        sys.executable, "-m", "hisir_edge", "forward", line.verdicts, "--to", "cfx", "--target", target,
        "--state", folder / "state", "--from-beginning", *more,
    ]  # fmt: skip
    process = subprocess.Popen(
        [str(part) for part in command], stderr=subprocess.PIPE, text=True, env=os.environ | environment
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def inspected(found) -> list[tuple[str, str]]:
    """Board and identity of each UnitsInspected, in the order in which they came."""
    name = "CFX.Production.TestAndInspection.UnitsInspected"
    envelopes = [envelope for envelope, _ in found if envelope["MessageName"] == name]
    return [(e["MessageBody"]["InspectedUnits"][0]["UnitIdentifier"], e["UniqueID"]) for e in envelopes]


def completed(found) -> set[str]:
    """Boards whose work is over."""
    return {e["MessageBody"]["PrimaryIdentifier"] for e, _ in found if e["MessageName"].endswith(".WorkCompleted")}


def connections(found) -> set[str]:
    """Identities of what was said at the start of each connection."""
    return {envelope["UniqueID"] for envelope, _ in found if envelope["MessageName"] == "CFX.EndpointConnected"}


def first_of_each(pairs):
    return list(dict.fromkeys(pairs))


@pytest.mark.parametrize("window", [1, 60])
def test_every_verdict_arrives_though_broker_forwarder_and_network_die(broker, tmp_path, window):
    """The line judges boards on until all that was to break has broken."""
    queue, line = made(broker, "all"), JournalLine(tmp_path / "journal", rate_hz=20)
    with Cable(broker.port) as cable, contextlib.ExitStack() as lines:
        judging = lines.enter_context(line.started(10**6, there=1))
        target = f"amqp://guest:guest@127.0.0.1:{cable.port}{queue}?handle=plant.smt-3&heartbeat_s=1&window={window}"

        found: list = []

        def came(least: int):
            """That many boards, and a connection that was not there before: what lay in the queue is not enough."""
            had = connections(found)
            return lambda more: len(first_of_each(inspected(more))) >= least and connections(more) - had

        with forwarding(line, target, tmp_path) as first:
            found += taken(broker, queue, came(20))
            first.send_signal(signal.SIGKILL)  # between a message and its acknowledgement, or not
            first.wait()
        with forwarding(line, target, tmp_path):
            found += taken(broker, queue, came(20))
            broker.kill()
            broker.start()
            found += taken(broker, queue, came(20))
            cable.cut()
            cable.mend()
            found += taken(broker, queue, came(20))
            judging.kill()
            judging.wait()
            lines.enter_context(line.started(0, there=1))
            every = [json.loads(body)["InspectedUnits"][0]["UnitIdentifier"] for _, _, body in line.expected()]
            had = completed(found)
            found += taken(broker, queue, lambda more: had | completed(more) == set(every))
    boards = first_of_each(inspected(found))
    assert [board for board, _ in boards] == every, "in order, none missing"
    assert len({identity for _, identity in boards}) == len(every), "what comes twice has the identity that it had"
    assert len(connections(found)) >= 4, "said at each connection"
    started = {e["MessageBody"]["PrimaryIdentifier"] for e, _ in found if e["MessageName"].endswith(".WorkStarted")}
    assert started == set(every)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("window", [1, 60])
def test_20_000_verdicts_while_broker_and_forwarder_are_killed_20_times(broker, tmp_path, window):
    boards, kills, rng = 20_000, 20, random.Random(window)
    queue, line = made(broker, "all"), JournalLine(tmp_path / "journal", rate_hz=100)
    target = f"{broker.address}{queue}?handle=plant.smt-3&heartbeat_s=1&window={window}"
    with line.started(boards, there=1), contextlib.ExitStack() as stack:
        forwarder = stack.enter_context(forwarding(line, target, tmp_path))
        for kill in range(kills):
            time.sleep(rng.uniform(2, 8))  # what is under test is the instant at which it happens
            if kill % 2:
                broker.kill()
                broker.start()
            else:
                forwarder.kill()
                forwarder.wait()
                forwarder = stack.enter_context(forwarding(line, target, tmp_path))
        while len(every := line.expected()) < boards:
            time.sleep(1)
        names = [json.loads(body)["InspectedUnits"][0]["UnitIdentifier"] for _, _, body in every]
        done: set[str] = set()

        def last_came(more) -> bool:
            done.update(completed(more[-50:]))
            return names[-1] in done

        found = taken(broker, queue, last_came, 900)
    pairs = inspected(found)
    assert [board for board, _ in first_of_each(pairs)] == names, "each at least once, in order, none missing"
    assert len({identity for _, identity in pairs}) == boards, "what comes twice has the identity that it had"
    assert completed(found) == set(names)
    print(
        f"window {window}: {boards} verdicts, {len(pairs) - boards} came twice, {len(connections(found))} connections"
    )


def test_messages_are_as_the_standard_has_them_and_come_from_the_journal(broker, line, tmp_path):
    queue = made(broker, "some")
    with line.started(10, rate_hz=0):
        target = f"{broker.address}{queue}?handle=plant.smt-3"
        with forwarding(line, target, tmp_path, "--count", 10) as process:
            assert process.wait(60) == 0, process.stderr.read()
        found = taken(broker, queue, lambda found: len(completed(found)) == 10)
        journal = [Verdict(topic="", text=body, mask=b"", body=json.loads(body)) for _, _, body in line.expected()]
    for envelope, message in found:
        assert message.durable and message.inferred, "durable, and its body a data section"
        assert message.id == envelope["UniqueID"] and uuid.UUID(envelope["UniqueID"])
        assert message.content_type == 'application/json; charset="utf-8"'
        assert message.properties["cfx-message"] == envelope["MessageName"]
        assert message.properties["cfx-handle"] == envelope["Source"] == "plant.smt-3"
        assert envelope["MessageBody"]["$type"] == f"{envelope['MessageName']}, CFX"
        assert "mask" not in json.dumps(envelope)
    wanted = [json.loads(e.json("plant.smt-3")) for verdict in journal for e in of_verdict(verdict)]
    names = {"CFX.EndpointConnected", "CFX.Heartbeat", "CFX.Production.RecipeActivated"}
    assert [e for e, _ in found if e["MessageName"] not in names and "Station" not in e["MessageName"]] == wanted
    assert sum(e["MessageName"] == "CFX.Production.RecipeActivated" for e, _ in found) == 1


def test_requests_are_answered(broker, line, tmp_path):
    from proton import Message

    queue, asked, answers = (made(broker, name) for name in ("q", "asked", "answers"))
    with line.started(3, rate_hz=0):
        target = f"{broker.address}{queue}?handle=plant.smt-3&requests={asked}"
        with forwarding(line, target, tmp_path):
            taken(broker, queue, lambda found: len(inspected(found)) == 3)
            connection = connected(broker)
            sender, receiver = connection.create_sender(asked), connection.create_receiver(answers, credit=10)
            requests = [
                ("CFX.WhoIsThereRequest", {"SupportedTopicQueryType": "All",
                                           "SupportedTopics": [{"TopicName": "CFX.Production"}]}),
                ("CFX.AreYouThereRequest", {"CFXHandle": "another.one"}),
                ("CFX.GetEndpointInformationRequest", {"CFXHandle": "plant.smt-3"}),
                ("CFX.Sensor.GetCalibrationRequest", {}),
            ]  # fmt: skip
            for number, (name, body) in enumerate(requests):
                envelope = {"MessageName": name, "Source": "mes", "Target": None, "RequestID": f"r{number}",
                            "MessageBody": body}  # fmt: skip
                content = b"\xff{" if name is None else json.dumps(envelope).encode()
                sender.send(Message(body=content, inferred=True, reply_to=answers, correlation_id=f"c{number}"))
            sender.send(Message(body=b"\xff no request", inferred=True, reply_to=answers))
            odd = {"SupportedTopicQueryType": "Any", "SupportedTopics": [{"TopicName": ["x"]}]}
            for name, to in (("CFX.WhoIsThereRequest", answers), ("CFX.X\ud800Request", answers),
                             ("CFX.XRequest", "/amq/queue/nobody")):  # fmt: skip
                envelope = {"MessageName": name, "Source": "mes", "MessageBody": odd}
                sender.send(Message(body=json.dumps(envelope).encode(), inferred=True, reply_to=to))
            sender.send(
                Message(
                    body=json.dumps({"MessageName": "CFX.YRequest", "RequestID": "last", "MessageBody": {}}).encode(),
                    inferred=True,
                    reply_to=answers,
                )
            )
            got = {}
            for _ in range(4):
                message = receiver.receive(timeout=20)
                receiver.accept()
                envelope = json.loads(bytes(message.body))
                got[envelope["RequestID"]] = (envelope, message.correlation_id)
            connection.close()
    assert {key: envelope["MessageName"] for key, (envelope, _) in got.items()} == {
        "r0": "CFX.WhoIsThereResponse", "r2": "CFX.GetEndpointInformationResponse", "r3": "CFX.NotSupportedResponse",
        "last": "CFX.NotSupportedResponse",
    }  # fmt: skip
    assert got["r0"][1] == "c0" and got["r0"][0]["Target"] == "mes"
    assert got["r0"][0]["MessageBody"]["RequestTargetAddress"] == asked
    topics = {one["TopicName"] for one in got["r2"][0]["MessageBody"]["EndpointInformation"]["SupportedTopics"]}
    assert "CFX.Production.TestAndInspection" in topics


def test_what_nobody_would_read_is_refused_before_the_first_message(broker, line, tmp_path):
    wrong = (
        (f"{broker.address}/amq/queue/nobody", "an address that exists"),
        (f"{broker.address}/exchange/amq.topic/x", "a queue of RabbitMQ"),
        (f"{broker.address}/topic/x", "a queue of RabbitMQ"),
        (f"{broker.address}/plain", "a queue of RabbitMQ"),
        (f"{broker.address}/queue/there?requests=/amq/queue/none", "got /amq/queue/none: NOT_FOUND"),
        (f"amqp://guest:secret-word@127.0.0.1:{broker.port}/amq/queue/x", "a user that the broker lets in"),
    )
    for target, words in wrong:
        with forwarding(line, target, tmp_path) as process:
            assert process.wait(60) == 2
            said = process.stderr.read().strip().splitlines()
        assert words in said[-1]
        assert len(said) == 1 and "secret-word" not in said[0]


def test_a_broker_that_cannot_be_reached_is_waited_for(line, tmp_path):
    for nobody in ("no-such-host.invalid", f"127.0.0.1:{free_port()}"):
        with forwarding(line, f"amqp://{nobody}/amq/queue/x", tmp_path) as process:
            assert "waiting: " in process.stderr.readline()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


def test_what_the_broker_lets_go_of_without_a_word_is_made_again(tmp_path):
    """A link, a session, a connection closed without a reason; released once: every message, in order, once more."""
    got: list[str] = []
    scripted = ScriptedBroker(["link", "session", "connection", "release"], got)
    with scripted.started():
        told: list[str] = []
        me = Identity("h", "l")
        one = CfxConnection(address_from_text(f"amqp://127.0.0.1:{scripted.port}/x"), me, told.append)
        one.start()
        one.wait_up()
        for number in range(12):
            one.wait(one.publish([messages.told("CFX.Heartbeat", {"n": number})]))
        one.close()
    accepted = [int(n) for n in got]
    assert first_of_each(accepted) == list(range(12)) and len(accepted) <= 16
    assert len(told) >= 4, "each is told"


class ScriptedBroker(MessagingHandler):
    """Takes everything; after each third message it does the next thing of its script."""

    def __init__(self, script: list[str], got: list[str]) -> None:
        super().__init__(prefetch=50, auto_accept=False)
        self.script, self.got, self.port, self.seen = script, got, free_port(), 0

    @contextlib.contextmanager
    def started(self):
        self.container = Container(self)
        thread = threading.Thread(target=self.container.run)
        thread.start()
        try:
            yield
        finally:
            self.wake.trigger(ApplicationEvent("end"))
            thread.join(10)

    def on_start(self, event):
        self.wake = EventInjector()
        event.container.selectable(self.wake)
        self.acceptor = event.container.listen(f"127.0.0.1:{self.port}")

    def on_end(self, event):
        self.wake.close()
        self.acceptor.close()
        self.container.stop()

    def on_link_opening(self, event):
        event.link.target.address = event.link.remote_target.address

    def on_message(self, event):
        self.seen += 1
        what = self.script.pop(0) if self.seen % 3 == 0 and self.script else ""
        if what == "release":
            self.release(event.delivery, delivered=False)
            return
        number = json.loads(bytes(event.message.body))["MessageBody"]["n"]
        self.got.append(number)
        if what:
            {"link": event.link, "session": event.session, "connection": event.connection}[what].close()
        else:
            self.accept(event.delivery)


def test_with_tls_the_broker_must_be_the_one_that_is_named(line, tmp_path):
    broker = Broker(tmp_path / "rabbitmq")
    broker.with_tls()
    with broker.started():
        queue = made(broker, "safe")
        target = f"amqps://guest:guest@localhost:{broker.tls_port}{queue}"
        with line.started(3, rate_hz=0):
            with forwarding(line, target, tmp_path, "--count", 3, SSL_CERT_FILE=str(broker.ca)) as process:
                assert process.wait(60) == 0, process.stderr.read()
            for wrong, trusted in ((target, os.devnull), (target.replace("localhost", "127.0.0.1"), str(broker.ca))):
                with forwarding(line, wrong, tmp_path, SSL_CERT_FILE=trusted) as process:
                    assert process.wait(60) == 2
                    said = process.stderr.read()
                assert "a broker whose certificate this machine trusts" in said and "guest:guest" not in said
        assert len(inspected(taken(broker, queue, lambda found: len(completed(found)) == 3))) == 3


class Cable:
    """A TCP relay to a port; ``cut``: all connections end, and new ones are refused until it is mended."""

    def __init__(self, to: int) -> None:
        self.to, self.port, self._ends = to, free_port(), []
        self._server: socket.socket | None = None

    def __enter__(self) -> Cable:
        self.mend()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def mend(self) -> None:
        self._server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def cut(self) -> None:
        server, self._server = self._server, None
        for one in ([] if server is None else [server]) + self._ends:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._ends = []

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = server.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.to))
                except OSError:  # the broker is away
                    near.close()
                    continue
                self._ends += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
