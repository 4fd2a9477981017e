"""A fleet in PostgreSQL: tables by day, which are dropped whole once they are too old, and the views over them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta, timezone
from functools import partial
from threading import Lock
from typing import Any

import psycopg
from psycopg import errors

from hisir_edge.errors import InputError
from hisir_edge.fleet.address import connection_of
from hisir_edge.fleet.layout import MAKING, SCHEMA, days_of, keep_baselines, make_tables, part_of
from hisir_edge.fleet.rows import TABLES, Batch, Row, clean
from hisir_edge.fleet.store import LineState, MovedError, Stop, Stopped, Tell
from hisir_edge.mes.cursor import Cursor

FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 5.0
SETTINGS = {
    "connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    # nobody who reads for long, or changes tables, holds all lines back without a word
    "options": f"-c search_path={SCHEMA},pg_temp -c timezone=UTC -c lock_timeout=5s -c statement_timeout=60s",
}  # fmt: skip
HOPELESS = ("28", "3D", "3F", "42501", "54", "22", "23", "0A")
"""Classes of errors that no waiting mends: not let in, no such database, no right, more than a table can hold."""


class PostgresStore:
    """``postgresql://``. One connection for all lines: a batch of rows is one transaction, with its line's place."""

    batch_rows, batch_s = 1000, 1.0

    def __init__(self, target: str, waiting: Tell, stop: Stop) -> None:
        """InputError for an address that is none, a database that does not let this in, or one of a later version."""
        self._address, self._waiting, self._stop = connection_of(target, "store.target"), waiting, stop
        self._lock = Lock()
        self._db: psycopg.Connection[Any] | None = None
        self._days: dict[str, set[date]] = {name: set() for name in TABLES}
        self._new_days: set[tuple[str, date]] = set()
        self.asked_at: float | None = None
        self._done(lambda db: None)

    def now(self) -> datetime:
        """See ``Store``: the database's clock, one for all collectors."""
        return datetime.fromtimestamp(
            float(self._done(lambda db: db.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone())[0]),
            timezone.utc,
        )

    def cursor(self, line: str) -> Cursor | None:
        """See ``Store``."""
        row = self._done(lambda db: db.execute("SELECT epoch, seq FROM cursor WHERE line = %s", (line,)).fetchone())
        return Cursor(row[0], int(row[1])) if row else None

    def write(self, batch: Batch) -> None:
        """See ``Store``."""

        def stored(db: psycopg.Connection[Any]) -> None:
            self._move(db, batch)
            self._copy(db, "verdict", batch.verdicts)
            self._copy(db, "defect", batch.defects)

        self._done(stored)

    def last_decision(self, line: str, epoch: str) -> int:
        """See ``Store``; also of decisions that were deleted since."""
        query = "SELECT coalesce(max(id), 0) FROM told WHERE line = %s AND epoch = %s"
        return int(self._done(lambda db: db.execute(query, (line, epoch)).fetchone())[0])

    def write_decisions(self, line: str, rows: list[Row]) -> None:
        """See ``Store``."""
        last = {(row[0], row[1]): row[4] for row in rows}

        def stored(db: psycopg.Connection[Any]) -> None:
            self._copy(db, "decision", rows)
            for (name, epoch), number in last.items():
                db.execute(
                    "INSERT INTO told VALUES (%s, %s, %s) "
                    "ON CONFLICT (line, epoch) DO UPDATE SET id = greatest(told.id, excluded.id)",
                    (name, epoch, number),
                )

        self._done(stored)

    def prune(self, today: date, keep_days: int) -> None:
        """See ``Store``: a day's table at a time, each a moment's work; tomorrow's are made, and baselines kept.

        Whoever reads the tables has the right of way: it is tried again the next time.
        """

        def made(db: psycopg.Connection[Any]) -> None:
            for name in TABLES:
                self._make_days(db, name, {today, today + timedelta(days=1)})

        def dropped(db: psycopg.Connection[Any], name: str, day: date) -> None:
            db.execute(f"DROP TABLE {SCHEMA}.{part_of(name, day)}")
            self._days[name].discard(day)

        self._kept(made)
        for name in TABLES:
            for day in self._kept(partial(days_of, name=name)):
                if day < today - timedelta(days=keep_days):
                    self._kept(partial(dropped, name=name, day=day))
        self._kept(lambda db: keep_baselines(db, today))  # the longest comes last: it keeps no day from going

    def _kept(self, what: Callable[[psycopg.Connection[Any]], Any]) -> Any:
        """A transaction of housekeeping: short, and tried once, so that it holds up no board."""

        def briefly(db: psycopg.Connection[Any]) -> Any:
            db.execute("SET LOCAL lock_timeout = '1s'")
            db.execute("SET LOCAL statement_timeout = '10s'")
            return what(db)

        return self._done(briefly, once=True)

    def tell(self, lines: list[LineState]) -> None:
        """See ``Store``: the table ``line``."""
        rows = [(one.name, one.plant, one.endpoint, clean(one.wrong)[:400], one.heard_s) for one in lines]
        self._done(
            lambda db: db.cursor().executemany(
                "INSERT INTO line VALUES (%s, %s, %s, %s, clock_timestamp() - make_interval(secs => %s), "
                "clock_timestamp()) ON CONFLICT (line) DO UPDATE SET plant = excluded.plant, "
                "endpoint = excluded.endpoint, wrong = excluded.wrong, told_at = excluded.told_at, "
                "heard_at = coalesce(excluded.heard_at, line.heard_at)",
                rows,
            )
        )

    def close(self, timeout_s: float) -> None:
        """See ``Store``."""
        if self._lock.acquire(timeout=max(timeout_s, 0.01)):  # else it ends with the process
            self._disconnect()
            self._lock.release()

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
        db.execute(f"CREATE TEMP TABLE IF NOT EXISTS {waiting} (LIKE {SCHEMA}.{name}) ON COMMIT DELETE ROWS")
        with db.cursor().copy(f"COPY {waiting} FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        db.execute(f"INSERT INTO {name} SELECT * FROM {waiting} ON CONFLICT DO NOTHING")  # noqa: S608  # ours

    def _make_days(self, db: psycopg.Connection[Any], name: str, days: set[date]) -> None:
        """Made beside the table and then attached, which holds up nobody who reads it; detached ones are taken back."""
        missing = days - self._days[name]
        if not missing:
            return
        # no other collector makes the same one meanwhile, and none is dropped under it
        db.execute("SELECT pg_advisory_xact_lock(%s)", (MAKING,))
        for day in sorted(missing - set(days_of(db, name))):
            part, until = f"{SCHEMA}.{part_of(name, day)}", day + timedelta(days=1)
            db.execute(f"CREATE TABLE IF NOT EXISTS {part} (LIKE {SCHEMA}.{name} INCLUDING DEFAULTS)")
            db.execute(f"ALTER TABLE {name} ATTACH PARTITION {part} FOR VALUES FROM ('{day}') TO ('{until}')")
        # known only once they are there for good: see ``_transaction``
        self._new_days.update((name, day) for day in missing)

    def _done(self, what: Callable[[psycopg.Connection[Any]], Any], once: bool = False) -> Any:
        """One transaction, again and again while the database is away; Stopped once it is to end.

        InputError for what no waiting mends, and for anything where it is tried ``once``.
        """
        # stamina, which the other sinks wait by, cannot be woken to end
        wait_s = FIRST_WAIT_S
        while True:
            with self._lock:
                self.asked_at = time.monotonic()
                try:
                    return self._transaction(what)
                except (InputError, MovedError):
                    raise
                except (errors.UndefinedTable, errors.CheckViolation):
                    # somebody dropped a day, or all of it, under this collector
                    self._disconnect()
                    reason = "a table of the database is gone: it is made again"
                except psycopg.Error as error:
                    self._disconnect()
                    reason = f"the database: {_told(error)}"
                    if once or not _may_pass(error):
                        raise InputError(
                            expected="a database that takes a fleet's tables", received=_told(error),
                            fix="correct store.target, or what this user may do there",
                        ) from error  # fmt: skip
                finally:
                    self.asked_at = None
            self._waiting(reason)
            if self._stop(wait_s):
                raise Stopped
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    def _transaction(self, what: Callable[[psycopg.Connection[Any]], Any]) -> Any:
        if self._db is None or self._db.closed:
            self._db = psycopg.connect(**{**self._address, **SETTINGS})
            self._days = {name: set() for name in TABLES}
            try:
                with self._db.transaction():
                    make_tables(self._db)
            except BaseException:
                self._disconnect()
                raise
        self._new_days = set()
        with self._db.transaction():
            found = what(self._db)
        for name, day in self._new_days:
            self._days[name].add(day)
        return found


def _may_pass(error: psycopg.Error) -> bool:
    """Whether waiting may mend it: connections, locks, a full disk, a server that starts or only reads just now."""
    state = error.sqlstate or ""
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return True
    if not state:  # never connected: psycopg has no code of it, the server's words alone
        hopeless = ("authentication failed", "does not exist", "not permitted to log in", "no pg_hba.conf entry")
        return isinstance(error, psycopg.OperationalError) and not any(words in str(error) for words in hopeless)
    return isinstance(error, psycopg.OperationalError) and not state.startswith(HOPELESS)


def _told(error: psycopg.Error) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
