"""fleet.toml: which lines are collected, and where to."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from hisir_edge.config.file import table_from_toml
from hisir_edge.config.sources import Table
from hisir_edge.fleet.address import is_database

PAGE = "docs/reference/fleet.md"


class StoreTable(Table):
    """``[store]``: where verdicts go."""

    target: str = Field(
        description="`postgresql://USER@HOST/DATABASE`; or a folder, or `s3://BUCKET/PATH` and the like, for Parquet"
    )
    name: str = Field(
        default="fleet", pattern=r"^[A-Za-z0-9_.-]{1,32}$",
        description="under which lines know how far this collector is, with keys KEY.NAME; another one for each store",
    )  # fmt: skip
    keep_days: int = Field(default=400, ge=1, le=36500, description="older boards are deleted, whole days at a time")
    bodies: bool = Field(
        default=False, description="keep each verdict's JSON, too: about 1.4 kB a board where the rest takes 0.4 kB"
    )
    write_every_s: float = Field(
        default=600.0, ge=1.0, le=3600.0,
        description="Parquet alone: a file for each line after so long; until then boards wait in the line's journal",
    )  # fmt: skip


class FleetLine(Table):
    """``[[line]]``: one of the lines."""

    paths: ClassVar[tuple[str, ...]] = ("server_key", "key")

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="its `line.name`: another one's is refused")
    endpoint: str = Field(description="its `publish.endpoint`, such as `tcp://10.0.0.13:5556`")
    control: str = Field(default="", description="its `control.endpoint`; empty: what its heartbeats tell")
    plant: str = Field(default="", max_length=64, description="the plant that it is in, as the tables name it")
    server_key: str = Field(default="", description="file with the line's public key, where it asks for keys")
    key: str = Field(default="", description="file with the collector's secret key, of the roles read and ack")


class Fleet(Table):
    """A whole fleet.toml."""

    paths: ClassVar[tuple[str, ...]] = ()

    store: StoreTable
    line: tuple[FleetLine, ...] = Field(strict=False, min_length=1)

    @field_validator("line")
    @classmethod
    def _each_once(cls, lines: tuple[FleetLine, ...]) -> tuple[FleetLine, ...]:
        for what in ("name", "endpoint"):
            seen = [getattr(line, what) for line in lines]
            twice = sorted({one for one in seen if seen.count(one) > 1})
            if twice:
                raise ValueError(f"lines that differ in {what}; {twice[0]} is there twice")
        return lines


def fleet_from_toml(path: Path) -> Fleet:
    """Read and validate; relative paths count from the file's folder. ConfigError names the key."""
    fleet = table_from_toml(path, Fleet, "fleet.toml", PAGE)
    if "://" in fleet.store.target or is_database(fleet.store.target):
        return fleet
    store = fleet.store.model_copy(update={"target": str(path.parent.absolute() / fleet.store.target)})
    return fleet.model_copy(update={"store": store})
