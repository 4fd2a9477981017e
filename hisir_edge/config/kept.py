"""The tables of line.toml for what a line keeps on disk: pictures, verdicts, boards, revisions."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from hisir_edge.config.sources import Table


class OutputTable(Table):
    """``[output]``: pictures kept on disk; empty folder: none."""

    paths: ClassVar[tuple[str, ...]] = ("overlay_folder",)

    overlay_folder: str = Field(default="", description="write a picture per board here; empty: none")
    overlay_of: Literal["all", "fail"] = Field(default="fail", description='`"fail"`: FAIL and ERROR boards; `"all"`')
    pass_each: int = Field(default=0, ge=0, description='with `"fail"`, also every so many-th PASS; 0: none')
    budget_mb: int = Field(
        default=2000,
        ge=1,
        description="beyond it the oldest of the line's pictures are deleted; other files in the folder stay",
    )


class JournalTable(Table):
    """``[journal]``: every verdict on disk before it is published."""

    paths: ClassVar[tuple[str, ...]] = ("folder",)

    folder: str = Field(
        default="",
        description=(
            "every trigger and verdict, on disk before it is published; one folder for each line. Empty: `journal` in "
            "systemd's state folder, else `~/.local/state/hisir-edge/LINE/journal`"
        ),
    )
    synchronous: Literal["FULL", "NORMAL"] = Field(
        default="FULL",
        description=(
            '`"NORMAL"` spares the disk a write for each verdict: a power cut may then cost the last ones, a '
            "crash never"
        ),
    )
    keep_days: float = Field(default=90.0, gt=0, le=36500, description="older verdicts are deleted")
    budget_mb: int = Field(default=2000, ge=16, description="beyond it the oldest are deleted; at least 16")


class ArchiveTable(Table):
    """``[archive]``: boards on disk as they were inspected, to be looked at, judged and inspected again."""

    paths: ClassVar[tuple[str, ...]] = ("folder",)

    keep: Literal["none", "called", "all"] = Field(
        default="none", description='`"none"`; `"called"`: FAIL and ERROR boards; `"all"`'
    )
    folder: str = Field(default="", description="where; empty: `archive` beside the journal. One folder for each line")
    format: Literal["jpeg", "png"] = Field(
        default="jpeg",
        description='`"jpeg"` of quality 95, or `"png"`: lossless, a mosaic (Bayer) as the camera gave it',
    )
    budget_mb: int = Field(default=20_000, ge=16, description="beyond it the oldest boards are deleted; at least 16")


class RevisionsTable(Table):
    """``[revisions]``: bundles that people make of the configured ones, and activate, while the line runs."""

    paths: ClassVar[tuple[str, ...]] = ("folder",)

    folder: str = Field(
        default="", description="where; empty: beside the journal, named as it and `.revisions`. One folder a line"
    )
    most: int = Field(
        default=50, ge=2, le=1000, description="beyond it the oldest that was not in use last is deleted; at least 2"
    )
