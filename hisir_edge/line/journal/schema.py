"""The journal's tables, and how a file of an earlier layout becomes one of this."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

FILE = "journal.sqlite"

LAYOUT = 2
"""1 had no table of each unit's last verdict and none of decisions: both are made when it is opened."""

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
"""

FROM_LAYOUT_1 = """
INSERT OR REPLACE INTO last_of_unit SELECT
  ifnull(json_extract(CAST(body AS TEXT), '$.source'), ''), ifnull(json_extract(CAST(body AS TEXT), '$.unit'), ''), seq
FROM verdict ORDER BY seq
"""

DECIDED = "seq, defect, verification, detail, operator, client, at_ns, id"


def set_aside(path: Path) -> Path:
    """Move a damaged file, and what belongs to it, out of the way; nothing of it is deleted."""
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(path.with_name(f"damaged-{stamp}-{path.name}{suffix}"))
    return path.with_name(f"damaged-{stamp}-{path.name}")
