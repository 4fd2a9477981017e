"""The tables of line.toml as frozen settings, all validated before a device opens."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from hisir_edge.config.from_files import CallsSource
from hisir_edge.config.kept import ArchiveTable, JournalTable, OutputTable, RevisionsTable
from hisir_edge.config.sockets import ControlTable, MetricsTable, PublishTable, SecurityTable
from hisir_edge.config.sources import AnySource, Table
from hisir_edge.labels import FIELD
from hisir_edge.transport.addresses import reachable_by_others


class LineTable(Table):
    """``[line]``: who publishes."""

    name: str = Field(
        default="line-1", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="who publishes; letters, digits, `_ . -`"
    )
    deadline_ms: int = Field(
        default=30_000,
        ge=100,
        le=3_600_000,
        description="from a trigger to its verdict; what takes longer is an ERROR verdict",
    )
    expected_period_ms: int = Field(
        default=0,
        ge=0,
        le=86_400_000,
        description=(
            "longest time between two boards: for each such period without a frame an ERROR verdict, `no board "
            "within the expected`; a line that stands is paused. 0: boards come when they come; not with `trigger"
            ' = "software"`'
        ),
    )
    pair_ms: int = Field(
        default=500,
        ge=10,
        le=600_000,
        description="with several cameras: their frames of one board come within this time of each other",
    )


class BundleTable(Table):
    """``[bundle]``: what is inspected."""

    paths: ClassVar[tuple[str, ...]] = ("path", "others")

    path: str = Field(description="the bundle's folder; its product is inspected until another is selected")
    others: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="folders of further products' bundles: loaded and tested at the start, switched between two boards",
    )


class IdentityTable(Table):
    """``[identity]``: the board's name from a code on the board."""

    barcode: bool = Field(
        default=False,
        description="the board's name from a code on the board (in the checkout: `pip install '.[barcode]'`)",
    )
    formats: tuple[str, ...] = Field(
        default=("DataMatrix", "QRCode", "Code128", "Code39"),
        strict=False,
        description=(
            '`["DataMatrix", "QRCode", "Code128", "Code39"]`, or others that zxing-cpp reads; `Code39` is the '
            "standard set, `Code39Ext` the extended one"
        ),
    )
    region: tuple[int, int, int, int] | None = Field(
        default=None, strict=False, description="`[x, y, w, h]`, px: where the label is; quicker and surer"
    )
    field: str = Field(
        default="",
        description=(
            'the label\'s field that names the board: a data identifier (`"S"`) of an ISO 15434 label, or a GS1 '
            'application identifier (`"21"`); empty: the whole text. An announced name may be the field alone or '
            "the whole label; a whole GS1 label without GS or brackets is known by the GTIN or SSCC it begins "
            "with"
        ),
    )
    pattern: str = Field(
        default=".{1,200}", description="regular expression that the whole name follows; other codes are passed over"
    )
    required: bool = Field(
        default=True,
        description="a board whose code cannot be read is an ERROR verdict; `false`: it is named by the camera",
    )

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


class InferTable(Table):
    """``[infer]``: how the engine runs."""

    threads: int = Field(default=0, ge=0, le=256, description="engine threads; 0, or more than there are: every core")
    slots: int = Field(
        default=2,
        ge=1,
        le=8,
        description=(
            "frames in flight, 1 to 8: while one is inferred, the next is registered; each takes about 12 bytes a"
            " pixel. Times of boards that come faster than they are inferred contain the wait for the ones before"
        ),
    )
    cascade: Literal["auto", "off"] = Field(
        default="auto",
        description=(
            '`"auto"`: where the bundle has a first look, the network sees what that finds suspicious, and all of a '
            'frame that is taken or lies otherwise than good boards; `"off"`: it sees all of every frame, for audits. '
            "A line that keeps an archive looks at all of every frame"
        ),
    )


class OpticsTable(Table):
    """``[optics]``: what becomes of frames that were not taken as those of the good boards."""

    beyond: Literal["warning", "error", "off"] = Field(
        default="warning",
        description=(
            'a frame that is blurred, dark, bright or white beyond the bundle\'s limits: `"warning"` in its '
            'verdict, and ERROR only where it is blurred so far that nothing can be judged; `"error"`: an ERROR '
            'verdict at once; `"off"`: measured, never judged. Light that is off by more than 1.6 times, and boards '
            "that went white, are an ERROR in any case"
        ),
    )


class HermesTable(Table):
    """``[hermes]``: the machine before this one announces boards (IPC-HERMES-9852); no host: it is not used."""

    host: str = Field(
        default="", description="address of the machine before this one (IPC-HERMES-9852); empty: none, IPC-HERMES-9852"
    )
    port: int = Field(default=50101, ge=1, le=65535, description="its port: 50100 and the lane")
    lane_id: int = Field(default=1, ge=1, le=99, description="the lane")
    machine_id: str = Field(default="", description="what this machine calls itself")
    unit: Literal["BoardId", "TopBarcode", "BottomBarcode"] = Field(
        default="BoardId",
        description=(
            'what names a board in its verdict: `"BoardId"`, `"TopBarcode"`, `"BottomBarcode"`; a board without '
            "that code: its BoardId"
        ),
    )
    products: dict[str, str] = Field(
        default={},
        description=(
            'product of a ProductTypeId where they differ: `{ "4711" = "psu" }`; without a ProductTypeId the '
            "selected product"
        ),
    )
    check_alive: bool = Field(
        default=True,
        description=(
            "a machine that says it answers `CheckAlive` and is silent for a minute is taken for gone; `false`: "
            "TCP alone tells (25 s)"
        ),
    )
    transport_s: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description=(
            "a machine that waits for StopTransport before its TransportFinished gets it after so long; after as "
            "long again without one the board is an ERROR"
        ),
    )


class ViewTable(Table, defer_build=True):
    """``[[also]]``: one more camera that looks at the same board, with bundles of its own for the same products."""

    source: AnySource = Field(description="as the table [source]")
    bundle: BundleTable = Field(description="as the table [bundle]: what this camera's frames are inspected with")


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
    optics: OpticsTable = OpticsTable()
    output: OutputTable = OutputTable()
    metrics: MetricsTable = MetricsTable()
    journal: JournalTable = JournalTable()
    archive: ArchiveTable = ArchiveTable()
    revisions: RevisionsTable = RevisionsTable()
    hermes: HermesTable = HermesTable()

    @model_validator(mode="after")
    def _a_period_of_what(self) -> Settings:
        if self.line.expected_period_ms and self.source.trigger == "software":
            raise ValueError('line.expected_period_ms = 0 with source.trigger = "software": frames come when asked for')
        return self

    @model_validator(mode="after")
    def _calls_of_one_picture(self) -> Settings:
        if self.also and any(isinstance(one, CallsSource) for one in (self.source, *(v.source for v in self.also))):
            raise ValueError('no [[also]] with source.type = "calls": each call lies on one picture')
        return self

    @model_validator(mode="after")
    def _each_its_own(self) -> Settings:
        if self.publish.endpoint == self.control.endpoint:
            raise ValueError(f"another publish.endpoint than control.endpoint, {self.control.endpoint}")
        folders = [table.folder for table in (self.journal, self.archive, self.revisions) if table.folder]
        if len(set(folders)) < len(folders):
            raise ValueError("folders of their own for journal, archive and revisions")
        return self

    @model_validator(mode="after")
    def _closed_to_strangers(self) -> Settings:
        addresses = [("publish.endpoint", self.publish.endpoint), ("control.endpoint", self.control.endpoint)]
        if isinstance(self.source, CallsSource):
            addresses.append(("source.listen", self.source.listen))
        for name, endpoint in addresses:
            if reachable_by_others(endpoint) and not (self.security.server_key or self.security.insecure):
                raise ValueError(
                    f"keys for {name} {endpoint}, which other machines can reach: security.server_key and "
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
