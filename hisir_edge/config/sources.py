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
    """What ``[source]`` has for every type of camera in ``registry.CAMERAS``.

    ``paths``: the fields that name files or folders; relative ones are taken from the file's own folder.
    """

    paths: ClassVar[tuple[str, ...]] = ()

    type: str
    name: str = Field(default="camera", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    trigger: Trigger = "free-run"


class ReplaySource(SourceTable):
    """``[source]`` with ``type = "replay"``: a folder of images as a camera."""

    paths: ClassVar[tuple[str, ...]] = ("folder",)

    type: Literal["replay"]
    name: str = Field(default="replay", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    folder: str
    rate_hz: float = Field(default=0.0, ge=0, le=1000, description="0: as fast as frames are taken")
    recursive: bool = Field(default=False, description="pictures from folders below, too")
    loop: bool = False
    trigger: Literal["free-run", "software"] = "free-run"


class CameraTable(SourceTable):
    """What every GenICam camera is asked, whatever library reaches it; features by their SFNC names."""

    paths: ClassVar[tuple[str, ...]] = ("profile",)

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

    paths: ClassVar[tuple[str, ...]] = ("cti", "profile")

    type: Literal["genicam"]
    cti: str
    device: int = Field(default=0, ge=0, le=255, description="position in the producer's device list")


class AravisSource(CameraTable):
    """``[source]`` with ``type = "aravis"``: a GigE Vision or USB3 Vision camera without its maker's software."""

    type: Literal["aravis"]
    device_id: str = Field(default="", description="id, address or serial number; empty: the first that is found")
    packet_resend: bool = Field(default=True, description="lost packets are asked for again")


class _ByType:
    """Settings of the types in ``registry.CAMERAS``, told apart by ``type``."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Looked up when the first configuration is read, so that a camera's file may import this one."""
        known = tuple(part(camera.settings) for camera in CAMERAS.values())
        return handler.generate_schema(Annotated[Union[known], Field(discriminator="type")])  # noqa: UP007


AnySource = Annotated[SourceTable, _ByType()]
