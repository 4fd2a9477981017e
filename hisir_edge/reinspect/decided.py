"""What people have decided about the old verdicts: in the lines' journals, or in copies of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from hisir_edge.errors import InputError
from hisir_edge.line.journal.reading import JournalReader
from hisir_edge.line.journal.schema import FILE

CONFIRMED = "DefectConfirmed"
AT_ONCE = 4096


def epoch_of(journal: Path) -> tuple[str, int]:
    """The epoch of a line's journal folder, and the lowest number that it holds; InputError for one that is none."""
    try:
        with closing(sqlite3.connect(f"file:{journal / FILE}?mode=ro", uri=True)) as db:
            epoch = str(db.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()[0])
            lowest = db.execute("SELECT ifnull(min(seq), 0) FROM verdict").fetchone()[0]
            return epoch, int(lowest)
    except (sqlite3.Error, TypeError) as error:
        raise InputError(
            expected="a line's journal folder", received=f"{journal}: {error}", fix="correct its name"
        ) from error


def confirmed_defects(
    journals: Iterable[Path], words: tuple[str, ...] = (CONFIRMED,)
) -> set[tuple[str, int, int]]:  # fmt: skip
    """(epoch, number, defect's priority) of the defects that somebody confirmed and nobody rejected later.

    Priority 0 stands for the board. ``words``: the decisions that count. InputError for a folder that is no journal.
    """
    found: set[tuple[str, int, int]] = set()
    for folder in journals:
        epoch, _ = epoch_of(folder)
        try:
            reader, after = JournalReader(folder), 0
            while decisions := reader.decisions(after, AT_ONCE):
                for one in decisions:
                    key = (epoch, one.seq, one.defect)
                    found.discard(key)
                    if one.verification in words:
                        found.add(key)
                after = decisions[-1].id
        except (sqlite3.Error, TypeError) as error:
            raise InputError(
                expected="a line's journal folder", received=f"{folder}: {error}", fix="correct its name"
            ) from error
    return found
