"""Rows on disk as Parquet: parts while it goes on, whole tables at the end; what is there is not done again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hisir_edge.errors import InputError
from hisir_edge.images.write import write_durably
from hisir_edge.reinspect.boards import BoardRef
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
        ("lost", pa.list_(pa.int32())), ("fresh", pa.list_(pa.int32())), ("seconds", pa.float64()),
    ]
)  # fmt: skip


class Table:
    """The folder of one re-inspection. InputError where it is of another one.

    ``done``: keys of the boards that have their row. A run that was killed loses the rows since the last part, at most
    ``PART_ROWS``; they are made again.
    """

    def __init__(self, folder: Path, boards: Sequence[BoardRef], bundle_sha256: str, camera: str) -> None:
        self.folder, self._boards = folder, boards
        self._rows: list[Row] = []
        keys = hashlib.sha256("\n".join(board.key for board in boards).encode("utf-8", "surrogateescape")).hexdigest()
        plan = {"bundle": bundle_sha256, "camera": camera, "boards": len(boards), "keys_sha256": keys}
        try:
            (folder / PARTS).mkdir(parents=True, exist_ok=True)
            there = json.loads((folder / PLAN).read_text()) if (folder / PLAN).exists() else None
        except (OSError, ValueError) as error:
            raise InputError(
                expected="a folder to write to", received=f"{folder}: {error}", fix="name another"
            ) from error
        if there is None:
            write_durably(folder / PLAN, json.dumps(plan, indent=1).encode())
        elif there != plan:
            raise InputError(
                expected="an --out folder of the same boards, bundle and camera, or a new one", received=str(folder),
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
        """One more row; on disk once there are enough for a part, or at ``close``."""
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
        """The whole table in the order of the boards, once each has its row; also written."""
        self.flush()
        rows = {f"{row['archive']}/{row['name']}": row for part in self._parts for row in part.to_pylist()}
        whole = pa.Table.from_pylist([rows[board.key] for board in self._boards], schema=SCHEMA)
        timings = whole.select(["archive", "name", "seconds"])
        for name, table in ((BOARDS, whole.drop_columns(["seconds"])), (TIMINGS, timings)):
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink)
            write_durably(self.folder / name, sink.getvalue().to_pybytes())
        return whole


def table_of(rows: Iterable[Row]) -> Any:
    """Rows as an Arrow table."""
    return pa.Table.from_pylist([row.as_dict() for row in rows], schema=SCHEMA)
