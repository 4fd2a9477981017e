"""What a client is led through. Each scenario ends once the client has printed all that the journal has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scripted_line import ScriptedLine

BUSY = {"code": "journal", "expected": "a journal that can be read", "received": "a busy one", "fix": "ask again",
        "again": True}  # fmt: skip


@dataclass(frozen=True)
class Client:
    """The client under test: ``has`` counts the verdicts that it has printed; ``restart`` kills it and starts it."""

    has: Callable[[], int]
    restart: Callable[[], None]


@dataclass(frozen=True)
class Scenario:
    """``durable``: for clients that keep their place. ``there``: verdicts before it comes, ``gone`` of them deleted."""

    name: str
    says: str
    play: Callable[[ScriptedLine, Client], None]
    count: int
    there: int = 0
    durable: bool = False
    gone: int = 0


def _has(line: ScriptedLine, client: Client, count: int) -> None:
    line.serve(lambda: client.has() >= count)


def _live(line: ScriptedLine, client: Client) -> None:
    for _ in range(20):
        line.publish()
        line.serve_for(0.01)


def _late(line: ScriptedLine, client: Client) -> None:
    line.publish(10)


def _gap(line: ScriptedLine, client: Client) -> None:
    line.publish(3)
    line.record(5)
    line.publish(2)


def _parts(line: ScriptedLine, client: Client) -> None:
    line.at_once = 3
    line.publish(1)
    line.record(17)
    line.publish(2)


def _again(line: ScriptedLine, client: Client) -> None:
    line.publish(4)
    _has(line, client, 4)
    for _, _, frames in line.journal[1:3]:
        line.send(frames)
    line.publish(4)


def _disorder(line: ScriptedLine, client: Client) -> None:
    line.publish(2)
    first, second, third = line.record(3)
    for frames in (third, first, second, third):
        line.send(frames)
    line.publish(1)


def _refused(line: ScriptedLine, client: Client) -> None:
    line.publish(2)
    _has(line, client, 2)
    line.refuse = [BUSY, BUSY]
    line.record(4)
    line.publish(1)


def _unanswered(line: ScriptedLine, client: Client) -> None:
    line.publish(2)
    _has(line, client, 2)
    line.silent = 1
    line.record(3)
    line.publish(1)


def _killed(line: ScriptedLine, client: Client) -> None:
    line.publish(5)
    _has(line, client, 5)
    for _ in range(3):
        line.down()
        line.record(2)
        line.serve_for(0.3)
        line.up()
        line.serve(lambda: line.subscribed > 0)
        line.publish(1)


def _epoch(line: ScriptedLine, client: Client) -> None:
    line.publish(6)
    _has(line, client, 6)
    line.down()
    line.new_epoch()
    line.record(3)
    line.up()
    line.serve(lambda: line.subscribed > 0)
    line.publish(1)
    _has(line, client, 10)
    line.new_epoch()  # and one that begins with the very number that the client waits for
    line.record(4)
    line.publish(1)


def _later_schema(line: ScriptedLine, client: Client) -> None:
    line.publish(2, schema="hisir-edge/verdict/2.9", more={"a_key_of_later": {"x": [1, None]}})
    line.record(2, schema="hisir-edge/verdict/2.9")
    line.publish(1)


def _other_topics(line: ScriptedLine, client: Client) -> None:
    for n in range(8):
        line.send([b"verification/line-1", b'{"schema":"hisir-edge/verification/1.0","id":%d}' % n])
        line.send([b"brief/line-1/PASS", b"{}"])
        line.publish(1)


def _silent_tail(line: ScriptedLine, client: Client) -> None:
    line.publish(3)
    line.record(2)  # nothing follows: the heartbeat's number alone tells


def _pruned(line: ScriptedLine, client: Client) -> None:
    line.publish(1)
    _has(line, client, 5)
    line.record(4)
    line.forget(12, 13)
    line.publish(2)


def _behind(line: ScriptedLine, client: Client) -> None:
    line.publish(2)
    _has(line, client, 2)
    line.hidden = 3  # a full disk: published, and not in the journal yet
    line.record(2)
    line.publish(1)
    line.serve_for(1.5)
    line.hidden = 0
    line.publish(1)


def _stale(line: ScriptedLine, client: Client) -> None:
    line.publish(4)
    _has(line, client, 4)
    old = [frames for _, _, frames in line.journal]
    line.new_epoch()
    line.publish(2)
    _has(line, client, 6)
    for frames in old:  # they were on their way
        line.send(frames)
    line.publish(2)


def _earlier_schema(line: ScriptedLine, client: Client) -> None:
    line.publish(3, schema="hisir-edge/verdict/2.0")
    line.record(2, schema="hisir-edge/verdict/2.1")
    line.publish(2)


def _client_killed(line: ScriptedLine, client: Client) -> None:
    for n in range(5):
        line.serve(lambda: line.subscribed > 0)
        for _ in range(20):
            line.publish(1)
            line.serve_for(0.005)
        if n < 4:
            line.serve_for(0.01 * n)
            client.restart()  # while they come
            line.record(2)
    line.publish(1)


SCENARIOS = (
    Scenario("live", "verdicts as they come", _live, 20),
    Scenario("late", "ten verdicts are there before it subscribes", _late, 20, there=10),
    Scenario("gap", "some are not published, or lost on the way", _gap, 10),
    Scenario("parts", "the journal gives three at a time", _parts, 20),
    Scenario("again", "some come twice", _again, 8),
    Scenario("disorder", "a later one comes first", _disorder, 6),
    Scenario("refused", "a replay is refused twice, to be asked again", _refused, 7),
    Scenario("unanswered", "a replay is not answered once", _unanswered, 6),
    Scenario("killed", "the line is killed three times, and goes on", _killed, 14),
    Scenario("epoch", "the line loses its journal twice, and begins anew", _epoch, 15),
    Scenario("later-schema", "messages of a later minor version", _later_schema, 5),
    Scenario("other-topics", "other topics between", _other_topics, 8),
    Scenario("silent-tail", "the last ones are lost and nothing follows but heartbeats", _silent_tail, 5),
    Scenario("pruned", "the oldest were deleted for their age", _pruned, 9, there=10, gone=6),
    Scenario("behind", "the journal lacks for a while what was published", _behind, 6),
    Scenario("stale", "messages of an epoch that is over come late", _stale, 8),
    Scenario("earlier-schema", "messages of earlier minor versions", _earlier_schema, 7),
    Scenario("client-killed", "the client is killed -9 four times while they come", _client_killed, 109, durable=True),
)
