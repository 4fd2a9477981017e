"""A fleet in Parquet files by hour, in a folder or in object storage (fsspec)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from hisir_edge.bundle.lock import held_folder
from hisir_edge.errors import InputError
from hisir_edge.fleet.address import shown
from hisir_edge.fleet.rows import TABLES, Batch, Row
from hisir_edge.fleet.store import LineState, MovedError, Stop, Stopped, Tell
from hisir_edge.fleet.views import BASELINE_OF_LINES, VIEWS
from hisir_edge.images.write import write_durably
from hisir_edge.mes.cursor import Cursor

TYPES = {
    "text": pa.string(), "number": pa.float64(), "integer": pa.int64(), "time": pa.timestamp("us", tz="UTC")
}  # fmt: skip
SCHEMAS = {
    name: pa.schema([(column.name, TYPES[column.kind]) for column in columns if column.kind != "day"])
    for name, columns in TABLES.items()
}
"""Without the day, which is a folder's name."""
DAY_COLUMN = 3
PLACES, QUERIES = "_places", "views.duckdb.sql"
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
Hour = tuple[date, int]
NO_HOUR: Hour = (date(1970, 1, 1), 0)


class ParquetStore:
    """``TABLE/day=2026-11-30/hour=13/LINE-EPOCH-FIRST-LAST.parquet``, hours of UTC; each line's place in ``_places``.

    A batch is written with the names of its files told first: what a kill left half written is deleted at the next
    start and comes again. One collector at a time: of a folder another one is refused, of object storage it is found
    out before the next write.
    """

    batch_rows = 10_000
    asked_at: float | None = None

    def __init__(self, target: str, write_every_s: float, waiting: Tell, stop: Stop) -> None:
        """InputError for a folder that cannot be written, or a kind of storage that is not installed."""
        self.batch_s = write_every_s
        self._waiting, self._stop, self._lock = waiting, stop, Lock()
        self._places: dict[str, dict[str, Any]] = {}
        self._held = -1
        try:
            self._files, self._root = fsspec.core.url_to_fs(target)
            self._is_local = isinstance(self._files, fsspec.get_filesystem_class("file"))
            self._files.makedirs(self._root, exist_ok=True)
            self._put(QUERIES, queries(target).encode())
            if self._is_local:
                self._held = held_folder(Path(self._root) / PLACES, "store.target", InputError(
                    expected=f"one collector into {target}", received="another one that is running",
                    fix="end it, or name another folder",
                ))  # fmt: skip
            for name in TABLES:  # so that a query of a table without rows yet is no error
                self._put(f"{name}/{_folder(NO_HOUR)}/empty.parquet", _parquet(name, []))
        except (OSError, ValueError, ImportError) as error:
            raise InputError(
                expected="store.target: a folder, or object storage, that can be written",
                received=f"{shown(target)}: {type(error).__name__}",
                fix="postgresql://... for a database; correct it, or install the package that it needs",
            ) from error  # fmt: skip

    def cursor(self, line: str) -> Cursor | None:
        """See ``Store``; what is half written is deleted first."""
        place = self._done(lambda: self._mended(line))
        return Cursor(place["epoch"], place["seq"]) if place["epoch"] else None

    def write(self, batch: Batch) -> None:
        """See ``Store``."""
        span = f"{batch.line}-{batch.after.epoch}-{_first(batch)}-{batch.after.seq:012d}"
        files = {
            f"{name}/{_folder(hour)}/{span}.parquet": _parquet(name, rows)
            for name, found in (("verdict", batch.verdicts), ("defect", batch.defects))
            for hour, rows in _by_hour(found, _hours(batch.verdicts)).items()
        }

        def stored() -> None:
            place = self._place(batch.line)
            there = Cursor(place["epoch"], place["seq"]) if place["epoch"] else None
            if there != batch.before:
                raise MovedError(
                    expected=f"one collector of {batch.line}",
                    received="another one, which has stored boards meanwhile", fix="end one of them",
                )  # fmt: skip
            self._write(batch.line, files, {**place, "epoch": batch.after.epoch, "seq": batch.after.seq})

        self._done(stored)

    def last_decision(self, line: str, epoch: str) -> int:
        """See ``Store``."""
        return int(self._done(lambda: self._place(line))["decisions"].get(epoch, 0))

    def write_decisions(self, line: str, rows: list[Row]) -> None:
        """See ``Store``: those after the last one that is stored, of one epoch."""
        if not rows:
            return
        id_column = [column.name for column in TABLES["decision"]].index("id")
        epoch = rows[0][1]

        def stored() -> None:
            place = self._place(line)
            new = [row for row in rows if row[id_column] > place["decisions"].get(epoch, 0)]
            if not new:
                return
            span = f"{line}-{epoch}-{new[0][id_column]:012d}-{new[-1][id_column]:012d}"
            hours = {row[:3]: (row[DAY_COLUMN], row[-1].hour) for row in new}
            files = {
                f"decision/{_folder(hour)}/{span}.parquet": _parquet("decision", found)
                for hour, found in _by_hour(new, hours).items()
            }
            self._write(line, files, {**place, "decisions": {**place["decisions"], epoch: new[-1][id_column]}})

        self._done(stored)

    def prune(self, today: date, keep_days: int) -> None:
        """See ``Store``: the folders of a day at a time."""
        before = today - timedelta(days=keep_days)

        def deleted() -> None:
            for name in TABLES:
                for path in self._listed(name):
                    with suppress(ValueError):
                        if NO_HOUR[0] < date.fromisoformat(path.rpartition("day=")[2]) < before:
                            self._files.rm(path, recursive=True)

        self._done(deleted)

    def tell(self, lines: list[LineState]) -> None:
        """See ``Store``: a folder has no place for it."""

    def now(self) -> datetime:
        """See ``Store``: this machine's clock."""
        return datetime.now(timezone.utc)

    def close(self, timeout_s: float) -> None:
        """See ``Store``."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    def _listed(self, name: str) -> list[str]:
        folder = f"{self._root}/{name}"
        self._files.invalidate_cache()
        return list(self._files.ls(folder, detail=False)) if self._files.exists(folder) else []

    def _place(self, line: str) -> dict[str, Any]:
        """Epoch and number of a line's last stored board, and its decisions.

        A folder is this process's own and its places are read once; of other storage again and again.
        """
        if line not in self._places or not self._is_local:
            path = f"{PLACES}/{line}.json"
            place: dict[str, Any] = {"epoch": "", "seq": 0, "decisions": {}, "writing": [], "attempt": ""}
            if self._files.exists(f"{self._root}/{path}"):
                place.update(_read_place(self._files.cat_file(f"{self._root}/{path}"), f"{self._root}/{path}"))
            self._places[line] = place
        return self._places[line]

    def _mended(self, line: str) -> dict[str, Any]:
        """The place, once what a killed attempt has left half written is deleted."""
        place = self._place(line)
        if place["writing"]:
            whole = {**place, "writing": [], "attempt": ""}
            self._put(f"{PLACES}/{line}.json", json.dumps(whole).encode())  # who is still writing finds it out
            self._delete(place["writing"])
            self._places[line] = whole
        return self._places[line]

    def _delete(self, paths: Iterable[str]) -> None:
        for half in paths:
            if self._files.exists(f"{self._root}/{half}"):
                self._files.rm_file(f"{self._root}/{half}")

    def _write(self, line: str, files: dict[str, bytes], place: dict[str, Any]) -> None:
        before = self._mended(line)
        self._places.pop(line)  # read again, and mended, should anything fail on the way
        path, attempt = f"{PLACES}/{line}.json", uuid4().hex
        self._put(path, json.dumps({**before, "writing": list(files), "attempt": attempt}).encode())
        for name, content in files.items():
            self._put(name, content)
        if not self._is_local and self._place(line)["attempt"] != attempt:
            self._places.pop(line)
            self._delete(files)
            raise MovedError(
                expected=f"one collector of {line}", received="another one, which has begun meanwhile",
                fix="end one of them",
            )  # fmt: skip
        whole = {**place, "writing": [], "attempt": ""}
        self._put(path, json.dumps(whole).encode())
        self._places[line] = whole

    def _put(self, path: str, content: bytes) -> None:
        """A file that is there whole, or not at all: objects are, of files by renaming."""
        whole = f"{self._root}/{path}"
        if not self._is_local:
            self._files.pipe_file(whole, content)
            return
        Path(whole).parent.mkdir(parents=True, exist_ok=True)
        write_durably(Path(whole), content)

    def _done(self, what: Callable[[], Any]) -> Any:
        """Again and again while the storage is away; Stopped once it is to end."""
        wait_s = FIRST_WAIT_S
        with self._lock:
            while True:
                try:
                    return what()
                except (MovedError, DamagedError):
                    raise
                except Exception as error:  # each kind of storage has errors of its own
                    self._waiting(f"the storage: {type(error).__name__}: {error}")
                if self._stop(wait_s):
                    raise Stopped
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)


class DamagedError(InputError):
    """A line's place cannot be read."""


def _read_place(content: bytes, path: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
        if not isinstance(found["epoch"], str) or not isinstance(found["seq"], int):
            raise TypeError("epoch or seq")
        return dict(found)
    except (ValueError, LookupError, TypeError) as error:
        raise DamagedError(
            expected=f"a line's place in {path}", received=f"a damaged file ({error})",
            fix="put it back from a backup; or delete it and all files of its line (LINE-*.parquet): the line is "
            "collected again, from the beginning of its journal",
        ) from error  # fmt: skip


def _first(batch: Batch) -> str:
    """The first board's number, behind its epoch where that is an earlier one."""
    epoch, seq = batch.verdicts[0][1:3]
    return f"{seq:012d}" if epoch == batch.after.epoch else f"{epoch}-{seq:012d}"


def _hours(verdicts: list[Row]) -> dict[Row, Hour]:
    """By board, the day and hour that it is filed under."""
    return {row[:DAY_COLUMN]: (row[DAY_COLUMN], row[DAY_COLUMN + 1].hour) for row in verdicts}


def _by_hour(rows: Iterable[Row], hours: dict[Row, Hour]) -> dict[Hour, list[Row]]:
    found: dict[Hour, list[Row]] = {}
    for row in rows:
        found.setdefault(hours[row[:DAY_COLUMN]], []).append(row)
    return found


def _folder(hour: Hour) -> str:
    return f"day={hour[0].isoformat()}/hour={hour[1]:02d}"


def _parquet(name: str, rows: list[Row]) -> bytes:
    schema = SCHEMAS[name]
    without_day = [row[:DAY_COLUMN] + row[DAY_COLUMN + 1 :] for row in rows]
    columns = [[row[n] for row in without_day] for n in range(len(schema))]
    table = pa.table([pa.array(values, kind) for values, kind in zip(columns, schema.types, strict=True)], schema)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def queries(target: str) -> str:
    """The tables and views for DuckDB, over the files of a target."""
    root = shown(target) if "://" in target else os.path.abspath(target)  # noqa: PTH100  # a text for SQL
    quoted = root.rstrip("/").replace("'", "''")
    tables = [
        f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM "  # noqa: S608  # a text for a person, of names of ours
        f"read_parquet('{quoted}/{name}/*/*/*.parquet', "
        "hive_partitioning = true, hive_types = {day: DATE, hour: BIGINT});"
        for name in TABLES
    ]
    every = {"baseline": BASELINE_OF_LINES, **VIEWS}
    views = [f"CREATE OR REPLACE VIEW {name} AS {text.strip()};" for name, text in every.items()]
    head = "-- the fleet's tables and views: duckdb -init views.duckdb.sql"
    return "\n".join((head, *tables, *views)) + "\n"
