"""The tables of the page's history, and which of their columns are read."""

from __future__ import annotations

TABLES = """
CREATE TABLE IF NOT EXISTS verdict (
  line TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL, unit TEXT NOT NULL,
  product TEXT NOT NULL, result TEXT NOT NULL, score REAL, defects INTEGER NOT NULL, total_s REAL NOT NULL,
  blur_px REAL, brightness REAL, white_share REAL, reason TEXT NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (line, epoch, seq)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS verdict_at ON verdict (at);
CREATE INDEX IF NOT EXISTS verdict_line_at ON verdict (line, at);
CREATE INDEX IF NOT EXISTS verdict_unit ON verdict (unit, at);
CREATE TABLE IF NOT EXISTS defect (
  line TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL, number INTEGER NOT NULL, camera TEXT NOT NULL,
  component TEXT NOT NULL, x INTEGER NOT NULL, y INTEGER NOT NULL, w INTEGER NOT NULL, h INTEGER NOT NULL,
  peak REAL NOT NULL, PRIMARY KEY (line, epoch, seq, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS decision (
  id INTEGER PRIMARY KEY AUTOINCREMENT, line TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL,
  defect INTEGER NOT NULL, verification TEXT NOT NULL, detail TEXT NOT NULL, operator TEXT NOT NULL, at REAL NOT NULL,
  line_id INTEGER, refused TEXT NOT NULL DEFAULT '', tried INTEGER NOT NULL DEFAULT 0, UNIQUE (line, epoch, line_id)
);
CREATE INDEX IF NOT EXISTS decision_of ON decision (line, epoch, seq);
CREATE TABLE IF NOT EXISTS missed (
  id INTEGER PRIMARY KEY AUTOINCREMENT, line TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL,
  camera TEXT NOT NULL, polygon TEXT NOT NULL, operator TEXT NOT NULL, at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS missed_of ON missed (line, epoch, seq);
CREATE TABLE IF NOT EXISTS told (
  line TEXT NOT NULL, epoch TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (line, epoch)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cursor (address TEXT PRIMARY KEY, epoch TEXT NOT NULL, seq INTEGER NOT NULL) WITHOUT ROWID;
"""
OF_A_BOARD = "line, epoch, seq, at, unit, product, result, score, defects, total_s, blur_px, brightness, reason"
OF_A_DECISION = "id, line, epoch, seq, defect, verification, detail, operator, at, line_id, refused"
