"""The journal's tables, and how a file of an earlier layout becomes one of this."""

from __future__ import annotations

import os
import sqlite3
from datetime import datetime, timezone
from pathlib import Path

from hisir_edge.config.kept import JournalTable

FILE = "journal.sqlite"

LAYOUT = 3
"""1 had no table of each unit's last verdict and none of decisions; 2 kept verdicts as they are, and only the wall
clock's time of each. Both become 3 when they are opened."""

WAL_PAGES = 1000

BUSY_S = 2.0
"""How long a writer waits for another writer, in this process or beside it."""

TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS accepted (
  seq INTEGER PRIMARY KEY, unit TEXT NOT NULL, source TEXT NOT NULL, product TEXT NOT NULL,
  accepted_at_ns INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS verdict (
  seq INTEGER PRIMARY KEY, written_at_ns INTEGER NOT NULL, topic TEXT NOT NULL, body BLOB NOT NULL, mask BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS cursor (name TEXT PRIMARY KEY, seq INTEGER NOT NULL, at_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS last_of_unit (
  source TEXT NOT NULL, unit TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (source, unit)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS last_of_unit_seq ON last_of_unit (seq);
CREATE TABLE IF NOT EXISTS decision (
  id INTEGER PRIMARY KEY AUTOINCREMENT, seq INTEGER NOT NULL, defect INTEGER NOT NULL, verification TEXT NOT NULL,
  detail TEXT NOT NULL, operator TEXT NOT NULL, client TEXT NOT NULL, at_ns INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS decision_seq ON decision (seq);
CREATE INDEX IF NOT EXISTS last_of_unit_unit ON last_of_unit (unit, seq);
CREATE INDEX IF NOT EXISTS last_of_unit_source ON last_of_unit (source, seq);
"""

FROM_LAYOUT_1 = """
INSERT OR REPLACE INTO last_of_unit SELECT
  ifnull(json_extract(CAST(body AS TEXT), '$.source'), ''), ifnull(json_extract(CAST(body AS TEXT), '$.unit'), ''), seq
FROM verdict ORDER BY seq
"""

FROM_LAYOUT_2 = (
    "ALTER TABLE verdict ADD COLUMN used_ns INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE verdict ADD COLUMN form INTEGER NOT NULL DEFAULT 0",
)
"""``used_ns``: the journal's time (``age``) at which it was written; ``form``: of its body (``packing``)."""

WRITTEN = "seq, written_at_ns, topic, body, mask, used_ns, form"
STORED = "seq, topic, body, mask, form"
DECIDED = "seq, defect, verification, detail, operator, client, at_ns, id"


def layout_of(db: sqlite3.Connection) -> str:
    """The layout of a file; empty: it has no tables yet."""
    return _meta(db).get("layout", "")


def tables_of_this_layout(db: sqlite3.Connection, epoch: str) -> dict[str, str]:
    """Make the tables of a new file, or bring those of an earlier layout up to this; what ``meta`` says then.

    A file of this layout, or of one that is not known, is left as it is: on a full disk it can be opened.
    """
    found = _meta(db)
    if found and int(found.get("layout", "0")) >= LAYOUT:
        return found
    db.execute("BEGIN IMMEDIATE")
    try:
        for statement in TABLES.split(";"):
            db.execute(statement)
        if found.get("layout") == "1":
            db.execute(FROM_LAYOUT_1)
        if found.get("layout", "0") < str(LAYOUT):  # a new file's tables are made as those of layout 2, too
            for statement in FROM_LAYOUT_2:
                db.execute(statement)
        db.execute("INSERT OR IGNORE INTO meta VALUES ('epoch', ?)", (epoch,))
        db.execute("INSERT OR REPLACE INTO meta VALUES ('layout', ?)", (str(LAYOUT),))
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return _meta(db)


def _meta(db: sqlite3.Connection) -> dict[str, str]:
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        return {}
    return dict(db.execute("SELECT name, value FROM meta"))


def set_aside(path: Path, why: str = "damaged") -> Path:
    """Move a file that is not used any more, and what belongs to it, out of the way; nothing of it is deleted."""
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(path.with_name(f"{why}-{stamp}-{path.name}{suffix}"))
    return path.with_name(f"{why}-{stamp}-{path.name}")


def folder_of(settings: JournalTable, line: str) -> Path:
    """Where the journal lies: as configured, else systemd's StateDirectory, else the user's own state folder."""
    if settings.folder:
        return Path(settings.folder)
    if state := os.environ.get("STATE_DIRECTORY", ""):
        return Path(state.split(":", maxsplit=1)[0]) / "journal"
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return home / "hisir-edge" / line / "journal"
