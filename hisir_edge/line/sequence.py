"""Where a sequence number is given: one for each accepted trigger, journaled before a client is told of it."""

from __future__ import annotations

import sqlite3

import structlog

from hisir_edge.errors import InputError
from hisir_edge.line.journal.store import Journal
from hisir_edge.line.triggers import Trigger

log = structlog.get_logger()


class Sequence:
    """The numbers of one journal, rising by one. The caller (``Intake``) holds its lock around every call."""

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self.last = self._first = journal.last_seq if journal else 0

    @property
    def accepted(self) -> int:
        """Triggers accepted since the daemon started."""
        return self.last - self._first

    def next(self) -> int:
        """The number of the trigger that is accepted now."""
        self.last += 1
        return self.last

    def record(self, trigger: Trigger) -> None:
        """Journal a trigger that came with its frame.

        Where that fails, its verdict may still be journaled; if not, the outbox publishes an ERROR.
        """
        try:
            if self._journal is not None:
                self._journal.accept(trigger.accepted, told=False)
        except sqlite3.Error as error:
            log.error("trigger not journaled", seq=trigger.seq, unit=trigger.unit, reason=str(error))

    def record_answered(self, trigger: Trigger) -> None:
        """Journal a trigger whose number a client gets as its answer; InputError (refused) where that fails."""
        try:
            if self._journal is not None:
                self._journal.accept(trigger.accepted, told=True)
        except sqlite3.Error as error:
            self.last -= 1
            raise InputError(
                expected="a journal that takes the trigger",
                received=str(error),
                fix="see journal_error in status, and the log",
                code="journal",
            ) from error

    def take_back(self, trigger: Trigger) -> None:
        """Undo ``next`` and ``record`` for a trigger that was refused: the next trigger gets its number."""
        self.last -= 1
        try:
            if self._journal is not None:
                self._journal.forget(trigger.seq)
        except sqlite3.Error as error:
            log.error("refused trigger not taken back", seq=trigger.seq, reason=str(error))
