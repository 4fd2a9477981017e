"""The line's archive: boards as they were inspected, written by a thread of its own behind the verdict."""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from queue import Full, Queue
from threading import Thread, get_native_id

import structlog

from hisir_edge.archive.board_file import board_bytes
from hisir_edge.archive.folder import ArchiveFolder, name_of
from hisir_edge.bundle.lock import held_folder
from hisir_edge.config.kept import ArchiveTable
from hisir_edge.config.tables import Settings
from hisir_edge.errors import InputError
from hisir_edge.line.verdicts import Outcome
from hisir_edge.records import Frame, Result

log = structlog.get_logger()

MOST_WAITING = 3
CLOSE_S = 20.0
NICENESS = 10
"""Of its thread: the inspection of the next board comes first."""
BESIDE_THE_JOURNAL = "archive"


class Archiver:
    """Keeps boards as ``[archive]`` says; without a folder none. ``counts``: boards kept, dropped and failed.

    Whatever goes wrong costs the archived board, never the verdict.
    """

    def __init__(self, settings: ArchiveTable, folder: ArchiveFolder | None, lock: int = -1) -> None:
        self.folder, self._settings, self._lock = folder, settings, lock
        self.counts = Counter[str]()
        self._queue: Queue[Outcome | None] = Queue(MOST_WAITING)
        self._thread: Thread | None = None
        if folder is not None:
            self._thread = Thread(target=self._run, name="archive", daemon=True)
            self._thread.start()

    def put(self, outcome: Outcome) -> None:
        """Have a board kept if it is asked for; where the disk is too slow it is left out, which is logged."""
        if self._thread is None or not isinstance(outcome.item, Frame):
            return
        if self._settings.keep == "called" and outcome.judgement.result is Result.PASS:
            return
        try:
            self._queue.put_nowait(outcome)
        except Full:
            self.counts["dropped"] += 1
            log.warning("board not archived", seq=outcome.seq, error="the archive is slower than the line")

    def close(self) -> None:
        """Write what is waiting, for ``CLOSE_S`` at most."""
        if self._thread is None:
            return
        end = time.monotonic() + CLOSE_S
        with suppress(Full):
            self._queue.put(None, timeout=CLOSE_S)
        self._thread.join(max(end - time.monotonic(), 0.0))
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _run(self) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, get_native_id(), NICENESS)
        while (outcome := self._queue.get()) is not None:
            try:
                self._keep(outcome)
                self.counts["kept"] += 1
            except Exception as error:  # memory, a codec, the disk: whatever it is
                self.counts["failed"] += 1
                log.error("board not archived", seq=outcome.seq, error=f"{type(error).__name__}: {error}")
            del outcome

    def _keep(self, outcome: Outcome) -> None:
        item, judgement = outcome.item, outcome.judgement
        if self.folder is None or not isinstance(item, Frame):
            return
        _, verdict, mask = outcome.message.frames()
        data = board_bytes(verdict, mask, item, judgement, self._settings.format)
        at = time.strftime("%Y%m%dT%H%M%S", time.gmtime(item.grabbed_at_ns / 1e9))
        name = name_of(outcome.seq, at, judgement.result.value, item.unit)
        self.folder.write(str(outcome.message.body["epoch"]), name, data)


def archiver_from_settings(settings: Settings, journal: Path) -> Archiver:
    """The archiver of ``[archive]``; ``journal``: the journal's folder. InputError for a folder that cannot be used."""
    table = settings.archive
    if table.keep == "none":
        return Archiver(table, None)
    folder = Path(table.folder) if table.folder else journal.parent / BESIDE_THE_JOURNAL
    taken = InputError(
        expected="an archive.folder of its own for each line",
        received=f"{folder}, which another daemon writes to",
        fix="name another: each would delete the other's boards",
    )
    lock = held_folder(folder, "archive.folder", taken)
    try:
        return Archiver(table, ArchiveFolder(folder, table.budget_mb * 1_000_000), lock)
    except BaseException:
        os.close(lock)
        raise
