"""Receives verdicts: live ones as they come, missed ones from the line's journal, in order, over restarts of both.

Needs pyzmq and the standard library. The protocol: docs/reference/protocol.md, after ZeroMQ's Clone pattern
(https://zguide.zeromq.org/docs/chapter5, "Reliable Pub-Sub").
"""

from __future__ import annotations

import re
import time
from collections.abc import Generator
from pathlib import Path

import zmq

from hisir_edge.errors import InputError
from hisir_edge.mes.cursor import CursorStore
from hisir_edge.mes.follow import POLL_MS, Line, Stop, numbered_after, whole
from hisir_edge.mes.subscription import Subscription, Tell
from hisir_edge.mes.verdict import Verdict, verdict_from_frames
from hisir_edge.transport.addresses import port_of
from hisir_edge.transport.control_client import ask

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
KINDS = ("verdict/", "brief/", "rle/", "overlay/")


def subscribe(
    endpoint: str,
    name: str = "",
    state_dir: str | Path = "",
    *,
    topic: str = "",
    masks: bool = True,
    since: str = "now",
    control: str = "",
    server_key: str = "",
    key: str = "",
    cursor: CursorStore | None = None,
    timeout_s: float | None = None,
    stop: Stop = lambda: False,
    waiting: Tell = lambda reason: None,
) -> Generator[Verdict, None, None]:
    """Yield a line's verdicts until ``stop``, or until none has come for ``timeout_s``.

    With a ``name``: every verdict once, in order. The cursor lies in ``state_dir``/``name``.cursor, or where ``cursor``
    keeps it, and moves on when the caller asks for the next verdict; what it was busy with when it ended comes again,
    under the same epoch and number. The line is told each second (``ack``) and keeps what has not been acknowledged.
    The first time it begins with what comes now, or with ``since="beginning"`` with all that the journal holds. While
    the line is down it waits. In a new epoch (the line lost its journal) it begins with that one's first.

    Without a name: what comes while it listens; ``missed`` counts what was lost on the way. ``topic``: another prefix,
    such as ``verdict/smt-3/FAIL``, ``brief/``, ``rle/`` or ``overlay/``.

    ``control``: the line's control.endpoint; default: what its heartbeats tell. ``masks=False``: JSON alone.
    ``waiting`` is called every 5 s with the reason while the line does not answer.
    ``server_key``, ``key``: files, where the line asks for keys. InputError for an address, a key, a name or a cursor
    that is none, and where the line refuses. Closing the generator closes what is open.
    """
    if endpoint.startswith("tcp://") and not port_of(endpoint):
        raise InputError(
            expected="an address with a port from 1 to 65535, such as tcp://127.0.0.1:5556",
            received=endpoint,
            fix="correct it",
        )
    kind = "verdict/" if masks else "brief/"
    if not name and cursor is None:
        if topic and not any(kind.startswith(topic) or topic.startswith(kind) for kind in KINDS):
            raise InputError(
                expected=f"a topic that begins with {', '.join(KINDS)}",
                received=topic,
                fix="such as verdict/smt-3/FAIL",
            )
        return _live(endpoint, topic or kind, server_key, key, timeout_s, stop, waiting)
    if topic:
        raise InputError(
            expected="all verdicts where none is to be missed",
            received=f"topic {topic}",
            fix="leave it out, and look at each one's result",
        )
    if name and not NAME.fullmatch(name):
        raise InputError(
            expected="a name of up to 64 letters, digits, dots, - and _", received=name[:80], fix="choose another"
        )
    if since not in ("now", "beginning"):
        raise InputError(expected='since="now" or "beginning"', received=since, fix="correct it")
    if cursor is None and not state_dir:
        raise InputError(expected="state_dir with a name", received="none", fix="name a folder for its cursor")
    line = Line(endpoint, control, server_key, key, masks, timeout_s, stop, waiting)
    return whole(line, name, cursor, Path(state_dir) / f"{name}.cursor", since)


def verify(
    control: str, verdict: Verdict, verification: str, operator: str, *, defect: int = 0, detail: str = "",
    server_key: str = "", key: str = "", timeout_s: float = 5.0,
) -> int:  # fmt: skip
    """Write back what an operator decided (DefectConfirmed, DefectRejected, DefectAccepted); its number at the line.

    ``defect``: the Priority of one, 0 for the board. InputError where the line refuses, NoAnswer where it is silent.
    """
    request = {
        "do": "verify", "epoch": verdict.epoch, "seq": verdict.seq, "verification": verification, "operator": operator,
        "defect": defect, "detail": detail,
    }  # fmt: skip
    return int(ask(control, request, timeout_s, server_key, key)["id"])


def _live(
    endpoint: str, topic: str, server_key: str, key: str, timeout_s: float | None, stop: Stop, waiting: Tell
) -> Generator[Verdict, None, None]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    subscription = None
    try:
        subscription = Subscription(context, endpoint, (topic, "heartbeat/"), (server_key, key), waiting)
        last: dict[tuple[str, str], int] = {}
        heard = time.monotonic()
        while not stop():
            frames = subscription.receive(POLL_MS)
            if frames and not frames[0].startswith(b"heartbeat/"):
                heard = time.monotonic()
                yield numbered(verdict_from_frames(frames), last)
            elif timeout_s is not None and time.monotonic() - heard > timeout_s:
                return
    finally:
        if subscription is not None:
            subscription.close()
        context.term()


def numbered(verdict: Verdict, last: dict[tuple[str, str], int]) -> Verdict:
    """With how many were missed since the last of its line and epoch, which ``last`` keeps."""
    place = (verdict.line, verdict.epoch)
    before = last.get(place)
    last[place] = verdict.seq
    return verdict if before is None else numbered_after(verdict, before)
