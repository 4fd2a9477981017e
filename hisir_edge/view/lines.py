"""One line as the page sees it: its verdicts into the history, its state, and decisions on their way to it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Any

import structlog
import zmq

from hisir_edge.errors import HisirEdgeError, InputError, NoAnswer, TryLater
from hisir_edge.mes.client import subscribe
from hisir_edge.mes.subscription import Subscription
from hisir_edge.mes.verdict import Verdict
from hisir_edge.transport.addresses import beside
from hisir_edge.transport.control_client import Asker
from hisir_edge.view.history import History, Search

log = structlog.get_logger()

POLL_S, AGAIN_S = 1.0, 2.0
SILENT_S = 12.0
"""For so long what was said of a silent publisher counts."""
CURABLE = ("key", "role")
"""Refusals that a change of the line's keys ends: the decision waits."""
ANSWER_S = 2.0
HEARTBEAT_S, RECEIVE_MS = 3.0, 100
MOST_DECISIONS = 256
Tell = Callable[[str, dict[str, Any]], None]
"""Called with a kind (verdict, line, decision) and what is new, by any thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a line is: its publisher, and its control socket where its heartbeats do not tell; keys as files."""

    endpoint: str
    control: str = ""
    server_key: str = ""
    key: str = ""


@dataclass(slots=True)
class Seen:
    """What is known of a line now; ``wrong``: why its control socket is not heard, empty while it is.

    ``silent``: why no verdicts come, said again every few seconds while none can, last at ``silent_at``.
    """

    name: str = ""
    wrong: str = "not heard yet"
    silent: str = ""
    silent_at: float = -60.0
    status: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] | None = None
    control: str = ""


class Names:
    """Which address a line's name belongs to: two lines of one name would take each other's decisions."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._of: dict[str, str] = {}

    def check(self, name: str, endpoint: str) -> None:
        """InputError where another address has this name."""
        with self._lock:
            if (known := self._of.setdefault(name, endpoint)) != endpoint:
                raise InputError(
                    expected="a name of its own for each line (line.name)",
                    received=f"{name} at {known} and at {endpoint}",
                    fix="rename one of them",
                )


class LineLink:
    """Follows a line from entry to exit, in two threads; it lives through the line's absence."""

    def __init__(
        self, address: Address, history: History, tell: Tell, keep_days: float = 36500.0, names: Names | None = None
    ) -> None:
        self.address, self._history, self._tell, self._keep_s = address, history, tell, keep_days * 86400
        self._names = names or Names()
        self.seen = Seen(control=address.control)
        self._end, self._wake = Event(), Event()
        self._told_last: dict[str, Any] = {}
        self._threads = (
            Thread(target=self._follow, name=f"verdicts of {address.endpoint}"),
            Thread(target=self._attend, name=f"state of {address.endpoint}"),
        )

    def __enter__(self) -> LineLink:
        """Start."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End both threads."""
        self._end.set()
        self._wake.set()
        for thread in self._threads:
            thread.join()

    def wake(self) -> None:
        """There is a decision to be sent."""
        self._wake.set()

    def as_dict(self) -> dict[str, Any]:
        """For the page."""
        seen, status = self.seen, self.seen.status
        kept = ("state", "product", "products", "camera_up", "epoch", "seq", "verdicts", "journal_error", "archive")
        return {
            "name": seen.name or self.address.endpoint, "endpoint": self.address.endpoint,
            "wrong": (seen.silent if time.monotonic() < seen.silent_at + SILENT_S else "") or seen.wrong,
            "status": {name: status.get(name) for name in kept}, "last": seen.last,
            "waiting": len(self._history.waiting(seen.name)) if seen.name else 0,
            "refused": self._history.refusals(seen.name) if seen.name else 0,
        }  # fmt: skip

    def asker(self) -> Asker:
        """A connection of its own to the line's control socket; InputError while its address is not known."""
        if not self.seen.control:
            raise InputError(
                expected="a line that has said where its control socket is", received=self.address.endpoint,
                fix="wait until it is heard, or name it with --control",
            )  # fmt: skip
        return Asker(self.seen.control, self.address.server_key, self.address.key)

    def _follow(self) -> None:
        a = self.address
        while not self._end.is_set():
            try:
                stream = subscribe(
                    a.endpoint, control=a.control, server_key=a.server_key, key=a.key, masks=False, since="beginning",
                    cursor=self._history.cursor(a.endpoint), stop=self._end.is_set, waiting=self._silent,
                )  # fmt: skip
                for verdict in stream:
                    self._take(verdict)
            except HisirEdgeError as error:
                self._silent(str(error))
            except Exception as error:
                self._silent(f"{type(error).__name__}: {error}")
                log.exception("line not followed", endpoint=a.endpoint)
            self._end.wait(AGAIN_S)

    def _take(self, verdict: Verdict) -> None:
        self._names.check(verdict.line, self.address.endpoint)
        self._history.add(verdict)
        self.seen.silent_at = -SILENT_S
        if self.seen.name != verdict.line:
            self.seen.name = verdict.line
            self._tell("line", self.as_dict())
        row = {
            "line": verdict.line, "epoch": verdict.epoch, "seq": verdict.seq, "unit": verdict.unit,
            "product": verdict.product, "result": verdict.result, "score": verdict.score, "reason": verdict.reason,
            "defects": verdict.defects_total, "total_s": verdict.total_s, "time": verdict.time,
        }  # fmt: skip
        self.seen.last = row
        self._tell("verdict", row)

    def _silent(self, reason: str) -> None:
        """No verdicts come; called again and again while that is so."""
        if reason != self.seen.silent:
            log.warning("line not followed", endpoint=self.address.endpoint, reason=reason)
        self.seen.silent, self.seen.silent_at = reason, time.monotonic()
        self._tell("line", self.as_dict())

    def _not_heard(self, reason: str) -> None:
        if reason != self.seen.wrong:
            self.seen.wrong = reason
            self._tell("line", self.as_dict())

    def _attend(self) -> None:
        asker: Asker | None = None
        while not self._end.is_set():
            self._wake.wait(POLL_S)
            self._wake.clear()
            try:
                if asker is None:
                    asker = self._connected()
                if asker is not None:
                    self._look(asker)
            except InputError as error:
                self._not_heard(str(error))
                if isinstance(error, NoAnswer) and asker is not None:  # it may have begun anew at another address
                    asker.close()
                    asker = None
            except Exception:
                log.exception("line not asked", endpoint=self.address.endpoint)
                if asker is not None:
                    asker.close()
                asker = None
        if asker is not None:
            asker.close()

    def _connected(self) -> Asker | None:
        if not self.address.control:
            self.seen.control = self._told() or self.seen.control
        return self.asker().__enter__() if self.seen.control else None

    def _told(self) -> str:
        """The control address that the line's heartbeats tell; empty where none came."""
        a = self.address
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            heard = Subscription(context, a.endpoint, ("heartbeat/",), (a.server_key, a.key))
            try:
                end = time.monotonic() + HEARTBEAT_S
                while time.monotonic() < end and not self._end.is_set():
                    if frames := heard.receive(RECEIVE_MS):
                        told = str(json.loads(frames[1]).get("control", ""))
                        return beside(a.endpoint, told) if told else ""
            finally:
                heard.close()
        finally:
            context.term()
        return ""

    def _look(self, asker: Asker) -> None:
        status, _ = asker.ask({"do": "status"}, ANSWER_S, self._end.is_set)
        self._names.check(str(status["line"]), self.address.endpoint)
        self.seen.status, self.seen.name, self.seen.wrong = status, str(status["line"]), ""
        if self.seen.last is None:  # of before this process began
            self.seen.last = next(iter(self._history.boards(Search(line=self.seen.name, most=1))), None)
        self._history.prune(time.time() - self._keep_s)
        self._hear(asker, str(status["epoch"]))
        self._send(asker)
        if (now := self.as_dict()) != self._told_last:
            self._told_last = now
            self._tell("line", now)

    def _hear(self, asker: Asker, epoch: str) -> None:
        """All decisions that the line has, and the page has not: also ours, of which no answer came."""
        while not self._end.is_set():
            after = self._history.last_told(self.seen.name, epoch)
            request = {"do": "decisions", "after": after, "most": MOST_DECISIONS}
            answer, _ = asker.ask(request, ANSWER_S, self._end.is_set)
            for decision in answer["decisions"]:
                if self._history.told(self.seen.name, decision):
                    self._tell("decision", {"line": self.seen.name, **_key(decision)})
            if len(answer["decisions"]) < MOST_DECISIONS:
                return

    def _send(self, asker: Asker) -> None:
        for one in self._history.waiting(self.seen.name):
            request = {
                "do": "verify", "epoch": one["epoch"], "seq": one["seq"], "defect": one["defect"],
                "verification": one["verification"], "operator": one["operator"], "detail": one["detail"],
            }  # fmt: skip
            self._history.trying(one["id"])
            try:
                answer, _ = asker.ask(request, ANSWER_S, self._end.is_set)
            except (NoAnswer, TryLater):
                raise  # it waits until the line takes it
            except InputError as error:
                if error.code in CURABLE:
                    raise
                self._history.refused(one["id"], str(error))
            else:
                self._history.sent(one["id"], int(answer["id"]))
            self._tell("decision", _key(one) | {"line": self.seen.name})


def _key(one: dict[str, Any]) -> dict[str, Any]:
    return {"epoch": one["epoch"], "seq": one["seq"]}
