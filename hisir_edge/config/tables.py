"""The tables of line.toml as frozen settings, all validated before a device opens."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from hisir_edge.images.header import MAX_SIDE_PX
from hisir_edge.labels import FIELD
from hisir_edge.transport.addresses import not_an_address, reachable_by_others


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class LineTable(_Table):
    """``[line]``: who publishes."""

    name: str = Field(default="line-1", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    deadline_ms: int = Field(default=30_000, ge=100, le=3_600_000, description="from a trigger to its verdict")
    expected_period_ms: int = Field(default=0, ge=0, le=86_400_000, description="longest time between boards; 0: any")
    pair_ms: int = Field(default=500, ge=10, le=600_000, description="frames of one board come within, see [[also]]")


class BundleTable(_Table):
    """``[bundle]``: what is inspected."""

    path: str
    others: tuple[str, ...] = Field(default=(), strict=False, description="further products, loaded at the start")


Trigger = Literal["free-run", "software", "hardware"]
"""Every frame is a trigger; the control socket asks for each; the camera waits for a signal on a line."""


class ReplaySource(_Table):
    """``[source]`` with ``type = "replay"``: a folder of images as a camera."""

    type: Literal["replay"]
    name: str = Field(default="replay", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    folder: str
    rate_hz: float = Field(default=0.0, ge=0, le=1000, description="0: as fast as frames are taken")
    recursive: bool = Field(default=False, description="pictures from folders below, too")
    loop: bool = False
    trigger: Literal["free-run", "software"] = "free-run"


class CameraTable(_Table):
    """What every camera is asked, whatever library reaches it; features by their SFNC names."""

    name: str = Field(default="camera", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    pixel_format: Literal["Mono8", "RGB8", "BGR8", "RGBa8", "BayerRG8", "BayerGB8", "BayerGR8", "BayerBG8"] | None = (
        None
    )
    width: int | None = Field(default=None, gt=0, le=MAX_SIDE_PX)
    height: int | None = Field(default=None, gt=0, le=MAX_SIDE_PX)
    frame_rate_hz: float | None = Field(default=None, gt=0, le=10000)
    ring_slots: int = Field(default=8, ge=2, le=256)
    restart_delay_s: float = Field(default=1.0, ge=0.05, le=60)
    trigger: Trigger = "free-run"
    trigger_selector: str = "FrameStart"
    trigger_source: str = Field(default="", description="the camera's line with trigger = hardware, such as Line1")
    trigger_activation: str = ""
    trigger_delay_us: float | None = Field(default=None, ge=0, le=60_000_000)
    exposure_us: float | None = Field(default=None, gt=0, le=60_000_000)
    gain_db: float | None = Field(default=None, ge=0, le=100)
    packet_bytes: int | None = Field(default=None, ge=220, le=16384, description="GevSCPSPacketSize")
    chunk_data: bool = Field(default=False, description="id, time and exposure with each frame, where the camera can")
    late_ms: float = Field(default=0.0, ge=0, le=3_600_000, description="0: a frame may take as long as it likes")
    profile: str = Field(default="", description="file of hisir-edge camera, which the camera has to match")

    @model_validator(mode="after")
    def _a_line_for_hardware(self) -> CameraTable:
        if self.trigger == "hardware" and not self.trigger_source:
            raise ValueError('trigger_source with trigger = "hardware", such as "Line1"')
        return self


class GenicamSource(CameraTable):
    """``[source]`` with ``type = "genicam"``: a camera behind a GenTL producer (.cti file)."""

    type: Literal["genicam"]
    cti: str
    device: int = Field(default=0, ge=0, le=255, description="position in the producer's device list")


class AravisSource(CameraTable):
    """``[source]`` with ``type = "aravis"``: a GigE Vision or USB3 Vision camera without its maker's software."""

    type: Literal["aravis"]
    device_id: str = Field(default="", description="id, address or serial number; empty: the first that is found")
    packet_resend: bool = Field(default=True, description="lost packets are asked for again")


class PublishTable(_Table):
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


class IdentityTable(_Table):
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


class ControlTable(_Table):
    """``[control]``: the socket that takes triggers, products and commands; no endpoint: none."""

    endpoint: str = ""

    @field_validator("endpoint")
    @classmethod
    def _known_transport(cls, value: str) -> str:
        if value and (wrong := not_an_address(value)):
            raise ValueError(wrong)
        return value


class SecurityTable(_Table):
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


class InferTable(_Table):
    """``[infer]``: how the engine runs."""

    threads: int = Field(default=0, ge=0, le=256, description="0: every core there is")
    slots: int = Field(default=2, ge=1, le=8, description="frames in flight; 1 takes the least memory")


class OutputTable(_Table):
    """``[output]``: pictures kept on disk; empty folder: none."""

    overlay_folder: str = ""
    overlay_of: Literal["all", "fail"] = "fail"
    pass_each: int = Field(default=0, ge=0, description="with overlay_of = fail also every so many-th PASS; 0: none")
    budget_mb: int = Field(default=2000, ge=1, description="the oldest pictures are deleted beyond it")


class HermesTable(_Table):
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


class JournalTable(_Table):
    """``[journal]``: every verdict on disk before it is published."""

    folder: str = Field(default="", description="empty: systemd's StateDirectory, else the user's state folder")
    synchronous: Literal["FULL", "NORMAL"] = Field(default="FULL", description="NORMAL: a power cut may cost the last")
    keep_days: float = Field(default=90.0, gt=0, le=36500)
    budget_mb: int = Field(default=2000, ge=16)


class MetricsTable(_Table):
    """``[metrics]``: figures for Prometheus on this machine; port 0: none."""

    port: int = Field(default=0, ge=0, le=65535)


AnySource = Annotated[ReplaySource | GenicamSource | AravisSource, Field(discriminator="type")]


class ViewTable(_Table):
    """``[[also]]``: one more camera that looks at the same board, with bundles of its own for the same products."""

    source: AnySource
    bundle: BundleTable


class Settings(_Table):
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
