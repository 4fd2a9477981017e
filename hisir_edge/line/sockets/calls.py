"""The socket where programs deliver calls and pictures: into the folder of the source, from where they are taken.

A ZeroMQ ROUTER (docs/reference/calls.md). What it has said yes to is on the disk; what is delivered a second time under
its name is answered with what was answered, not inspected again.
"""

from __future__ import annotations

import json
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any

import structlog
import zmq

from hisir_edge.camera.calls.sheet import SUFFIXES, file_name, sheet_from_bytes
from hisir_edge.config.from_files import CallsSource
from hisir_edge.config.sources import SourceTable
from hisir_edge.errors import HisirEdgeError, InputError
from hisir_edge.images.write import write_durably
from hisir_edge.json_once import loads_once
from hisir_edge.line.reporting.answers import AnswerFolder
from hisir_edge.line.sockets.context import CALLS, Wire
from hisir_edge.line.sockets.requests import refusal, refusal_of

log = structlog.get_logger()

MOST_FRAME_BYTES, MOST_FILES, MOST_WAITING = 256 * 2**20, 1000, 256
POLL_MS, ASK_MS, LINGER_MS = 200, 20, 500
KEYS = frozenset({"name", "files", "wait"})


@dataclass(frozen=True, slots=True)
class _Waits:
    """Who waits for the answers of a delivery."""

    envelope: list[bytes]
    name: str
    sha256: str


class CallsSocket:
    """Bound on entry and answered by a thread of its own; without an address, or for other sources, nothing."""

    def __init__(self, source: SourceTable, wire: Wire, answers: AnswerFolder) -> None:
        self._settings = source if isinstance(source, CallsSource) and source.listen else None
        self._wire, self._answers = wire, answers
        self._end = Event()
        self._thread: Thread | None = None
        self._waiting: deque[_Waits] = deque()

    def __enter__(self) -> CallsSocket:
        """PublishError when the address is taken."""
        if self._settings is not None:
            options = {zmq.MAXMSGSIZE: MOST_FRAME_BYTES, zmq.SNDHWM: 100}
            self._socket = self._wire.bound(zmq.ROUTER, "source.listen", self._settings.listen, CALLS, options)
            self._thread = Thread(target=self._run, name="calls")
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the thread, close; who still waits asks again once the line is back."""
        if self._thread is not None:
            self._end.set()
            self._thread.join()
            self._wire.closed(self._socket, LINGER_MS)

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        while not self._end.is_set():
            try:
                if poller.poll(ASK_MS if self._waiting else POLL_MS):
                    self._one(self._socket.recv_multipart())
                self._tell()
            except Exception as error:  # whatever it is, it is to go on for the others
                log.exception("delivery failed", reason=str(error))

    def _one(self, frames: list[bytes]) -> None:
        """A delivery: what lies behind the envelope and an empty frame, if its sender has put one there."""
        begin = 2 if len(frames) > 1 and not frames[1] else 1
        envelope, content = frames[:begin], frames[begin:]
        try:
            found = self._delivered(envelope, content)
        except HisirEdgeError as error:
            self._wire.refusals.add("delivery", socket=CALLS, why=str(error)[:200])
            found = refusal_of(error)
        except (ValueError, RecursionError, OSError) as error:
            self._wire.refusals.add("delivery", socket=CALLS, why=str(error)[:200])
            found = refusal("a delivery", str(error)[:200], "see docs/reference/calls.md", "malformed")
        if found is not None:
            self._send(envelope, found)

    def _delivered(self, envelope: list[bytes], content: list[bytes]) -> dict[str, Any] | None:
        """The answer to a delivery; None: once it has its answers."""
        head = loads_once(content[0] if content else b"")
        if not isinstance(head, dict) or set(head) - KEYS or not isinstance(head.get("files", []), list):
            raise ValueError(f"a head that is no object with {', '.join(sorted(KEYS))}")
        name, files = file_name(head.get("name")), [file_name(one) for one in head.get("files", [])]
        if not name.lower().endswith(SUFFIXES) or name.startswith("."):
            raise ValueError(f"the name {name}: one that ends in .json or .csv")
        if len(files) > MOST_FILES or len(content) != 2 + len(files):
            raise ValueError(f"{len(content)} frames: the head, the calls, and one for each of {len(files)} files")
        if any(one == name or one.startswith(".") or one.lower().endswith(SUFFIXES) for one in files):
            raise ValueError("a picture whose name is that of calls, or begins with a dot")
        sheet = sheet_from_bytes(name, content[1])
        if (known := self._answers.of(name, sheet.sha256)) is not None:
            return {"ok": True, "delivery": name, "answers": known}
        if len(self._waiting) >= MOST_WAITING:
            raise InputError(
                expected=f"at most {MOST_WAITING} deliveries that wait for answers", received="one more",
                fix="deliver it again in a while", code="busy",
            )  # fmt: skip
        self._spool(name, content[1], dict(zip(files, content[2:], strict=True)))
        if head.get("wait") is True:
            self._waiting.append(_Waits(envelope, name, sheet.sha256))
            return None
        return {"ok": True, "delivery": name, "answers": None}

    def _spool(self, name: str, calls: bytes, files: dict[str, bytes]) -> None:
        """Onto the disk, the calls last; InputError where another board waits under a name."""
        folder = self._answers.folder
        for one, data in (*files.items(), (name, calls)):
            path: Path = folder / one
            there = None
            with suppress(FileNotFoundError):
                there = path.read_bytes()
            if there is not None and there != data:
                raise InputError(
                    expected=f"a name that no waiting board has, {one}", received="other content under it",
                    fix="deliver each board under a name of its own",
                )  # fmt: skip
            if there is None:
                write_durably(path, data)

    def _tell(self) -> None:
        """Answer those whose answers are there now."""
        for _ in range(len(self._waiting)):
            one = self._waiting.popleft()
            answers = self._answers.of(one.name, one.sha256)
            if answers is None:
                self._waiting.append(one)
            else:
                self._send(one.envelope, {"ok": True, "delivery": one.name, "answers": answers})

    def _send(self, envelope: list[bytes], found: dict[str, Any]) -> None:
        with suppress(zmq.ZMQError):  # whoever asked is gone
            self._socket.send_multipart([*envelope, json.dumps(found, separators=(",", ":")).encode()], zmq.NOBLOCK)
