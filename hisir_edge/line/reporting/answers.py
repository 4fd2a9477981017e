"""Answers to another machine's calls: one file a board, written once its verdict is in the journal.

What was answered is taken out of the folder afterwards. After a crash between the two the journal still has the answer:
it is written then, and the board is not inspected a second time.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from queue import Queue
from threading import Event, Thread
from typing import Any

import structlog

from hisir_edge.camera.calls.sheet import SUFFIXES, content_of_sheet, hash_of_sheet, picture_of, sheet_from_bytes
from hisir_edge.config.from_files import CallsSource
from hisir_edge.config.sources import SourceTable
from hisir_edge.errors import ConfigError, InputError
from hisir_edge.images.write import write_durably
from hisir_edge.line.journal.reading import JournalReader
from hisir_edge.line.journal.records import Entry

log = structlog.get_logger()

SCHEMA = "hisir-edge/answers/1"
RETRY_S, CLOSE_S = 1.0, 10.0
LAST_ANSWERS = 1000
"""So many verdicts are looked through at a start for answers that were not written: more were never in flight."""
ANSWERS, DONE = "answers", "done"
Body = dict[str, Any]


class AnswerFolder:
    """Writes answers in a thread of its own until ``close``; for other sources it does nothing.

    ConfigError for a folder that cannot be written. A disk that does not take an answer is tried again each second.
    """

    def __init__(self, source: SourceTable, journal: JournalReader) -> None:
        self.settings = source if isinstance(source, CallsSource) else None
        self._queue: Queue[Body | None] = Queue()
        self._end = Event()
        self._thread: Thread | None = None
        if self.settings is None:
            return
        self.folder = Path(self.settings.folder)
        self.answers = Path(self.settings.answers) if self.settings.answers else self.folder / ANSWERS
        for folder in (self.folder, self.answers, self.folder / DONE):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                if not os.access(folder, os.W_OK | os.X_OK):
                    raise PermissionError(13, "Permission denied")
            except OSError as error:
                raise ConfigError(
                    expected="folders of calls and answers that can be written",
                    received=f"{folder}: {error.strerror}",
                    fix="correct source.folder and source.answers, or their owner",
                ) from error
        last = journal.last_verdict()
        self._recover(journal.entries(max(last - LAST_ANSWERS, 0), LAST_ANSWERS, sys.maxsize))

    def put(self, body: Body) -> None:
        """Have the answers of a verdict written, if it is one to calls."""
        if self.settings is None or body["vision"].get("calls") is None:
            return
        if self._thread is None:
            self._thread = Thread(target=self._run, name="answers", daemon=True)
            self._thread.start()
        self._queue.put(body)

    def of(self, name: str, sha256: str) -> list[Body] | None:
        """The answers of a delivery with this content; None: there are none yet."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads((self.answers / f"{Path(name).stem}.json").read_bytes())
            if found["delivery"] == name and found["sha256"] == sha256:
                answers: list[Body] = found["answers"]
                return answers
        return None

    def _recover(self, last: Iterable[Entry]) -> None:
        """Write the answers that the journal has and the folder lacks. ``last``: the last verdicts, oldest first."""
        waiting = {path.name: path for path in self.folder.iterdir() if path.suffix.lower() in SUFFIXES}
        found: dict[str, Body] = {}
        for entry in last if waiting else ():
            body = json.loads(entry.body)
            calls = body["vision"].get("calls")
            if calls is not None and calls["delivery"] in waiting:
                found[calls["delivery"]] = body
        for name, body in found.items():
            with suppress(InputError):
                if hash_of_sheet(content_of_sheet(waiting[name])) == body["vision"]["calls"]["sha256"]:
                    log.info("answered before the end", delivery=name, seq=body["seq"])
                    self._answer(body)

    def close(self) -> None:
        """Write what is waiting, for ``CLOSE_S`` at most; what is left the next start writes."""
        if self._thread is None:
            return
        self._queue.put(None)
        self._thread.join(CLOSE_S)
        self._end.set()
        self._thread.join(RETRY_S + 1)

    def _run(self) -> None:
        while (body := self._queue.get()) is not None:
            while not self._end.is_set():
                try:
                    self._answer(body)
                    break
                except Exception as error:  # the disk is full, a folder was taken away: it may come back
                    log.error("answers not written", seq=body["seq"], reason=f"{type(error).__name__}: {error}")
                    self._end.wait(RETRY_S)

    def _answer(self, body: Body) -> None:
        name = body["vision"]["calls"]["delivery"]
        if name.lower().endswith(".csv"):
            write_durably(self.answers / name, csv_of_answers(body))
        write_durably(self.answers / f"{Path(name).stem}.json", json_of_answers(body))
        pictures = []
        with suppress(InputError):
            sheet = sheet_from_bytes(name, content_of_sheet(self.folder / name))
            pictures = [picture_of(sheet, self.folder), *(crop.file for crop in sheet.crops)]
        # the calls last: while they are there, the next start knows that something is to be done
        for file in dict.fromkeys([*pictures, name]):
            self._take_away(file)

    def _take_away(self, name: str) -> None:
        if not name or self.settings is None:
            return
        with suppress(FileNotFoundError):
            if self.settings.done == "delete":
                (self.folder / name).unlink()
            else:
                (self.folder / name).replace(self.folder / DONE / name)


def answers_of(body: Body) -> Body:
    """The answers of a verdict, as their file has them."""
    unit, calls = body["InspectedUnits"][0], body["vision"]["calls"]
    return {
        "schema": SCHEMA, "delivery": calls["delivery"], "sha256": calls["sha256"], "line": body["line"],
        "epoch": body["epoch"], "seq": body["seq"], "unit": unit["UnitIdentifier"], "product": body["RecipeName"],
        "result": unit["OverallResult"], "reason": body["vision"]["reason"], "elsewhere": calls["elsewhere"],
        "answers": calls["answers"],
    }  # fmt: skip


def json_of_answers(body: Body) -> bytes:
    """The answers of a verdict as a JSON file."""
    return json.dumps(answers_of(body), indent=1).encode()


def csv_of_answers(body: Body) -> bytes:
    """The answers of a verdict as a CSV file."""
    out = io.StringIO(newline="")
    rows = csv.writer(out)
    rows.writerow(["id", "answer", "score", "reason", "part", "class", "truth", "unit", "seq", "result"])
    unit = body["InspectedUnits"][0]
    for one in body["vision"]["calls"]["answers"]:
        score = "" if one["score"] is None else one["score"]
        told = (one["id"], one["answer"], score, one["reason"], one["part"], one["class"], one["truth"] or "")
        rows.writerow([*told, unit["UnitIdentifier"], body["seq"], unit["OverallResult"]])
    return out.getvalue().encode()
