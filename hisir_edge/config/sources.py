"""The [source] table: what each type of camera is asked."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema

from hisir_edge.by_name import part
from hisir_edge.images.header import MAX_SIDE_PX
from hisir_edge.registry import CAMERAS


class Table(BaseModel):
    """A table of line.toml: only known keys, of the very type, and never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Trigger = Literal["free-run", "software", "hardware"]
"""Every frame is a trigger; the control socket asks for each; the camera waits for a signal on a line."""


class SourceTable(Table):
    """Keys of ``[source]`` that every type of camera in ``registry.CAMERAS`` has.

    ``paths``: the fields that name files or folders; relative ones are taken from the file's own folder.
    """

    paths: ClassVar[tuple[str, ...]] = ()

    type: str = Field(description='`"replay"`, `"genicam"` or `"aravis"`')
    name: str = Field(
        default="camera", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="the camera's name in every verdict"
    )
    trigger: Trigger = Field(
        default="free-run",
        description=(
            '`"free-run"`: each frame is a trigger; `"hardware"`: each signal on `trigger_source`; `"software"`: '
            "the control socket asks for each"
        ),
    )


class ReplaySource(SourceTable):
    """``[source]`` with ``type = "replay"``: a folder of images as a camera."""

    paths: ClassVar[tuple[str, ...]] = ("folder",)

    type: Literal["replay"]
    name: str = Field(
        default="replay", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="the camera's name in every verdict"
    )
    folder: str = Field(description="images in name order; an unreadable one is an ERROR verdict")
    rate_hz: float = Field(default=0.0, ge=0, le=1000, description="frames a second; 0: as fast as they are inspected")
    recursive: bool = Field(
        default=False, description="pictures from folders below, too; docs/reference/pictures.md says what is read"
    )
    loop: bool = Field(default=False, description="begin anew at the end")
    trigger: Literal["free-run", "software"] = Field(
        default="free-run",
        description='`"free-run"`: each picture is a trigger; `"software"`: the control socket asks for each',
    )


class CameraTable(SourceTable):
    """Keys of every GenICam camera, whichever library reaches it; features by their SFNC names."""

    paths: ClassVar[tuple[str, ...]] = ("profile",)

    name: str = Field(
        default="camera", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="the camera's name in every verdict"
    )
    pixel_format: Literal["Mono8", "RGB8", "BGR8", "RGBa8", "BayerRG8", "BayerGB8", "BayerGR8", "BayerBG8"] | None = (
        Field(
            default=None, description="`Mono8`, `RGB8`, `BGR8`, `RGBa8`, `BayerRG8`, `BayerGB8`, `BayerGR8`, `BayerBG8`"
        )
    )
    width: int | None = Field(default=None, gt=0, le=MAX_SIDE_PX, description="px; must be the bundle's frame size")
    height: int | None = Field(default=None, gt=0, le=MAX_SIDE_PX, description="px; must be the bundle's frame size")
    frame_rate_hz: float | None = Field(default=None, gt=0, le=10000, description="`AcquisitionFrameRate`")
    ring_slots: int = Field(default=8, ge=2, le=256, description="frames buffered between camera and inspection")
    restart_delay_s: float = Field(
        default=1.0,
        ge=0.05,
        le=60,
        description="pause before a lost camera is opened again; after each failure twice as long, at most 2.5 s",
    )
    trigger: Trigger = Field(
        default="free-run",
        description=(
            '`"free-run"`: each frame is a trigger; `"hardware"`: each signal on `trigger_source`; `"software"`: '
            "the control socket asks for each"
        ),
    )
    trigger_selector: str = Field(default="FrameStart", description="SFNC `TriggerSelector`, set before what follows")
    trigger_source: str = Field(default="", description='the camera\'s line for `"hardware"`, such as `"Line1"`')
    trigger_activation: str = Field(default="", description='such as `"RisingEdge"`')
    trigger_delay_us: float | None = Field(default=None, ge=0, le=60_000_000, description="`TriggerDelay`")
    exposure_us: float | None = Field(
        default=None,
        gt=0,
        le=60_000_000,
        description="`ExposureTime`; `ExposureAuto` and `BalanceWhiteAuto` are switched off",
    )
    gain_db: float | None = Field(default=None, ge=0, le=100, description="`Gain`; `GainAuto` is switched off")
    packet_bytes: int | None = Field(
        default=None,
        ge=220,
        le=16384,
        description="`GevSCPSPacketSize`: 1500, or 9000 where every device between allows it",
    )
    chunk_data: bool = Field(
        default=False,
        description=(
            "each frame carries its id, time and exposure where the camera can; with `exposure_us`, a frame that "
            "was exposed otherwise (5 %) is an ERROR"
        ),
    )
    late_ms: float = Field(
        default=0.0,
        ge=0,
        le=3_600_000,
        description=(
            "a frame that took so much longer from camera to PC than the quickest of the last minute is an ERROR:"
            " it may show another board. 0: off; needs a camera with timestamps"
        ),
    )
    profile: str = Field(
        default="",
        description="file of `hisir-edge camera --save`: a camera whose settings are not those is not opened",
    )

    @model_validator(mode="after")
    def _a_line_for_hardware(self) -> CameraTable:
        if self.trigger == "hardware" and not self.trigger_source:
            raise ValueError('trigger_source with trigger = "hardware", such as "Line1"')
        return self


class GenicamSource(CameraTable):
    """``[source]`` with ``type = "genicam"``: a camera behind a GenTL producer (.cti file)."""

    paths: ClassVar[tuple[str, ...]] = ("cti", "profile")

    type: Literal["genicam"]
    cti: str = Field(description="the producer's `.cti` file (the camera maker's driver package)")
    device: int = Field(default=0, ge=0, le=255, description="`genicam`: position in the producer's device list")


class AravisSource(CameraTable):
    """``[source]`` with ``type = "aravis"``: a GigE Vision or USB3 Vision camera without its maker's software."""

    type: Literal["aravis"]
    device_id: str = Field(
        default="", description="`aravis`: id, address or serial number, as `hisir-edge check --aravis` lists them"
    )
    packet_resend: bool = Field(default=True, description="`aravis`: lost packets are asked for again")


class _ByType:
    """Settings of the types in ``registry.CAMERAS``, told apart by ``type``."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Looked up when the first configuration is read, so that a camera's file may import this one."""
        known = tuple(part(camera.settings) for camera in CAMERAS.values())
        return handler.generate_schema(Annotated[Union[known], Field(discriminator="type")])  # noqa: UP007


AnySource = Annotated[SourceTable, _ByType()]
