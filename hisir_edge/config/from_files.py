"""The [source] tables of what comes as files: a folder of pictures, another inspection machine's calls."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from hisir_edge.config.sources import SourceTable, check_levels


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
    levels: Annotated[tuple[int, int], Field(strict=False)] | None = Field(
        default=None,
        description="`[black, white]` of 16-bit pictures; default: all of 16 bits. As the bundle was trained",
    )
    loop: bool = Field(default=False, description="begin anew at the end")
    trigger: Literal["free-run", "software"] = Field(
        default="free-run",
        description='`"free-run"`: each picture is a trigger; `"software"`: the control socket asks for each',
    )

    @model_validator(mode="after")
    def _levels_that_can_be(self) -> ReplaySource:
        if self.levels is not None:
            check_levels(self.levels, 0xFFFF)
        return self


class CallsSource(SourceTable):
    """``[source]`` with ``type = "calls"``: boards, and what another inspection machine called on them."""

    paths: ClassVar[tuple[str, ...]] = ("folder", "answers")

    type: Literal["calls"]
    name: str = Field(
        default="aoi", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="the other machine's name in every verdict"
    )
    folder: str = Field(
        description="where it puts a file of calls, JSON or CSV, and its pictures for each board; made if it is new"
    )
    answers: str = Field(default="", description="where the answers are written; empty: `answers` in `folder`")
    listen: str = Field(
        default="",
        pattern=r"^((tcp|ipc)://.+)?$",
        description="address where programs may deliver calls and pictures instead (ZeroMQ); empty: nowhere",
    )
    done: Literal["move", "delete"] = Field(
        default="move", description='what was answered: into `done` in `folder`, or `"delete"`'
    )
    settle_s: float = Field(
        default=0.5,
        ge=0,
        le=60,
        description="files that have not changed for so long are whole; 0 where each arrives under its name at once",
    )
    wait_s: float = Field(
        default=10.0, ge=0, le=3600, description="a picture that is not there so long after its calls is an ERROR"
    )
    false_below: float = Field(
        default=0.4,
        ge=0.3,
        le=1.0,
        description="a call is false where nothing reaches this share of what the line itself would call",
    )
    margin_px: int = Field(
        default=16, ge=0, le=1000, description="a call's box is taken larger by this, px of the frame, on each side"
    )
    elsewhere: Literal["fail", "leave"] = Field(
        default="fail",
        description=(
            'defects that the other machine has not called: `"fail"`: as on any line; `"leave"`: counted in the'
            " verdict, not called"
        ),
    )
    levels: Annotated[tuple[int, int], Field(strict=False)] | None = Field(
        default=None,
        description="`[black, white]` of 16-bit pictures; default: all of 16 bits. As the bundle was trained",
    )
    trigger: Literal["free-run"] = Field(default="free-run", description="each board is a trigger")

    @model_validator(mode="after")
    def _levels_that_can_be(self) -> CallsSource:
        if self.levels is not None:
            check_levels(self.levels, 0xFFFF)
        return self
