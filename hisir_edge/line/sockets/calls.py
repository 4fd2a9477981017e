"""The socket where programs deliver calls and pictures: into the folder of the source, from where they are taken.

A ZeroMQ ROUTER (docs/reference/calls.md). What it has said yes to is on the disk; what is delivered a second time under
its name is answered with what was answered, not inspected again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any

import structlog
import zmq

from hisir_edge.camera.calls.sheet import (
    MOST_TEXT,
    file_name,
    files_of,
    hash_of_delivery,
    hash_of_file,
    is_delivery,
    picture_of,
    sheet_from_bytes,
)
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
MOST_IN_FOLDER, LEAST_FREE_BYTES = 1000, 500_000_000
POLL_MS, ASK_MS, LINGER_MS = 200, 20, 500
WAIT_S = 300.0
"""After so long without answers whoever waits is told that there are none yet."""
KEYS = frozenset({"name", "files", "wait"})


@dataclass(frozen=True, slots=True)
class _Waits:
    """Who waits for the answers of a delivery, until when (``time.monotonic``)."""

    envelope: list[bytes]
    name: str
    sha256: str
    until: float


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
        if not is_delivery(name):
            raise ValueError(f"the name {name}: one that ends in .json or .csv, with {MOST_TEXT} bytes at most")
        if len(files) > MOST_FILES or len(content) != 2 + len(files):
            raise ValueError(f"{len(content)} frames: the head, the calls, and one for each of {len(files)} files")
        sent = dict(zip(files, content[2:], strict=True))
        sheet = sheet_from_bytes(name, content[1])
        sheet = replace(sheet, picture=picture_of(sheet, {*sent, *self._there()}))
        if missing := [
            one for one in files_of(sheet) or [f"{Path(name).stem}.*"] if one not in {*sent, *self._there()}
        ]:
            raise ValueError(f"calls without the picture {missing[0]}")
        if len(sent) < len(files) or set(sent) - set(files_of(sheet)):
            raise ValueError(f"files that are no picture of these calls: {', '.join(files)[:200]}")
        hashes = [(one, self._hash(one, sent)) for one in files_of(sheet)]
        sha256 = hash_of_delivery(hashlib.sha256(content[1]).digest(), hashes)
        if (known := self._answers.of(name, sha256)) is not None:
            return _told(name, known)
        self._check_room()
        self._spool({**sent, name: content[1]})
        if head.get("wait") is True:
            self._waiting.append(_Waits(envelope, name, sha256, time.monotonic() + WAIT_S))
            return None
        return _told(name, None)

    def _there(self) -> set[str]:
        return {entry.name for entry in os.scandir(self._answers.folder)}

    def _hash(self, name: str, sent: dict[str, bytes]) -> bytes | None:
        return hashlib.sha256(sent[name]).digest() if name in sent else hash_of_file(self._answers.folder / name)

    def _check_room(self) -> None:
        """InputError where so much waits already that more is not to be taken."""
        waiting = sum(is_delivery(name) for name in self._there())
        free = shutil.disk_usage(self._answers.folder).free
        if waiting >= MOST_IN_FOLDER or len(self._waiting) >= MOST_WAITING:
            raise InputError(
                expected=f"at most {MOST_IN_FOLDER} boards in the folder, and {MOST_WAITING} that are waited for",
                received="one more", fix="deliver it again in a while", code="busy",
            )  # fmt: skip
        if free < LEAST_FREE_BYTES:
            raise InputError(
                expected=f"{LEAST_FREE_BYTES // 10**6} MB free for {self._answers.folder}",
                received=f"{free // 10**6} MB", fix="free some space", code="busy",
            )  # fmt: skip

    def _spool(self, files: dict[str, bytes]) -> None:
        """Onto the disk, the calls last; InputError, and nothing written, where another board waits under a name."""
        folder, new = self._answers.folder, {}
        for one, data in files.items():
            path = folder / one
            is_there = path.exists() or path.is_symlink()
            if is_there and hash_of_file(path) != hashlib.sha256(data).digest():
                raise InputError(
                    expected=f"a name that no waiting board has, {one}", received="other content under it",
                    fix="deliver each board under a name of its own",
                )  # fmt: skip
            if not is_there:
                new[one] = data
        for one, data in new.items():
            write_durably(folder / one, data)

    def _tell(self) -> None:
        """Answer those whose answers are there now, or that have waited long: they may deliver it again."""
        for _ in range(len(self._waiting)):
            one = self._waiting.popleft()
            answers = self._answers.of(one.name, one.sha256)
            if answers is None and time.monotonic() < one.until:
                self._waiting.append(one)
            else:
                self._send(one.envelope, _told(one.name, answers))

    def _send(self, envelope: list[bytes], found: dict[str, Any]) -> None:
        with suppress(zmq.ZMQError):  # whoever asked is gone
            self._socket.send_multipart([*envelope, json.dumps(found, separators=(",", ":")).encode()], zmq.NOBLOCK)


def _told(name: str, found: dict[str, Any] | None) -> dict[str, Any]:
    """What is said of a delivery; ``found``: its answers, None: there are none yet."""
    result = None if found is None else found["result"]
    return {"ok": True, "delivery": name, "result": result, "answers": None if found is None else found["answers"]}
