"""A training run on disk: its settings, its board memory, its checkpoint; all written atomically."""

from __future__ import annotations

import io
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from hisir_edge.bundle.variants import PlaceModel
from hisir_edge.errors import InputError
from hisir_edge.images import Rules, header_of_picture, write_atomic
from hisir_edge.inspection.registration.finder import Locate, Polygon
from hisir_edge.learn.data.statistics import BoardMemory
from hisir_edge.learn.review.boards import where_they_lie

SHIPPED, SCRATCH, OF_RUN = "shipped", "scratch", "run"
"""What a training starts from: the weights that come with the package, random ones, or those of another run."""
RUN_SCHEMA, OLDER_SCHEMA = 5, 4
"""The older one knew fixtures alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Settings of a run; ``tile_px``, ``overlap_px`` in scaled pixels; ``scale`` None: chosen from the data.

    ``area``: a person's polygon around the board, golden pixels; None: it is learnt. ``keep_odd``: learn places of
    single boards, too. ``variants``: looks that good boards may have at one place, at most; 1: one. ``start``: the
    weights before the first step, "shipped", "scratch" or "run": those of the run ``of``. ``without``: parts of the
    network left out, for comparison; ``patience``: epochs without a better held-out loss before training ends, 0:
    never. ``levels``: of 16-bit photos, see ``images.Rules``. ``more``: further folders of good boards beside ``data``.
    """

    data: str
    backbone: str
    width: int
    tile_px: int
    overlap_px: int
    scale: float | None
    register: str
    batch: int
    steps: int
    learning_rate: float
    seed: int
    patience: int = 0
    precision: str = "bf16"
    without: tuple[str, ...] = ()
    recursive: bool = False
    area: Polygon | None = None
    keep_odd: bool = False
    variants: int = 4
    start: str = SCRATCH
    of: str = ""
    levels: tuple[int, int] | None = None
    more: tuple[str, ...] = ()

    @property
    def folders(self) -> tuple[Path, ...]:
        """All folders of good boards."""
        return (Path(self.data), *map(Path, self.more))


@dataclass(frozen=True, slots=True)
class OddPlace:
    """A place where one picture alone differs: box in golden, scaled pixels; ``peak``: how far off, 1: it differs."""

    picture: str
    box_xywh: tuple[int, int, int, int]
    peak: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """``run.json``: settings and what the data turned out to be.

    ``dropped``, ``dropped_held_out`` and, of those that came later, ``dropped_added``: boards that were offered but
    could not be registered, or lie in quite another light; nothing is learnt from them. ``same_board``: groups of
    pictures that show one board. ``orientations``: (EXIF orientation, number of pictures) as read and applied; None in
    runs of versions that did not. ``locate``: how the boards are found in their frames; ``area``: polygon around the
    board, golden pixels of the frame's size, None: all of the frame. ``odd``: places of single boards that are neither
    learnt nor counted. ``variants``: places where good boards differ, network's pixels. ``each_left_out``: held-out
    boards are in the memory, too, and each board is learnt and judged by the memory of the others. ``added``: so many
    of the held-out boards, the last ones, came after training: they say more of the thresholds. ``grey``: whether the
    photos are grey; None in runs of versions that took none such.
    """

    settings: RunSettings
    frame_hw: tuple[int, int]
    scale: float
    locate: Locate
    train: tuple[str, ...]
    held_out: tuple[str, ...]
    dropped: tuple[str, ...] = ()
    dropped_held_out: tuple[str, ...] = ()
    dropped_added: tuple[str, ...] = ()
    same_board: tuple[tuple[str, ...], ...] = ()
    orientations: tuple[tuple[int, int], ...] | None = None
    area: Polygon | None = None
    odd: tuple[OddPlace, ...] = ()
    variants: tuple[PlaceModel, ...] = ()
    each_left_out: bool = False
    added: int = 0
    grey: bool | None = None

    @property
    def rules(self) -> Rules:
        """What the photos are taken as."""
        return Rules(self.settings.levels, bool(self.grey))

    @property
    def begun_with(self) -> tuple[str, ...]:
        """The held-out boards without those that were added later."""
        return self.held_out[: len(self.held_out) - self.added]

    @property
    def taught(self) -> bool:
        """Whether nothing was learnt but the memory: each of its boards is held out as well."""
        return self.each_left_out and set(self.begun_with) <= set(self.train)

    @property
    def in_memory(self) -> tuple[str, ...]:
        """The pictures that the memory was made of."""
        return (*self.train, *self.begun_with) if self.each_left_out and not self.taught else self.train

    @property
    def registered(self) -> bool:
        """Whether the boards are found before they are inspected."""
        return self.locate != "off"


USUAL_STEPS = 2000
"""Runs of about so many steps reach their figures in docs/RESULTS.md; below half of it a network is not trained."""


def is_short(steps: int, start: str) -> bool:
    """Whether a training is shorter than what docs/RESULTS.md measures; the shipped weights need no step."""
    return start == SCRATCH and steps < USUAL_STEPS


def words_of_steps(steps: int, start: str = SCRATCH) -> str:
    """How far a training has come, in words."""
    if start == OF_RUN:
        return f"{steps} steps from another run's weights on"
    if start == SHIPPED:
        return f"{steps} steps from the shipped weights on" if steps else "the shipped weights, without a step"
    if steps >= USUAL_STEPS:
        return f"{steps} steps"
    state = "not trained" if steps < USUAL_STEPS // 2 else "trained in part"
    return f"{steps} of about {USUAL_STEPS:,} steps: {state}"


def save_record(run: Path, record: RunRecord) -> None:
    """Write ``run.json``."""
    write_atomic(run / "run.json", json.dumps(_raw(record), indent=1).encode())


def _raw(record: RunRecord) -> dict[str, Any]:
    raw = {"schema": RUN_SCHEMA, **asdict(record)}
    return {**raw, "variants": [one.model_dump() for one in record.variants]}


def differing_settings(settings: RunSettings, others: RunSettings) -> str:
    """The settings that are not as in the others, as ``name value`` pairs."""
    pairs = [(f.name, getattr(settings, f.name)) for f in fields(settings)]
    return ", ".join(f"{name} {value}" for name, value in pairs if value != getattr(others, name))


def load_record(run: Path) -> RunRecord:
    """Read ``run.json``; InputError when this is no training run or one of another version."""
    try:
        raw: dict[str, Any] = where_they_lie(json.loads((run / "run.json").read_text()), run)
        if raw.get("schema") not in (RUN_SCHEMA, OLDER_SCHEMA):
            raise ValueError(f"schema {raw.get('schema')}")
        known = {f.name for f in fields(RunSettings)}
        stored = {"variants": 1, **{k: v for k, v in raw["settings"].items() if k in known}}
        area = stored.get("area")
        polygon = None if area is None else tuple((float(x), float(y)) for x, y in area)
        levels = None if stored.get("levels") is None else tuple(int(one) for one in stored["levels"])
        listed = {name: tuple(stored.get(name, ())) for name in ("without", "more")}
        settings = RunSettings(**{**stored, **listed, "area": polygon, "levels": levels})
        h, w = raw["frame_hw"]
        return RunRecord(
            settings=settings,
            frame_hw=(h, w),
            scale=float(raw["scale"]),
            locate=raw["locate"] if "locate" in raw else "fixture" if raw["registered"] else "off",
            train=tuple(raw["train"]),
            held_out=tuple(raw["held_out"]),
            dropped=tuple(raw.get("dropped", ())),
            dropped_held_out=tuple(raw.get("dropped_held_out", ())),
            dropped_added=tuple(raw.get("dropped_added", ())),
            same_board=tuple(tuple(group) for group in raw.get("same_board", ())),
            orientations=None
            if raw.get("orientations") is None
            else tuple((int(a), int(b)) for a, b in raw["orientations"]),
            area=None if raw.get("area") is None else tuple((float(x), float(y)) for x, y in raw["area"]),
            odd=tuple(_odd_place(one) for one in raw.get("odd", ())),
            variants=tuple(PlaceModel.model_validate(one) for one in raw.get("variants", ())),
            each_left_out=bool(raw.get("each_left_out", False)),
            added=int(raw.get("added", 0)),
            grey=raw.get("grey"),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        is_bundle = os.path.exists(run / "manifest.json")  # noqa: PTH110  # says no where it may not look
        raise InputError(
            expected="a training run (a folder written by 'hisir-edge train')",
            received=f"{run}, a bundle" if is_bundle else f"{run} ({type(error).__name__}: {error})",
            fix="name the run that it was built from" if is_bundle else "check the path, or train again",
        ) from error


def is_of_older_schema(run: Path) -> bool:
    """Whether a version wrote the run that knew fixtures alone."""
    return bool(json.loads((run / "run.json").read_text()).get("schema") == OLDER_SCHEMA)


def _odd_place(raw: dict[str, Any]) -> OddPlace:
    x, y, w, h = raw["box_xywh"]
    return OddPlace(str(raw["picture"]), (int(x), int(y), int(w), int(h)), float(raw["peak"]))


def left_out_of(record: RunRecord) -> tuple[str, ...]:
    """Pictures that were offered and could not be judged with the others."""
    return (*record.dropped, *record.dropped_held_out, *record.dropped_added)


def pictures_of(record: RunRecord) -> tuple[str, ...]:
    """Every picture that was offered to the run."""
    return tuple(dict.fromkeys((*record.train, *record.held_out, *left_out_of(record))))


def check_pictures(record: RunRecord) -> None:
    """InputError when pictures of the run are no longer where they were."""
    gone = [path for path in (*record.train, *record.held_out) if not Path(path).is_file()]
    if gone:
        raise InputError(
            expected=f"the {len(record.train) + len(record.held_out)} pictures that the run was trained on",
            received=f"{len(gone)} of them gone, such as {gone[0]}",
            fix="put them back, or train again where they are now",
        )
    if record.orientations is None:
        turned = [path for path in (*record.train, *record.held_out) if header_of_picture(Path(path)).orientation != 1]
        if turned:
            raise InputError(
                expected="a run that was trained on pictures turned upright by their EXIF orientation",
                received=f"one of an earlier version, which read {turned[0]} as stored",
                fix="train again",
            )


def save_memory(run: Path, memory: BoardMemory) -> None:
    """Write the board memory."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, mean_rgb=memory.mean_rgb, deviation=memory.deviation)
    write_atomic(run / "memory.npz", buffer.getvalue())


def load_memory(run: Path) -> BoardMemory:
    """Read the board memory of a run."""
    try:
        with np.load(run / "memory.npz", allow_pickle=False) as stored:
            return BoardMemory(stored["mean_rgb"], stored["deviation"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            expected=f"the run's board memory, {run / 'memory.npz'}", received=str(error), fix="train again"
        ) from error


def save_checkpoint(run: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint durably: a kill at any instant leaves the old one or the new one whole."""
    import torch

    temporary = run / "checkpoint.pt.tmp"
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(run / "checkpoint.pt")


def load_checkpoint(run: Path) -> dict[str, Any] | None:
    """The last checkpoint, or None if training has not reached one."""
    import torch

    path = run / "checkpoint.pt"
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state
    except Exception as error:
        raise InputError(
            expected=f"a whole checkpoint, {path}",
            received=f"{path.stat().st_size} bytes that are none ({type(error).__name__})",
            fix="delete it and train again",
        ) from error
