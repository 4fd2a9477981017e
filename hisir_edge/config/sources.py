"""The [source] table: what each type of camera is asked."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema

from hisir_edge.by_name import part
from hisir_edge.images.header import MAX_SIDE_PX
from hisir_edge.images.wire import WIRE_FORMATS
from hisir_edge.registry import CAMERAS


class Table(BaseModel):
    """A table of line.toml: only known keys, of the very type, and never changed.

    ``paths``: the fields that name files or folders; relative ones are taken from the file's own folder.
    """

    paths: ClassVar[tuple[str, ...]] = ()
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Trigger = Literal["free-run", "software", "hardware"]
"""Every frame is a trigger; the control socket asks for each; the camera waits for a signal on a line."""


class SourceTable(Table):
    """Keys of ``[source]`` that every type of camera in ``registry.CAMERAS`` has."""

    type: str = Field(description='`"replay"`, `"calls"`, `"genicam"`, `"aravis"` or `"viva"`')
    name: str = Field(
        default="camera",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description='the camera\'s name in every verdict; that of a replay is `"replay"` by default',
    )
    trigger: Trigger = Field(
        default="free-run",
        description=(
            '`"free-run"`: each frame is a trigger; `"hardware"`: each signal on `trigger_source`; `"software"`: '
            "the control socket asks for each"
        ),
    )


def check_levels(levels: tuple[int, int], most: int) -> None:
    """ValueError unless they are black and white out of 0..most."""
    black, white = levels
    if not 0 <= black < white <= most:
        raise ValueError(f"levels [black, white] with 0 <= black < white <= {most}; these are [{black}, {white}]")


class CameraTable(SourceTable):
    """Keys of every GenICam camera, whichever library reaches it; features by their SFNC names."""

    paths: ClassVar[tuple[str, ...]] = ("profile",)

    name: str = Field(
        default="camera", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="the camera's name in every verdict"
    )
    serial: str = Field(
        default="",
        max_length=256,
        description=(
            "which camera: its serial number, user-defined name, id or address, as `hisir-edge check` lists them;"
            " needed where more than one is seen"
        ),
    )
    pixel_format: str | None = Field(
        default=None, description="PFNC name, such as `BayerRG8` or `Mono12p`; [which](../how-to/configure-a-camera.md)"
    )
    levels: Annotated[tuple[int, int], Field(strict=False)] | None = Field(
        default=None,
        description=(
            "`[black, white]`: the camera's levels that become 0 and 255, for formats of more than 8 bits; default: all"
            " that the format can say. As the bundle was trained, else it is refused"
        ),
    )
    width: int | None = Field(default=None, gt=0, le=MAX_SIDE_PX, description="px; must be the bundle's frame size")
    height: int | None = Field(default=None, gt=0, le=MAX_SIDE_PX, description="px; must be the bundle's frame size")
    offset_x: int | None = Field(default=None, ge=0, le=MAX_SIDE_PX, description="`OffsetX`, px")
    offset_y: int | None = Field(default=None, ge=0, le=MAX_SIDE_PX, description="`OffsetY`, px")
    reverse_x: bool | None = Field(default=None, description="`ReverseX`: mirrored")
    reverse_y: bool | None = Field(default=None, description="`ReverseY`: upside down")
    binning: int | None = Field(
        default=None,
        ge=1,
        le=16,
        description="`BinningHorizontal` and `BinningVertical`; width and height are after it",
    )
    frame_rate_hz: float | None = Field(
        default=None, gt=0, le=10000, description="`AcquisitionFrameRate`, with its enable"
    )
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
    gain_raw: int | None = Field(
        default=None, ge=0, le=1_000_000, description="`GainRaw`, in the maker's own steps, of cameras that know no dB"
    )
    gamma: float | None = Field(default=None, gt=0, le=10, description="`Gamma`, with its enable; 1: none")
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

    @model_validator(mode="after")
    def _a_format_that_is_known(self) -> CameraTable:
        known = None if self.pixel_format is None else WIRE_FORMATS.get(self.pixel_format)
        if self.pixel_format is not None and known is None:
            near = get_close_matches(self.pixel_format, WIRE_FORMATS, 3, 0.6)
            raise ValueError(
                f"pixel_format out of {', '.join(near or list(WIRE_FORMATS))}; this is {self.pixel_format}"
            )
        if known is not None and known.bits == 8 and self.levels is not None:
            raise ValueError(f"no levels with {self.pixel_format}, which has 8 bits already")
        if self.levels is not None:
            check_levels(self.levels, known.most if known else 0xFFFF)
        if self.gain_db is not None and self.gain_raw is not None:
            raise ValueError("gain_db or gain_raw, not both")
        return self


class GenicamSource(CameraTable):
    """``[source]`` with ``type = "genicam"``: a camera behind a GenTL producer (.cti file)."""

    paths: ClassVar[tuple[str, ...]] = ("cti", "profile")

    type: Literal["genicam"]
    cti: str = Field(description="the producer's `.cti` file (the camera maker's driver package)")
    device: int | None = Field(
        default=None,
        ge=0,
        le=255,
        description="`genicam`: position in the producer's list, of cameras without serial numbers",
    )

    @model_validator(mode="after")
    def _one_way_to_name_it(self) -> GenicamSource:
        if self.serial and self.device is not None:
            raise ValueError("serial or device, not both")
        return self


class AravisSource(CameraTable):
    """``[source]`` with ``type = "aravis"``: a GigE Vision or USB3 Vision camera without its maker's software."""

    type: Literal["aravis"]
    device_id: str = Field(default="", description="`aravis`: the same as `serial`, by its older name")
    packet_resend: bool = Field(default=True, description="`aravis`: lost packets are asked for again")

    @model_validator(mode="after")
    def _one_name(self) -> AravisSource:
        if self.serial and self.device_id:
            raise ValueError("serial or device_id, not both")
        return self


class VivaSource(CameraTable):
    """``[source]`` with ``type = "viva"``: as ``aravis``, by a package of the Python environment alone."""

    type: Literal["viva"]
    packet_resend: bool = Field(default=True, description="`viva`: lost packets are asked for again")


class _ByType:
    """Settings of the types in ``registry.CAMERAS``, told apart by ``type``."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Looked up when the first configuration is read, so that a camera's file may import this one."""
        known = tuple(part(camera.settings) for camera in CAMERAS.values())
        return handler.generate_schema(Annotated[Union[known], Field(discriminator="type")])  # noqa: UP007


AnySource = Annotated[SourceTable, _ByType()]
