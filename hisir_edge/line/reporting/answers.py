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
import tempfile
from collections import deque
from contextlib import suppress
from dataclasses import replace
from glob import escape
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any

import structlog

from hisir_edge.bundle.lock import held_folder
from hisir_edge.camera.calls.sheet import (
    DONE,
    answer_name,
    content_of_sheet,
    files_of,
    hash_in_folder,
    hash_of_delivery,
    hash_of_file,
    is_delivery,
    picture_of,
    rejected_sheet,
    sheet_from_bytes,
)
from hisir_edge.config.from_files import CallsSource
from hisir_edge.config.sources import SourceTable
from hisir_edge.errors import ConfigError, InputError
from hisir_edge.images.write import write_durably
from hisir_edge.line.journal.reading import JournalReader
from hisir_edge.records import CallSheet

log = structlog.get_logger()

SCHEMA = "hisir-edge/answers/1"
RETRY_S, CLOSE_S = 1.0, 10.0
LAST_ANSWERS = 1000
"""So many verdicts, and two for each board that waits, are looked through at a start for answers not yet written."""
ANSWERS = "answers"
Body = dict[str, Any]


class AnswerFolder:
    """Writes answers in a thread of its own until ``close``; for other sources it does nothing.

    ConfigError for a folder that cannot be written, or that another line uses. A disk that does not take an answer is
    tried again each second, the others meanwhile.
    """

    def __init__(self, source: SourceTable, journal: JournalReader) -> None:
        self.settings = source if isinstance(source, CallsSource) else None
        self._queue: Queue[Body | None] = Queue()
        self._end = Event()
        self._thread: Thread | None = None
        self._lock = -1
        if self.settings is None:
            return
        self.folder = Path(self.settings.folder)
        self.answers = Path(self.settings.answers) if self.settings.answers else self.folder / ANSWERS
        self.done = self.folder / DONE
        for folder in (self.folder, self.answers, self.done):
            _check_writable(folder)
        if self.answers.resolve() in (self.folder.resolve(), self.done.resolve()):
            raise ConfigError(
                expected="source.answers in a folder of its own",
                received=str(self.answers),
                fix="name another: answers would be taken for calls",
            )
        taken = InputError(
            expected="a source.folder of its own for each line",
            received=f"{self.folder}, which another line takes boards from",
            fix="name another: each board would be inspected twice",
        )
        self._lock = held_folder(self.folder, "source.folder", taken)
        try:
            self._recover(journal)
        except BaseException:
            self.close()
            raise

    def put(self, body: Body) -> None:
        """Have the answers of a verdict written, if it is one to calls."""
        if self.settings is None or body["vision"].get("calls") is None:
            return
        if self._thread is None:
            self._thread = Thread(target=self._run, name="answers", daemon=True)
            self._thread.start()
        self._queue.put(body)

    def of(self, name: str, sha256: str) -> Body | None:
        """The answers of a delivery with this content, as their file has them; None: there are none yet."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            found: Body = json.loads((self.answers / answer_name(name)).read_bytes())
            if found["delivery"] == name and found["sha256"] == sha256:
                return found
        return None

    def _recover(self, journal: JournalReader) -> None:
        """Write the answers that the journal has and the folder lacks."""
        waiting = {path.name for path in self.folder.iterdir() if is_delivery(path.name) and path.is_file()}
        if not waiting:
            return
        most = LAST_ANSWERS + 2 * len(waiting)
        found: dict[str, Body] = {}
        for entry in journal.entries(max(journal.last_verdict() - most, 0), most, sys.maxsize):
            body = json.loads(entry.body)
            calls = body["vision"].get("calls")
            if calls is not None and calls["delivery"] in waiting:
                found[calls["delivery"]] = body
        for name, body in found.items():
            if self._is_as_answered(body):
                log.info("answered before the end", delivery=name, seq=body["seq"])
                try:
                    self._answer(body)
                except (OSError, InputError) as error:
                    log.error("answers not written", seq=body["seq"], reason=str(error))

    def close(self) -> None:
        """Write what is waiting, for ``CLOSE_S`` at most; what is left the next start writes."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(CLOSE_S)
            self._end.set()
            self._thread.join(RETRY_S + 1)
            self._thread = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _run(self) -> None:
        failed: deque[Body] = deque()
        is_open = True
        while (is_open or failed) and not self._end.is_set():
            try:
                body = self._queue.get(timeout=RETRY_S if failed else None) if is_open else None
                is_open = is_open and body is not None
            except Empty:
                body = None
            again = [failed.popleft() for _ in range(len(failed))] if body is None else []
            for one in [body, *again] if body is not None else again:
                try:
                    self._answer(one)
                except Exception as error:  # the disk is full, a folder was taken away: it may come back
                    log.error("answers not written", seq=one["seq"], reason=f"{type(error).__name__}: {error}")
                    failed.append(one)
            if failed and not is_open:
                self._end.wait(RETRY_S)

    def _is_as_answered(self, body: Body) -> bool:
        """Whether what lies in the folder is what was answered; pictures may have been taken away before a crash."""
        name, sha256 = body["vision"]["calls"]["delivery"], body["vision"]["calls"]["sha256"]
        if hash_in_folder(self.folder, self._sheet(name, self.folder)) == sha256:
            return True
        sheet = self._sheet(name, self.folder, self.done)
        pictures = [(one, hash_of_file(self.folder / one) or hash_of_file(self.done / one)) for one in files_of(sheet)]
        return bool(hash_of_delivery(hash_of_file(self.folder / name), pictures) == sha256)

    def _answer(self, body: Body) -> None:
        name = body["vision"]["calls"]["delivery"]
        if self._is_older(body, name):
            return
        if name.lower().endswith(".csv"):
            write_durably(self.answers / name, csv_of_answers(body))
        write_durably(self.answers / answer_name(name), json_of_answers(body))
        if not (self.folder / name).exists():
            return
        if not self._is_as_answered(body):
            log.warning("changed while it was inspected: it is inspected again", delivery=name, seq=body["seq"])
            os.utime(self.folder / name)  # by which the source knows it for another one
            return
        # the calls last: while they are there, the next start knows that something is to be done
        for file in (*files_of(self._sheet(name, self.folder)), name):
            try:
                self._take_away(file)
            except OSError as error:
                log.error("not taken away", file=file, reason=f"{type(error).__name__}: {error}")

    def _is_older(self, body: Body, name: str) -> bool:
        """Whether a later verdict on this delivery is answered already: this one was tried again after it."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            there = json.loads((self.answers / answer_name(name)).read_bytes())
            return bool(there["epoch"] == body["epoch"] and there["seq"] > body["seq"])
        return False

    def _sheet(self, name: str, *folders: Path) -> CallSheet:
        """The calls in the first folder, with the picture that is in one of them; none where they cannot be read."""
        sheet = rejected_sheet(name)
        with suppress(InputError):
            sheet = sheet_from_bytes(name, content_of_sheet(folders[0] / name))
        for folder in folders:
            with suppress(InputError, OSError):
                sheet = replace(
                    sheet, picture=picture_of(sheet, {path.name for path in folder.glob(f"{_plain(name)}.*")})
                )
        return sheet

    def _take_away(self, name: str) -> None:
        path = self.folder / name
        if self.settings is None or not path.is_file() or path.is_symlink():
            return
        path.replace(self.done / name)
        if self.settings.done == "delete" and is_delivery(name):  # the calls, which come last: now all may go
            for file in (*files_of(self._sheet(name, self.done)), name):
                (self.done / file).unlink(missing_ok=True)


def _plain(delivery: str) -> str:
    """A delivery's name without its suffix, for a pattern of names."""
    return escape(Path(delivery).stem)


def _check_writable(folder: Path) -> None:
    """ConfigError where no file can be made in a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(prefix=".hisir-", dir=folder)
        os.close(handle)
        Path(path).unlink()
    except OSError as error:
        raise ConfigError(
            expected="folders of calls and answers that can be written",
            received=f"{folder}: {error.strerror}",
            fix="give them to the user that the line runs as; a service writes below /var/lib/hisir-edge/LINE alone",
        ) from error


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
