"""The tables of a fleet in PostgreSQL: made where they are not there, a partition for each day."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date, datetime, timedelta
from typing import Any

import psycopg

from hisir_edge.errors import InputError
from hisir_edge.fleet.rows import KEYS, TABLES, Column
from hisir_edge.fleet.views import VIEWS

SCHEMA, LAYOUT = "hisir_fleet", 1
TYPES = {
    "text": "text", "number": "double precision", "integer": "bigint", "time": "timestamptz", "day": "date"
}  # fmt: skip
MAKING = 0x6869736972
"""Of the lock under which tables are made: two collectors may begin at once."""
DAY = re.compile(r"\d{8}")
OTHER_TABLES = (
    "layout (version integer PRIMARY KEY)",
    "cursor (line text PRIMARY KEY, epoch text NOT NULL, seq bigint NOT NULL)",
    "told (line text, epoch text, id bigint NOT NULL, PRIMARY KEY (line, epoch))",
    """line (line text PRIMARY KEY, plant text NOT NULL, endpoint text NOT NULL, wrong text NOT NULL,
    heard_at timestamptz, told_at timestamptz NOT NULL)""",
    """baseline (line text, product text, bundle text, score float8, score_sd float8, blur_px float8, blur_sd float8,
    brightness float8, brightness_sd float8, PRIMARY KEY (line, product, bundle))""",
)
"""How far each line and its decisions are, how lines are, and what drift counts from."""


def make_tables(db: psycopg.Connection[Any]) -> None:
    """Tables and views, where they are not there; InputError for those of a later version."""
    there = db.execute("SELECT to_regclass(%s)", (f"{SCHEMA}.layout",)).fetchone()
    version = None
    if there is not None and there[0] is not None:
        version = (db.execute(f"SELECT max(version) FROM {SCHEMA}.layout").fetchone() or (None,))[0]  # noqa: S608
    if version == LAYOUT:  # whoever reads holds up nobody who begins
        return
    if version is not None and version > LAYOUT:
        raise InputError(
            expected=f"a fleet of layout up to {LAYOUT}", received=f"{version}", fix="update hisir-edge here"
        )
    db.execute("SELECT pg_advisory_xact_lock(%s)", (MAKING,))
    db.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    for table in OTHER_TABLES:
        db.execute(f"CREATE TABLE IF NOT EXISTS {table}")
    for name, columns in TABLES.items():
        key = ", ".join((*KEYS[name], "day"))
        listed = ", ".join(map(_declared, columns))
        db.execute(f"CREATE TABLE IF NOT EXISTS {name} ({listed}, PRIMARY KEY ({key})) PARTITION BY RANGE (day)")
    db.execute("CREATE INDEX IF NOT EXISTS verdict_unit ON verdict (unit)")
    db.execute("CREATE INDEX IF NOT EXISTS verdict_of_bundle ON verdict (line, product, bundle)")  # for baselines
    for name, view in VIEWS.items():
        db.execute(f"CREATE OR REPLACE VIEW {name} AS {view}")
    db.execute("INSERT INTO layout VALUES (%s) ON CONFLICT DO NOTHING", (LAYOUT,))


def _declared(column: Column) -> str:
    needed = " NOT NULL" if column.kind in ("day", "time") or column.name in ("line", "epoch", "seq") else ""
    return f"{column.name} {TYPES[column.kind]}{needed}"


def part_of(name: str, day: date) -> str:
    """The name of a table's partition of a day."""
    return f"{name}_{day:%Y%m%d}"


def days_of(db: psycopg.Connection[Any], name: str) -> list[date]:
    """The days that a table has; partitions that somebody else has added are theirs."""
    rows = db.execute(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace n ON n.oid = p.relnamespace "
        "WHERE n.nspname = %s AND p.relname = %s",
        (SCHEMA, name),
    )
    found = []
    for (part,) in rows:
        if DAY.fullmatch(day := part.rpartition("_")[2]):
            with suppress(ValueError):  # such as the 99th
                found.append(datetime.strptime(day, "%Y%m%d").date())  # noqa: DTZ007  # a day
    return found


def keep_baselines(db: psycopg.Connection[Any], today: date) -> None:
    """Of what ran yesterday or today and has none yet: its first 400 passed boards, kept once there are so many."""
    running = db.execute(
        "SELECT DISTINCT v.line, v.product, v.bundle FROM verdict v LEFT JOIN baseline b USING (line, product, bundle) "
        "WHERE v.day >= %s AND v.result = 'PASS' AND b.line IS NULL",
        (today - timedelta(days=1),),
    ).fetchall()
    for key in running:
        db.execute(
            "INSERT INTO baseline SELECT %s, %s, %s, avg(score), stddev_samp(score), avg(blur_px), "
            "stddev_samp(blur_px), avg(brightness), stddev_samp(brightness) FROM ("
            "SELECT score, blur_px, brightness FROM verdict WHERE line = %s AND product = %s AND bundle = %s "
            "AND result = 'PASS' ORDER BY given_at, epoch, seq LIMIT 400) first HAVING count(*) = 400 "
            "ON CONFLICT DO NOTHING",
            (*key, *key),
        )
