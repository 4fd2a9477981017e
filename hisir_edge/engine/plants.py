"""Choosing what the self-test plants: patches of a good board that this engine finds with certainty."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from hisir_edge.arrays import U8
from hisir_edge.bundle.manifest import PlantModel, SelfTestModel
from hisir_edge.corruption.spots import part_boxes
from hisir_edge.errors import InputError
from hisir_edge.images.pixels import Pixels
from hisir_edge.inspection.board import BoardInspector
from hisir_edge.inspection.registration.pose import Pose
from hisir_edge.inspection.selftest import highest_peak_at, with_plants
from hisir_edge.records import Result

OFFERED, KEPT = 10, 3
SURE = 1.25
"""Peaks of so many times the region threshold: another processor's rounding must not turn the test over."""
BOXES, DONORS = 60, 12
SEED = 77


def self_test_from_pictures(inspector: BoardInspector, pictures: Iterable[tuple[str, U8]]) -> tuple[SelfTestModel, U8]:
    """The first picture that PASSes and in which planted patches are found: its self-test, and the picture.

    InputError when there is none: a daemon with this bundle would never be ready.
    """
    seen = []
    for name, picture in pictures:
        good = inspector.inspect(picture)
        if good.result is not Result.PASS:
            seen.append(f"{name}: {good.result.value} {good.reason}".strip())
            continue
        offered = _patches(inspector, picture)
        negatives = tuple(plant.model_copy(update={"negative": True}) for plant in offered)
        found = _found(inspector, picture, offered) or _found(inspector, picture, negatives)
        if found:
            return SelfTestModel(image=name, plants=found), picture
        seen.append(f"{name}: PASS, none of {len(offered)} planted patches found")
    raise InputError(
        expected="an engine that passes a good board and finds defects planted into it",
        received="; ".join(dict.fromkeys(seen[:3])),
        fix="train longer, or with more good boards; --least-planted-recall does not switch this self-test off",
    )


def _found(inspector: BoardInspector, picture: U8, offered: tuple[PlantModel, ...]) -> tuple[PlantModel, ...]:
    """The plants that are found with the highest peaks, all of them sure."""
    judged = inspector.inspect(with_plants(picture, offered))
    sure = inspector.bundle.thresholds.region_peak * SURE
    found = [(peak, plant) for plant in offered if (peak := highest_peak_at(judged, plant)) >= sure]
    return tuple(plant for _, plant in sorted(found, key=lambda pair: -pair[0])[:KEPT])


def _patches(inspector: BoardInspector, picture: U8) -> tuple[PlantModel, ...]:
    """Patches over parts, each copied from the most different of some other places; apart from each other."""
    rng = np.random.default_rng(SEED)
    h, w = picture.shape[:2]
    reach = inspector.plan.tile_px / inspector.bundle.recipe.scale
    least, most = max(8, round(0.06 * reach)), round(0.35 * reach)
    # the plain sample of places comes after the parts: a picture may have none that stand out
    boxes = [tuple(int(v) for v in box) for box in rng.permutation(part_boxes(picture, least, most))[:BOXES]]
    boxes += [(int(rng.integers(w)), int(rng.integers(h)), least * 2, least * 2) for _ in range(BOXES // 3)]
    candidates = []
    pose = inspector.pose_of(Pixels(picture))
    for x, y, box_w, box_h in boxes:
        bw, bh = max(box_w, least), max(box_h, least)
        if x + bw > w or y + bh > h or _blind(inspector, pose, x, y, bw, bh):
            continue
        best = max((_difference(rng, picture, x, y, bw, bh) for _ in range(DONORS)), key=lambda pair: pair[0])
        candidates.append((best[0] * (bw * bh) ** 0.5, best[1]))
    candidates.sort(key=lambda pair: -pair[0])
    chosen: list[PlantModel] = []
    for _, plant in candidates:
        if len(chosen) < OFFERED and all(_apart(plant, other, round(reach / 4)) for other in chosen):
            chosen.append(plant)
    return tuple(chosen)


def _blind(inspector: BoardInspector, pose: Pose | None, x: int, y: int, w: int, h: int) -> bool:
    """Whether a zone ignores some of a box of the camera's picture, or it lies beyond the golden image."""
    height, width = inspector.plan.frame_hw
    corners = np.array([(x, y), (x + w, y), (x, y + h), (x + w, y + h)], np.float64) - 0.5
    on_golden = corners if pose is None else pose.to_golden(corners)
    (left, top), (right, bottom) = (
        np.floor(on_golden.min(0) + 0.5).astype(int),
        np.ceil(on_golden.max(0) + 0.5).astype(int),
    )
    if left < 0 or top < 0 or right > width + 1 or bottom > height + 1:
        return True
    return bool((inspector.gain.window(top, min(bottom, height), left, min(right, width)) <= 0).any())


def _difference(rng: np.random.Generator, picture: U8, x: int, y: int, w: int, h: int) -> tuple[float, PlantModel]:
    from_y, from_x = int(rng.integers(picture.shape[0] - h + 1)), int(rng.integers(picture.shape[1] - w + 1))
    here, there = picture[y : y + h, x : x + w], picture[from_y : from_y + h, from_x : from_x + w]
    difference = float(np.abs(here.astype(np.int16) - there).mean())
    return difference, PlantModel(x=x, y=y, width=w, height=h, from_x=from_x, from_y=from_y)


def _apart(a: PlantModel, b: PlantModel, gap: int) -> bool:
    across = a.x > b.x + b.width + gap or b.x > a.x + a.width + gap
    return across or a.y > b.y + b.height + gap or b.y > a.y + a.height + gap
