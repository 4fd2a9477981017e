"""Verdicts without gaps: live ones as they come, missed ones from the line's journal, in order, over restarts of both.

Needs pyzmq and the standard library.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from hisir_edge.ask import ask_frames
from hisir_edge.errors import InputError, NoAnswer
from hisir_edge.mes.subscribe import Received, subscribe

QUIET_S = 2.0
"""When nothing has come for so long the journal is asked: a verdict may have been lost on its way."""


@dataclass(frozen=True, slots=True)
class Line:
    """Where a line is: its ``publish.endpoint``, its ``control.endpoint``, and keys where it asks for them."""

    endpoint: str
    control: str
    server_key: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last verdict that the caller is done with."""

    epoch: str
    seq: int


def subscribe_whole(
    line: Line, cursor_file: Path, timeout_s: float | None = None, stop: Callable[[], bool] = lambda: False
) -> Generator[Received, None, None]:
    """Yield every verdict of a line in order, from the one after the cursor on; from now on where there is none yet.

    The cursor is written when the caller asks for the next verdict: what it was busy with when it ended comes again,
    under the same epoch and number. While the line is down this waits, ``timeout_s`` at most without a verdict. In a
    new epoch (the line lost its journal) it begins with that one's first. InputError for a cursor, an address or a key
    that is none, and where the line refuses.
    """
    cursor = _read(cursor_file)
    heard = time.monotonic()
    while not stop():
        # what comes while the journal is asked is missed live, and seen by the gap, or when it has been quiet
        live = subscribe(line.endpoint, timeout_s=QUIET_S, stop=stop)
        try:
            if cursor is None:
                cursor = _now(line, timeout_s, stop)
                if cursor is None:
                    return
                _write(cursor_file, cursor)
            for verdict in _from(line, cursor, live, stop):
                heard = time.monotonic()
                yield verdict
                cursor = Cursor(verdict.body["epoch"], verdict.body["seq"])
                _write(cursor_file, cursor)
        finally:
            live.close()
        if timeout_s is not None and time.monotonic() - heard > timeout_s:
            return


def _from(
    line: Line, cursor: Cursor, live: Generator[Received, None, None], stop: Callable[[], bool]
) -> Generator[Received, None, None]:
    """What follows a cursor: missed verdicts, then live ones; ends when it has been quiet."""
    for verdict in _missed(line, cursor, stop):
        cursor = Cursor(verdict.body["epoch"], verdict.body["seq"])
        yield verdict
    for verdict in live:
        epoch, seq = verdict.body["epoch"], verdict.body["seq"]
        if epoch == cursor.epoch and seq <= cursor.seq:
            continue
        if epoch == cursor.epoch and seq == cursor.seq + 1:
            cursor = Cursor(epoch, seq)
            yield verdict
            continue
        for missed in _missed(line, cursor, stop):  # it is itself among them: it was journaled before it was published
            cursor = Cursor(missed.body["epoch"], missed.body["seq"])
            yield missed


def _missed(line: Line, cursor: Cursor, stop: Callable[[], bool]) -> Generator[Received, None, None]:
    """What the journal has behind a cursor; nothing while the line does not answer."""
    while not stop():
        request = {"do": "replay", "epoch": cursor.epoch, "after": cursor.seq}
        try:
            answer, frames = ask_frames(line.control, request, QUIET_S, line.server_key, line.key)
        except NoAnswer:
            return
        for n in range(0, len(frames), 3):
            topic, text, mask = frames[n : n + 3]
            body = json.loads(text)
            seq = int(body["seq"])
            skipped = seq - cursor.seq - 1 if body["epoch"] == cursor.epoch else seq - 1
            cursor = Cursor(body["epoch"], seq)
            yield Received(topic.decode(), body, mask, skipped)
        if not answer["count"]:
            return


def _now(line: Line, timeout_s: float | None, stop: Callable[[], bool]) -> Cursor | None:
    """The line's last number; None when told to stop, or after ``timeout_s``, while it does not answer."""
    began = time.monotonic()
    while not stop() and (timeout_s is None or time.monotonic() < began + timeout_s):
        try:
            answer, _ = ask_frames(
                line.control, {"do": "replay", "after": 0, "most": 0}, QUIET_S, line.server_key, line.key
            )
        except NoAnswer:
            continue
        return Cursor(answer["epoch"], answer["seq"])
    return None


def _read(path: Path) -> Cursor | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Cursor(str(found["epoch"]), int(found["seq"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            expected="a cursor file of this program", received=f"{path} ({error})", fix="name another, or delete it"
        ) from error


def _write(path: Path, cursor: Cursor) -> None:
    """On the disk before the next verdict is handed out."""
    new = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("w", encoding="utf-8") as file:
            json.dump({"epoch": cursor.epoch, "seq": cursor.seq}, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise InputError(
            expected="a cursor file that can be written", received=f"{path} ({error.strerror})", fix="choose another"
        ) from error
