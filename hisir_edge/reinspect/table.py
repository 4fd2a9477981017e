"""Rows on disk as Parquet: parts while it goes on, whole tables at the end; what is there is not done again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hisir_edge.errors import InputError
from hisir_edge.images.write import write_durably
from hisir_edge.reinspect.row import Row

PART_ROWS = 200
PLAN, PARTS, BOARDS, TIMINGS = "plan.json", "parts", "boards.parquet", "timings.parquet"
SCHEMA = pa.schema(
    [
        ("archive", pa.string()), ("name", pa.string()), ("epoch", pa.string()), ("seq", pa.int64()),
        ("line", pa.string()), ("unit", pa.string()), ("product", pa.string()), ("camera", pa.string()),
        ("grabbed_at", pa.string()), ("old_bundle", pa.string()), ("old_result", pa.string()),
        ("old_score", pa.float64()), ("old_defects", pa.int32()), ("old_parts", pa.string()),
        ("new_result", pa.string()), ("new_score", pa.float64()), ("new_defects", pa.int32()),
        ("new_parts", pa.string()), ("new_boxes", pa.string()), ("reason", pa.string()),
        ("priorities", pa.list_(pa.int32())),
        ("lost", pa.list_(pa.int32())), ("fresh", pa.list_(pa.int32())), ("seconds", pa.float64()),
    ]
)  # fmt: skip


class Table:
    """The folder of one bundle's re-inspections. InputError where it is of another one.

    ``done``: keys of the boards that have their row; a folder may get more boards later, as a line's archive does. A
    run that was killed loses the rows since the last part, at most ``PART_ROWS``; they are made again.
    """

    def __init__(self, folder: Path, bundle_seal: str, camera: str) -> None:
        self.folder = folder
        self._rows: list[Row] = []
        self._later: list[Row] = []
        plan = {"bundle": bundle_seal, "camera": camera}
        try:
            (folder / PARTS).mkdir(parents=True, exist_ok=True)
            there = json.loads((folder / PLAN).read_text()) if (folder / PLAN).exists() else None
            if there is None:
                write_durably(folder / PLAN, json.dumps(plan, indent=1).encode())
        except (OSError, ValueError) as error:
            raise InputError(
                expected="a folder to write to", received=f"{folder}: {error}", fix="name another"
            ) from error
        if there not in (None, plan):
            raise InputError(
                expected="an --out folder of the same bundle and camera, or a new one", received=str(folder),
                fix="name a new one",
            )  # fmt: skip
        self._parts = self._whole_parts()
        self.done = {f"{row['archive']}/{row['name']}" for part in self._parts for row in part.to_pylist()}

    def _whole_parts(self) -> list[Any]:
        parts = []
        for path in sorted((self.folder / PARTS).glob("*.parquet")):
            try:
                parts.append(pq.read_table(path, schema=SCHEMA))
            except (OSError, pa.ArrowInvalid) as error:
                raise InputError(
                    expected=f"{path} as it was written", received=str(error)[:200], fix="delete it: it is made again"
                ) from error
        return parts

    def add(self, row: Row) -> None:
        """One more row; on disk once there are enough for a part. One that may be better later is not."""
        if row.again:
            self._later.append(row)
            return
        self._rows.append(row)
        if len(self._rows) >= PART_ROWS:
            self.flush()

    def flush(self) -> None:
        """What is not on disk yet, as a part."""
        if not self._rows:
            return
        part = table_of(self._rows)
        name = f"{len(self._parts):06d}-{os.getpid()}.parquet"
        sink = pa.BufferOutputStream()
        pq.write_table(part, sink)
        write_durably(self.folder / PARTS / name, sink.getvalue().to_pybytes())
        self._parts.append(part)
        self._rows = []

    def finish(self) -> Any:
        """All rows, by archive, epoch and number; also written."""
        self.flush()
        rows = {_place(row): row for part in (*self._parts, table_of(self._later)) for row in part.to_pylist()}
        whole = pa.Table.from_pylist([rows[place] for place in sorted(rows)], schema=SCHEMA)
        timings = whole.select(["archive", "name", "seconds"])
        for name, table in ((BOARDS, whole.drop_columns(["seconds"])), (TIMINGS, timings)):
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink)
            write_durably(self.folder / name, sink.getvalue().to_pybytes())
        return whole


def _place(row: dict[str, Any]) -> tuple[str, str, int, str]:
    return row["archive"], row["epoch"], row["seq"], row["name"]


def table_of(rows: Iterable[Row]) -> Any:
    """Rows as an Arrow table."""
    return pa.Table.from_pylist([{name: row.as_dict()[name] for name in SCHEMA.names} for row in rows], schema=SCHEMA)
