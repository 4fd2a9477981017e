"""What a build works on, whichever step it has come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hisir_edge.bundle.load import Bundle
from hisir_edge.engine.acceptance.asked import Asked
from hisir_edge.engine.acceptance.left_out import Others
from hisir_edge.engine.precision import Style
from hisir_edge.engine.recipe import EngineRecipe
from hisir_edge.learn.data.run import RunRecord

OnStage = Callable[[str], None]
OnProgress = Callable[[str, int, int], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Inputs of a build: the run, the float bundle without thresholds, and the user's options.

    ``trained``: how far the run has come, in words. ``others``: each good board is judged by the memory of the others.
    ``asked``: the least share of planted defects that must be found. ``compared``: so many of the held-out boards get
    planted defects, and engines are compared on them.
    """

    record: RunRecord
    bundle: Bundle
    scratch: Path
    recipe: EngineRecipe
    style: Style
    calibration_images: tuple[str, ...]
    rate: float
    max_drop: float
    asked: Asked
    trained: str
    threads: int
    others: Others | None = None
    compared: int
    on_stage: OnStage = field(repr=False)
    on_progress: OnProgress = field(repr=False)
