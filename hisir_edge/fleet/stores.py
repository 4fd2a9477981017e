"""The store that a target asks for."""

from __future__ import annotations

from hisir_edge.errors import InputError
from hisir_edge.fleet.address import is_database, shown
from hisir_edge.fleet.settings import StoreTable
from hisir_edge.fleet.store import Stop, Store, Tell


def opened(table: StoreTable, waiting: Tell, stop: Stop) -> Store:
    """The store of a target. InputError for one that cannot be used, or whose packages are not installed."""
    in_database = is_database(table.target)
    try:
        if in_database:
            from hisir_edge.fleet.postgres import PostgresStore

            return PostgresStore(table.target, waiting, stop)
        from hisir_edge.fleet.parquet import ParquetStore

        return ParquetStore(table.target, table.write_every_s, waiting, stop)
    except ModuleNotFoundError as error:
        raise InputError(
            expected=f"the packages for store.target {shown(table.target)}", received=str(error),
            fix=f"pip install 'hisir-edge[{'postgres' if in_database else 'reinspect'}]'",
        ) from error  # fmt: skip
