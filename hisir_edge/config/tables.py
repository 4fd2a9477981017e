"""The tables of line.toml as frozen settings, all validated before a device opens."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from hisir_edge.config.sources import AnySource, Table
from hisir_edge.labels import FIELD
from hisir_edge.transport.addresses import not_an_address, reachable_by_others


class LineTable(Table):
    """``[line]``: who publishes."""

    name: str = Field(default="line-1", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    deadline_ms: int = Field(default=30_000, ge=100, le=3_600_000, description="from a trigger to its verdict")
    expected_period_ms: int = Field(default=0, ge=0, le=86_400_000, description="longest time between boards; 0: any")
    pair_ms: int = Field(default=500, ge=10, le=600_000, description="frames of one board come within, see [[also]]")


class BundleTable(Table):
    """``[bundle]``: what is inspected."""

    path: str
    others: tuple[str, ...] = Field(default=(), strict=False, description="further products, loaded at the start")


class PublishTable(Table):
    """``[publish]``: the verdict socket."""

    endpoint: str = "tcp://127.0.0.1:5556"
    wait_for_subscribers: int = Field(default=0, ge=0, le=64)
    wait_timeout_s: float = Field(default=30.0, gt=0, le=3600)
    send_high_water_mark: int = Field(default=256, ge=1, le=1_000_000, description="for each subscriber")

    @field_validator("endpoint")
    @classmethod
    def _known_transport(cls, value: str) -> str:
        if wrong := not_an_address(value):
            raise ValueError(wrong)
        return value


class IdentityTable(Table):
    """``[identity]``: the board's name from a code on the board."""

    barcode: bool = False
    formats: tuple[str, ...] = Field(default=("DataMatrix", "QRCode", "Code128", "Code39"), strict=False)
    region: tuple[int, int, int, int] | None = Field(default=None, strict=False, description="x, y, w, h in the frame")
    field: str = Field(default="", description="the label's field that names the board, such as S or 21; empty: all")
    pattern: str = Field(default=".{1,200}", description="regular expression that the whole name follows")
    required: bool = Field(default=True, description="a board without a code that can be read is an ERROR")

    @field_validator("field")
    @classmethod
    def _a_field(cls, value: str) -> str:
        if value and not FIELD.fullmatch(value):
            raise ValueError("a data identifier such as S or 1T, or a GS1 application identifier such as 21")
        return value

    @field_validator("pattern")
    @classmethod
    def _a_pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"a regular expression ({error})") from error
        return value

    @field_validator("region")
    @classmethod
    def _a_region(cls, value: tuple[int, int, int, int] | None) -> tuple[int, int, int, int] | None:
        if value is not None and (min(value) < 0 or 0 in value[2:]):
            raise ValueError("x, y, w, h of a region within the frame")
        return value


class ControlTable(Table):
    """``[control]``: the socket that takes triggers, products and commands; no endpoint: none."""

    endpoint: str = ""

    @field_validator("endpoint")
    @classmethod
    def _known_transport(cls, value: str) -> str:
        if value and (wrong := not_an_address(value)):
            raise ValueError(wrong)
        return value


class SecurityTable(Table):
    """``[security]``: keys (CURVE) for all sockets but ipc ones; needed where other machines can reach one."""

    server_key: str = Field(default="", description="the line's secret key file")
    clients: str = Field(default="", description="folder with the public keys of those who may connect")
    insecure: bool = Field(default=False, description="no keys although others can reach a socket: anybody may do all")
    max_connections: int = Field(default=64, ge=1, le=1000, description="to each socket, over tcp")

    @model_validator(mode="after")
    def _whole(self) -> SecurityTable:
        if bool(self.server_key) != bool(self.clients):
            raise ValueError("both of server_key and clients, or neither")
        if self.insecure and self.server_key:
            raise ValueError("keys, or insecure = true, not both: with keys nobody is let in without one")
        return self


class InferTable(Table):
    """``[infer]``: how the engine runs."""

    threads: int = Field(default=0, ge=0, le=256, description="0: every core there is")
    slots: int = Field(default=2, ge=1, le=8, description="frames in flight; 1 takes the least memory")


class OutputTable(Table):
    """``[output]``: pictures kept on disk; empty folder: none."""

    overlay_folder: str = ""
    overlay_of: Literal["all", "fail"] = "fail"
    pass_each: int = Field(default=0, ge=0, description="with overlay_of = fail also every so many-th PASS; 0: none")
    budget_mb: int = Field(default=2000, ge=1, description="the oldest pictures are deleted beyond it")


class HermesTable(Table):
    """``[hermes]``: the machine before this one tells which board comes (IPC-HERMES-9852); no host: nobody does."""

    host: str = ""
    port: int = Field(default=50101, ge=1, le=65535, description="50100 and the lane")
    lane_id: int = Field(default=1, ge=1, le=99)
    machine_id: str = Field(default="", description="empty: line.name")
    unit: Literal["BoardId", "TopBarcode", "BottomBarcode"] = "BoardId"
    products: dict[str, str] = Field(default={}, description="ProductTypeId to product, where they differ")
    check_alive: bool = Field(default=True, description="a sender that is silent for a minute is gone")
    transport_s: float = Field(
        default=30.0, gt=0, le=3600, description="after so long without TransportFinished the sender gets StopTransport"
    )


class JournalTable(Table):
    """``[journal]``: every verdict on disk before it is published."""

    folder: str = Field(default="", description="empty: systemd's StateDirectory, else the user's state folder")
    synchronous: Literal["FULL", "NORMAL"] = Field(default="FULL", description="NORMAL: a power cut may cost the last")
    keep_days: float = Field(default=90.0, gt=0, le=36500)
    budget_mb: int = Field(default=2000, ge=16)


class MetricsTable(Table):
    """``[metrics]``: figures for Prometheus on this machine; port 0: none."""

    port: int = Field(default=0, ge=0, le=65535)


class ViewTable(Table, defer_build=True):
    """``[[also]]``: one more camera that looks at the same board, with bundles of its own for the same products."""

    source: AnySource
    bundle: BundleTable


class Settings(Table, defer_build=True):
    """A whole line.toml."""

    line: LineTable = LineTable()
    bundle: BundleTable
    source: AnySource
    also: tuple[ViewTable, ...] = Field(default=(), strict=False, max_length=7)
    publish: PublishTable = PublishTable()
    control: ControlTable = ControlTable()
    security: SecurityTable = SecurityTable()
    identity: IdentityTable = IdentityTable()
    infer: InferTable = InferTable()
    output: OutputTable = OutputTable()
    metrics: MetricsTable = MetricsTable()
    journal: JournalTable = JournalTable()
    hermes: HermesTable = HermesTable()

    @model_validator(mode="after")
    def _a_period_of_what(self) -> Settings:
        if self.line.expected_period_ms and self.source.trigger == "software":
            raise ValueError('line.expected_period_ms = 0 with source.trigger = "software": frames come when asked for')
        return self

    @model_validator(mode="after")
    def _closed_to_strangers(self) -> Settings:
        for name, endpoint in (("publish", self.publish.endpoint), ("control", self.control.endpoint)):
            if reachable_by_others(endpoint) and not (self.security.server_key or self.security.insecure):
                raise ValueError(
                    f"keys for {name}.endpoint {endpoint}, which other machines can reach: security.server_key and "
                    "security.clients (hisir-edge keygen makes them), or security.insecure = true"
                )
        return self

    @model_validator(mode="after")
    def _views_of_one_board(self) -> Settings:
        names = [self.source.name, *(view.source.name for view in self.also)]
        if len(set(names)) < len(names):
            raise ValueError(f"a source.name of its own for each camera, not {', '.join(names)}")
        if any(view.source.trigger != self.source.trigger for view in self.also):
            raise ValueError("the same source.trigger for all cameras of a board")
        return self
