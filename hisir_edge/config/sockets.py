"""The tables of line.toml for what listens: verdicts, control, keys, metrics."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator, model_validator

from hisir_edge.config.sources import Table
from hisir_edge.transport.addresses import not_an_address


class PublishTable(Table):
    """``[publish]``: the verdict socket."""

    endpoint: str = Field(
        default="tcp://127.0.0.1:5556",
        description="address to bind; `tcp://` or `ipc://`. `tcp://*:5556` lets other machines in, with keys",
    )
    wait_for_subscribers: int = Field(
        default=0, ge=0, le=64, description="hold the first frame until this many are connected"
    )
    wait_timeout_s: float = Field(default=30.0, gt=0, le=3600, description="give up waiting, exit 2")
    send_high_water_mark: int = Field(
        default=256,
        ge=1,
        le=1_000_000,
        description="verdicts queued per slow subscriber before it misses some live (the journal has them)",
    )

    @field_validator("endpoint")
    @classmethod
    def _known_transport(cls, value: str) -> str:
        if wrong := not_an_address(value):
            raise ValueError(wrong)
        return value


class ControlTable(Table):
    """``[control]``: the socket that takes triggers, products and commands; no endpoint: none."""

    endpoint: str = Field(
        default="",
        description=(
            "address of the control socket, `ipc://` or `tcp://`; empty: none, and then nobody can ask for what "
            "was missed (protocol)"
        ),
    )

    @field_validator("endpoint")
    @classmethod
    def _known_transport(cls, value: str) -> str:
        if value and (wrong := not_an_address(value)):
            raise ValueError(wrong)
        return value


class SecurityTable(Table):
    """``[security]``: keys (CURVE) for all sockets but ipc ones; needed where other machines can reach one."""

    paths: ClassVar[tuple[str, ...]] = ("server_key", "clients")

    server_key: str = Field(
        default="",
        description=(
            "the line's secret key file (`hisir-edge keygen`), mode 0600; needed where other machines can reach a"
            " socket, and then asked for on every tcp one"
        ),
    )
    clients: str = Field(
        default="",
        description=(
            "folder with the public keys (`*.key`) of those who may connect, and their roles; read at each connection"
        ),
    )
    insecure: bool = Field(
        default=False,
        description="`true`: no keys although others can reach a socket; anybody may read, decide and command",
    )
    max_connections: int = Field(
        default=64, ge=1, le=1000, description="to each socket, over tcp and ipc; more are refused"
    )

    @model_validator(mode="after")
    def _whole(self) -> SecurityTable:
        if bool(self.server_key) != bool(self.clients):
            raise ValueError("both of server_key and clients, or neither")
        if self.insecure and self.server_key:
            raise ValueError("keys, or insecure = true, not both: with keys nobody is let in without one")
        return self


class MetricsTable(Table):
    """``[metrics]``: figures for Prometheus on this machine; port 0: none."""

    port: int = Field(
        default=0, ge=0, le=65535, description="figures for Prometheus on `http://127.0.0.1:PORT/metrics`; 0: none"
    )
