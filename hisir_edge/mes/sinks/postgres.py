"""A table in PostgreSQL, over psycopg; verdict and cursor in one transaction: each verdict is in it once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import stamina

from hisir_edge.errors import InputError
from hisir_edge.mes.cursor import Cursor
from hisir_edge.mes.sinks.base import OnRetry, Target
from hisir_edge.mes.verdict import Verdict

TABLES = """
CREATE TABLE IF NOT EXISTS hisir_verdict (
  epoch text NOT NULL, seq bigint NOT NULL, line text NOT NULL, unit text NOT NULL, result text NOT NULL,
  product text NOT NULL, given_at timestamptz NOT NULL, body text NOT NULL, mask bytea, PRIMARY KEY (epoch, seq)
);
CREATE INDEX IF NOT EXISTS hisir_verdict_unit ON hisir_verdict (unit);
CREATE TABLE IF NOT EXISTS hisir_cursor (name text PRIMARY KEY, epoch text NOT NULL, seq bigint NOT NULL);
"""
LONGEST_WAIT_S = 5.0
CONNECT_S = 5


class PostgresSink:
    """Connects again as often as it takes: while the database is away, verdicts wait in the line's journal.

    ``body`` is text, as it was published to the byte; ``body::jsonb`` for queries.
    """

    def __init__(self, target: Target, on_retry: OnRetry) -> None:
        """InputError for an address that is none, or a database that lets this user in for nothing of this."""
        stamina.instrumentation.set_on_retry_hooks([])  # ``on_retry`` tells
        self._target, self._on_retry = target, on_retry
        self._db: psycopg.Connection[Any] | None = None
        try:
            psycopg.conninfo.conninfo_to_dict(target.target)
        except psycopg.ProgrammingError as error:
            raise InputError(
                expected="--target postgresql://USER@HOST/DATABASE", received=str(error).strip(), fix="correct it"
            ) from error
        self._done(lambda db: db.execute(TABLES))

    def load(self) -> Cursor | None:
        """See ``CursorStore``."""
        select = "SELECT epoch, seq FROM hisir_cursor WHERE name = %s"
        row = self._done(lambda db: db.execute(select, (self._target.name,)).fetchone())
        return Cursor(row[0], int(row[1])) if row else None

    def put(self, verdict: Verdict) -> None:
        """See ``Sink``."""
        v = verdict
        row = (
            v.epoch, v.seq, v.line, v.unit.replace("\0", ""), v.result, v.product, v.time, v.text.decode(),
            v.mask if self._target.masks else None,
        )  # fmt: skip

        def both(db: psycopg.Connection[Any]) -> None:
            db.execute(
                "INSERT INTO hisir_verdict VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING", row
            )
            self._move(db, Cursor(v.epoch, v.seq))

        self._done(both)

    def save(self, cursor: Cursor) -> None:
        """See ``CursorStore``: a verdict's is saved with it."""
        if self.load() is None:
            self._done(lambda db: self._move(db, cursor))

    def close(self) -> None:
        """See ``CursorStore``."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _move(self, db: psycopg.Connection[Any], cursor: Cursor) -> None:
        db.execute(
            "INSERT INTO hisir_cursor VALUES (%s, %s, %s) "
            "ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq",
            (self._target.name, cursor.epoch, cursor.seq),
        )

    def _done(self, what: Callable[[psycopg.Connection[Any]], Any]) -> Any:
        """One transaction, again and again while the database is away."""
        try:
            for attempt in stamina.retry_context(
                on=psycopg.OperationalError, attempts=None, timeout=None, wait_initial=0.2, wait_max=LONGEST_WAIT_S
            ):
                with attempt:
                    return self._transaction(what)
        except psycopg.Error as error:
            raise InputError(
                expected="a database that takes verdicts",
                received=str(error).strip(),
                fix="correct --target, or its rights",
            ) from error
        raise AssertionError  # the loop ends by its return alone

    def _transaction(self, what: Callable[[psycopg.Connection[Any]], Any]) -> Any:
        try:
            if self._db is None or self._db.closed:
                self._db = psycopg.connect(self._target.target, connect_timeout=CONNECT_S)
            with self._db.transaction():
                return what(self._db)
        except psycopg.OperationalError as error:
            self._on_retry(str(error).strip())
            self.close()
            raise
