"""A line as one who stands beside it sees it: its status each second, every verdict as it comes, and its answers.

For what shows a line to machines (OPC UA, PLC) and keeps nothing: while it runs no verdict is missed, the line's
journal has those that were lost on the way; what came while it did not run is not told again. Needs pyzmq and the
standard library.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import zmq

from hisir_edge.errors import InputError, NoAnswer
from hisir_edge.mes.client import subscribe
from hisir_edge.mes.cursor import Cursor
from hisir_edge.mes.follow import BEHIND
from hisir_edge.mes.status import AGAIN_S, EACH_S, StatusWatch
from hisir_edge.mes.verdict import Verdict, verdict_from_frames
from hisir_edge.transport.addresses import not_an_address
from hisir_edge.transport.control_client import ask, ask_frames, secured

ANSWER_S = 2.0
"""How long a request may take: a client of OPC UA waits for 4 s."""


class MemoryCursor:
    """A ``CursorStore`` that is gone with its program."""

    def __init__(self) -> None:
        self._cursor: Cursor | None = None

    def load(self) -> Cursor | None:
        """See ``CursorStore``."""
        return self._cursor

    def save(self, cursor: Cursor) -> None:
        """See ``CursorStore``."""
        self._cursor = cursor

    def close(self) -> None:
        """See ``CursorStore``."""


def check_addresses(endpoint: str, control: str, keys: tuple[str, str]) -> None:
    """InputError for what no line can be reached by."""
    for what, address in (("the line's publish.endpoint", endpoint), ("its control.endpoint", control)):
        if address and (wrong := not_an_address(address)):
            raise InputError(expected=f"{what}: {wrong}", received=address, fix="as it stands in its line.toml")
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        secured(socket, *keys)


class LiveLine:
    """From ``start`` to ``close``; ``on_status`` and ``on_verdict`` are called by threads of its own.

    The first verdict that is told is the last one of the journal. ``on_status`` gets None where the line does not
    answer, ``on_retry`` why. ``on_lost`` is called where verdicts cannot be told: the last one may be an old one until
    the next is told. ``keys``: the line's public key file and one's own secret one, where it asks for keys. InputError
    for addresses that are none, and for keys that cannot be read.
    """

    def __init__(
        self, endpoint: str, control: str, keys: tuple[str, str],
        on_status: Callable[[dict[str, Any] | None], None], on_verdict: Callable[[Verdict], None],
        on_retry: Callable[[str], None], each_s: float = EACH_S, on_lost: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        check_addresses(endpoint, control, keys)
        self._endpoint, self._given, self._keys, self._each_s = endpoint, control, keys, each_s
        self._on_lost = on_lost
        self._on_status, self._on_verdict, self._on_retry = on_status, on_verdict, on_retry
        self._answers = True
        """Whether it did when it was asked last."""
        self._stopped = Event()
        self._cursor = MemoryCursor()
        self._status: StatusWatch | None = None
        self._thread = Thread(target=self._run, name="verdicts", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._status = StatusWatch(self._endpoint, self._given, self._keys, self._seen, self._on_retry, self._each_s)
        self._thread.start()

    def close(self) -> None:
        """No more calls after this."""
        self._stopped.set()
        if self._status is not None:
            self._status.close()
            self._thread.join(10)

    def ask(self, request: dict[str, Any], timeout_s: float = ANSWER_S) -> dict[str, Any]:
        """An answer, from any thread. NoAnswer where none comes, InputError in the line's words where it refuses."""
        return ask(self._control(), request, timeout_s, *self._keys)

    def verdict_text(self, epoch: str, seq: int) -> str | None:
        """The JSON of a verdict of the journal, as it was published; None where it has none of that number."""
        request = {"do": "replay", "epoch": epoch, "after": seq - 1, "most": 1, "masks": False}
        head, frames = ask_frames(self._control(), request, ANSWER_S, *self._keys)
        if head["epoch"] != epoch or not frames:
            return None
        found = verdict_from_frames(frames[:3])
        return found.text.decode() if (found.epoch, found.seq) == (epoch, seq) else None

    def _control(self) -> str:
        """Its address; NoAnswer at once where nothing can be expected from it."""
        control = self._status.control if self._status is not None else ""
        if not control or not self._answers:
            raise NoAnswer(
                expected=f"a line that answers at {control or self._endpoint}", received="none",
                fix="check that the line runs, and its control.endpoint",
            )  # fmt: skip
        return control

    def _seen(self, status: dict[str, Any] | None) -> None:
        self._answers = status is not None
        self._on_status(status)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                if self._cursor.load() is None:
                    now = self.ask({"do": "replay", "after": 0, "most": 0})
                    self._cursor.save(Cursor(str(now["epoch"]), max(int(now["seq"]) - 1, 0)))
                stream = subscribe(
                    self._endpoint, masks=False, control=self._control(), server_key=self._keys[0], key=self._keys[1],
                    cursor=self._cursor, stop=self._stopped.is_set, waiting=self._on_retry,
                )  # fmt: skip
                for verdict in stream:
                    self._on_verdict(verdict)
            except NoAnswer:  # the status says so, too
                self._stopped.wait(0.2)
            except Exception as error:  # keys, a journal that was put back, a verdict that cannot be shown
                self._on_lost()
                self._on_retry(f"verdicts are not told: {error}")
                if isinstance(error, InputError) and error.code == BEHIND:  # a journal that was put back
                    self._cursor = MemoryCursor()
                self._stopped.wait(AGAIN_S)
