"""A fleet in PostgreSQL: tables by day, which are dropped whole once they are too old, and the views over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta, timezone
from threading import Lock
from typing import Any

import psycopg
from psycopg import sql

from hisir_edge.errors import InputError
from hisir_edge.fleet.rows import KEYS, TABLES, Batch, Column, Row
from hisir_edge.fleet.store import LineState, MovedError, Stop, Stopped, Tell
from hisir_edge.fleet.views import VIEWS
from hisir_edge.mes.cursor import Cursor

SCHEMA = "hisir_fleet"
LAYOUT = 1
TYPES = {
    "text": "text", "number": "double precision", "integer": "bigint", "time": "timestamptz", "day": "date"
}  # fmt: skip
CONNECT_S, FIRST_WAIT_S, LONGEST_WAIT_S = 5, 0.2, 5.0
MAKING = 0x6869736972
"""Of the lock under which tables are made: two collectors may begin at once."""


class PostgresStore:
    """``postgresql://``. One connection for all lines: a batch of rows is one transaction, with its line's place."""

    batch_rows, batch_s = 1000, 1.0

    def __init__(self, target: str, waiting: Tell, stop: Stop) -> None:
        """InputError for an address that is none, a database that does not let this in, or one of a later version."""
        self._target, self._waiting, self._stop = target, waiting, stop
        self._lock = Lock()
        self._db: psycopg.Connection[Any] | None = None
        self._days: dict[str, set[date]] = {name: set() for name in TABLES}
        self._new_days: set[tuple[str, date]] = set()
        try:
            psycopg.conninfo.conninfo_to_dict(target)
        except psycopg.ProgrammingError as error:
            raise InputError(
                expected="store.target postgresql://USER@HOST/DATABASE", received=str(error).strip(), fix="correct it"
            ) from error
        self._done(lambda db: None)

    def cursor(self, line: str) -> Cursor | None:
        """See ``Store``."""
        row = self._done(
            lambda db: db.execute("SELECT epoch, seq FROM cursor WHERE line = %s", (line,)).fetchone()
        )  # fmt: skip
        return Cursor(row[0], int(row[1])) if row else None

    def write(self, batch: Batch) -> None:
        """See ``Store``."""

        def stored(db: psycopg.Connection[Any]) -> None:
            self._move(db, batch)
            self._copy(db, "verdict", batch.verdicts)
            self._copy(db, "defect", batch.defects)

        self._done(stored)

    def last_decision(self, line: str, epoch: str) -> int:
        """See ``Store``."""
        query = "SELECT coalesce(max(id), 0) FROM decision WHERE line = %s AND epoch = %s"
        return int(self._done(lambda db: db.execute(query, (line, epoch)).fetchone())[0])

    def write_decisions(self, line: str, rows: list[Row]) -> None:
        """See ``Store``."""
        self._done(lambda db: self._copy(db, "decision", rows))

    def prune(self, keep_days: int) -> None:
        """See ``Store``: a day's table at a time, each a moment's work."""
        before = datetime.now(timezone.utc).date() - timedelta(days=keep_days)

        def dropped(db: psycopg.Connection[Any]) -> None:
            for name in TABLES:
                for day in _days_of(db, name):
                    if day < before:
                        db.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(_part(name, day))))
                        self._days[name].discard(day)

        self._done(dropped)

    def tell(self, lines: list[LineState]) -> None:
        """See ``Store``: the table ``line``."""
        now = datetime.now(timezone.utc)
        rows = [
            (one.name, one.plant, one.endpoint, one.wrong,
             None if one.heard_s is None else now - timedelta(seconds=one.heard_s))
            for one in lines
        ]  # fmt: skip
        self._done(
            lambda db: db.cursor().executemany(
                "INSERT INTO line VALUES (%s, %s, %s, %s, %s) ON CONFLICT (line) DO UPDATE SET plant = excluded.plant, "
                "endpoint = excluded.endpoint, wrong = excluded.wrong, "
                "heard_at = coalesce(excluded.heard_at, line.heard_at)",
                rows,
            )
        )

    def close(self) -> None:
        """See ``Store``."""
        with self._lock:
            self._disconnect()

    def _disconnect(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _move(self, db: psycopg.Connection[Any], batch: Batch) -> None:
        """The line's place, from where it was: whoever else has moved it has stored these boards."""
        before, after = batch.before, batch.after
        if before is None:
            moved = db.execute(
                "INSERT INTO cursor VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", (batch.line, after.epoch, after.seq)
            )
        else:
            moved = db.execute(
                "UPDATE cursor SET epoch = %s, seq = %s WHERE line = %s AND epoch = %s AND seq = %s",
                (after.epoch, after.seq, batch.line, before.epoch, before.seq),
            )
        if moved.rowcount != 1:
            raise MovedError(
                expected=f"one collector of {batch.line}", received="another one, which has stored boards meanwhile",
                fix="end one of them",
            )  # fmt: skip

    def _copy(self, db: psycopg.Connection[Any], name: str, rows: Sequence[Row]) -> None:
        """Rows into a table, by COPY and from there: what is stored already stays as it is."""
        if not rows:
            return
        self._make_days(db, name, {row[3] for row in rows})
        waiting = f"new_{name}"
        db.execute(
            f"CREATE TEMP TABLE IF NOT EXISTS {waiting} (LIKE {SCHEMA}.{name}) ON COMMIT DELETE ROWS"
        )  # fmt: skip
        with db.cursor().copy(f"COPY {waiting} FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        db.execute(f"INSERT INTO {name} SELECT * FROM {waiting} ON CONFLICT DO NOTHING")  # noqa: S608  # ours

    def _make_days(self, db: psycopg.Connection[Any], name: str, days: set[date]) -> None:
        for day in sorted(days - self._days[name]):
            part, until = _part(name, day), day + timedelta(days=1)
            # no other collector makes the same one meanwhile, and none is dropped under it
            db.execute("SELECT pg_advisory_xact_lock(%s)", (MAKING,))
            db.execute(
                f"CREATE TABLE IF NOT EXISTS {SCHEMA}.{part} PARTITION OF {name} "
                f"FOR VALUES FROM ('{day}') TO ('{until}')"
            )
        # known only once they are there for good: see ``_transaction``
        self._new_days.update((name, day) for day in days)

    def _done(self, what: Callable[[psycopg.Connection[Any]], Any]) -> Any:
        """One transaction, again and again while the database is away; Stopped once it is to end."""
        # stamina, which the other sinks wait by, cannot be woken to end
        wait_s = FIRST_WAIT_S
        with self._lock:
            while True:
                try:
                    return self._transaction(what)
                except psycopg.OperationalError as error:
                    self._disconnect()
                    self._waiting(f"the database: {str(error).strip()}")
                except (psycopg.errors.UndefinedTable, psycopg.errors.CheckViolation):
                    # somebody dropped a day, or all of it, under this collector
                    self._disconnect()
                    self._waiting("a table is gone: it is made again")
                except InputError:
                    self._disconnect()
                    raise
                except psycopg.Error as error:
                    self._disconnect()
                    raise InputError(
                        expected="a database that takes a fleet's tables", received=str(error).strip(),
                        fix="correct store.target, or its rights",
                    ) from error  # fmt: skip
                if self._stop(wait_s):
                    raise Stopped
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    def _transaction(self, what: Callable[[psycopg.Connection[Any]], Any]) -> Any:
        if self._db is None or self._db.closed:
            self._db = psycopg.connect(
                self._target, connect_timeout=CONNECT_S, options=f"-c search_path={SCHEMA},pg_temp -c timezone=UTC"
            )
            self._days = {name: set() for name in TABLES}
            with self._db.transaction():
                _made(self._db)
        self._new_days = set()
        with self._db.transaction():
            found = what(self._db)
        for name, day in self._new_days:
            self._days[name].add(day)
        return found


def _made(db: psycopg.Connection[Any]) -> None:
    """Tables and views, where they are not there; InputError for those of a later version."""
    db.execute("SELECT pg_advisory_xact_lock(%s)", (MAKING,))
    db.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    db.execute("CREATE TABLE IF NOT EXISTS layout (version integer PRIMARY KEY)")
    there = db.execute("SELECT max(version) FROM layout").fetchone()
    if there is not None and there[0] is not None and there[0] > LAYOUT:
        raise InputError(
            expected=f"a fleet of layout up to {LAYOUT}", received=f"{there[0]}", fix="update hisir-edge here"
        )
    db.execute("INSERT INTO layout VALUES (%s) ON CONFLICT DO NOTHING", (LAYOUT,))
    db.execute("CREATE TABLE IF NOT EXISTS cursor (line text PRIMARY KEY, epoch text NOT NULL, seq bigint NOT NULL)")
    db.execute(
        "CREATE TABLE IF NOT EXISTS line (line text PRIMARY KEY, plant text NOT NULL, endpoint text NOT NULL, "
        "wrong text NOT NULL, heard_at timestamptz)"
    )
    for name, columns in TABLES.items():
        key = ", ".join((*KEYS[name], "day"))
        listed = ", ".join(map(_declared, columns))
        db.execute(
            f"CREATE TABLE IF NOT EXISTS {name} ({listed}, PRIMARY KEY ({key})) PARTITION BY RANGE (day)"
        )  # fmt: skip
    db.execute("CREATE INDEX IF NOT EXISTS verdict_unit ON verdict (unit)")
    for name, text in VIEWS.items():
        db.execute(f"CREATE OR REPLACE VIEW {name} AS {text}")


def _declared(column: Column) -> str:
    needed = " NOT NULL" if column.kind in ("day", "time") or column.name in ("line", "epoch", "seq") else ""
    return f"{column.name} {TYPES[column.kind]}{needed}"


def _part(name: str, day: date) -> str:
    return f"{name}_{day:%Y%m%d}"


def _days_of(db: psycopg.Connection[Any], name: str) -> list[date]:
    """The days that a table has."""
    rows = db.execute(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace n ON n.oid = p.relnamespace "
        "WHERE n.nspname = %s AND p.relname = %s",
        (SCHEMA, name),
    )
    return [datetime.strptime(row[0].rpartition("_")[2], "%Y%m%d").date() for row in rows]  # noqa: DTZ007  # a day
